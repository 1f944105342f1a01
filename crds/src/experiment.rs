//! `BamExperiment`: what a person writes, and what they read back.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HyperparameterOverrides;
pub use crate::config::SecretRef;
use crate::config::{Fetch, Fold, InputsReport, Precision};
use crate::hyperparameters::Decimal;
use crate::identity::is_default;
use crate::names::OBJECT_NAME_PATTERN;
use crate::placement::{Accelerator, PodTemplate};
use crate::profile::{ProfileInUse, ProfileRef};
use crate::quantity::Quantity;
use crate::report::TaskResult;
use crate::run::{Role, RunPhase, RunProgress, Usage};
use crate::task::{CustomTask, TASK_NAME_PATTERN, TaskFiles};

/// Fine-tunes one BERT on several tasks at once, and lets single-task teachers help it.
// Clippy takes several print columns for one attribute written twice.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bam.dev",
    version = "v1alpha1",
    kind = "BamExperiment",
    plural = "bamexperiments",
    shortname = "bam",
    namespaced,
    status = "BamExperimentStatus",
    derive = "PartialEq",
    doc = "A BAM experiment: teachers, then a multi-task student that learns from gold labels and from them.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Teachers", type_ = "string", json_path = ".status.teachers"),
    printcolumn(name = "Students", type_ = "string", json_path = ".status.students"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Waiting For", type_ = "string", json_path = ".status.waitingFor", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// A list with keys equals another one in any order, and the order of the tasks decides what is learned.
#[x_kube(validation = Rule::new("self.tasks == oldSelf.tasks && self.tasks.map(t, t.name) == oldSelf.tasks.map(t, t.name)")
    .message("tasks are immutable: what is trained would be another model; create a new experiment").field_path(".tasks"))]
// So it is with the labels of a task, which are a set.
#[x_kube(validation = Rule::new("self.tasks.map(t, has(t.custom) && has(t.custom.labels) ? t.custom.labels.map(l, l) : []) == oldSelf.tasks.map(t, has(t.custom) && has(t.custom.labels) ? t.custom.labels.map(l, l) : [])")
    .message("labels are immutable, also in their order: what is trained would be another model; create a new experiment").field_path(".tasks"))]
#[x_kube(validation = Rule::new("has(self.distill) == has(oldSelf.distill) && (!has(self.distill) || self.distill == oldSelf.distill)")
    .message("distill is immutable: what is trained would be another model; create a new experiment").field_path(".distill"))]
#[x_kube(validation = Rule::new("has(self.hyperparameters) == has(oldSelf.hyperparameters) && (!has(self.hyperparameters) || self.hyperparameters == oldSelf.hyperparameters)")
    .message("hyperparameters are immutable: what is trained would be another model; create a new experiment").field_path(".hyperparameters"))]
#[x_kube(validation = Rule::new("self.model == oldSelf.model && self.storage == oldSelf.storage && self.seed == oldSelf.seed && self.precision == oldSelf.precision")
    .message("model, storage, seed and precision are immutable: what is trained would be another model; create a new experiment"))]
#[x_kube(validation = Rule::new("self.trials >= oldSelf.trials")
    .message("trials can be raised, not lowered: what is trained stays").field_path(".trials"))]
#[x_kube(validation = Rule::new("!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)")
    .message("what is cancelled is over: create a new experiment, which finds what is trained already").field_path(".cancel"))]
#[x_kube(validation = Rule::new("has(self.managedBy) == has(oldSelf.managedBy) && (!has(self.managedBy) || self.managedBy == oldSelf.managedBy)")
    .message("managedBy is immutable: two would carry out the same experiment").field_path(".managedBy"))]
#[x_kube(validation = Rule::new("has(self.distill) || self.tasks.all(t, !has(t.teacher))")
    .message("a task names a teacher, but the experiment does not distill: add `distill: {}`, or remove `teacher`").field_path(".tasks"))]
