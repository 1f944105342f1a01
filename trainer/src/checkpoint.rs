//! The state of a training run on disk: step, parameters, both moments of the optimizer, and how many steps it skipped.
//!
//! `<checkpoints>/<attempt>/step-000123.safetensors` holds all of it. `step-000123.json` is written
//! after it and says its size and digest, and what it was trained on: a checkpoint counts only with that. Each attempt writes in its own folder and reads those of all, so attempts
//! that live at once cannot harm each other.

use crate::digest;
use crate::durable::{self, UNFINISHED, WriteError};
use crate::model::{Model, TensorFile, TensorFileError, write_tensors};
use crate::optim::{AdamWeightDecay, Skipped};
use bam_crds::store::Artifact;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Of the names of a checkpoint's two files.
const ENDINGS: [&str; 2] = ["safetensors", "json"];
/// Key of the tensors' metadata: how many steps were skipped, as JSON; absent if none was.
const SKIPPED: &str = "skipped";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Writing failed; a full disk is told apart.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A folder cannot be listed or changed.
    #[error("cannot access {path}: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// A valid checkpoint of another model.
    #[error("{path} is a checkpoint of another model: {}; move its folder away to train anew", problems.join("; "))]
    Mismatch {
        /// The file.
        path: String,
        /// One sentence each.
        problems: Vec<String>,
    },
}

/// The second file of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Seal {
    step: u64,
    #[serde(flatten)]
    content: Artifact,
    basis: Value,
}

/// Writes a checkpoint into an attempt's folder, which is made if it is missing, and returns its
/// path. `step` is the number of finished steps, `basis` says what they were trained on.
///
/// Killed at any point, it leaves the older checkpoints as they are.
pub fn save(
    attempt: &Path,
    step: u64,
    model: &Model,
    optimizer: &AdamWeightDecay,
    basis: &Value,
) -> Result<PathBuf, CheckpointError> {
    std::fs::create_dir_all(attempt).map_err(|source| WriteError::new(attempt, source))?;
    let path = attempt.join(names(step)[0].as_str());
    let tensors = tensors(model, optimizer);
    let skipped = optimizer.skipped();
    let skipped = (skipped != Skipped::default()).then(|| serde_json::json!(skipped).to_string());
    let metadata: Vec<_> = skipped.iter().map(|skipped| (SKIPPED, skipped.as_str())).collect();
    let content = durable::write(&path, |file| write_tensors(file, tensors, &metadata))?;
    let seal = Seal { step, content, basis: basis.clone() };
    let text = serde_json::json!(seal).to_string();
    durable::write(&seal_of(&path), |mut file| file.write_all(text.as_bytes()))?;
    Ok(path)
}

/// All tensors of a checkpoint by name, in a fixed order.
fn tensors<'a>(model: &'a Model, optimizer: &'a AdamWeightDecay) -> impl Iterator<Item = (String, &'a Tensor)> + Clone {
    let parameters = model.parameters();
    let named = |kind: &'static str| parameters.iter().map(move |parameter| format!("{kind}/{}", parameter.name));
    let (first, second) = optimizer.moments();
    named("parameter")
        .zip(parameters.iter().map(|parameter| &parameter.value))
        .chain(named("m").zip(first))
        .chain(named("v").zip(second))
}

fn seal_of(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// A whole checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file with the tensors.
    pub path: PathBuf,
    /// Finished steps.
    pub step: u64,
}

/// The newest whole checkpoint, and which newer ones were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The checkpoint to resume from.
    pub found: Option<Found>,
    /// One sentence for each checkpoint that is not whole.
    pub warnings: Vec<String>,
}

/// Looks through the folders of all attempts of a run for the newest checkpoint whose content has
/// the size and digest that it should, and that was trained on `basis`. No folder at all is simply no checkpoint.
pub fn latest_valid(checkpoints: &Path, basis: &Value) -> Result<Search, CheckpointError> {
    let mut candidates = Vec::new();
    for attempt in list(checkpoints)? {
        if attempt.is_dir() {
            candidates.extend(steps(&attempt)?.into_iter().map(|step| (step, attempt.clone())));
        }
    }
    // The newest step first; between attempts that reached the same one, any will do.
    candidates.sort();
    let mut search = Search::default();
    for (step, attempt) in candidates.into_iter().rev() {
        let path = attempt.join(names(step)[0].as_str());
        match check(&path, step, basis)? {
            None => {
                search.found = Some(Found { path, step });
                break;
            }
            Some(problem) => search.warnings.push(format!("{} is skipped: {problem}", path.display())),
        }
    }
    Ok(search)
}

/// The newest step of which there is a whole pair of files, and 0 if there is none: a guess, to report before anything is
/// read. [`latest_valid`] knows.
pub fn newest(checkpoints: &Path) -> u64 {
    let attempts = list(checkpoints).unwrap_or_default().into_iter();
    let files = attempts.flat_map(|attempt| list(&attempt).unwrap_or_default());
    let sealed =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "safetensors") && seal_of(path).exists());
    sealed.filter_map(|path| step_of(&path)).max().unwrap_or_default()
}

