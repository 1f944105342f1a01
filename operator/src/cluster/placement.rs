//! Where the pod of an attempt may run, and what it finds there. Pure.

use std::collections::BTreeMap;

use bam_crds::identity::is_default;
use bam_crds::placement::{Accelerator, PodOverlay, TaintEffect, Toleration as Tolerated, TolerationOperator};
use bam_crds::run::Role;
use bam_crds::{BamRunSpec, names};
use k8s_openapi::api::core::v1::{
    Affinity, EmptyDirVolumeSource, EnvVar, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// What a device plugin offers, and the taint of nodes that are kept for whoever asks for it.
const GPU: &str = "nvidia.com/gpu";
const TPU: &str = "google.com/tpu";

/// By which label the nodes of each cloud say that they are spot machines: GKE, AKS, node groups of EKS, and Karpenter.
const SPOT_NODES: [(&str, &str); 4] = [
    (GKE_SPOT, "true"),
    (AKS_SPOT, "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("karpenter.sh/capacity-type", "spot"),
];
const GKE_SPOT: &str = "cloud.google.com/gke-spot";
const AKS_SPOT: &str = "kubernetes.azure.com/scalesetpriority";
/// The shortest notice that a cloud gives before it takes a spot machine away is 30 s, of which GKE leaves a pod no more than
/// this.
const SPOT_GRACE_SECONDS: i64 = 25;

/// Which pods can use a claim at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// All of them.
    #[default]
    Anywhere,
    /// Those on one node.
    OneNode,
    /// One.
    OnePod,
}

impl Access {
    /// What access modes come to: the widest one counts.
    pub fn of(modes: &[String]) -> Self {
        let has = |mode: &str| modes.iter().any(|it| it == mode);
        match (has("ReadWriteMany"), has("ReadWriteOnce"), has("ReadWriteOncePod")) {
            (false, true, _) => Self::OneNode,
            (false, false, true) => Self::OnePod,
            _ => Self::Anywhere,
        }
    }
}

/// The claim that a run's pods use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Which pods can use it at the same time.
    pub access: Access,
}

impl Claim {
    /// Why a pod that uses it may have to wait for its node, if it may.
    pub fn why_wait(&self) -> Option<String> {
        let name = &self.name;
        match self.access {
            Access::Anywhere => None,
            Access::OneNode => Some(format!("the claim {name} is ReadWriteOnce: all its pods run on one node")),
            Access::OnePod => Some(format!("the claim {name} is ReadWriteOncePod: its pods run one after another")),
        }
    }
}

/// The template of a run's pods, with all that decides about their place.
pub fn placed(mut template: PodTemplateSpec, run: &BamRunSpec, claim: Option<&Claim>) -> PodTemplateSpec {
    let asked = &run.pod;
    let metadata = template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(claim.map(|claim| (names::CLAIM_LABEL.to_owned(), names::claim_label(&claim.name))));
    add(labels, &asked.pod_template.metadata.labels);
    add(metadata.annotations.get_or_insert_default(), &asked.pod_template.metadata.annotations);

    let PodOverlay { image_pull_secrets, service_account_name, runtime_class_name, scheduler_name, .. } =
        asked.pod_template.spec.clone();
    let pod = template.spec.get_or_insert_default();
    let secrets = image_pull_secrets.into_iter().map(|secret| LocalObjectReference { name: secret.name });
    pod.image_pull_secrets = some(secrets.collect());
    pod.service_account_name = service_account_name;
    pod.runtime_class_name = runtime_class_name;
    pod.scheduler_name = scheduler_name;
    pod.priority_class_name = asked.priority_class_name.clone();
    pod.node_selector = some(node_selector(run));
    pod.tolerations = some(tolerations(run, claim));
    pod.affinity = affinity(run, claim);
    if asked.spot {
        let grace = pod.termination_grace_period_seconds.unwrap_or(SPOT_GRACE_SECONDS);
        pod.termination_grace_period_seconds = Some(grace.min(SPOT_GRACE_SECONDS));
    }
    if let Some(accelerator) = accelerator(run) {
        equip(pod, accelerator);
    }
    template
}