#[x_kube(validation = Rule::new("!has(self.distill) || !has(self.distill.weight) || !self.distill.annealing")
    .message("weight is the teachers' constant weight and has no effect while annealing is true: set `annealing: false`, or remove it").field_path(".distill.weight"))]
#[x_kube(validation = Rule::new("!has(self.distill) || !has(self.distill.teachers) || self.distill.teachers.all(t, self.tasks.exists(x, x.name == t))")
    .message("a teacher is named for a task that the experiment does not have: add the task, or remove the teacher").field_path(".distill.teachers"))]
#[x_kube(validation = Rule::new("!has(self.distill) || !has(self.distill.teachers) || self.tasks.all(x, !has(x.teacher) || !(x.name in self.distill.teachers))")
    .message("a task has options for a teacher of its own, and a teacher in distill.teachers that is not trained here: remove one of them").field_path(".tasks"))]
#[x_kube(validation = Rule::new("self.trials == 1 || !has(self.hyperparameters) || !has(self.hyperparameters.initSeed) || !has(self.hyperparameters.dataSeed) || !has(self.hyperparameters.dropoutSeed)")
    .message("initSeed, dataSeed and dropoutSeed together leave nothing in which trials could differ: remove one of them, or set `trials: 1`").field_path(".trials"))]
#[x_kube(validation = Rule::new("!has(self.distill) || !has(self.distill.outOfFold) || ((!has(self.distill.qualityGate) || self.distill.qualityGate.bestOf == 1) && self.tasks.all(t, !has(t.teacher) || !has(t.teacher.qualityGate) || t.teacher.qualityGate.bestOf == 1))")
    .message("each part of the rows has one teacher with `outOfFold`, and none can be chosen: remove it, or `bestOf`").field_path(".distill.outOfFold"))]
#[x_kube(validation = Rule::new("!has(self.fetch) || !has(self.storage.objectStore)")
    .message("`fetch` downloads into the folder of a claim, and not into an object store: put glue_data and pretrained_models there, and remove it").field_path(".fetch"))]
pub struct BamExperimentSpec {
    /// The tasks, in order: cola, mnli, mrpc, qnli, qqp, rte, sst, sts or wnli, or tasks of your own. Each one once.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tasks: Vec<TaskSpec>,
    /// Learn from single-task teachers as well as from the labels. Absent: plain fine-tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillSpec>,
    /// The student's options (without `distill`: the model's); what is absent has the reference's default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hyperparameters: HyperparameterOverrides,
    /// Seed of the first trial's student; later trials count on from it. Teachers always have seed 1. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub seed: u32,
    /// Number format of the computation, of teachers and students: fp32 or bf16. Models of another format are other models.
    /// Default fp32.
    #[serde(default)]
    pub precision: Precision,
    /// Students to train, each with another seed; teachers are shared. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub trials: u32,
    /// The pretrained model that every run starts from.
    pub model: ModelSpec,
    /// The artifact store: data, weights and results (the reference's BAM_DIR).
    pub storage: StorageSpec,
    /// Download inputs that the store lacks, before they are checked. Absent: nothing is downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Fetch>,
    /// What the pods and the trainer of each run get: image, resources, accelerator, threads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compute: ComputeSpec,
    /// The PriorityClass of its pods: whose turn it is where machines are scarce. Default: the cluster's. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub priority_class_name: Option<String>,
    /// The queue in which its runs wait for their turn: a LocalQueue of Kueue in this namespace. Each of them comes into it when
    /// it is ready, so that no place is held for a student while its teachers train. Default: none. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = OBJECT_NAME_PATTERN))]
    pub queue_name: Option<String>,
    /// How often a run is tried again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_policy: FailurePolicyOverrides,
    /// Runs that may train at the same time. Default: 1 on a laptop, all on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_parallel_runs: Option<u32>,
    /// While true, nothing is started for this experiment, and what trains for it alone writes a checkpoint and stops; set to
    /// false, it goes on from there. What another experiment needs too goes on. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
    /// True ends it for good: nothing more is started for it, and what trains for it alone writes a checkpoint and stops. What
    /// another experiment needs too goes on, and what is trained stays. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cancel: bool,
    /// Raise it, and the runs that have failed by then are tried again, with fresh budgets, from their last checkpoints; those
    /// that are done stay. Not used by `bam run`, which tries again whenever it is called. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub retry: u32,
    /// Who carries it out: `bam.dev/operator`, or a controller that hands it to another cluster. Then this cluster's operator
    /// leaves it alone. Default bam.dev/operator. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    )]
    pub managed_by: Option<String>,
    /// Seconds that it may take, counted from when the operator first saw it, and anew whenever it is resumed. Then it has
    /// failed, and what trains for it alone writes a checkpoint and stops; raised, it goes on from there. Default: as long as it
    /// takes. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub active_deadline_seconds: Option<u32>,
    /// Seconds after its end, good or bad, at which this object is deleted, and with it the runs that nobody else needs. What
    /// was trained stays in the store. Default: it stays. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub ttl_seconds_after_finished: Option<u32>,
}

