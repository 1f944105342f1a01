//! Accelerators that the node only says it has: pods wait for them with a reason, and are given them when they are there.

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::Role;
use serde_json::{Value, json};

use crate::diary::Kind;
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
        its.patch(json!({ "status": { "capacity": { resource: count.to_string() } } }), &["--subresource=status"]);
        its
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
fn begin(test: &str) -> Option<Namespace> {
    let namespace = Namespace::new(test)?;
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
    let Some(namespace) = begin("a GPU") else { return };
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
    let Some(namespace) = begin("a TPU") else { return };
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
