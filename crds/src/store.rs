//! Where things lie in the artifact store. Paths are relative to its root and use `/`.
//!
//! ```text
//! runs/<science hash>/manifest.json          written last: a whole manifest IS the run
//!                     targets/<task>.safetensors
//!                     predictions/<task>_<split>.safetensors
//!                     model/                  the encoder: weights, configuration, vocabulary; heads (labels by name)
//!                           <task>/           its head, for Hugging Face's transformers
//!                     checkpoints/<attempt>/
//!                     report.json results.json
//! models/<name>/                              the reference's layout, for its command line
//! .bam/features/                              word pieces of large tasks, for the next start
//! glue_data/<task>/ pretrained_models/<name>/ inputs; fetched.json in those that were fetched
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Science;
use crate::identity::{Digest, is_default};

/// Folder of word pieces that are kept, by a hash of all that they follow from; it can be removed at any time.
pub const FEATURES: &str = ".bam/features";
/// Folder of all runs.
pub const RUNS: &str = "runs";
/// Name of the manifest in a run's folder.
pub const MANIFEST: &str = "manifest.json";
/// Folder of checkpoints in a run's folder.
pub const CHECKPOINTS: &str = "checkpoints";
/// Folder of targets in a run's folder.
pub const TARGETS: &str = "targets";
/// Folder of the model in a run's folder.
pub const MODEL: &str = "model";
/// Name of the final report in a run's folder.
pub const REPORT: &str = "report.json";
/// Name of the record in a folder of inputs that was fetched: what it is, and where it comes from.
pub const FETCHED: &str = "fetched.json";
/// Name of the scores in a run's folder.
pub const RESULTS: &str = "results.json";

/// A run's folder.
pub fn run(science_hash: &Digest) -> String {
    format!("{RUNS}/{science_hash}")
}

/// A run's manifest.
pub fn manifest(science_hash: &Digest) -> String {
    format!("{}/{MANIFEST}", run(science_hash))
}

/// A task's targets, relative to its run's folder.
pub fn targets(task: &str) -> String {
    format!("{TARGETS}/{task}.safetensors")
}

/// Predictions of a test split, relative to its run's folder.
pub fn predictions(task: &str, split: &str) -> String {
    format!("predictions/{task}_{split}.safetensors")
}

/// A task's data.
pub fn glue_data(task: &str) -> String {
    format!("glue_data/{task}")
}

/// A pretrained model.
pub fn pretrained(name: &str) -> String {
    format!("pretrained_models/{name}")
}

/// What a finished run consists of. Created only if absent, after everything that it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The run.
    pub science_hash: Digest,
    /// What it learned from.
    pub science: Science,
    /// Every artifact by its path in the run's folder.
    pub files: BTreeMap<String, Artifact>,
    /// Digests of the targets files that were used, by teacher and task: `<science hash>/<task>`; of a file that no run
    /// wrote, by its place in the store.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used_targets: BTreeMap<String, Digest>,
    /// What bit-equality depends on.
    pub machine: Machine,
    /// The attempt that wrote it.
    pub attempt: String,
}

impl Manifest {
    /// Is this a manifest of that run, at least in name?
    pub fn is_of(&self, science_hash: &Digest) -> bool {
        self.science_hash == *science_hash && self.science.hash() == *science_hash
    }
}

/// One file of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its content.
    pub sha256: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The kind of machine that trained: weights are equal to the bit between equal ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// `cpu` or `cuda`.
    pub device: String,
    /// CPU threads used.
    pub threads: u32,
    /// The vector instruction set: `avx512`, `avx2`, …: what the processor offers, unless `ATEN_CPU_CAPABILITY` says less.
    pub instruction_set: String,
    /// Padded word pieces per micro-batch.
    pub micro_batch_tokens: u32,
    /// The trainer's version.
    pub trainer: String,
}
