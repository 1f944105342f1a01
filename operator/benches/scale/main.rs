//! The operator under load: a real API server and etcd, a fake kubelet, the real `bam-operator`.
//!
//! ```text
//! load --experiments--> API server <--watches, writes--> bam-operator
//!                           ^
//!                        kubelet
//! ```
//!
//! `tests/bench_operator/run.sh` gives it the programs that it needs.

mod bare;
mod control_plane;
#[path = "../../tests/common/findings.rs"]
mod findings;
mod kubelet;
mod load;
mod measure;
mod operator;
mod phases;
mod report;
mod trainer;
mod wire;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;

use control_plane::{ControlPlane, Programs};
use phases::Bench;
use report::Report;
use wire::Wire;

/// Measures the operator.
#[derive(Debug, Parser)]
struct Options {
    /// Experiments in all.
    #[arg(long, default_value_t = 10_000)]
    experiments: usize,
    /// Experiments that are active at once.
    #[arg(long, default_value_t = 1000)]
    active: usize,
    /// Experiments of each of five rounds of making and deleting.
    #[arg(long, default_value_t = 200)]
    round: usize,
    /// The folder with kube-apiserver.
    #[arg(long)]
    kubernetes: PathBuf,
    /// etcd.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// bam-operator.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_bam-operator"))]
    operator: PathBuf,
    /// The image of bam-operator as a file.
    #[arg(long)]
    image: Option<PathBuf>,
    /// A folder for what is written meanwhile; what is in it goes. In memory, so that nobody waits for a disk.
    #[arg(long, default_value = "/dev/shm/bam-bench-operator")]
    folder: PathBuf,
    /// Leave out the bare client.
    #[arg(long)]
    no_bare: bool,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut report = Report::default();
    let programs = Programs { kubernetes: options.kubernetes.clone(), etcd: options.etcd.clone() };
    println!(
        "==> {} experiments, {} at once; etcd writes to {} and {}",
        options.experiments,
        options.active,
        options.folder.display(),
        if control_plane::knows_unsafe_no_fsync(&options.etcd) { "does not sync" } else { "syncs as it always does" },
    );

    let most = options.experiments.max(options.round);
    let plane = start(&programs, &options.folder.join("operator"), most).await?;
    let bench = Bench::new(&plane, &options).await?;
    let mut operator = bench.start_operator(&mut report).await?;
    let (record, took) = bench.load(&operator, &mut report).await?;
    bench.rest(&operator, &mut report).await?;
    bench.restart(&mut operator, &mut report).await?;
    bench.rounds(&operator, &mut report).await?;
    operator.stop().await?;
    drop(bench);
    drop(plane);

    if !options.no_bare {
        let plane = start(&programs, &options.folder.join("bare"), options.experiments).await?;
        phases::bare(&plane, &options, &record, took, &mut report).await?;
    }
    if let Some(image) = &options.image {
        let mib = std::fs::metadata(image)?.len() as f64 / 1_048_576.0;
        report.goal("image", "20 MiB", format!("{mib:.1} MiB"), mib <= 20.0);
    }
    report.print();
    Ok(())
}

/// A control plane that knows our kinds and has the namespaces of so many experiments.
async fn start(programs: &Programs, folder: &Path, experiments: usize) -> Result<ControlPlane, Box<dyn Error>> {
    let plane = ControlPlane::start(programs, folder).await?;
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    for kind in ["bamexperiments", "bamruns", "bamprofiles", "clusterbamprofiles"] {
        plane.install(&crds.join(format!("{kind}.bam.dev.yaml"))).await?;
    }
    load::prepare(&Wire(plane.client("admin").await?), experiments).await?;
    Ok(plane)
}
