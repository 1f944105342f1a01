//! Prints the CRDs into `crds/*.yaml` beside their types, and into the chart, which can only reach files of its own.
//! `make gen` runs it, tests compare.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["crds", "charts/bam-operator/crds-generated"] {
        for (file, yaml) in bam_crds::schema::files() {
            std::fs::write(root.join(folder).join(&file), yaml)?;
            println!("{folder}/{file}");
        }
    }
    Ok(())
}
