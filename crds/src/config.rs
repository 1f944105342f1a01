//! What one trainer process is told, with nothing left to resolve.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Hyperparameters;
use crate::identity::{Digest, SEMANTICS_VERSION, is_default};
use crate::names::OBJECT_NAME_PATTERN;
use crate::task::{CustomTask, TaskFiles, name_problem};

/// One training of one model: what it learns, and how that is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunConfig {
    /// Digest of `science`; the trainer computes it again and refuses a mismatch (exit 64).
    pub science_hash: Digest,
    /// Everything that decides what is learned.
    pub science: Science,
    /// Where and how it is trained, which changes nothing of what is learned.
    pub execution: Execution,
}

impl RunConfig {
    /// Joins the two parts and computes the hash.
    pub fn new(science: Science, execution: Execution) -> Self {
        Self { science_hash: science.hash(), science, execution }
    }

    /// All reasons for which a trainer of this version must refuse this configuration.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let science = &self.science;
        if science.semantics_version != SEMANTICS_VERSION {
            problems.push(format!(
                "science.semanticsVersion is {}, but this trainer knows {SEMANTICS_VERSION}: use the trainer image that \
                 belongs to the operator",
                science.semantics_version
            ));
        }
        if science.hash() != self.science_hash {
            problems.push(format!(
                "scienceHash is {}, but science hashes to {}: the file was edited, or written by another version",
                self.science_hash,
                science.hash()
            ));
        }
        if science.tasks.is_empty() {
            problems.push("science.tasks is empty: name at least one task".to_owned());
        }
        for (position, task) in science.tasks.iter().enumerate() {
            if science.tasks[..position].iter().any(|other| other.name == task.name) {
                problems.push(format!("science.tasks names {} twice: a model has one head for each task", task.name));
            }
            problems.extend(custom_problems(&task.name, task.custom.as_ref(), &self.execution));
        }
        if let Some(Fold { index, of }) =
            science.fold.filter(|fold| !(2..=16).contains(&fold.of) || fold.index >= fold.of)
        {
            problems.push(format!("science.fold must be one of 2 to 16, counted from 0, but is {index} of {of}"));
        }
        for (option, problem) in science.distillation.problems() {
            problems.push(format!("science.distillation.{option} {problem}"));
        }
        let execution = &self.execution;
        for digest in science.tasks.iter().flat_map(|task| &task.target_files) {
            if !execution.target_files.contains_key(digest.as_str()) {
                problems.push(format!("execution.targetFiles does not say where the file {digest} is"));
            }
        }
        for (option, value, most) in [
            ("threads", execution.threads, 1024),
            ("microBatchTokens", execution.micro_batch_tokens, 16_777_216),
            ("saveCheckpointsSteps", execution.save_checkpoints_steps, 100_000_000),
        ] {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                problems.push(format!("execution.{option} must be between 1 and {most}, but is {value}"));
            }
        }
        for (option, problem) in science.hyperparameters.problems() {
            problems.push(format!("science.hyperparameters.{} {problem}", crate::hyperparameters::camel_case(option)));
        }
        problems
    }
}

/// What is wrong with a task that is not GLUE's, as whole sentences.
fn custom_problems(name: &str, custom: Option<&CustomTask>, execution: &Execution) -> Vec<String> {
    let Some(custom) = custom else { return Vec::new() };
    let mut problems: Vec<_> =
        name_problem(name).into_iter().map(|problem| format!("task {name:?} {problem}")).collect();
    let files = execution.files.get(name);
    if files.is_none() {
        problems.push(format!("task {name}: execution.files does not say where its rows are"));
    }
    let of_files = files.into_iter().flat_map(TaskFiles::problems);
    let of_fields = custom.problems().into_iter().chain(of_files);
    problems.extend(of_fields.map(|(field, problem)| format!("task {name}: {field} {problem}")));
    problems
}

/// Everything that decides what is learned. Its hash is the run's identity and its key in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Science {
    /// [`SEMANTICS_VERSION`] of the planner that made it.
    pub semantics_version: u32,
    /// The pretrained model, by content.
    pub model: ModelIdentity,
    /// The tasks in order: their order decides the task ids.
    #[schemars(length(min = 1, max = 32))]
    pub tasks: Vec<TaskIdentity>,
    /// Every option of the training, resolved.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hyperparameters: Hyperparameters,
    /// How targets and gold labels are mixed; default without teachers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub distillation: Distillation,
    /// Seed of head initialisation, data order and dropout, as far as the hyperparameters give these none of their own.
    pub seed: u32,
    /// Number format of the computation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// The part of every task's training rows that is not learned from; absent: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

impl Science {
    /// The run's identity: H(science).
    pub fn hash(&self) -> Digest {
        Digest::of(self)
    }