/// What [`BamExperimentSpec::managed_by`] says of experiments that the operator carries out.
pub const MANAGER: &str = "bam.dev/operator";

impl BamExperimentSpec {
    /// Is it for the operator to carry out?
    pub fn is_ours(&self) -> bool {
        self.managed_by.as_deref().is_none_or(|manager| manager == MANAGER)
    }
}

fn one() -> u32 {
    1
}

/// Printable ASCII without blanks: no pod has an image with anything else.
pub const IMAGE_PATTERN: &str = "^[!-~]+$";

/// What is said of a task that is not there.
pub const NO_SUCH_TASK: &str = "is no task of GLUE (cola, mnli, mrpc, qnli, qqp, rte, sst, sts, wnli), and one of your own has \
                                `files` and `custom`";

/// One data set with its head and metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.custom) || self.name in ['cola', 'mnli', 'mrpc', 'qnli', 'qqp', 'rte', 'sst', 'sts', 'wnli']",
     "message": NO_SUCH_TASK, "fieldPath": ".name"},
    {"rule": "!has(self.custom) || !(self.name in ['cola', 'mnli', 'mrpc', 'qnli', 'qqp', 'rte', 'sst', 'sts', 'wnli'])",
     "message": "is a task of GLUE, whose rows are known: remove `custom`, or take another name", "fieldPath": ".name"},
    {"rule": "has(self.custom) == has(self.files)",
     "message": "a task of your own has both: `files` says where its rows are, `custom` what they mean"},
]))]
pub struct TaskSpec {
    /// Which one: a name of GLUE's, or another one with `files` and `custom`.
    #[schemars(length(min = 1, max = 63), regex(pattern = TASK_NAME_PATTERN))]
    pub name: String,
    /// Where the rows of a task of your own are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<TaskFiles>,
    /// What the rows of a task of your own mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomTask>,
    /// Options of this task's teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSpec>,
}

/// One task's teacher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherSpec {
    /// Options of this teacher alone, above those of `distill.hyperparameters`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hyperparameters: HyperparameterOverrides,
    /// What this teacher must reach, instead of `distill.qualityGate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_gate: Option<QualityGate>,
}

/// What a teacher that is trained here must reach on its dev rows before a student learns from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.min) || self.bestOf > 1", "message": "holds nothing back: set `min`, the least that will do, or `bestOf`, the number of teachers to choose from"},
]))]
pub struct QualityGate {
    /// The least that will do, as results show it: "60" is 60 per cent. Default: everything will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// The metric to judge by, one of the task's results. Default: the task's main metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = TASK_NAME_PATTERN))]
    pub metric: Option<String>,
    /// Train so many, with seeds 1, 2 and so on, and let the best one teach. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub best_of: u32,
    /// What is done when none of them reaches `min`. Default Fail.
    #[serde(default)]
    pub on_failure: GateFailure,
}

