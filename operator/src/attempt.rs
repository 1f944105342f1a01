//! What the trainer of one attempt is told: the same on every platform.

use bam_crds::experiment::StorageSpec;
use bam_crds::{BamRunSpec, InputsConfig, RunConfig};
use serde::Serialize;

use crate::plan::Rung;

/// The content of the file that `--config` names.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Config {
    /// Of `bam-trainer train`.
    Training(Box<RunConfig>),
    /// Of `bam-trainer inputs`.
    Inputs(Box<InputsConfig>),
}

/// The run's spec with the folder in which an attempt sees the store (of an object store: its working copy), and the rung of
/// the out-of-memory ladder. None: the spec is of a shape that the schema refuses.
pub fn config(spec: &BamRunSpec, store: &str, rung: Option<Rung>) -> Option<Config> {
    let mut config = match (&spec.config, &spec.inputs) {
        (Some(config), _) => Config::Training(Box::new(config.clone())),
        (None, Some(inputs)) => Config::Inputs(Box::new(inputs.clone())),
        (None, None) => return None,
    };
    let execution = match &mut config {
        Config::Training(config) => &mut config.execution,
        Config::Inputs(inputs) => &mut inputs.execution,
    };
    execution.object_store = StorageSpec::from_uri(&execution.store).and_then(|it| it.object_store).map(|it| it.uri);
    execution.store = store.to_owned();
    if let Some(Rung { micro_batch_tokens, activation_checkpointing }) = rung {
        execution.micro_batch_tokens = Some(micro_batch_tokens);
        execution.activation_checkpointing |= activation_checkpointing;
    }
    Some(config)
}