    /// The seed of what begins random: heads, and what the pretrained weights lack.
    pub fn init_seed(&self) -> u32 {
        self.hyperparameters.init_seed.unwrap_or(self.seed)
    }

    /// The seed of the order of the training rows.
    pub fn data_seed(&self) -> u32 {
        self.hyperparameters.data_seed.unwrap_or(self.seed)
    }

    /// The seed of dropout.
    pub fn dropout_seed(&self) -> u32 {
        self.hyperparameters.dropout_seed.unwrap_or(self.seed)
    }

    /// Does this run learn from teachers?
    pub fn distills(&self) -> bool {
        self.tasks.iter().any(|task| !task.teachers.is_empty() || !task.target_files.is_empty())
    }

    /// The science hashes of all teachers, each once, in order.
    pub fn teachers(&self) -> Vec<&Digest> {
        let mut hashes: Vec<_> = self.tasks.iter().flat_map(|task| &task.teachers).collect();
        hashes.sort();
        hashes.dedup();
        hashes
    }
}

/// One of several equal parts of the training rows: every `of`-th line of the file, swapped copies with their originals.
///
/// A run with a fold learns from the other rows and writes targets of these alone: they are out of fold, of rows that it
/// has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fold {
    /// Which one, counted from 0.
    #[schemars(range(max = 15))]
    pub index: u32,
    /// Into how many parts the rows are cut.
    #[schemars(range(min = 2, max = 16))]
    pub of: u32,
}

impl Fold {
    /// Whether it has the row in this line of the file.
    pub fn has(self, line: u32) -> bool {
        line % self.of == self.index
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fold {} of {}", self.index + 1, self.of)
    }
}

/// A pretrained model, by content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelIdentity {
    /// Digest of `config.json` or `bert_config.json`.
    pub config: Digest,
    /// Digest of `vocab.txt`.
    pub vocabulary: Digest,
    /// Digest of the weights: of `model.safetensors`, or of a checkpoint's index file with its data file after it; absent:
    /// random ones (`debug`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Digest>,
}

/// A task, by content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskIdentity {
    /// The task's name: one of GLUE's in the reference's spelling, or another one with `custom`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What the rows of a task mean that is not GLUE's; where they are stands in `execution.files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomTask>,
    /// SHA-256 digest of the file of training rows.
    pub train: Digest,
    /// Digest of the dev file: it decides no weight, but the scores that stand beside them.
    pub dev: Digest,
    /// Science hashes of the runs whose targets this task learns from.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(max = 16))]
    pub teachers: Vec<Digest>,
    /// Digests of files of predictions that this task learns from beside them: targets that lie in the store, or the
    /// reference's pickles. Where they are stands in `execution.targetFiles`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(max = 16))]
    pub target_files: Vec<Digest>,
}

/// How a student mixes its teachers' targets with the gold labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Distillation {
    /// The weight moves linearly from teacher to gold over the training (BAM's teacher annealing). Default true.
    #[serde(skip_serializing_if = "is_true")]
    pub annealing: bool,
    /// The teacher's constant weight when `annealing` is false. Default 0.5.
    #[serde(skip_serializing_if = "is_half")]
    pub weight: f64,
    /// What logits are divided by before a classification's softmax meets its teacher's; regressions have no use for it.
    /// Default 1.
    #[serde(skip_serializing_if = "is_one")]
    pub temperature: f64,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { annealing: true, weight: 0.5, temperature: 1.0 }
    }
}

impl Distillation {
    /// All values that are out of range, each as (option, sentence). The manifest's rules refuse these too.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let Self { weight, temperature, .. } = *self;
        let mut problems = Vec::new();
        if !(0.0..=1.0).contains(&weight) {
            problems.push(("weight", format!("must be between 0 and 1, but is {weight}")));
        }
        if !(0.1..=100.0).contains(&temperature) {
            problems.push(("temperature", format!("must be between 0.1 and 100, but is {temperature}")));
        }
        problems
    }
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_half(value: &f64) -> bool {
    *value == 0.5
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// Number format of the computation. Parameters, gradients and moments are kept in 32 bits in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Fp32,
    /// Activations and matrix products in 16 bits, with the range of 32 (bfloat16): faster on processors
    /// that have instructions for it, with two to three significant digits.
    Bf16,
}

/// Padded word pieces of a micro-batch on a CPU when [`Execution::micro_batch_tokens`] says nothing: small enough that rows
/// of like length come together. GPUs take more; the first rung of the out-of-memory ladder is half of this, so that it is
/// smaller than any default.
pub const MICRO_BATCH_TOKENS: u32 = 2048;