/// What is there already stays: the operator knows its pods by it.
fn add(entries: &mut BTreeMap<String, String>, more: &BTreeMap<String, String>) {
    for (name, value) in more {
        entries.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

/// Nothing, and not an empty list.
fn some<T: Default + PartialEq>(items: T) -> Option<T> {
    (!is_default(&items)).then_some(items)
}

/// A check of the inputs computes nothing, whatever the trainings of its experiment do.
fn accelerator(run: &BamRunSpec) -> Option<&Accelerator> {
    run.pod.accelerator.as_ref().filter(|_| run.role != Role::Inputs)
}

fn node_selector(run: &BamRunSpec) -> BTreeMap<String, String> {
    let mut labels = run.pod.pod_template.spec.node_selector.clone();
    let mut select = |name: &str, value: &str| drop(labels.insert(name.to_owned(), value.to_owned()));
    let accelerator = accelerator(run);
    if let Some(product) = accelerator.and_then(|it| it.nvidia.as_ref()?.product.as_ref()) {
        select("nvidia.com/gpu.product", product);
    }
    if let Some(tpu) = accelerator.and_then(|it| it.tpu.as_ref()) {
        select("cloud.google.com/gke-tpu-accelerator", &tpu.kind);
        select("cloud.google.com/gke-tpu-topology", &tpu.topology);
    }
    labels
}

fn tolerations(run: &BamRunSpec, claim: Option<&Claim>) -> Vec<Toleration> {
    let asked = &run.pod;
    // A check keeps off machines with accelerators, unless it has to go to one: because the claim is there, or because the
    // manifest selects those nodes.
    let follows =
        claim.is_some_and(|claim| claim.access == Access::OneNode) || !asked.pod_template.spec.node_selector.is_empty();
    let accelerator = asked.accelerator.as_ref().filter(|_| run.role != Role::Inputs || follows);
    let taint = |key: &str, value: Option<&str>| Toleration {
        key: Some(key.to_owned()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: value.map(ToOwned::to_owned),
        effect: Some("NoSchedule".to_owned()),
        toleration_seconds: None,
    };
    let mut tolerations = Vec::new();
    if accelerator.is_some_and(|it| it.nvidia.is_some()) {
        tolerations.push(taint(GPU, None));
    }
    if accelerator.is_some_and(|it| it.tpu.is_some()) {
        tolerations.push(taint(TPU, None));
    }
    if asked.spot {
        tolerations.extend([taint(GKE_SPOT, Some("true")), taint(AKS_SPOT, Some("spot"))]);
    }
    tolerations.extend(asked.pod_template.spec.tolerations.iter().map(tolerated));
    tolerations
}

fn tolerated(toleration: &Tolerated) -> Toleration {
    let effect = toleration.effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    let operator = match toleration.operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
    };
    Toleration {
        key: toleration.key.clone(),
        operator: Some(operator.to_owned()),
        value: toleration.value.clone(),
        effect: effect.map(ToOwned::to_owned),
        toleration_seconds: toleration.toleration_seconds.map(i64::from),
    }
}

fn affinity(run: &BamRunSpec, claim: Option<&Claim>) -> Option<Affinity> {
    // A check does not wait for a spot machine: it is short.
    let spot = (run.pod.spot && run.role != Role::Inputs).then(spot_nodes);
    let together = claim.filter(|claim| claim.access == Access::OneNode).map(beside_others);
    (spot.is_some() || together.is_some()).then_some(Affinity {
        node_affinity: spot,
        pod_affinity: together,
        pod_anti_affinity: None,
    })
}

/// One of these, whoever's cloud it is.
fn spot_nodes() -> NodeAffinity {
    let terms = SPOT_NODES.map(|(label, value)| {
        let requirement = NodeSelectorRequirement {
            key: label.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![value.to_owned()]),
        };
        NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None }
    });
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector { node_selector_terms: terms.into() }),
        preferred_during_scheduling_ignored_during_execution: None,
    }
}

/// On the node of the pods that use the claim now, or on any node if there are none: the scheduler lets the first one go
/// anywhere. Without this, it would find a node for a pod whose volume cannot follow.
fn beside_others(claim: &Claim) -> PodAffinity {
    let label = (names::CLAIM_LABEL.to_owned(), names::claim_label(&claim.name));
    let selector = LabelSelector { match_labels: Some([label].into()), match_expressions: None };
    PodAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
            label_selector: Some(selector),
            topology_key: "kubernetes.io/hostname".to_owned(),
            ..PodAffinityTerm::default()
        }]),
        preferred_during_scheduling_ignored_during_execution: None,
    }
}

/// Gives every container of the pod, which is one, what it computes on. A limit of such things is a request too.
fn equip(pod: &mut PodSpec, accelerator: &Accelerator) {
    let count = |resource: &str, count: u32| (resource.to_owned(), Quantity(count.to_string()));
    for container in &mut pod.containers {
        let limits = container.resources.get_or_insert_default().limits.get_or_insert_default();
        limits.extend(accelerator.nvidia.as_ref().map(|gpus| count(GPU, gpus.count)));
        limits.extend(accelerator.tpu.as_ref().map(|tpu| count(TPU, tpu.chips_per_host())));
    }
    if accelerator.nvidia.is_some() {
        prepare_for_gpus(pod);
    }
}

fn prepare_for_gpus(pod: &mut PodSpec) {
    const SHARED_MEMORY: &str = "shared-memory";
    for container in &mut pod.containers {
        // Whoever asks for a GPU does not want to train beside one for days.
        let device = EnvVar { name: "BAM_DEVICE".to_owned(), value: Some("cuda".to_owned()), value_from: None };
        container.env.get_or_insert_default().push(device);
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: SHARED_MEMORY.to_owned(),
            mount_path: "/dev/shm".to_owned(),
            ..VolumeMount::default()
        });
    }
    // GPUs of one pod talk to each other through it, and the 64 MiB that a container has otherwise are soon full. What is
    // written there counts as memory of the container.
    let memory = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: None };
    let volume = Volume { name: SHARED_MEMORY.to_owned(), empty_dir: Some(memory), ..Volume::default() };
    pod.volumes.get_or_insert_default().push(volume);
}
