//! What a person may wish of an experiment that is there: a change of its spec each.

use bam_crds::BamExperiment;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::RunPhase;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::super::{Exit, say};
use super::NAME;
use super::cluster::{Cluster, EXPERIMENTS};

/// What a person may ask of an experiment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Suspend,
    Resume,
    Cancel,
    Retry,
}

/// Asks for it.
pub async fn ask(cluster: &Cluster, wish: Wish, name: &str) -> Result<(), Exit> {
    let experiment = cluster.get(name).await?;
    let (spec, said) = wish.of(&experiment).map_err(|why| Exit::failed(format!("{name} {why}")))?;
    // The version that was looked at: somebody else may wish something, too.
    let version = &experiment.metadata.resource_version;
    let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
    let parameters = PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() };
    match cluster.experiments().patch(name, &parameters, &Patch::Merge(patch)).await {
        Ok(_) => say(&format!("{name} {said}\n")),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            return Err(Exit::failed(format!("somebody else changed experiment {name} just now: try again")));
        }
        Err(error) => return Err(cluster.explained("patch", EXPERIMENTS, &error)),
    }
    Ok(())
}

impl Wish {
    /// The change of its spec that stands for it, and what becomes of it; or why there is none.
    fn of(self, experiment: &BamExperiment) -> Result<(Value, &'static str), String> {
        let status = experiment.status.clone().unwrap_or_default();
        let (spec, phase) = (&experiment.spec, status.phase);
        match self {
            Self::Suspend | Self::Cancel if phase.is_final() => Err(format!("is {phase:?}: nothing trains for it")),
            Self::Suspend => {
                Ok((json!({ "suspend": true }), "stops at its next checkpoint: `kubectl bam resume` goes on there"))
            }
            Self::Resume if !spec.suspend => Err("is not suspended".to_owned()),
            Self::Resume => Ok((json!({ "suspend": false }), "goes on where it was")),
            Self::Cancel => {
                Ok((json!({ "cancel": true }), "is over: what it trained stays, and another experiment finds it"))
            }
            Self::Retry if phase == ExperimentPhase::Cancelled => {
                Err("is cancelled: create another experiment".to_owned())
            }
            Self::Retry if !status.runs.iter().any(|run| run.phase == RunPhase::Failed) => {
                Err("has no run that failed: `kubectl bam explain` says what it waits for".to_owned())
            }
            Self::Retry => {
                let retry = spec.retry.max(status.retried).saturating_add(1);
                Ok((json!({ "retry": retry }), "tries again what has failed"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(spec: Value, status: Value) -> BamExperiment {
        let mut object = json!({
            "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "metadata": { "name": "exp" },
            "spec": {
                "tasks": [{ "name": "rte" }], "model": { "pretrained": "tiny" },
                "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
            },
            "status": status,
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_wish_is_a_change_of_the_spec_or_says_why_it_is_none() {
        let failed = json!({ "phase": "Failed", "retried": 4,
            "runs": [{ "name": "run-1", "role": "Teacher", "tasks": ["rte"], "phase": "Failed" }] });
        let table = [
            (
                "what trains is suspended",
                Wish::Suspend,
                json!({}),
                json!({ "phase": "TrainingTeachers" }),
                Ok(json!({ "suspend": true })),
            ),
            (
                "what is complete is not",
                Wish::Suspend,
                json!({}),
                json!({ "phase": "Complete" }),
                Err("is Complete: nothing trains for it"),
            ),
            (
                "what is suspended goes on",
                Wish::Resume,
                json!({ "suspend": true }),
                json!({ "phase": "Suspended" }),
                Ok(json!({ "suspend": false })),
            ),
            ("what is not cannot", Wish::Resume, json!({}), json!({ "phase": "Pending" }), Err("is not suspended")),
            (
                "what is suspended can be cancelled",
                Wish::Cancel,
                json!({ "suspend": true }),
                json!({ "phase": "Suspended" }),
                Ok(json!({ "cancel": true })),
            ),
            (
                "what has failed is over already",
                Wish::Cancel,
                json!({}),
                failed.clone(),
                Err("is Failed: nothing trains for it"),
            ),
            (
                "what has failed is tried again, also if the manifest was applied anew since",
                Wish::Retry,
                json!({ "retry": 1 }),
                failed,
                Ok(json!({ "retry": 5 })),
            ),
            (
                "what has not is not",
                Wish::Retry,
                json!({}),
                json!({ "phase": "TrainingStudent" }),
                Err("has no run that failed"),
            ),
            (
                "nor what is cancelled",
                Wish::Retry,
                json!({ "cancel": true }),
                json!({ "phase": "Cancelled" }),
                Err("create another experiment"),
            ),
        ];
        for (what, wish, spec, status, expected) in table {
            match (wish.of(&experiment(spec, status)), expected) {
                (Ok((change, _)), Ok(expected)) => assert_eq!(change, expected, "{what}"),
                (Err(why), Err(words)) => assert!(why.contains(words), "{what}: {why}"),
                (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
            }
        }
    }
}
