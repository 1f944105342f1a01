//! Accelerators that the node only says it has: pods wait for them with a reason, and are given them when they are there.

use std::collections::BTreeMap;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Role, RunPhase};
use serde_json::{Value, json};

use crate::diary::{Kind, Seen};
use crate::experiment::{debug, with};
use crate::namespace::Namespace;
use crate::obstacles::waits;

/// The node of the test cluster, with labels and capacity that it does not have. It is as before when this goes.
struct Disguise<'a> {
    namespace: &'a Namespace,
    node: String,
    labels: Vec<&'a str>,
    resource: &'a str,
}

impl<'a> Disguise<'a> {
    fn new(namespace: &'a Namespace, labels: &[(&'a str, &str)], resource: &'a str, count: u32) -> Self {
        let nodes = namespace.get(&["nodes"]);
        let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
        let its = Self { namespace, node, labels: labels.iter().map(|(label, _)| *label).collect(), resource };
        let labels: Value = labels.iter().map(|(label, value)| ((*label).to_owned(), json!(value))).collect();
        its.patch(json!({ "metadata": { "labels": labels } }), &[]);
        its.offers(count);
        its
    }

    /// So many of them are there now.
    fn offers(&self, count: u32) {
        let capacity = json!({ self.resource: count.to_string() });
        self.patch(json!({ "status": { "capacity": capacity } }), &["--subresource=status"]);
    }

    fn patch(&self, patch: Value, more: &[&str]) {
        let (node, patch) = (self.node.as_str(), patch.to_string());
        let patch = ["patch", "node", node, "--type=merge", "-p", &patch];
        self.namespace.kubectl(&[&patch, more].concat());
    }
}

impl Drop for Disguise<'_> {
    fn drop(&mut self) {
        let labels: Value = self.labels.iter().map(|label| ((*label).to_owned(), Value::Null)).collect();
        self.patch(json!({ "metadata": { "labels": labels } }), &[]);
        let none = json!({ self.resource: null });
        self.patch(json!({ "status": { "capacity": none, "allocatable": none } }), &["--subresource=status"]);
    }
}

/// The node of a cluster of somebody's own is not disguised.
fn begin(test: &str, make: impl FnOnce(&str) -> Option<Namespace>) -> Option<Namespace> {
    let namespace = make(test)?;
    if std::env::var_os("BAM_TEST_CLUSTER_SCRIPT").is_none() {
        println!("SKIPPED: {test}: BAM_TEST_CLUSTER_SCRIPT is not set (`make test` sets it for its own cluster)");
        return None;
    }
    Some(namespace)
}

/// Every pod that there ever was of a run.
fn pods(namespace: &Namespace, run: &str) -> Vec<Value> {
    namespace.diary.read(|seen| {
        let pods = seen.pages.iter().filter(|page| page.kind == Kind::Pod).filter_map(|page| page.object.clone());
        pods.filter(|pod| pod["metadata"]["labels"][bam_crds::names::RUN_LABEL] == run).collect()
    })
}

#[test]
fn a_gpu_is_waited_for_and_without_one_nothing_trains_beside_it_for_days() {
    let Some(namespace) = begin("a GPU", Namespace::new) else { return };
    namespace.apply(&with(debug("gpu", &["rte"]), "compute/accelerator", json!({ "nvidia": { "count": 2 } })));
    waits(&namespace, 60, "gpu", "Starting", &["teacher rte", "waits for a node: 0/1", "Insufficient nvidia.com/gpu"]);
    let _disguise = Disguise::new(&namespace, &[], "nvidia.com/gpu", 2);
    // There is no GPU behind it: the trainer says so, instead of taking the processor.
    let status = namespace.wait_for("gpu", ExperimentPhase::Failed);
    let failed = status.conditions.iter().find(|it| it.type_ == "Failed").unwrap();
    assert!(failed.message.contains("BAM_DEVICE"), "{failed:?}");
    let teacher = namespace.run_of("gpu", Role::Teacher, "rte").name;
    let pods = pods(&namespace, &teacher);
    let bound = pods.iter().find(|pod| pod["spec"]["nodeName"].is_string()).expect("it was given a node");
    assert_eq!(bound["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "2");
}

#[test]
fn a_tpu_is_waited_for_by_its_type_and_topology_and_counted() {
    let Some(namespace) = begin("a TPU", Namespace::new) else { return };
    let tpu = json!({ "tpu": { "type": "tpu-v5-lite-podslice", "topology": "2x2" } });
    namespace.apply(&with(debug("tpu", &["rte"]), "compute/accelerator", tpu));
    waits(&namespace, 60, "tpu", "Starting", &["teacher rte", "waits for a node: 0/1", "node affinity/selector"]);
    let labels = [
        ("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice"),
        ("cloud.google.com/gke-tpu-topology", "2x2"),
    ];
    let _disguise = Disguise::new(&namespace, &labels, "google.com/tpu", 4);
    let status = namespace.complete("tpu");
    // The check of the inputs has none, teacher and student four each; a run that takes no second costs none.
    println!("{:?}", status.usage);
    for role in [Role::Teacher, Role::Student] {
        let run = namespace.run_of("tpu", role, "rte").name;
        let limits = &pods(&namespace, &run)[0]["spec"]["containers"][0]["resources"]["limits"];
        assert_eq!(limits["google.com/tpu"], "4");
        let usage = namespace.run_when(&run, "is done", |status| status.report.is_some()).usage;
        assert_eq!(usage.productive_seconds % 4, 0, "{usage:?}");
    }
}

/// The pods of an attempt that are there now, host by host.
fn hosts(seen: &Seen, job: &str) -> Vec<Value> {
    let all = seen.all(Kind::Pod).into_iter().map(|(_, pod)| pod.clone());
    let mut pods: Vec<_> = all.filter(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == job).collect();
    pods.sort_by_key(|pod| pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].to_string());
    pods
}

/// The Service of these two pods, and their names and addresses, when both have one.
fn addresses(pods: &[Value]) -> Option<(String, BTreeMap<String, String>)> {
    let word = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let each = pods.iter().map(|pod| Some((word(&pod["spec"]["hostname"])?, word(&pod["status"]["podIP"])?)));
    let all: BTreeMap<_, _> = each.collect::<Option<_>>()?;
    (all.len() == 2).then_some((word(&pods[0]["spec"]["subdomain"])?, all))
}

/// The names and addresses under which the pods of a Service are found.
fn found(namespace: &Namespace, service: &str) -> BTreeMap<String, String> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices = namespace.get(&["endpointslices", "-n", &namespace.name, "-l", &label]);
    let endpoints = slices["items"].as_array().into_iter().flatten().flat_map(|slice| slice["endpoints"].as_array());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    endpoints.flatten().map(|it| (word(&it["hostname"]), word(&it["addresses"][0]))).collect()
}

