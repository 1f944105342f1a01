//! `BamRun`: one training of one model (or one check of the inputs), made by an experiment and named after what it is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{InputsConfig, RunConfig};
use crate::experiment::{FailurePolicy, IMAGE_PATTERN, KeepJobs, Resources};
use crate::identity::is_default;
use crate::names::OBJECT_NAME_PATTERN;
use crate::placement::{Accelerator, PodTemplate};
use crate::report::{ExitReason, RunReport, Stage};

/// One training of one model, tried until it is done.
// Clippy takes several print columns for one attribute written twice.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bam.dev",
    version = "v1alpha1",
    kind = "BamRun",
    plural = "bamruns",
    namespaced,
    status = "BamRunStatus",
    derive = "PartialEq",
    doc = "One training of one model; made by experiments, and shared by all that need it.",
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Tasks", type_ = "string", json_path = ".metadata.annotations.bam\\.dev/tasks"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "integer", json_path = ".status.progress.done"),
    printcolumn(name = "Of", type_ = "integer", json_path = ".status.progress.total"),
    printcolumn(name = "Attempts", type_ = "integer", json_path = ".status.attempts"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Waiting For", type_ = "string", json_path = ".status.waitingFor", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a run is immutable: its name is the hash of what it trains; create an experiment instead"))]
// A set of labels equals another one in any order, and their order is that of the outputs.
#[x_kube(validation = Rule::new("!has(self.config) || !has(oldSelf.config) || self.config.science.tasks.map(t, has(t.custom) && has(t.custom.labels) ? t.custom.labels.map(l, l) : []) == oldSelf.config.science.tasks.map(t, has(t.custom) && has(t.custom.labels) ? t.custom.labels.map(l, l) : [])")
    .message("a run is immutable: its name is the hash of what it trains; create an experiment instead"))]
#[x_kube(validation = Rule::new("(self.role == 'Inputs') == has(self.inputs) && (self.role != 'Inputs') == has(self.config)")
    .message("a run has `inputs` if its role is Inputs, and `config` otherwise"))]
pub struct BamRunSpec {
    /// What the run is for: Inputs checks data, Teacher and Student train.
    pub role: Role,
    /// What is trained, and how. Of the roles Teacher and Student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    /// What is checked: the tasks' files and the pretrained model. Only of the role Inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsConfig>,
    /// How often it is tried again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_policy: FailurePolicy,
    /// What its pods are. Not used outside a cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: RunPod,
}

impl BamRunSpec {
    /// The pods that an attempt has at the same time: one, or one on each host of a slice.
    pub fn hosts(&self) -> u32 {
        // A check of the inputs gets no accelerator.
        let accelerator = self.pod.accelerator.as_ref().filter(|_| self.role != Role::Inputs);
        accelerator.map_or(1, Accelerator::hosts)
    }
}

/// What the pods of a run are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPod {
    /// The trainer's image; absent: that of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = IMAGE_PATTERN))]
    pub image: Option<String>,
    /// What they ask for, and what they may use at most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// A Secret whose keys become their environment variables: the credentials of an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub secret: Option<String>,
    /// What is kept of its Jobs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_jobs: KeepJobs,
    /// What they compute on, besides processors. A check of the inputs gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// They run on spot machines.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spot: bool,
    /// Whose turn it is where machines are scarce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub priority_class_name: Option<String>,
    /// The queue of Kueue in which its attempts wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = OBJECT_NAME_PATTERN))]
    pub queue_name: Option<String>,
    /// What its pods get besides: labels, annotations, and fields of a pod's spec.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_template: PodTemplate,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// Checks data and weights, and reports their digests.
    Inputs,
    /// Trains a model whose targets a student will learn from.
    Teacher,
    /// Trains the model that the experiment is for.
    Student,
}