/// What keeps a checkpoint from being used, if anything. That it cannot be read just now is an error: what was trained
/// must not be thrown away for that.
fn check(path: &Path, step: u64, basis: &Value) -> Result<Option<String>, CheckpointError> {
    let seal = seal_of(path);
    let name = seal.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = match std::fs::read(&seal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(format!("{name} is missing, so it was never finished")));
        }
        text => text.map_err(|source| folder_error(&seal, source))?,
    };
    let seal: Seal = match serde_json::from_slice(&text) {
        Ok(seal) => seal,
        Err(error) => return Ok(Some(format!("{name}: {error}"))),
    };
    if seal.basis != *basis {
        return Ok(Some("it was trained on other targets".to_owned()));
    }
    if seal.step != step {
        return Ok(Some(format!("{name} says step {}", seal.step)));
    }
    let found = digest::of_file(path).map_err(|source| folder_error(path, source))?;
    let (bytes, sha256) = (seal.content.bytes, seal.content.sha256);
    Ok(if bytes != found.bytes {
        Some(format!("it has {} bytes instead of {bytes}", found.bytes))
    } else if sha256 != found.sha256 {
        Some(format!("its content has changed (SHA-256 {} instead of {sha256})", found.sha256))
    } else {
        None
    })
}

impl Found {
    /// Overwrites the model and the optimizer with this checkpoint.
    ///
    /// Nothing is changed if the tensors are not those of this model.
    pub fn restore(&self, model: &mut Model, optimizer: &mut AdamWeightDecay) -> Result<(), CheckpointError> {
        let mut file = TensorFile::open(&self.path)?;
        let mut problems = differences(&file, tensors(model, optimizer));
        let skipped = file.metadata(SKIPPED).map_or(Ok(Skipped::default()), serde_json::from_str);
        if let Err(error) = &skipped {
            problems.push(format!("its count of skipped steps cannot be read: {error}"));
        }
        if !problems.is_empty() {
            return Err(CheckpointError::Mismatch { path: self.path.display().to_string(), problems });
        }
        let (first, second) = optimizer.moments_mut();
        for ((parameter, first), second) in model.parameters_mut().iter_mut().zip(first).zip(second) {
            parameter.set(&file.read(&format!("parameter/{}", parameter.name))?);
            first.copy_(&file.read(&format!("m/{}", parameter.name))?);
            second.copy_(&file.read(&format!("v/{}", parameter.name))?);
        }
        *optimizer.skipped_mut() = skipped.unwrap_or_default();
        Ok(())
    }
}

fn differences<'a>(file: &TensorFile, wanted: impl Iterator<Item = (String, &'a Tensor)>) -> Vec<String> {
    let mut others: BTreeSet<String> = file.names().into_iter().collect();
    let mut problems = Vec::new();
    for (name, tensor) in wanted {
        others.remove(&name);
        match file.shape(&name) {
            None => problems.push(format!("{name} is missing")),
            Some(shape) if shape == tensor.size() => {}
            Some(shape) => problems.push(format!("{name} is {shape:?} instead of {:?}", tensor.size())),
        }
    }
    problems.extend(others.into_iter().map(|name| format!("{name} is not part of this model")));
    problems
}

/// Removes all but the newest `keep` checkpoints of one attempt, and what interrupted writes left.
/// Only the attempt that writes into a folder may call this.
pub fn prune(attempt: &Path, keep: usize) -> Result<(), CheckpointError> {
    let files = list(attempt)?;
    let sealed = |step: &u64| files.contains(&attempt.join(names(*step)[1].as_str()));
    let kept: Vec<u64> = steps(attempt)?.into_iter().filter(sealed).rev().take(keep).collect();
    let of_kept = |path: &Path| step_of(path).is_some_and(|step| kept.contains(&step));
    // Seals first: between the two removals, what remains is visibly unfinished.
    let mut surplus: Vec<&PathBuf> = files.iter().filter(|path| is_ours(path) && !of_kept(path)).collect();
    surplus.sort_by_key(|path| path.extension().is_none_or(|extension| extension != "json"));
    for path in surplus {
        std::fs::remove_file(path).map_err(|source| folder_error(path, source))?;
    }
    Ok(())
}

/// Removes the checkpoints of all other attempts that got no further than `step`: every attempt that was stopped leaves
/// some, and a disk is finite. One that is still alive goes on from its memory.
pub fn prune_others(attempt: &Path, step: u64) -> Result<(), CheckpointError> {
    for other in list(attempt.parent().unwrap_or(attempt))? {
        let behind = other != attempt && other.is_dir() && steps(&other)?.last().is_none_or(|newest| *newest <= step);
        if behind {
            std::fs::remove_dir_all(&other).map_err(|source| folder_error(&other, source))?;
        }
    }
    Ok(())
}

/// Steps of a folder, ascending: one for each file of tensors.
fn steps(attempt: &Path) -> Result<BTreeSet<u64>, CheckpointError> {
    let tensors = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
    Ok(list(attempt)?.iter().filter(|path| tensors(path)).filter_map(|path| step_of(path)).collect())
}

/// The step in a file's name, if it is part of a finished checkpoint.
fn step_of(path: &Path) -> Option<u64> {
    parse(path.file_name()?.to_str()?).map(|(step, _)| step)
}

/// The two files of a checkpoint: the tensors, and the seal, which makes them count.
pub(crate) fn names(step: u64) -> [String; 2] {
    ENDINGS.map(|ending| format!("step-{step:06}.{ending}"))
}

/// The step in such a name, and whether it is that of a seal.
pub(crate) fn parse(name: &str) -> Option<(u64, bool)> {
    let (step, ending) = name.strip_prefix("step-")?.split_once('.')?;
    let [_, seal] = ENDINGS;
    ENDINGS.contains(&ending).then(|| Some((step.parse().ok()?, ending == seal))).flatten()
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("step-") && (step_of(path).is_some() || name.ends_with(UNFINISHED))
}

/// The entries of a folder, sorted; a missing folder is empty.
fn list(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| folder_error(folder, source))?,
    };
    let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(|source| folder_error(folder, source))?;
    paths.sort();
    Ok(paths)
}

fn folder_error(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Folder { path: path.display().to_string(), source }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