/// Trains the experiment's teacher anew, with pods of this image: a run keeps what it was made with.
fn with_image(namespace: &Namespace, experiment: &str, image: Option<&str>) -> String {
    let before = namespace.run_of(experiment, Role::Teacher, "rte").name;
    let uid = |seen: &Seen| Some(seen.object(Kind::Run, &before)?["metadata"]["uid"].to_string());
    let first = namespace.diary.read(uid);
    let patch = json!({ "spec": { "compute": { "image": image } } }).to_string();
    namespace.kubectl(&["patch", "bamexperiment", experiment, "--type=merge", "-p", &patch]);
    namespace.kubectl(&["delete", "bamrun", &before, "--wait=false"]);
    namespace.within(60, "the run is there anew", |seen| uid(seen).filter(|uid| Some(uid) != first.as_ref()));
    before
}

/// Pods of other Jobs keep off a node of a slice, and it off theirs: the cluster's only node is for this test.
#[test]
fn a_tpu_slice_of_two_hosts_is_one_attempt_with_a_pod_on_each() {
    let Some(namespace) = begin("a TPU slice", Namespace::alone) else { return };
    namespace.others_are_gone();
    let tpu = json!({ "tpu": { "type": "tpu-v5-lite-podslice", "topology": "2x4", "chipsPerHost": 4 } });
    namespace.apply(&with(debug("slice", &["rte"]), "compute/accelerator", tpu));
    let both = "waits for 2 of 2 hosts (0-1): host 0 waits for a node";
    waits(&namespace, 60, "slice", "Starting", &["teacher rte", both, "node affinity/selector"]);

    // Chips for one of the two. Its image is not to be had, so that nothing begins.
    let teacher = with_image(&namespace, "slice", Some("localhost/no-such-image:1"));
    let job = format!("{teacher}-1");
    let labels = [
        ("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice"),
        ("cloud.google.com/gke-tpu-topology", "2x4"),
        ("cloud.google.com/gke-nodepool", "slice-1"),
    ];
    let disguise = Disguise::new(&namespace, &labels, "google.com/tpu", 4);
    waits(
        &namespace,
        90,
        "slice",
        "Starting",
        &["teacher rte", "waits for 2 of 2 hosts", "Insufficient google.com/tpu"],
    );
    let placed = |pods: &[Value]| pods.iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count();
    namespace.within(60, "one of them has its node", |seen| (placed(&hosts(seen, &job)) == 1).then_some(()));
    namespace.took("one host of two");

    // Chips for both: they are told of each other, and find each other by these names.
    disguise.offers(8);
    let (service, addresses) = namespace.within(90, "both have their addresses", |seen| addresses(&hosts(seen, &job)));
    assert_eq!(addresses.keys().collect::<Vec<_>>(), [&format!("{job}-0"), &format!("{job}-1")]);
    namespace.eventually(30, "they are found", || (found(&namespace, &service) == addresses).then_some(()));
    for (index, pod) in namespace.diary.read(|seen| hosts(seen, &job)).iter().enumerate() {
        let trainer = &pod["spec"]["containers"][0];
        let variable = |name: &str| trainer["env"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
        let names = variable("TPU_WORKER_HOSTNAMES").unwrap();
        assert_eq!(names["value"], format!("{job}-0.{service},{job}-1.{service}"));
        let field = variable("TPU_WORKER_ID").unwrap()["valueFrom"]["fieldRef"]["fieldPath"].clone();
        assert_eq!(field, "metadata.annotations['batch.kubernetes.io/job-completion-index']");
        assert_eq!(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"], index.to_string());
        assert_eq!(trainer["resources"]["limits"]["google.com/tpu"], "4");
    }
    let owner = &namespace.get(&["service", &service, "-n", &namespace.name])["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("BamRun"), &json!(teacher)));
    namespace.took("both hosts");

    // The operator's own trainer computes on one machine: both pods begin, and say so; one try, and none of it wasted on a second.
    with_image(&namespace, "slice", None);
    let status = namespace.wait_for("slice", ExperimentPhase::Failed);
    let failed = status.conditions.iter().find(|it| it.type_ == "Failed").unwrap();
    assert!(failed.message.contains("was started on 2 at once (TPU_WORKER_HOSTNAMES)"), "{failed:?}");
    let run = namespace.run_when(&teacher, "has failed", |status| status.phase == RunPhase::Failed);
    assert_eq!((run.attempts, run.history.len()), (1, 1), "{run:#?}");

    // The Services go with the runs that they were made for.
    namespace.kubectl(&["delete", "bamexperiment", "slice"]);
    namespace.eventually(60, "the Services are gone", || {
        let services = namespace.get(&["services", "-n", &namespace.name]);
        services["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}
