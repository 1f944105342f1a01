//! Names and labels of the objects.

use serde::Serialize;

use crate::identity::Digest;

/// Label of everything that belongs to a run.
pub const RUN_LABEL: &str = "bam.dev/run";
/// Label of everything that belongs to an experiment.
pub const EXPERIMENT_LABEL: &str = "bam.dev/experiment";

/// What the name of an object may look like (an RFC 1123 subdomain), but for its length: at most 253 letters.
pub const OBJECT_NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Name of the run that trains this science into this store: `run-` and 16 digits.
///
/// `store` is the storage part of an experiment's spec. The same science in another store is another object.
pub fn run(science_hash: &Digest, store: &impl Serialize) -> String {
    let store = Digest::of(store);
    format!("run-{}", Digest::of(&(science_hash, store)).short())
}

/// Name of the run that checks an experiment's inputs: it is the experiment's own (`key` says whose, and which state of
/// its files), since what it finds may be out of date tomorrow.
pub fn inputs(config: &impl Serialize, key: &str) -> String {
    format!("run-{}", Digest::of(&(config, key)).short())
}

/// Name of a run's n-th attempt, counted from 1.
pub fn attempt(run: &str, number: u32) -> String {
    format!("{run}-{number}")
}