/// What is done when no teacher is good enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateFailure {
    /// No student is trained: the experiment fails, and says what was reached.
    #[default]
    Fail,
    /// The best one teaches all the same.
    Continue,
}

/// How the student learns from its teachers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DistillSpec {
    /// The weight moves linearly from teacher to gold over the training. Default true.
    #[serde(default = "yes")]
    pub annealing: bool,
    /// The teachers' constant weight when `annealing` is false. Default 0.5.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.0 && double(string(self)) <= 1.0", "message": "must be between 0 and 1"}]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Decimal>,
    /// Softens the targets of classifications: logits of teacher and student are divided by it. Default 1.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.1 && double(string(self)) <= 100.0", "message": "must be between 0.1 and 100"}]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Decimal>,
    /// Train every teacher so many times, each time without another one of as many parts of the training rows, which that
    /// one alone then predicts. So the student learns from predictions of rows that their teacher has not seen. Named teachers
    /// stay as they are. Default: one teacher, which has seen all rows.
    #[schemars(range(min = 2, max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_fold: Option<u32>,
    /// Teachers that are there already, or that another experiment trains, by task. The operator trains one for every task
    /// that is absent here.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 32))]
    pub teachers: BTreeMap<String, NamedTeachers>,
    /// What every teacher that is trained here must reach before a student learns from it. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_gate: Option<QualityGate>,
    /// Options of all teachers. What describes the inputs (`maxSeqLength`, `doLowerCase`, `doubleUnordered`, `debug`) is
    /// taken from the student where it is absent here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hyperparameters: HyperparameterOverrides,
}

/// The teachers of a task that this experiment does not train itself: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "(has(self.experiment) ? 1 : 0) + (has(self.run) ? 1 : 0) + (has(self.targets) ? 1 : 0) + (has(self.ensemble) ? 1 : 0) == 1", "message": "name exactly one of `experiment`, `run`, `targets` and `ensemble`"}]))]
pub struct NamedTeachers {
    /// An experiment in this namespace that has the task: its student (of the first trial) teaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub experiment: Option<String>,
    /// A run in this namespace that has the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = "^run-[0-9a-f]{16}$"))]
    pub run: Option<String>,
    /// A file of predictions in the store: targets of a run (`runs/…/targets/rte.safetensors`), wherever it was trained, or a
    /// pickle of the reference (`.pkl`). It may be copied there from another store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = TARGETS_PATTERN))]
    pub targets: Option<String>,
    /// Several: the student learns from the mean of their logits. One run counts once, however often it is named.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(min = 1, max = 16))]
    pub ensemble: Vec<TeacherRef>,
}

impl DistillSpec {
    /// The files that a task learns from.
    pub fn target_files(&self, task: &str) -> BTreeSet<String> {
        let named = self.teachers.get(task).into_iter().flat_map(NamedTeachers::each);
        named.filter_map(|teacher| teacher.targets).collect()
    }

    /// All teachers that it names, of all tasks.
    pub fn named_teachers(&self) -> impl Iterator<Item = TeacherRef> {
        self.teachers.values().flat_map(NamedTeachers::each)
    }
}

impl NamedTeachers {
    /// Each of them; a single one is one.
    pub fn each(&self) -> Vec<TeacherRef> {
        match self.ensemble.is_empty() {
            true => vec![TeacherRef {
                experiment: self.experiment.clone(),
                run: self.run.clone(),
                targets: self.targets.clone(),
            }],
            false => self.ensemble.clone(),
        }
    }
}

/// One of several teachers: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "(has(self.experiment) ? 1 : 0) + (has(self.run) ? 1 : 0) + (has(self.targets) ? 1 : 0) == 1", "message": "name exactly one of `experiment`, `run` and `targets`"}]))]
pub struct TeacherRef {
    /// An experiment in this namespace that has the task: its student (of the first trial) teaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub experiment: Option<String>,
    /// A run in this namespace that has the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = "^run-[0-9a-f]{16}$"))]
    pub run: Option<String>,
    /// A file of predictions in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = TARGETS_PATTERN))]
    pub targets: Option<String>,
}

