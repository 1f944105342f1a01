//! An attempt on several hosts: what its Job has more than one of a single pod, and the Service by which its pods find each
//! other. Pure.
//!
//! One Indexed Job, one pod on each host, and the pod's completion index is the number of its host. If one of them ends
//! badly, the Job has failed, and the Job controller ends the others. Source of names and numbers:
//! <https://cloud.google.com/kubernetes-engine/docs/how-to/tpus> and its example of a slice with several hosts.

use std::collections::BTreeMap;

use bam_crds::{BamRunSpec, names};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Affinity, ContainerPort, EnvVar, PodAffinity, PodAffinityTerm, PodAntiAffinity, PodSpec, Service, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use super::job::{field, owner};
use crate::plan::Start;

/// Annotation of a pod of an Indexed Job: which one it is, counted from 0.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Label that the Job controller gives to the pods of a Job: its name.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The nodes of one slice are one node pool, and have its name as this label.
const SLICE: &str = "cloud.google.com/gke-nodepool";
/// Ports of the TPU runtime: the hosts talk to each other at the first; the second has its metrics.
const PORTS: [(&str, i32); 2] = [("tpu", 8471), ("tpu-metrics", 8431)];

/// The Service that gives names to the pods of a run, if its attempts have several. It is the run's, and serves all its
/// attempts one after the other.
pub fn service(namespace: &str, run: &str, uid: &str, spec: &BamRunSpec) -> Option<Service> {
    (spec.hosts() > 1).then(|| Service {
        metadata: ObjectMeta {
            name: Some(names::service(run, uid)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels(&[
                ("app.kubernetes.io/managed-by", names::OPERATOR),
                ("app.kubernetes.io/name", "bam-trainer"),
                (names::RUN_LABEL, run),
            ])),
            owner_references: Some(vec![owner(run, uid)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(labels(&[(names::RUN_LABEL, run)])),
            // They look for each other before any of them is ready.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Makes an attempt of one pod one of a pod on each of several hosts; `uid` is its run's.
pub fn spread(mut job: Job, uid: &str, start: &Start, hosts: u32) -> Job {
    let name = job.metadata.name.clone().unwrap_or_default();
    let Some(spec) = &mut job.spec else { return job };
    spec.completion_mode = Some("Indexed".to_owned());
    spec.completions = i32::try_from(hosts).ok();
    spec.parallelism = spec.completions;
    let service = names::service(&start.run, uid);
    let attempt = names::slice_label(&service, start.number);
    let metadata = spec.template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(names::SLICE_LABEL.to_owned(), attempt.clone());
    let Some(pod) = &mut spec.template.spec else { return job };
    let others: Vec<_> = (0..hosts).map(|index| names::host(&name, index, &service)).collect();
    pod.subdomain = Some(service);
    keep_together(pod, &attempt);
    for container in &mut pod.containers {
        let index = field(&format!("metadata.annotations['{INDEX}']"));
        container.env.get_or_insert_default().extend([
            EnvVar { name: "TPU_WORKER_ID".to_owned(), value_from: Some(index), value: None },
            EnvVar { name: "TPU_WORKER_HOSTNAMES".to_owned(), value: Some(others.join(",")), value_from: None },
        ]);
        let port = |(name, number): (&str, i32)| ContainerPort {
            name: Some(name.to_owned()),
            container_port: number,
            ..ContainerPort::default()
        };
        container.ports.get_or_insert_default().extend(PORTS.map(port));
    }
    job
}

/// All pods of the attempt into one slice, and no pods of other Jobs beside them: on two slices it could not compute, and two
/// attempts that have half a slice each would wait for each other for ever.
fn keep_together(pod: &mut PodSpec, attempt: &str) {
    let requirement = |key: &str, operator: &str, value: Option<&str>| LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: value.map(|value| vec![value.to_owned()]),
    };
    let of_slice = |pods: LabelSelector, namespaces: Option<LabelSelector>| PodAffinityTerm {
        label_selector: Some(pods),
        namespace_selector: namespaces,
        topology_key: SLICE.to_owned(),
        ..PodAffinityTerm::default()
    };
    let its = LabelSelector { match_labels: Some(labels(&[(names::SLICE_LABEL, attempt)])), match_expressions: None };
    let not_its = vec![requirement(JOB_NAME, "Exists", None), requirement(names::SLICE_LABEL, "NotIn", Some(attempt))];
    let others = LabelSelector { match_expressions: Some(not_its), match_labels: None };
    // Of all namespaces: a selector that names some is held against a pod without its namespace's labels.
    let everywhere = Some(LabelSelector::default());
    let affinity = pod.affinity.get_or_insert_with(Affinity::default);
    let together = affinity.pod_affinity.get_or_insert_with(PodAffinity::default);
    together.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(of_slice(its, None));
    let apart = affinity.pod_anti_affinity.get_or_insert_with(PodAntiAffinity::default);
    apart
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default()
        .push(of_slice(others, everywhere));
}
