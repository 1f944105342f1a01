//! `BamProfile` and `ClusterBamProfile`: how runs are carried out, written once by whoever knows the machines, and named by
//! experiments.
//!
//! What is learned is the same with any of them: nothing in here is science.

use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::experiment::{ComputeSpec, FailurePolicyOverrides};
use crate::identity::is_default;
use crate::names::OBJECT_NAME_PATTERN;

/// How runs are carried out, for the experiments of a namespace that name it.
// Clippy takes several print columns for one attribute written twice.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bam.dev",
    version = "v1alpha1",
    kind = "BamProfile",
    plural = "bamprofiles",
    namespaced,
    derive = "PartialEq",
    doc = "Machines and images for the experiments of its namespace that name it (`compute.profile`). What an experiment says \
           itself goes above it. Runs that exist are not touched by a change.",
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".spec.compute.accelerator.nvidia.count"),
    printcolumn(name = "Product", type_ = "string", json_path = ".spec.compute.accelerator.nvidia.product"),
    printcolumn(name = "TPU", type_ = "string", json_path = ".spec.compute.accelerator.tpu.type"),
    printcolumn(name = "Spot", type_ = "boolean", json_path = ".spec.compute.spot"),
    printcolumn(name = "Priority", type_ = "string", json_path = ".spec.priorityClassName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.compute.image", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BamProfileSpec {
    /// What each run gets, field by field where an experiment says nothing: amounts, labels, annotations and node selectors by
    /// their names, an accelerator as a whole; tolerations and pull secrets are added.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compute: ComputeSpec,
    /// The PriorityClass of its pods, where an experiment names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub priority_class_name: Option<String>,
    /// The queue in which its runs wait for their turn, where an experiment names none: a LocalQueue of Kueue in the
    /// experiment's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = OBJECT_NAME_PATTERN))]
    pub queue_name: Option<String>,
    /// How often a run is tried again, field by field where an experiment says nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_policy: FailurePolicyOverrides,
}

/// How runs are carried out, for the experiments of all namespaces that name it.
// Clippy takes several print columns for one attribute written twice.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bam.dev",
    version = "v1alpha1",
    kind = "ClusterBamProfile",
    plural = "clusterbamprofiles",
    derive = "PartialEq",
    doc = "Machines and images for the experiments of all namespaces that name it (`compute.profile`). What an experiment says \
           itself goes above it. Runs that exist are not touched by a change.",
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".spec.compute.accelerator.nvidia.count"),
    printcolumn(name = "Product", type_ = "string", json_path = ".spec.compute.accelerator.nvidia.product"),
    printcolumn(name = "TPU", type_ = "string", json_path = ".spec.compute.accelerator.tpu.type"),
    printcolumn(name = "Spot", type_ = "boolean", json_path = ".spec.compute.spot"),
    printcolumn(name = "Priority", type_ = "string", json_path = ".spec.priorityClassName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.compute.image", priority = 1)
)]
#[serde(transparent)]
pub struct ClusterBamProfileSpec(pub BamProfileSpec);

/// A profile of either kind.
pub trait Profile: Resource<DynamicType = ()> {
    /// Which kind.
    const KIND: ProfileKind;

    /// What it says.
    fn says(&self) -> &BamProfileSpec;
}

impl Profile for BamProfile {
    const KIND: ProfileKind = ProfileKind::BamProfile;

    fn says(&self) -> &BamProfileSpec {
        &self.spec
    }
}

impl Profile for ClusterBamProfile {
    const KIND: ProfileKind = ProfileKind::ClusterBamProfile;

    fn says(&self) -> &BamProfileSpec {
        &self.spec.0
    }
}

/// The name of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileRef {
    /// Whether it is one of the experiment's namespace (BamProfile) or of the cluster (ClusterBamProfile). Default BamProfile.
    #[serde(default)]
    pub kind: ProfileKind,
    /// The name of a BamProfile here, or of a ClusterBamProfile.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub name: String,
}

/// `BamProfile l4`.
impl std::fmt::Display for ProfileRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// The kinds of profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ProfileKind {
    /// One of a namespace.
    #[default]
    BamProfile,
    /// One of the cluster.
    ClusterBamProfile,
}

impl ProfileKind {
    /// As the API server's paths have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::BamProfile => "bamprofiles",
            Self::ClusterBamProfile => "clusterbamprofiles",
        }
    }
}

/// The profile that runs are made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileInUse {
    /// The kind of the profile.
    pub kind: ProfileKind,
    /// The name of the profile.
    pub name: String,
    /// The generation of its spec.
    pub generation: i64,
}