/// A path in the store to a file of targets, or to a pickle.
const TARGETS_PATTERN: &str = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*\.(safetensors|pkl)$";

fn yes() -> bool {
    true
}

/// The pretrained model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSpec {
    /// Folder below `pretrained_models/` in the store: `config.json` or `bert_config.json`, `vocab.txt`,
    /// `model.safetensors` or `bert_model.ckpt.*`.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub pretrained: String,
}

/// Where the artifact store is: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "has(self.persistentVolumeClaim) != has(self.objectStore)", "message": "name exactly one of `persistentVolumeClaim` and `objectStore`"}]))]
pub struct StorageSpec {
    /// A claim in the experiment's namespace. Without a cluster it stands for the folder given by `--bam-dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSpec>,
    /// A bucket, or a folder in one. Without a cluster the folder given by `--bam-dir` is a working copy of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreSpec>,
}

impl StorageSpec {
    /// Its name in one line, as a run's `execution.store` holds it.
    pub fn uri(&self) -> String {
        match (&self.object_store, &self.persistent_volume_claim) {
            (Some(store), _) => store.uri.clone(),
            (None, Some(claim)) => format!("{CLAIM_SCHEME}{}", claim.claim_name),
            // The schema refuses it.
            (None, None) => String::new(),
        }
    }

    /// The storage of that name; none if it is a folder.
    pub fn from_uri(uri: &str) -> Option<Self> {
        if let Some(claim_name) = uri.strip_prefix(CLAIM_SCHEME) {
            let claim = ClaimSpec { claim_name: claim_name.to_owned() };
            return Some(Self { persistent_volume_claim: Some(claim), ..Self::default() });
        }
        let store = ObjectStoreSpec { uri: uri.to_owned(), ..ObjectStoreSpec::default() };
        uri.contains("://").then(|| Self { object_store: Some(store), ..Self::default() })
    }

    /// Which store it is, whoever opens it and with which credentials: what the names of its runs are made of.
    pub fn identity(&self) -> Self {
        let store = self.object_store.clone().map(|store| ObjectStoreSpec { secret_ref: None, ..store });
        Self { object_store: store, ..self.clone() }
    }
}

const CLAIM_SCHEME: &str = "pvc://";

/// A bucket or container, or a folder in one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStoreSpec {
    /// `s3://bucket/folder` (S3, and all that speak its language), `gs://bucket/folder` (Google Cloud Storage) or
    /// `az://container/folder` (Azure Blob Storage). In a namespace a URI stands for one store.
    #[schemars(
        length(max = 512),
        regex(pattern = "^(s3|gs|az)://[a-z0-9][a-z0-9._-]*[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._=-]*)*$")
    )]
    pub uri: String,
    /// A Secret in the experiment's namespace. Each of its keys becomes an environment variable of the trainers:
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL; GOOGLE_SERVICE_ACCOUNT_KEY;
    /// AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY. The operator does not read it, and `bam run` takes the variables
    /// from its own environment. Default: the credentials that a cloud gives to its own machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A persistent volume claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimSpec {
    /// The name of a PersistentVolumeClaim in the namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_PATTERN))]
    pub claim_name: String,
}

