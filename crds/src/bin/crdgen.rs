//! Prints the CRDs into `crds/*.yaml` beside their types. `make gen` runs it, a test compares.

fn main() -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, yaml) in bam_crds::schema::files() {
        std::fs::write(folder.join(file), yaml)?;
        println!("crds/{file}");
    }
    Ok(())
}
