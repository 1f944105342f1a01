//! What a run's pods run on, and where: accelerators, and a small overlay of a pod.
//!
//! All of it is execution: what is learned is the same wherever it is trained.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::SecretRef;
use crate::identity::is_default;
use crate::names::{LABEL_VALUE_PATTERN, OBJECT_NAME_PATTERN};

/// As text, so that a rule can be made of it as well.
macro_rules! label_key {
    () => {
        "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    };
}

/// What the name of a label, an annotation or a taint looks like: at most 317 characters, a domain and `/` among them.
pub const LABEL_KEY_PATTERN: &str = label_key!();

/// What computes: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "has(self.nvidia) != has(self.tpu)", "message": "name exactly one of `nvidia` and `tpu`"}]))]
pub struct Accelerator {
    /// GPUs of NVIDIA, as its device plugin offers them (`nvidia.com/gpu`). `nvidia: {}` is one of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<Nvidia>,
    /// TPUs of Google Kubernetes Engine (`google.com/tpu`). The trainer that comes with the operator computes on processors and
    /// on GPUs: name another one in `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpu: Option<Tpu>,
}

impl Accelerator {
    /// How many each pod has of them.
    pub fn count(&self) -> u32 {
        let (gpus, chips) = (self.nvidia.as_ref().map(|it| it.count), self.tpu.as_ref().map(Tpu::chips_per_host));
        gpus.or(chips).unwrap_or_default()
    }

    /// The machines that an attempt needs at the same time: a pod runs on each.
    pub fn hosts(&self) -> u32 {
        self.tpu.as_ref().map_or(1, Tpu::hosts)
    }
}

/// GPUs of NVIDIA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nvidia {
    /// GPUs of each pod. The trainer that comes with the operator computes on one. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub count: u32,
    /// Which ones: the label `nvidia.com/gpu.product` of their nodes, such as NVIDIA-H100-80GB-HBM3. Where nodes lack it, a
    /// cloud's own label goes to `podTemplate.spec.nodeSelector`. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_VALUE_PATTERN))]
    pub product: Option<String>,
}

fn one() -> u32 {
    1
}

/// The topologies of the types that are known here: those of a torus have three sides, the others are these. What is not known
/// may have any. Source: <https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus>.
const OF_ITS_TYPE: &str = "self.type in ['tpu-v4-podslice', 'tpu-v5p-slice', 'tpu7x'] ? self.topology.split('x').size() == 3 : self.type in ['tpu-v5-lite-podslice', 'tpu-v6e-slice'] ? self.topology in ['1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16'] : self.type != 'tpu-v5-lite-device' || self.topology in ['1x1', '2x2', '2x4']";
const NOT_OF_ITS_TYPE: &str = "is no topology of this type: tpu-v4-podslice, tpu-v5p-slice and tpu7x have three sides, like 2x2x1 or \
                               2x2x4; tpu-v5-lite-podslice and tpu-v6e-slice have 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16 or 16x16, \
                               and tpu-v5-lite-device the first three";
/// As [`Tpu::hosts`] counts them: its chips are those of whole hosts.
const WHOLE_HOSTS: &str = "[self.topology.split('x')].all(sides, [int(sides[0]) * int(sides[1]) * (sides.size() == 3 ? int(sides[2]) : 1)].all(chips, [has(self.chipsPerHost) ? self.chipsPerHost : sides.size() == 2 && chips <= 8 || chips <= 4 ? chips : 4].all(each, chips % each == 0 && chips / each <= 256)))";
const NO_WHOLE_HOSTS: &str = "is not cut into 1 to 256 whole hosts, of 4 chips each, or one of up to 4 (in two dimensions up to 8): take \
                              another topology, or say in `chipsPerHost` how many each host has";
/// More pods an attempt does not have.
const MOST_HOSTS: u32 = 256;

/// A slice of TPU chips. If it has several hosts, an attempt is one pod on each of them, all at the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": OF_ITS_TYPE, "message": NOT_OF_ITS_TYPE, "fieldPath": ".topology"},
    {"rule": WHOLE_HOSTS, "message": NO_WHOLE_HOSTS, "fieldPath": ".topology"},
]))]
pub struct Tpu {
    /// The label `cloud.google.com/gke-tpu-accelerator` of their nodes, such as tpu-v5-lite-podslice.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_VALUE_PATTERN))]
    pub kind: String,
    /// The label `cloud.google.com/gke-tpu-topology` of their nodes, such as 2x4 or 2x2x4.
    #[schemars(length(max = 11), regex(pattern = TOPOLOGY_PATTERN))]
    pub topology: String,
    /// Chips of each host. A node pool of ct6e-standard-4t with the topology 2x4 has two hosts with 4 chips each, for example.
    /// Default: all chips of a slice of up to 4 chips, and of one in two dimensions of up to 8; otherwise 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub chips_per_host: Option<u32>,
}