/// Everything about a run that does not change what is learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Execution {
    /// Folder of the artifact store as the trainer sees it (the reference's BAM_DIR).
    #[schemars(length(min = 1, max = 1024))]
    pub store: String,
    /// The object store that `store` is a working copy of, as a URI (`s3://bucket/folder`); absent: `store` is the artifact
    /// store itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub object_store: Option<String>,
    /// Folder below `pretrained_models/` with configuration, vocabulary and weights.
    #[schemars(length(min = 1, max = 253))]
    pub pretrained: String,
    /// CPU threads; absent: all that the process may use. Bit-equality holds for one count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Upper bound on the padded word pieces (rows x length) of a micro-batch; absent: the trainer's default for the
    /// device. Changes nothing but rounding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub micro_batch_tokens: Option<u32>,
    /// Compute a layer's activations again for its gradients instead of keeping those of all layers: less memory for more time.
    /// Changes nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub activation_checkpointing: bool,
    /// A checkpoint at least every so many steps; absent: by time alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub save_checkpoints_steps: Option<u32>,
    /// Also predict the test splits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub write_test_outputs: bool,
    /// The files of tasks that are not GLUE's, by task.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 32))]
    pub files: BTreeMap<String, TaskFiles>,
    /// Where in the store the files are that tasks name in `targetFiles`, by digest.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 512))]
    pub target_files: BTreeMap<String, String>,
}

/// A check of the inputs, before anything is trained on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputsConfig {
    /// The tasks whose files are read, row by row.
    #[schemars(length(min = 1, max = 32))]
    pub tasks: Vec<String>,
    /// What the rows of those tasks mean that are not GLUE's, by task.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 32))]
    pub custom: BTreeMap<String, CustomTask>,
    /// The longest input that any run of the experiment will use, in word pieces.
    pub max_seq_length: u32,
    /// Files of predictions that tasks learn from: their places in the store, by task.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 32))]
    pub targets: BTreeMap<String, Vec<String>>,
    /// The first 50 lines and no weights.
    #[serde(default, skip_serializing_if = "is_default")]
    pub debug: bool,
    /// What to download first. Absent: no network is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Fetch>,
    /// Where the inputs are, and with how many threads they are read.
    pub execution: Execution,
}

impl InputsConfig {
    /// All reasons for which a trainer must refuse this configuration. Names that it does not know are its own to refuse.
    pub fn problems(&self) -> Vec<String> {
        let custom = self.custom.iter();
        custom.flat_map(|(name, custom)| custom_problems(name, Some(custom), &self.execution)).collect()
    }
}

const ADDRESS: &str = "^https?://[!-~]+$";

/// Inputs that are downloaded where the store lacks them. What is there is never replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.glue) && self.glue) || has(self.model)", "message": "nothing to fetch: set `glue: true`, name a `model`, or remove `fetch`"},
    {"rule": "has(self.model) || !(has(self.revision) || has(self.modelUrl))", "message": "`revision` and `modelUrl` are about a `model`: name one"},
]))]
pub struct Fetch {
    /// The data of the tasks, as GLUE publishes them. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub glue: bool,
    /// The pretrained model, by its name in a model repository: `google-bert/bert-base-uncased`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 193), regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?$"))]
    pub model: Option<String>,
    /// Branch, tag or commit of the model. Default main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"))]
    pub revision: Option<String>,
    /// What GLUE's files are below, if not where they are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = ADDRESS))]
    pub glue_url: Option<String>,
    /// A model repository in Hugging Face's layout, if not that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = ADDRESS))]
    pub model_url: Option<String>,
    /// SHA-256 of all that may be taken, by file name (`RTE.zip`, `model.safetensors`): with it, nothing else is. Default: for
    /// GLUE's files what they are known to be, and any model.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 64))]
    pub lock: BTreeMap<String, Digest>,
    /// A Secret in the experiment's namespace, whose keys become environment variables of the pod that fetches: HF_TOKEN, for
    /// a model that is not everyone's, or HTTPS_PROXY. The operator does not read it. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The name of a Secret in the namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub name: String,
}

/// What a check of the inputs found: the identities that runs are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputsReport {
    /// The pretrained model, by the digests of its files.
    pub model: ModelIdentity,
    /// The data files of each task, by digest, with their rows.
    pub tasks: BTreeMap<String, TaskInputs>,
}

/// One task's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskInputs {
    /// SHA-256 digest of the file of training rows.
    pub train: Digest,
    /// Its rows, swapped copies not counted.
    pub train_rows: u32,
    /// The order of its two texts means nothing, so `doubleUnordered` adds a swapped copy of every row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unordered: bool,
    /// SHA-256 digest of the file of dev rows.
    pub dev: Digest,
    /// Rows of the file of dev rows.
    pub dev_rows: u32,
    /// Digests of the files of predictions that it learns from, by their places in the store.
    #[serde(default, skip_serializing_if = "is_default")]
    pub targets: BTreeMap<String, Digest>,
}
