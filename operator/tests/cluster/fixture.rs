//! Objects as an API server shows them.

use bam_crds::{BamExperiment, BamRun};
use bam_operator::cluster::cache::Cache;
use bam_operator::cluster::facts::Facts;
use bam_operator::cluster::slice::INDEX;
use bam_operator::plan::retry::Disruption;
use bam_operator::plan::run::AttemptState;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

pub const RUN: &str = "run-0123456789abcdef";

/// A check of the inputs of rte in the claim `bam-dir`, with this status.
pub fn run(uid: &str, status: Value) -> BamRun {
    serde_json::from_value(json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "BamRun",
        "metadata": {
            "name": RUN, "namespace": "lab", "uid": uid, "generation": 1,
            "annotations": { "bam.dev/made-by": "exp" },
            "ownerReferences": [{ "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "name": "exp", "uid": "e" }],
        },
        "spec": {
            "role": "Inputs",
            "inputs": {
                "tasks": ["rte"], "maxSeqLength": 128,
                "execution": { "store": "pvc://bam-dir", "pretrained": "tiny" },
            },
        },
        "status": status,
    }))
    .unwrap()
}

pub fn guarded<K>(object: K) -> DeserializeGuard<K> {
    DeserializeGuard(Ok(object))
}

/// An experiment on rte; `distill` may name teachers.
pub fn experiment(name: &str, distill: Value) -> DeserializeGuard<BamExperiment> {
    let mut object = json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment",
        "metadata": { "name": name, "namespace": "lab", "uid": format!("uid-{name}"), "generation": 1 },
        "spec": {
            "tasks": [{ "name": "rte" }],
            "model": { "pretrained": "tiny" },
            "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
        },
    });
    if !distill.is_null() {
        object["spec"]["distill"] = distill;
    }
    guarded(serde_json::from_value(object).unwrap())
}

/// The Job of attempt `number`; `end` is its last condition, if it has ended.
pub fn job(number: u32, run_uid: &str, end: Option<&str>) -> Job {
    let conditions: Vec<_> = end
        .iter()
        .map(|end| json!({ "type": end, "status": "True", "lastTransitionTime": "2027-01-15T08:00:30Z", "message": "so it ended" }))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": format!("{RUN}-{number}"), "namespace": "lab", "uid": format!("job-{number}"),
            "creationTimestamp": "2027-01-15T08:00:00Z",
            "labels": { "bam.dev/run": RUN, "bam.dev/attempt": number.to_string() },
            "ownerReferences": [{
                "apiVersion": "bam.dev/v1alpha1", "kind": "BamRun", "name": RUN, "uid": run_uid, "controller": true,
            }],
        },
        "status": { "conditions": conditions },
    }))
    .unwrap()
}

/// The pod of attempt `number` with this status.
pub fn pod(number: u32, status: Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{RUN}-{number}-abcde"), "namespace": "lab", "uid": format!("pod-{number}"),
            "creationTimestamp": "2027-01-15T08:00:01Z",
            "labels": { "bam.dev/run": RUN, "bam.dev/attempt": number.to_string() },
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": format!("job-{number}"), "controller": true,
            }],
        },
        // A container that has a state has a machine.
        "spec": { "containers": [], "nodeName": status.get("containerStatuses").map(|_| "node-7") },
        "status": status,
    }))
    .unwrap()
}

/// The same as one of several hosts.
pub fn of_host(index: u32, mut pod: Pod) -> Pod {
    pod.metadata.name = pod.metadata.name.map(|name| format!("{name}-{index}"));
    pod.metadata.uid = pod.metadata.uid.map(|uid| format!("{uid}-{index}"));
    pod.metadata.annotations = Some([(INDEX.to_owned(), index.to_string())].into());
    pod
}

/// A trainer's container in this state.
pub fn container(state: Value) -> Value {
    json!({ "containerStatuses": [{
        "name": "trainer", "image": "i", "imageID": "i", "ready": true, "restartCount": 0, "state": state,
    }] })
}

/// A trainer that ended.
pub fn terminated(code: i32, reason: &str, message: &str) -> Value {
    container(json!({ "terminated": {
        "exitCode": code, "reason": reason, "message": message, "finishedAt": "2027-01-15T08:00:20Z",
    } }))
}

pub fn put<F: Facts>(cache: &Cache<F>, object: F::Object)
where
    F::Object: ResourceExt,
{
    cache.apply(Event::Apply(object));
}

/// Where an attempt stands, in a few words.
pub fn told_of(state: &AttemptState) -> String {
    match state {
        AttemptState::Starting(waits) => format!("starting: {waits}"),
        AttemptState::Queued(waits) => format!("queued: {waits}"),
        AttemptState::Running(_) => "running".to_owned(),
        AttemptState::Silent(node) => format!("silent on {node}"),
        AttemptState::Ended(ending) => {
            let code = ending.code.map(|code| format!(" {code}")).unwrap_or_default();
            let memory = if ending.disruption == Some(Disruption::OutOfMemory) { " out of memory" } else { "" };
            let report = ending.report.as_ref().map(|report| format!(": {}", report.message)).unwrap_or_default();
            let note = if ending.note.is_empty() { String::new() } else { format!("; {}", ending.note) };
            format!("ended{code}{memory}{report}{note}")
        }
    }
}