impl Role {
    /// As a word in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Teacher => "teacher",
            Self::Student => "student",
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// Waits for a predecessor, a place, or the next attempt.
    #[default]
    Pending,
    /// An attempt is under way.
    Running,
    /// Its manifest is whole.
    Succeeded,
    /// It will not be tried again.
    Failed,
}

impl RunPhase {
    /// Will nothing more happen?
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// Where a run stands, written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BamRunStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the run stands, in one word.
    #[serde(default)]
    pub phase: RunPhase,
    /// Attempts that were begun, each of them a Job.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempts: u32,
    /// Failures counted against each budget.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: Failures,
    /// The last attempts that ended, newest last, at most [`HISTORY`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub history: Vec<AttemptRecord>,
    /// The last attempt that was stopped because all its experiments were suspended: its end costs nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stopped: u32,
    /// No attempt starts before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// How far its attempt is, while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RunProgress>,
    /// What it waits for, in a person's words.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waiting_for: String,
    /// `Complete` (its manifest is whole) and `Failed` (it will not be tried again).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What the last attempt that ended said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<RunReport>,
    /// What its attempts cost that ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub usage: Usage,
}

impl BamRunStatus {
    /// The number of the last attempt of whose end this tells; 0: of none.
    pub fn settled(&self) -> u32 {
        self.history.last().map_or(0, |last| last.number)
    }
}

/// Time that attempts took, by what came of it: seconds, times the accelerators of all its pods (one without any counts as one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Of attempts that ended well, and of the steps of others that were safe at their end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub productive_seconds: u64,
    /// Of steps that were not safe when their attempt ended: the next one does them once more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replayed_seconds: u64,
    /// Of attempts that ended badly before a step was done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wasted_seconds: u64,
    /// Of machines that were held before the trainer ran: images were pulled, volumes mounted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idle_seconds: u64,
    /// Optimizer steps that were not safe when their attempt ended, as far as it told of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replayed_steps: u64,
}

impl Usage {
    /// Of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            productive_seconds: self.productive_seconds.saturating_add(other.productive_seconds),
            replayed_seconds: self.replayed_seconds.saturating_add(other.replayed_seconds),
            wasted_seconds: self.wasted_seconds.saturating_add(other.wasted_seconds),
            idle_seconds: self.idle_seconds.saturating_add(other.idle_seconds),
            replayed_steps: self.replayed_steps.saturating_add(other.replayed_steps),
        }
    }
}

/// How many ended attempts a status remembers.
pub const HISTORY: usize = 10;

/// Failures by who pays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// Crashes, internal errors and diverged losses.
    #[serde(default)]
    pub application: u32,
    /// The machine's, the network's, the store's.
    #[serde(default)]
    pub infrastructure: u32,
    /// Out of memory: rungs taken on the ladder.
    #[serde(default)]
    pub out_of_memory: u32,
}

/// One attempt that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// Which attempt it was, counted from 1.
    pub number: u32,
    /// What its trainer said, if it said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ExitReason>,
    /// The exit code, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What its trainer said last, or what else is known of its end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// The last lines of its log, if it failed: of the last such attempt alone, and at most 10 lines and 1 KiB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log: Vec<String>,
    /// When the attempt began.
    pub started_at: Time,
    /// When it was seen to have ended.
    pub finished_at: Time,
    /// Optimizer steps that were safe at its end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub saved_steps: u64,
}

/// Live progress of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunProgress {
    /// What the trainer is doing now.
    pub stage: Stage,
    /// Units done of this stage.
    pub done: u64,
    /// Units of this stage in all; 0: unknown.
    pub total: u64,
    /// The optimizer step at which the attempt began; absent: from the start, or it has not begun to train.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resumed_from: u64,
    /// Seconds until this stage is over, if it goes on as it went so far. An estimate; absent: nobody can tell (yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

impl RunProgress {
    /// So many units of a stage are done, of so many.
    pub fn new(stage: Stage, done: u64, total: u64) -> Self {
        Self { stage, done, total, resumed_from: 0, seconds_left: None }
    }
}
