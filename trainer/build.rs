//! Two linker settings without which the trainer does not start, or starts slow.
//! It compiles nothing; libtorch itself is found and linked by torch-sys.

use std::env;
use std::path::Path;

/// MKL asks the program for this symbol before it picks its kernels.
const MKL_HOOK: &str = "mkl_serv_intel_cpu_true";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        find_libtorch_at_run_time();
        export_mkl_hook();
    }
}

/// torch-sys' own rpath does not reach the binaries of other packages. First comes the
/// layout of an installed tree (`bin/bam-trainer` beside `torch/lib`), so that an image
/// never looks into a developer's folder; then the folder that this build linked with.
fn find_libtorch_at_run_time() {
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../torch/lib");
    if let Some(root) = env::var_os("LIBTORCH") {
        let lib = Path::new(&root).join("lib");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}

/// MKL takes a slow path on AMD processors unless the program itself (not a library)
/// answers this hook with 1: two to three times the speed of matrix products.
/// `--undefined` pulls our definition out of the library crate although nothing in
/// Rust calls it, and the second flag puts it where the dynamic linker sees it.
fn export_mkl_hook() {
    println!("cargo:rustc-link-arg=-Wl,--undefined={MKL_HOOK}");
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={MKL_HOOK}");
}
