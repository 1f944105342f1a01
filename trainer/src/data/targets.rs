//! A teacher's targets: its raw logits over its own training rows, on disk as safetensors.
//! [`super::align`] checks that they are about the rows that a student is going to learn from.
//!
//! File `targets/<task>.safetensors`: `logits` F32 [rows, outputs] (a regression's one output is on
//! the 0 to 1 scale), `eid` I64 [rows], `row_hash` I64 [rows] (the bits of
//! [`row_hash`](super::rows::row_hash)), and one metadata entry, `targets`: a JSON object with
//! `format`, `task` and `labels` (those of the columns in order, none for a regression). The same
//! targets are the same bytes.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bam_crds::Digest;

use crate::task::Task;
use crate::unpickle;

/// Name and version of the file's layout; a reader refuses others.
const FORMAT: &str = "bam-targets-1";
/// The one metadata entry: with several, their order in the file would be up to a hash map.
const METADATA: &str = "targets";

/// The largest pickle that is read: ten times that of GLUE's largest task.
const MOST_BYTES: u64 = 1 << 30;

/// A model's raw logits over the training rows of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Task name.
    pub task: String,
    /// Labels of the columns; empty for a regression.
    pub labels: Vec<String>,
    /// Example ids, one per row, each once.
    pub eids: Vec<u32>,
    /// [`row_hash`](super::rows::row_hash) of each row; empty if they came from a pickle of the reference, which has none.
    pub row_hashes: Vec<u64>,
    /// [rows, outputs], row by row.
    pub logits: Vec<f32>,
}

/// Why a file of targets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetsError {
    /// The file could not be read.
    #[error("{}: the targets cannot be read: {source}; check that the store is mounted and readable", .path.display())]
    Read {
        /// The file as it was opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what [`Targets::to_bytes`] makes.
    #[error("{}: not a file of targets: {what}; train the teacher again", .path.display())]
    Malformed {
        /// The file as it was opened.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl TargetsError {
    /// Whether the file was not there at all (exit code 66), rather than wrong (65).
    pub fn is_missing_input(&self) -> bool {
        matches!(self, TargetsError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether reading itself failed, so that another attempt may fare better (exit code 75).
    pub fn may_pass(&self) -> bool {
        matches!(self, TargetsError::Read { .. }) && !self.is_missing_input()
    }
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    format: String,
    task: String,
    labels: Vec<String>,
}

impl Targets {
    /// Width of a row of logits.
    pub fn outputs(&self) -> usize {
        self.labels.len().max(1)
    }

    /// The file's bytes, for the store to write.
    ///
    /// # Panics
    /// If the lengths of the fields do not fit together.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (rows, outputs) = (self.eids.len(), self.outputs());
        assert_eq!(self.row_hashes.len(), rows, "a hash for every row");
        assert_eq!(self.logits.len(), rows * outputs, "an output for every row and column");
        let logits = bytes(self.logits.iter().map(|x| x.to_le_bytes()));
        let eids = bytes(self.eids.iter().map(|eid| i64::from(*eid).to_le_bytes()));
        let hashes = bytes(self.row_hashes.iter().map(|hash| hash.to_le_bytes()));
        let tensors = [
            ("logits", TensorView::new(Dtype::F32, vec![rows, outputs], &logits)),
            ("eid", TensorView::new(Dtype::I64, vec![rows], &eids)),
            ("row_hash", TensorView::new(Dtype::I64, vec![rows], &hashes)),
        ]
        .map(|(name, view)| (name, view.expect("the bytes were made for this shape")));
        let metadata = Metadata { format: FORMAT.into(), task: self.task.clone(), labels: self.labels.clone() };
        let metadata = serde_json::to_string(&metadata).expect("strings are always JSON");
        safetensors::serialize(tensors, Some(HashMap::from([(METADATA.into(), metadata)])))
            .expect("three whole tensors make a file")
    }

    /// Reads what [`to_bytes`](Targets::to_bytes) made; `path` is for messages only.
    ///
    /// # Errors
    /// [`TargetsError::Malformed`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Targets, TargetsError> {
        parse(bytes).map_err(|what| TargetsError::Malformed { path: path.into(), what })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`TargetsError`].
    pub fn read(path: &Path) -> Result<Targets, TargetsError> {
        let bytes = std::fs::read(path).map_err(|source| TargetsError::Read { path: path.into(), source })?;
        Targets::from_bytes(&bytes, path)
    }

    /// Reads a file of either kind, by its name, and its digest.
    ///
    /// # Errors
    /// See [`TargetsError`].
    pub fn read_file(path: &Path, task: &Task) -> Result<(Digest, Targets), TargetsError> {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = std::fs::read(path).map_err(|source| TargetsError::Read { path: path.into(), source })?;
            return Ok((Digest::of_bytes(&bytes), Targets::from_bytes(&bytes, path)?));
        }
        Self::read_pickle(path, task)
    }

    /// Reads the predictions that the reference wrote of a task's training rows: a pickle, whose columns are in the order of
    /// the task's labels. Returns its digest too.
    ///
    /// # Errors
    /// See [`TargetsError`].
    pub fn read_pickle(path: &Path, task: &Task) -> Result<(Digest, Targets), TargetsError> {
        let malformed = |what| TargetsError::Malformed { path: path.into(), what };
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|source| TargetsError::Read { path: path.into(), source })?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(malformed(format!("it is larger than {MOST_BYTES} bytes")));
        }
        let (eids, logits) = unpickle::predictions(&bytes, task.outputs()).map_err(malformed)?;
        let targets =
            Targets { task: task.name.clone(), labels: task.labels().to_vec(), eids, row_hashes: Vec::new(), logits };
        Ok((Digest::of_bytes(&bytes), targets))
    }
}

