//! Builders of what the tests feed to the planner.

use bam_crds::experiment::{BamExperiment, BamExperimentSpec, DistillSpec, StorageSpec, TaskSpec};
use bam_crds::{Digest, ExitReason, RunReport};
use bam_operator::plan::retry::Ending;
use k8s_openapi::jiff::Timestamp;

pub use crate::findings::findings;

/// The moment at which every test begins.
pub fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub fn digest(of: &str) -> Digest {
    Digest::of_bytes(of.as_bytes())
}

/// An experiment over `tasks` with a student per trial.
pub fn experiment(tasks: &[&str]) -> BamExperiment {
    let spec = BamExperimentSpec {
        tasks: tasks.iter().map(|name| TaskSpec { name: (*name).to_owned(), ..Default::default() }).collect(),
        distill: None,
        hyperparameters: Default::default(),
        seed: 1,
        precision: Default::default(),
        trials: 1,
        model: bam_crds::experiment::ModelSpec { pretrained: "tiny".to_owned() },
        storage: StorageSpec { persistent_volume_claim: Some(Default::default()), object_store: None },
        fetch: None,
        compute: Default::default(),
        priority_class_name: None,
        queue_name: None,
        failure_policy: Default::default(),
        max_parallel_runs: None,
        suspend: false,
        cancel: false,
        retry: 0,
        managed_by: None,
        active_deadline_seconds: None,
        ttl_seconds_after_finished: None,
    };
    BamExperiment::new("exp", spec)
}

pub fn distilled(tasks: &[&str]) -> BamExperiment {
    let mut experiment = experiment(tasks);
    experiment.spec.distill = Some(DistillSpec { annealing: true, ..Default::default() });
    experiment
}

/// An attempt that ended with this code, without a word.
pub fn exit(code: i32) -> Ending {
    Ending { code: Some(code), ..Ending::unseen(start()) }
}

/// An attempt that ended with this reason, and said so.
pub fn said(reason: ExitReason, message: &str) -> Ending {
    Ending { report: Some(RunReport::new(reason, message)), ..exit(reason.code()) }
}

pub fn checkpointed(steps: u64) -> Ending {
    let mut ending = said(ExitReason::Checkpointed, "");
    ending.steps = steps;
    ending
}
