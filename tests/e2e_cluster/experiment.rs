//! Manifests of the tests.

use serde_json::{Value, json};

/// A tiny random model on the first lines of the demo data: seconds instead of minutes, and the whole way.
pub fn debug(name: &str, tasks: &[&str]) -> Value {
    let tasks: Vec<_> = tasks.iter().map(|task| json!({ "name": task })).collect();
    json!({
        "apiVersion": "bam.dev/v1alpha1",
        "kind": "BamExperiment",
        "metadata": { "name": name },
        "spec": {
            "tasks": tasks,
            "distill": {},
            "hyperparameters": { "debug": true, "maxSeqLength": 32 },
            "model": { "pretrained": "all-MiniLM-L6-v2" },
            "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
            "compute": { "threads": 1 },
        },
    })
}

/// The same, with this at a path of its spec (`distill/hyperparameters/seed`).
pub fn with(mut experiment: Value, path: &str, value: impl Into<Value>) -> Value {
    let mut at = &mut experiment["spec"];
    for name in path.split('/') {
        at = &mut at[name];
    }
    *at = value.into();
    experiment
}

/// Long enough to be hit by something: some seconds per run, with a checkpoint every few steps.
pub fn slow(experiment: Value) -> Value {
    let experiment = with(experiment, "hyperparameters/numTrainEpochs", "24");
    let experiment = with(experiment, "distill/hyperparameters/numTrainEpochs", "24");
    with(experiment, "compute/saveCheckpointsSteps", 5)
}
