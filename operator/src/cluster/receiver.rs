//! A Job that takes runs into a store on behalf of a person (`kubectl bam push`). Pure. The operator knows nothing of it.

use std::collections::BTreeMap;

use bam_crds::BamRunSpec;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::job::{self, Trainer};
use super::placement::{self, Claim};

/// No transfer takes longer. Usually its standard input ends with whoever sends; this is for connections that nobody ends.
const LIMIT_SECONDS: i64 = 6 * 3600;
/// Who was killed cannot tidy up: how long the Job stays then.
const LEFT_OVER_SECONDS: i32 = 60;

/// A pod as an attempt of this run would have it, with the same store and no more rights, which listens to its standard input.
/// It is no attempt: none of the labels by which the operator knows those.
pub fn receiver(run: &BamRunSpec, claim: Option<&Claim>, trainer: &Trainer) -> Job {
    let labels: BTreeMap<_, _> = [
        ("app.kubernetes.io/managed-by".to_owned(), "kubectl-bam".to_owned()),
        ("app.kubernetes.io/name".to_owned(), "bam-receiver".to_owned()),
    ]
    .into();
    let mut pod = job::pod(run, trainer);
    for container in &mut pod.containers {
        let args = ["receive", "--config", &job::config_file(), "--report", job::LAST_WORD];
        container.args = Some(args.map(str::to_owned).into());
        container.ports = None;
        container.stdin = Some(true);
        container.stdin_once = Some(true);
    }
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some(job::annotations(run, None)),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    };
    Job {
        metadata: ObjectMeta {
            generate_name: Some("bam-push-".to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(LIMIT_SECONDS),
            ttl_seconds_after_finished: Some(LEFT_OVER_SECONDS),
            template: placement::placed(template, run, claim),
            ..JobSpec::default()
        }),
        status: None,
    }
}