/// What the shape of a slice looks like.
pub const TOPOLOGY_PATTERN: &str = "^[1-9][0-9]{0,2}(x[1-9][0-9]{0,2}){1,2}$";

impl Tpu {
    /// All its chips.
    pub fn chips(&self) -> u32 {
        self.topology.split('x').filter_map(|side| side.parse::<u32>().ok()).fold(1, u32::saturating_mul)
    }

    /// The chips that one host has of them.
    pub fn chips_per_host(&self) -> u32 {
        let (chips, sides) = (self.chips(), self.topology.split('x').count());
        let usual = if chips <= 4 || (sides == 2 && chips <= 8) { chips } else { 4 };
        self.chips_per_host.unwrap_or(usual).max(1)
    }

    /// Its hosts: at least one, at most 256.
    pub fn hosts(&self) -> u32 {
        (self.chips() / self.chips_per_host()).clamp(1, MOST_HOSTS)
    }
}

/// What pods get besides what the operator gives them: a few fields of a pod's template, and no others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTemplate {
    /// Labels and annotations of the pods.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata: PodMetadata,
    /// Where they run, and as whom.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spec: PodOverlay,
}

const KEYS: &str = concat!("self.all(key, key.size() <= 317 && key.matches('", label_key!(), "'))");
const KEYS_MESSAGE: &str = "names are at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends, after a \
                            domain in lower case and `/` if you like";
/// By these the operator and the Job controller know their pods; the API server refuses Jobs that say otherwise.
const OTHERS: &str = "self.all(key, !key.startsWith('bam.dev/') && !key.startsWith('batch.kubernetes.io/') && !(key in ['app.kubernetes.io/managed-by', 'app.kubernetes.io/name', 'controller-uid', 'job-name']))";
const OTHERS_MESSAGE: &str = "names below bam.dev/ and batch.kubernetes.io/, app.kubernetes.io/managed-by, app.kubernetes.io/name, \
                              controller-uid and job-name say whose a pod is, and are given by others: remove them";

/// Metadata of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodMetadata {
    /// Labels of the pods by name, besides those that tell whose they are.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE_PATTERN}, "x-kubernetes-validations" = [{"rule": KEYS, "message": KEYS_MESSAGE}, {"rule": OTHERS, "message": OTHERS_MESSAGE}]))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods by name, for whoever else looks after them.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 4096}, "x-kubernetes-validations" = [{"rule": KEYS, "message": KEYS_MESSAGE}, {"rule": OTHERS, "message": OTHERS_MESSAGE}]))]
    pub annotations: BTreeMap<String, String>,
}

/// What may be said of pods, as in a pod's own `spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodOverlay {
    /// Labels that a node must have. The check of the inputs goes there too.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE_PATTERN}, "x-kubernetes-validations" = [{"rule": KEYS, "message": KEYS_MESSAGE}]))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that a node may have, besides those of the accelerator and of `spot`, which need not be said.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Secrets with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<SecretRef>,
    /// The account whose identity in a cloud they have. Its token for the API server they do not get. Default: the
    /// namespace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub service_account_name: Option<String>,
    /// What runs their containers, where GPUs need that: `nvidia`. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub runtime_class_name: Option<String>,
    /// Who finds nodes for them. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub scheduler_name: Option<String>,
}

/// A taint that a node may have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.key) || self.operator == 'Exists'", "message": "without a key it is of any taint: name one, or set `operator: Exists`"},
    {"rule": "!has(self.value) || self.operator == 'Equal'", "message": "has no effect beside `operator: Exists`: remove one of them", "fieldPath": ".value"},
    {"rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')", "message": "has an effect beside `effect: NoExecute` alone: set that, or remove it", "fieldPath": ".tolerationSeconds"},
]))]
pub struct Toleration {
    /// The taint's name. Default: any, with `operator: Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317), regex(pattern = LABEL_KEY_PATTERN))]
    pub key: Option<String>,
    /// How its value is compared. Default Equal.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value. Default: an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL_VALUE_PATTERN))]
    pub value: Option<String>,
    /// What the taint does. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds for which a pod stays on a node that has got a taint with the effect NoExecute. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub toleration_seconds: Option<u32>,
}

/// How the values of a taint and a toleration are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// They are the same.
    #[default]
    Equal,
    /// Any value will do.
    Exists,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new ones come.
    NoSchedule,
    /// New ones come if there is no other place.
    PreferNoSchedule,
    /// All have to go.
    NoExecute,
}
