//! A Job that may have no pod: only an event of it tells why.

use std::collections::BTreeMap;

use bam_crds::BamRun;
use bam_operator::cluster::observe::Seen;
use bam_operator::plan::run::AttemptState;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event as Told;
use serde_json::{Value, json};

fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn seen() -> Seen {
    let seen = Seen::default();
    let run: BamRun = of(json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "BamRun",
        "metadata": { "namespace": "ns", "name": "run-1", "uid": "r" },
        "spec": { "role": "Inputs" },
    }));
    seen.runs.apply(Told::Apply(DeserializeGuard(Ok(run))));
    let job: Job = of(json!({
        "metadata": {
            "namespace": "ns", "name": "run-1-1", "uid": "j",
            "labels": { "bam.dev/run": "run-1", "bam.dev/attempt": "1" },
            "ownerReferences": [
                { "apiVersion": "bam.dev/v1alpha1", "kind": "BamRun", "name": "run-1", "uid": "r", "controller": true },
            ],
        },
    }));
    seen.jobs.apply(Told::Apply(job));
    seen
}

fn event(job: &str, second: u32, message: &str) -> Event {
    of(json!({
        "metadata": { "namespace": "ns", "name": format!("run-1-1.{second}") },
        "involvedObject": { "kind": "Job", "name": "run-1-1", "uid": job },
        "reason": "FailedCreate", "message": message,
        "lastTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
    }))
}

fn states(seen: &Seen) -> BTreeMap<u32, AttemptState> {
    let (_, observed) = seen.run("ns", "run-1", None, Timestamp::UNIX_EPOCH).unwrap();
    observed.attempts.into_iter().map(|(number, attempt)| (number, attempt.state)).collect()
}

#[test]
fn the_reason_why_a_job_has_no_pod_is_its_last_one_without_the_pod_s_random_name() {
    let seen = seen();
    let waits = |what: &str| BTreeMap::from([(1, AttemptState::Starting(what.to_owned()))]);
    assert_eq!(states(&seen), waits("waits for its pod"));
    let quota = r#"Error creating: pods "run-1-1-x7x7x" is forbidden: exceeded quota: small, requested: pods=1"#;
    seen.hindrances.apply(Told::Apply(event("j", 2, quota)));
    seen.hindrances.apply(Told::Apply(event("j", 1, "Error creating: an older reason")));
    seen.hindrances.apply(Told::Apply(event("of an earlier Job of that name", 3, "Error creating: another reason")));
    assert_eq!(states(&seen), waits("waits for its pod: it is forbidden: exceeded quota: small, requested: pods=1"));
}