/// What each run gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": ACCELERATOR_ONCE, "message": "`resources` asks for accelerators too: remove nvidia.com/gpu and google.com/tpu there", "fieldPath": ".accelerator"}]))]
pub struct ComputeSpec {
    /// A profile, written by whoever knows the machines: it says all of this, `priorityClassName`, `queueName` and `failurePolicy`
    /// where this manifest is silent. Runs are made with what it says then, and keep that when it changes. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileRef>,
    /// The trainer's container image. Default: the one that the operator was installed with. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = IMAGE_PATTERN))]
    pub image: Option<String>,
    /// What each pod asks for and may use at most, as in a pod: `requests: { memory: 4Gi }`. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// What each pod that trains gets to compute on. Default: processors alone. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Train on spot machines, which are cheap and can be taken away (Spot VMs of GKE and AKS, spot instances of EKS and
    /// Karpenter). Default false. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<bool>,
    /// What else pods get. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_template: PodTemplate,
    /// CPU threads. Default: all that the process may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Upper bound on the padded word pieces of a micro-batch, for machines with little memory. Changes nothing but
    /// rounding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 128, max = 16_777_216))]
    pub micro_batch_tokens: Option<u32>,
    /// A checkpoint at least every so many steps. Default: by time alone, so that they cost at most 2 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub save_checkpoints_steps: Option<u32>,
    /// Also predict the test splits. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_test_outputs: Option<bool>,
    /// What is kept of a run's Jobs and pods, and so of its logs, when they are over: of one that failed the last (OnFailure),
    /// all (Always) or none (Never). They go with the run. Default OnFailure. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_jobs: Option<KeepJobs>,
}

/// What is kept of the Jobs of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeepJobs {
    /// The last one, if the run failed.
    #[default]
    OnFailure,
    /// All.
    Always,
    /// None.
    Never,
}

const ACCELERATOR_ONCE: &str = "!has(self.accelerator) || !has(self.resources) || ['nvidia.com/gpu', 'google.com/tpu'].all(name, !(has(self.resources.limits) && name in self.resources.limits) && !(has(self.resources.requests) && name in self.resources.requests))";

/// The amounts that a container can be given; a pod with anything else is refused, and so would be every Job.
const RESOURCE_NAMES: &str = "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'] || name.startsWith('hugepages-') || name.contains('/'))";
const RESOURCE_NAMES_MESSAGE: &str = "a container can be given cpu, memory, ephemeral-storage, hugepages-*, and what has a \
                                      domain before it (nvidia.com/gpu), and nothing else";

/// What a pod asks for, and what it may use at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// What it asks for and is placed by, by name: `cpu`, `memory`, `ephemeral-storage`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 16, "x-kubernetes-validations" = [{"rule": RESOURCE_NAMES, "message": RESOURCE_NAMES_MESSAGE}]))]
    pub requests: BTreeMap<String, Quantity>,
    /// The most that it may use, by name. An accelerator stands here.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 16, "x-kubernetes-validations" = [{"rule": RESOURCE_NAMES, "message": RESOURCE_NAMES_MESSAGE}]))]
    pub limits: BTreeMap<String, Quantity>,
}

/// How often a run is tried again, by whose fault it was, as far as somebody says so. A checkpoint written on SIGTERM costs
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailurePolicyOverrides {
    /// Retries after a crash, an internal error or a diverged loss. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub application_retries: Option<u32>,
    /// Retries after a lost node, a kill, or a store that could not be reached. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub infrastructure_retries: Option<u32>,
    /// Seconds that an attempt may wait for a machine, an image or a volume, not counting those in a queue. Then its run has
    /// failed. Default: as long as it takes. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub pending_deadline_seconds: Option<u32>,
}

impl FailurePolicyOverrides {
    /// These, and where they are silent, the defaults.
    pub fn resolve(&self) -> FailurePolicy {
        let default = FailurePolicy::default();
        FailurePolicy {
            application_retries: self.application_retries.unwrap_or(default.application_retries),
            infrastructure_retries: self.infrastructure_retries.unwrap_or(default.infrastructure_retries),
            pending_deadline_seconds: self.pending_deadline_seconds,
        }
    }
}

/// How often a run is tried again, by whose fault it was. A checkpoint written on SIGTERM costs nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailurePolicy {
    /// Retries after a crash, an internal error or a diverged loss. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub application_retries: u32,
    /// Retries after a lost node, a kill, or a store that could not be reached. Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 1000))]
    pub infrastructure_retries: u32,
    /// Seconds that an attempt may wait for a machine, an image or a volume, not counting those in a queue. Then its run has
    /// failed. Default: as long as it takes. Not used by `bam run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub pending_deadline_seconds: Option<u32>,
}

