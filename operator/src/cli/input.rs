//! Manifests from the command line.

use std::io::Read;
use std::path::{Path, PathBuf};

use bam_crds::BamExperiment;

use super::{Exit, complain};
use crate::local::Mode;
use crate::local::ledger::Ledger;
use crate::manifest::{self, Fault, NO_EXPERIMENT, Profile};
use crate::plan::profile;

/// Where the manifests of a command are.
#[derive(Debug, clap::Args)]
pub struct Manifests {
    /// The manifest; `-` for standard input. May stand several times.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

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

/// The experiments of files without faults, each with what its profile says where that is in one of them. Faults are said.
pub fn experiments(files: &[PathBuf]) -> Result<Vec<BamExperiment>, Exit> {
    let (mut experiments, profiles) = manifests(files)?;
    experiments.iter_mut().for_each(|experiment| resolve(experiment, &profiles));
    Ok(experiments)
}

/// The experiments of files without faults as they stand there, and the profiles beside them. Faults are said.
pub fn manifests(files: &[PathBuf]) -> Result<(Vec<BamExperiment>, Vec<Profile>), Exit> {
    let (mut experiments, mut profiles, mut is_sound) = (Vec::new(), Vec::new(), true);
    for file in files {
        let manifest = manifest::read(&text(file)?);
        for note in &manifest.notes {
            complain(&format!("note: {}", locate(file, note)));
        }
        for fault in &manifest.faults {
            complain(&locate(file, fault));
        }
        is_sound &= manifest.faults.is_empty();
        experiments.extend(manifest.experiments);
        profiles.extend(manifest.profiles);
    }
    if !is_sound {
        return Err(Exit::Faults);
    }
    if experiments.is_empty() {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(Exit::failed(format!("{}: {NO_EXPERIMENT}", files.join(", "))));
    }
    Ok((experiments, profiles))
}

/// Here nobody has profiles but those that are given.
fn resolve(experiment: &mut BamExperiment, profiles: &[Profile]) {
    let Some(named) = &experiment.spec.compute.profile else { return };
    let namespace = experiment.metadata.namespace.as_ref();
    let is_it = |profile: &&Profile| {
        let elsewhere = profile.namespace.as_ref().zip(namespace).is_some_and(|(its, ours)| its != ours);
        profile.named == *named && !elsewhere
    };
    match profiles.iter().find(is_it) {
        Some(profile) => experiment.spec = profile::resolve(&experiment.spec, &profile.spec),
        None => complain(&format!(
            "note: {}: {named} is not among what was given: what it says of pods is not used here, and what it says of threads, \
             checkpoints and retries neither",
            experiment.metadata.name.as_deref().unwrap_or_default()
        )),
    }
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