fn parse(bytes: &[u8]) -> Result<Targets, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let entry =
        header.metadata().as_ref().and_then(|m| m.get(METADATA)).ok_or("its metadata say nothing of targets")?;
    let metadata: Metadata = serde_json::from_str(entry).map_err(|e| format!("its metadata are broken: {e}"))?;
    if metadata.format != FORMAT {
        return Err(format!("its format is {:?}, and this trainer reads {FORMAT:?}", metadata.format));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let eids: Vec<i64> = words(&tensors, "eid", Dtype::I64)?.map(i64::from_le_bytes).collect();
    let targets = Targets {
        task: metadata.task,
        labels: metadata.labels,
        row_hashes: words(&tensors, "row_hash", Dtype::I64)?.map(u64::from_le_bytes).collect(),
        logits: words(&tensors, "logits", Dtype::F32)?.map(f32::from_le_bytes).collect(),
        eids: eids
            .iter()
            .map(|eid| u32::try_from(*eid).map_err(|_| format!("{eid} is no example id")))
            .collect::<Result<_, _>>()?,
    };
    let (rows, width) = (targets.eids.len(), targets.outputs());
    if targets.row_hashes.len() != rows || targets.logits.len() != rows * width {
        let (hashes, numbers) = (targets.row_hashes.len(), targets.logits.len());
        return Err(format!("{rows} example ids, {hashes} row hashes and {numbers} logits do not fit together"));
    }
    let mut seen = HashSet::new();
    if let Some(eid) = targets.eids.iter().find(|eid| !seen.insert(**eid)) {
        return Err(format!("the example id {eid} stands twice"));
    }
    Ok(targets)
}

/// The little-endian words of a tensor.
fn words<'a, const N: usize>(
    tensors: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
) -> Result<impl Iterator<Item = [u8; N]> + use<'a, N>, String> {
    let tensor = tensors.tensor(name).map_err(|_| format!("it has no tensor {name:?}"))?;
    if tensor.dtype() != dtype {
        return Err(format!("the tensor {name:?} holds {:?} and not {dtype:?}", tensor.dtype()));
    }
    Ok(tensor.data().as_chunks::<N>().0.iter().copied())
}

fn bytes<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    words.flatten().collect()
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