fn ten() -> u32 {
    10
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self { application_retries: one(), infrastructure_retries: ten(), pending_deadline_seconds: None }
    }
}

/// Where an experiment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExperimentPhase {
    /// Nothing has been started.
    #[default]
    Pending,
    /// The inputs are being checked.
    CheckingInputs,
    /// Teachers are missing.
    TrainingTeachers,
    /// All teachers are done, the student is not.
    TrainingStudent,
    /// It is not finished, and `suspend` is true.
    Suspended,
    /// It was not finished, and `cancel` is true.
    Cancelled,
    /// All runs are done.
    Complete,
    /// A run failed for good.
    Failed,
}

impl ExperimentPhase {
    /// Will nothing more happen?
    pub fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Cancelled)
    }
}

/// Where an experiment stands, written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BamExperimentStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands, in one word. `kubectl wait` takes the conditions.
    #[serde(default)]
    pub phase: ExperimentPhase,
    /// `done/all` of the teachers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub teachers: String,
    /// `done/all` of the students.
    #[serde(default, skip_serializing_if = "is_default")]
    pub students: String,
    /// Done steps of all runs, in per cent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub progress: String,
    /// What it waits for, in a person's words; empty when done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waiting_for: String,
    /// All from the first look on, for `kubectl wait`: `InputsReady`, `Running` (an attempt is under way), `TeachersReady`,
    /// `Suspended`, `Complete`, `Failed` (also of one that was cancelled).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last `retry` that was carried out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retried: u32,
    /// The inputs by content, as checked: what the runs' names are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<PinnedInputs>,
    /// The runs behind the names in `distill.teachers`, by where these stand in there: `rte`, or `rte.ensemble[0]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub named_teachers: BTreeMap<String, String>,
    /// The teachers that have passed their quality gate, by task: the runs that teach.
    #[serde(default, skip_serializing_if = "is_default")]
    pub passed_gate: BTreeMap<String, Vec<String>>,
    /// The profile that its next runs are made with, if it names one and that can be read; of what is over, the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileInUse>,
    /// Every run, in the order in which they can start.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub runs: Vec<RunSummary>,
    /// The students' dev scores over all finished trials, by task.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scores: BTreeMap<String, ScoreSummary>,
    /// What its runs have cost so far, those included that it shares with others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub usage: Usage,
}

/// What the check of the inputs found, pinned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedInputs {
    /// The run that checked them.
    pub run: String,
    /// What it found: digests of the model and of every task's files, and their rows.
    pub report: InputsReport,
}

/// One run as its experiment sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// The name of its BamRun, made of what it trains.
    pub name: String,
    /// What the run is for: a check of the inputs, a teacher, a student.
    pub role: Role,
    /// The tasks of the run, in the order of its heads.
    pub tasks: Vec<String>,
    /// The trial, counted from 1; absent for teachers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<u32>,
    /// What it does not learn from but predicts; absent: nothing is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// Where the run stands, in one word.
    pub phase: RunPhase,
    /// Why it is not running, or what went wrong.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// Whose run it is, if another experiment made it, and what of this experiment's wishes does not count therefore.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared: String,
    /// How far its attempt is, while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RunProgress>,
    /// Its scores on the dev rows, by task, once it is done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub results: Vec<TaskResult>,
    /// When the run was done, or had failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Scores over trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScoreSummary {
    /// The metric that the task is judged by.
    pub metric: String,
    /// Trials that are done, and counted here.
    pub trials: u32,
    /// The best of the finished trials; absent: written by an operator that did not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// The median over the finished trials.
    pub median: f64,
    /// The mean over the finished trials.
    pub mean: f64,
    /// Sample standard deviation; absent for one trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_deviation: Option<f64>,
}
