//! Manifests from the command line.

use std::io::Read;
use std::path::Path;

use bam_crds::BamExperiment;

use super::{Exit, complain};
use crate::local::Mode;
use crate::local::ledger::Ledger;
use crate::manifest::{self, Fault, Manifest};

/// The text of a file; `-` is standard input.
pub fn text(file: &Path) -> Result<String, Exit> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Exit::failed(format!("cannot read {}: {error}", file.display())))
}

/// The experiments of a file without faults. Faults are said.
pub fn experiments(file: &Path) -> Result<Vec<BamExperiment>, Exit> {
    let Manifest { experiments, faults, notes } = manifest::read(&text(file)?);
    for note in &notes {
        complain(&format!("note: {}", locate(file, note)));
    }
    if faults.is_empty() {
        return Ok(experiments);
    }
    for fault in &faults {
        complain(&locate(file, fault));
    }
    Err(Exit::Faults)
}

/// An experiment that was run before, by its name.
pub fn remembered(name: &str, bam_dir: &Path) -> Result<BamExperiment, Exit> {
    let ledger = Ledger::open(bam_dir, Mode::ReadOnly)?;
    if let Some(experiment) = ledger.experiment(name)? {
        return Ok(experiment);
    }
    let known = ledger.experiments()?;
    let others = match known.as_slice() {
        [] => "no experiment was run here yet".to_owned(),
        known => format!("here are {}", known.join(", ")),
    };
    Err(Exit::failed(format!("{} knows no experiment {name}: {others}", bam_dir.display())))
}

/// `file:line: path: message`, which editors can jump to.
pub fn locate(file: &Path, fault: &Fault) -> String {
    match fault.line {
        Some(line) => format!("{}:{line}: {fault}", file.display()),
        None => format!("{}: {fault}", file.display()),
    }
}
