//! What a trainer says back: exit codes, progress lines, and one final report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::InputsReport;
use crate::identity::{Digest, is_default};

/// How a trainer ended, as its exit code says it. Who pays for another attempt is the planner's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExitReason {
    /// 0: done, the manifest is written.
    Completed,
    /// 64: the configuration cannot be used.
    BadConfig,
    /// 65: data, weights or targets do not fit.
    BadData,
    /// 66: an input is missing.
    MissingInput,
    /// 70: an internal error.
    Internal,
    /// 75: the store could not be read or written.
    StoreUnavailable,
    /// 80: out of memory, accelerator or host.
    OutOfMemory,
    /// 81: stopped by SIGTERM after writing a checkpoint.
    Checkpointed,
    /// 82: too many gradients, or the dev loss, were not finite.
    Diverged,
}

impl ExitReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Completed,
        Self::BadConfig,
        Self::BadData,
        Self::MissingInput,
        Self::Internal,
        Self::StoreUnavailable,
        Self::OutOfMemory,
        Self::Checkpointed,
        Self::Diverged,
    ];

    /// The process's exit code.
    pub fn code(self) -> i32 {
        match self {
            Self::Completed => 0,
            Self::BadConfig => 64,
            Self::BadData => 65,
            Self::MissingInput => 66,
            Self::Internal => 70,
            Self::StoreUnavailable => 75,
            Self::OutOfMemory => 80,
            Self::Checkpointed => 81,
            Self::Diverged => 82,
        }
    }

    /// The reason behind an exit code, if it is one of a trainer's own.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// The final word of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// How the attempt ended, in one word.
    pub reason: ExitReason,
    /// One sentence for a person: on failure, what is wrong, where, and what to do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// The last lines of its log before that, if it failed (see [`crate::log`]).
    #[serde(default, skip_serializing_if = "is_default")]
    pub log: Vec<String>,
    /// The run; absent for a check of the inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub science_hash: Option<Digest>,
    /// Optimizer steps of the whole run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub total_steps: u64,
    /// Optimizer steps that are done and safe (in a checkpoint or the manifest).
    #[serde(default, skip_serializing_if = "is_default")]
    pub saved_steps: u64,
    /// The step at which this attempt began; 0: from the start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resumed_from: u64,
    /// Optimizer steps of the run, of those that are done, that were skipped because a gradient was not finite.
    #[serde(default, skip_serializing_if = "is_default")]
    pub skipped_steps: u64,
    /// Seconds that this attempt took.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seconds: f64,
    /// Dev scores by task, in task order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub results: Vec<TaskResult>,
    /// Teachers without a whole manifest in the store (with `MissingInput`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub missing: Vec<Digest>,
    /// Teachers whose artifacts are not what they were (with `BadData`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub changed: Vec<Digest>,
    /// What a check of the inputs found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsReport>,
}

impl RunReport {
    /// A report with nothing but an ending.
    pub fn new(reason: ExitReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            log: Vec::new(),
            science_hash: None,
            total_steps: 0,
            saved_steps: 0,
            resumed_from: 0,
            skipped_steps: 0,
            seconds: 0.0,
            results: Vec::new(),
            missing: Vec::new(),
            changed: Vec::new(),
            inputs: None,
        }
    }
}

/// Scores of one task's dev set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// The name of the task that was scored.
    pub task: String,
    /// The metric that the task is judged by, a key of `metrics`.
    pub main_metric: String,
    /// All metrics by name, times 100 except `loss` and `mse`; absent: undefined on these predictions.
    pub metrics: BTreeMap<String, f64>,
    /// The main metric of always answering with the training set's most frequent class; absent for regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
    /// Rows of the dev set that were scored.
    pub rows: u32,
}

/// What an attempt is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Downloading inputs.
    Fetching,
    /// Reading rows, checking teachers.
    Preparing,
    /// Optimizer steps.
    Training,
    /// Scoring the dev sets.
    Evaluating,
    /// Writing the logits over its own training set (and the test sets).
    WritingTargets,
    /// Writing the model and the manifest.
    Saving,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Fetching, Self::Preparing, Self::Training, Self::Evaluating, Self::WritingTargets, Self::Saving];

    /// As a person says it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Preparing => "preparing",
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::WritingTargets => "writing targets",
            Self::Saving => "saving",
        }
    }
}

/// One progress line: JSON on standard output, and the answer of `/progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is going on.
    pub stage: Stage,
    /// Units done of this stage: optimizer steps, rows or bytes.
    pub done: u64,
    /// Units in all; 0: unknown.
    pub total: u64,
    /// The optimizer step at which this attempt began; 0: from the start, or it has not begun to train.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resumed_from: u64,
    /// Weighted sum of the losses of the last step's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Training rows per second, lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<f64>,
}

impl Progress {
    /// So many units of a stage are done, of so many.
    pub fn new(stage: Stage, done: u64, total: u64) -> Self {
        Self { stage, done, total, resumed_from: 0, loss: None, rows_per_second: None }
    }
}
