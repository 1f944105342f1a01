//! Names and labels of the objects.

use serde::Serialize;

use crate::identity::Digest;

/// Label of everything that belongs to a run.
pub const RUN_LABEL: &str = "bam.dev/run";
/// Label of an attempt's Job and pod: the experiment that made its run, as [`experiment_label`] writes it.
pub const EXPERIMENT_LABEL: &str = "bam.dev/experiment";
/// Label of an attempt's Job and pod: its number.
pub const ATTEMPT_LABEL: &str = "bam.dev/attempt";
/// Label of runs, Jobs and pods: what the run is for.
pub const ROLE_LABEL: &str = "bam.dev/role";
/// Label of a pod: the claim that it uses, as [`claim_label`] writes it.
pub const CLAIM_LABEL: &str = "bam.dev/claim";
/// Label of a pod that is one of several: the attempt whose pods share a slice, as [`slice_label`] writes it.
pub const SLICE_LABEL: &str = "bam.dev/slice";
/// Label of Jobs: the queue in which they wait for their turn. Kueue's.
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
/// Annotation of a run: the experiment that made it.
pub const MADE_BY_ANNOTATION: &str = "bam.dev/made-by";
/// Annotation of a run: its tasks, for `kubectl get`.
pub const TASKS_ANNOTATION: &str = "bam.dev/tasks";
/// Annotation of a pod: what its trainer is told.
pub const CONFIG_ANNOTATION: &str = "bam.dev/config";
/// Annotations of a run that begin like this ask for it to be tried again: who asks, and up to which attempt those so far
/// no longer count (`reopen.bam.dev/alice: "3"`).
pub const REOPEN_PREFIX: &str = "reopen.bam.dev/";
/// The operator as a field manager, and as a source of events.
pub const OPERATOR: &str = "bam-operator";

/// The field manager under which an experiment owns runs.
pub fn owner(experiment_uid: &str) -> String {
    format!("bam-owner-{experiment_uid}")
}

/// What the name of an object may look like (an RFC 1123 subdomain), but for its length: at most 253 letters.
pub const OBJECT_NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// What the value of a label may look like, but for its length: at most 63 letters.
pub const LABEL_VALUE_PATTERN: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// The longest value of a label.
const LONGEST_LABEL: usize = 63;

/// A claim's name as the value of a label: itself, or a digest of one that is too long.
pub fn claim_label(claim: &str) -> String {
    label("claim", claim)
}

/// An experiment's name as the value of a label: itself, or a digest of one that is too long.
pub fn experiment_label(experiment: &str) -> String {
    label("experiment", experiment)
}

fn label(kind: &str, name: &str) -> String {
    match name.len() {
        ..=LONGEST_LABEL => name.to_owned(),
        _ => format!("{kind}-{}", Digest::of_bytes(name.as_bytes()).short()),
    }
}

/// Name of the run that trains this science into this store: `run-` and 16 digits.
///
/// `store` is the storage part of an experiment's spec. The same science in another store is another object.
pub fn run(science_hash: &Digest, store: &impl Serialize) -> String {
    let store = Digest::of(store);
    format!("run-{}", Digest::of(&(science_hash, store)).short())
}

/// Name of the run that checks an experiment's inputs, `looked_at`: it is the experiment's own (`key` says whose, and which
/// state of its files), since what it finds may be out of date tomorrow.
pub fn inputs(looked_at: &impl Serialize, key: &str) -> String {
    format!("run-{}", Digest::of(&(looked_at, key)).short())
}

/// Who asks, in the words of [`REOPEN_PREFIX`], when an experiment's `retry` was raised to this. (An annotation's name has at
/// most 63 letters behind its prefix.)
pub fn retry(experiment: &str, retry: u32) -> String {
    format!("{experiment:.40}.retry-{retry}")
}

/// Name of a run's n-th attempt, counted from 1.
pub fn attempt(run: &str, number: u32) -> String {
    format!("{run}-{number}")
}

/// Name of the Service by which the pods of a run find each other, if an attempt has several. It is this run's alone, and not
/// that of one of the same name which was there before.
pub fn service(run: &str, run_uid: &str) -> String {
    format!("{run}-{:.8}", Digest::of_bytes(run_uid.as_bytes()).as_str())
}

/// What the pods of an attempt on several hosts have in common, and no others in the cluster: runs of two namespaces may have the
/// same name.
pub fn slice_label(service: &str, number: u32) -> String {
    format!("{service}-{number}")
}

/// Name of a host of an attempt that has several, as its pod's, where Indexed Jobs and their Service are in use.
pub fn host(attempt: &str, index: u32, service: &str) -> String {
    format!("{attempt}-{index}.{service}")
}
