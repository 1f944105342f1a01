//! An experiment as a graph of runs: the check of its inputs, then one teacher per task, then a student per trial.

use std::collections::{BTreeMap, BTreeSet};

use bam_crds::config::{Distillation, Fetch, Fold, InputsReport, TaskIdentity};
use bam_crds::experiment::{DistillSpec, PinnedInputs, QualityGate, TaskSpec};
use bam_crds::hyperparameters::Decimal;
use bam_crds::identity::SEMANTICS_VERSION;
use bam_crds::run::{Role, RunPod};
use bam_crds::{
    BamExperimentSpec, BamExperimentStatus, BamRunSpec, BamRunStatus, CustomTask, Digest, Execution, Hyperparameters,
    InputsConfig, RunConfig, Science, names,
};

use super::gate::{self, Gates, Stand};
use super::teachers::{Entry, Named, Reference};
use super::{Why, steps};

/// The first teacher's seed: one that does not depend on the experiment, so that experiments share teachers.
const TEACHER_SEED: u32 = 1;

/// One run of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What to call it in a sentence: `inputs check`, `teacher rte`, `student`, `student 2`.
    pub title: String,
    /// What it is for here. A teacher that the manifest names may be another experiment's student.
    pub role: Role,
    /// Its tasks, in order.
    pub tasks: Vec<String>,
    /// The trial, counted from 1; only of students.
    pub trial: Option<u32>,
    /// Names of the runs that it learns from.
    pub teachers: Vec<String>,
    /// Its optimizer steps, as far as they can be told before it runs.
    pub steps: Option<u64>,
    /// What it is.
    pub spec: BamRunSpec,
}

impl Node {
    /// Its key in the store; none for a check of the inputs.
    pub fn science_hash(&self) -> Option<&Digest> {
        self.spec.config.as_ref().map(|config| &config.science_hash)
    }
}

/// All runs of an experiment, as far as they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The check of the inputs.
    pub inputs: Node,
    /// What it found; the names of the other runs are made of it.
    pub pinned: Option<PinnedInputs>,
    /// Teachers, then students. Empty before the inputs are known.
    pub trainings: Vec<Node>,
    /// What is wrong with what the check found.
    pub fault: Option<Why>,
    /// Why the students have no names yet: teachers that the manifest names are not known, or have not passed their gate.
    pub unknown: Vec<Why>,
    /// Which teachers have passed their gate.
    pub gates: Gates,
}

impl Graph {
    /// The graph of `spec`. `key` names the state of the input files, `status` may hold earlier findings, `check` is how the
    /// run that [`inputs`] names stands, where there is one, and `stand` how the teachers do.
    pub fn of(
        spec: &BamExperimentSpec,
        key: &str,
        status: &BamExperimentStatus,
        check: Option<&BamRunStatus>,
        named: &Named,
        stand: impl Fn(&str) -> Stand,
    ) -> Self {
        let inputs = inputs(spec, key);
        let pinned =
            status.inputs.clone().filter(|pinned| pinned.run == inputs.name).or_else(|| found(&inputs.name, check?));
        let of_these = |found: &InputsReport| {
            let gates = gates(spec, found, named, &status.passed_gate, stand)?;
            Ok((trainings(spec, found, named, &gates)?, gates))
        };
        let (trainings, gates, fault) = match pinned.as_ref().map(|pinned| of_these(&pinned.report)) {
            None => (Vec::new(), Gates::new(), None),
            Some(Ok((trainings, gates))) => (trainings, gates, None),
            Some(Err(fault)) => (Vec::new(), Gates::new(), Some(fault)),
        };
        let closed = gates.values().filter_map(|gate| gate.as_ref().err());
        let (waits, below): (Vec<_>, Vec<_>) =
            closed.cloned().partition(|why| matches!(why, Why::TeachersNotDone { .. }));
        let unknown = named.values().filter_map(|teacher| teacher.as_ref().err().cloned()).chain(waits).collect();
        Self { inputs, pinned, trainings, fault: fault.or(below.into_iter().next()), unknown, gates }
    }

    /// What keeps it from ever being done, and what is not known yet, in sentences.
    pub fn obstacles(&self) -> impl Iterator<Item = String> {
        let who = |fault: &Why| if matches!(fault, Why::BelowGate { .. }) { "the student" } else { "a run" };
        let fault = self.fault.iter().map(move |fault| format!("{} {fault}", who(fault)));
        fault.chain(self.unknown.iter().map(|why| format!("the student {why}")))
    }

    /// All runs, in the order in which they can start.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.inputs).chain(&self.trainings)
    }
}

fn found(run: &str, check: &BamRunStatus) -> Option<PinnedInputs> {
    let report = check.report.as_ref()?.inputs.clone()?;
    check.phase.is_final().then(|| PinnedInputs { run: run.to_owned(), report })
}

/// The run that checks the inputs of `spec`. `key` says whose they are and in which state, since what a check finds may
/// be out of date tomorrow.
pub fn inputs(spec: &BamExperimentSpec, key: &str) -> Node {
    let teachers = spec
        .distill
        .iter()
        .flat_map(|distill| spec.tasks.iter().map(|task| teacher_hyperparameters(spec, distill, task)));
    let all: Vec<_> = teachers.chain([student_hyperparameters(spec)]).collect();
    let config = InputsConfig {
        tasks: spec.tasks.iter().map(|task| task.name.clone()).collect(),
        custom: spec.tasks.iter().filter_map(|task| Some((task.name.clone(), task.custom.clone()?))).collect(),
        targets: targets(spec),
        max_seq_length: all.iter().map(|options| options.max_seq_length).max().unwrap_or_default(),
        debug: all.iter().all(|options| options.debug),
        // Which credentials it takes makes it no other check.
        fetch: spec.fetch.clone().map(|fetch| Fetch { secret_ref: None, ..fetch }),
        execution: execution(spec, &spec.tasks),
    };
    let (token, pod) = (spec.fetch.as_ref().and_then(|fetch| fetch.secret_ref.clone()), pod(spec));
    let token = token.map(|secret| secret.name);
    // What is looked at, and not with how many threads: a change of those leaves it the same check.
    let Execution { store, pretrained, files, .. } = &config.execution;
    let tasks = (&config.tasks, &config.custom, files);
    let looked_at = (tasks, config.max_seq_length, config.debug, store, pretrained, &config.fetch);
    let name = match config.targets.is_empty() {
        true => names::inputs(&looked_at, key),
        false => names::inputs(&(looked_at, &config.targets), key),
    };
    Node {
        name,
        title: "inputs check".to_owned(),
        role: Role::Inputs,
        tasks: config.tasks.clone(),
        trial: None,
        teachers: Vec::new(),
        steps: None,
        spec: BamRunSpec {
            role: Role::Inputs,
            config: None,
            inputs: Some(config),
            failure_policy: spec.failure_policy.resolve(),
            pod: RunPod { secret: token.or(pod.secret), ..pod },
        },
    }
}

/// The files that tasks learn from.
fn targets(spec: &BamExperimentSpec) -> BTreeMap<String, Vec<String>> {
    let of = |distill: &DistillSpec, task: &TaskSpec| Vec::from_iter(distill.target_files(&task.name));
    let tasks = spec.distill.iter().flat_map(|distill| spec.tasks.iter().map(move |task| (distill, task)));
    let files = tasks.map(|(distill, task)| (task.name.clone(), of(distill, task)));
    files.filter(|(_, files)| !files.is_empty()).collect()
}

/// All trainings of `spec` on these inputs: teachers in the order of the tasks, then students by trial; no students while
/// a named teacher is not known, or a gate is closed.
///
/// # Errors
/// The reason, if the findings are not complete: they come from a program that may be of another version.
pub fn trainings(
    spec: &BamExperimentSpec,
    found: &InputsReport,
    named: &Named,
    gates: &Gates,
) -> Result<Vec<Node>, Why> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut taught = Taught::new();
    let mut teaching = BTreeSet::new();
    if let Some(distill) = &spec.distill {
        for task in &spec.tasks {
            let named: Vec<_> = named.iter().filter(|(entry, _)| entry.task == task.name).collect();
            let teachers = match distill.teachers.contains_key(&task.name) {
                false => own_teachers(spec, found, distill, task)?,
                true => {
                    named.into_iter().filter_map(|(entry, it)| Some(named_teacher(entry, it.as_ref().ok()?))).collect()
                }
            };
            let passed = gates.get(&task.name);
            for node in teachers {
                if passed.is_none_or(|passed| passed.as_ref().is_ok_and(|passed| passed.contains(&node.name))) {
                    taught.entry(&task.name).or_default().extend(node.science_hash().cloned());
                    teaching.insert(node.name.clone());
                }
                // One model can teach several tasks.
                if !nodes.iter().any(|other| other.name == node.name) {
                    nodes.push(node);
                }
            }
        }
    }
    if named.values().all(Result::is_ok) && gates.values().all(Result::is_ok) {
        let teachers = nodes.iter().map(|teacher| teacher.name.clone()).filter(|name| teaching.contains(name));
        let teachers: Vec<_> = teachers.collect();
        let students = (1..=spec.trials).map(|trial| student(spec, found, &taught, &teachers, trial));
        nodes.extend(students.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(nodes)
}

/// The science hashes of each task's teachers. They are a set: neither their order in the manifest nor two names for one
/// run make another student.
type Taught<'a> = BTreeMap<&'a str, BTreeSet<Digest>>;

fn named_teacher(entry: &Entry, reference: &Reference) -> Node {
    let tasks = reference.spec.config.iter().flat_map(|config| &config.science.tasks);
    let number = entry.member.map(|member| format!(" {}", member + 1)).unwrap_or_default();
    let whose = reference.experiment.as_ref().map(|experiment| format!(" (of experiment {experiment})"));
    Node {
        name: reference.run.clone(),
        title: format!("teacher {}{number}{}", entry.task, whose.unwrap_or_default()),
        role: Role::Teacher,
        tasks: tasks.map(|task| task.name.clone()).collect(),
        trial: None,
        teachers: Vec::new(),
        steps: None,
        spec: reference.spec.clone(),
    }
}

/// The gates of all tasks whose teachers are trained here and must reach something.
fn gates(
    spec: &BamExperimentSpec,
    found: &InputsReport,
    named: &Named,
    passed: &BTreeMap<String, Vec<String>>,
    stand: impl Fn(&str) -> Stand,
) -> Result<Gates, Why> {
    let mut gates = Gates::new();
    for (distill, task) in spec.distill.iter().flat_map(|distill| spec.tasks.iter().map(move |task| (distill, task))) {
        let Some(gate) = quality_gate(distill, task) else { continue };
        if named.keys().any(|entry| entry.task == task.name) {
            continue;
        }
        let candidates = own_teachers(spec, found, distill, task)?;
        // Who teaches now goes on teaching, also when it has to be trained again.
        let is_one = |name: &String| candidates.iter().any(|node| node.name == *name) && stand(name) != Stand::Failed;
        let before = passed.get(&task.name).filter(|passed| passed.iter().all(is_one)).cloned();
        let verdict = match before {
            Some(before) => Ok(before),
            None if distill.out_of_fold.is_some() => gate::all(gate, &task.name, &candidates, &stand),
            None => gate::best(gate, &task.name, &candidates, &stand),
        };
        gates.insert(task.name.clone(), verdict);
    }
    Ok(gates)
}

fn quality_gate<'a>(distill: &'a DistillSpec, task: &'a TaskSpec) -> Option<&'a QualityGate> {
    let own = task.teacher.as_ref().and_then(|teacher| teacher.quality_gate.as_ref());
    own.or(distill.quality_gate.as_ref())
}

/// The teacher that is trained for a task, or one for each fold of its rows, or those that compete.
fn own_teachers(
    spec: &BamExperimentSpec,
    found: &InputsReport,
    distill: &DistillSpec,
    task: &TaskSpec,
) -> Result<Vec<Node>, Why> {
    let science = Science {
        semantics_version: SEMANTICS_VERSION,
        model: found.model.clone(),
        tasks: vec![identity(found, task, Vec::new())?],
        hyperparameters: teacher_hyperparameters(spec, distill, task),
        distillation: Distillation::default(),
        seed: TEACHER_SEED,
        precision: spec.precision,
        fold: None,
    };
    let teacher = |which: String, science: Science| {
        let title = format!("teacher {}{which}", task.name);
        training(spec, found, Training { role: Role::Teacher, title, trial: None, science, teachers: Vec::new() })
    };
    let seeds = quality_gate(distill, task).map_or(1, |gate| gate.best_of.max(1));
    match distill.out_of_fold {
        None if seeds == 1 => Ok(vec![teacher(String::new(), science)?]),
        None => (TEACHER_SEED..TEACHER_SEED + seeds)
            .map(|seed| teacher(format!(" (seed {seed})"), Science { seed, ..science.clone() }))
            .collect(),
        Some(of) => (0..of)
            .map(|index| Fold { index, of })
            .map(|fold| teacher(format!(" ({fold})"), Science { fold: Some(fold), ..science.clone() }))
            .collect(),
    }
}

fn student(
    spec: &BamExperimentSpec,
    found: &InputsReport,
    taught: &Taught<'_>,
    teachers: &[String],
    trial: u32,
) -> Result<Node, Why> {
    let of_task = |task: &str| -> Vec<Digest> { taught.get(task).into_iter().flatten().cloned().collect() };
    let tasks = spec.tasks.iter().map(|task| {
        let files = spec.distill.as_ref().map(|distill| distill.target_files(&task.name)).unwrap_or_default();
        Ok(TaskIdentity {
            target_files: target_files(found, task, &files)?,
            ..identity(found, task, of_task(&task.name))?
        })
    });
    let default = Distillation::default();
    let distillation = spec.distill.as_ref().map_or(default.clone(), |distill| Distillation {
        annealing: distill.annealing,
        weight: distill.weight.as_ref().map_or(default.weight, Decimal::value),
        temperature: distill.temperature.as_ref().map_or(default.temperature, Decimal::value),
    });
    let science = Science {
        semantics_version: SEMANTICS_VERSION,
        model: found.model.clone(),
        tasks: tasks.collect::<Result<_, _>>()?,
        hyperparameters: student_hyperparameters(spec),
        distillation,
        // In 64 bits first: the schema allows a sum of at most 1,000,000,099, but a planner does not panic.
        seed: u32::try_from(u64::from(spec.seed) + u64::from(trial) - 1).unwrap_or(u32::MAX),
        precision: spec.precision,
        fold: None,
    };
    let title = if spec.trials == 1 { "student".to_owned() } else { format!("student {trial}") };
    let teachers = teachers.to_vec();
    training(spec, found, Training { role: Role::Student, title, trial: Some(trial), science, teachers })
}

/// What differs between a teacher and a student.
struct Training {
    role: Role,
    title: String,
    trial: Option<u32>,
    science: Science,
    teachers: Vec<String>,
}

fn training(spec: &BamExperimentSpec, found: &InputsReport, training: Training) -> Result<Node, Why> {
    let Training { role, title, trial, mut science, teachers } = training;
    if science.hyperparameters.debug {
        science.model.weights = None;
    } else if science.model.weights.is_none() {
        return Err(Why::InputsIncomplete { lacks: format!("the weights of {}", spec.model.pretrained) });
    }
    let steps = steps::of(&science, &found.tasks);
    let learned = |digest: &Digest| science.tasks.iter().any(|task| task.target_files.contains(digest));
    let files = found.tasks.values().flat_map(|task| &task.targets).filter(|(_, digest)| learned(digest));
    let target_files = files.map(|(file, digest)| (digest.to_string(), file.clone())).collect();
    let tasks: Vec<_> = science.tasks.iter().map(|task| task.name.clone()).collect();
    let own = spec.tasks.iter().filter(|task| tasks.contains(&task.name));
    let config = RunConfig::new(science, Execution { target_files, ..execution(spec, own) });
    Ok(Node {
        name: names::run(&config.science_hash, &spec.storage.identity()),
        title,
        role,
        tasks,
        trial,
        teachers,
        steps,
        spec: BamRunSpec {
            role,
            config: Some(config),
            inputs: None,
            failure_policy: spec.failure_policy.resolve(),
            pod: pod(spec),
        },
    })
}

fn identity(found: &InputsReport, task: &TaskSpec, teachers: Vec<Digest>) -> Result<TaskIdentity, Why> {
    let name = &task.name;
    let files = found.tasks.get(name).ok_or_else(|| Why::InputsIncomplete { lacks: format!("the data of {name}") })?;
    Ok(TaskIdentity {
        name: name.clone(),
        custom: task.custom.as_ref().map(CustomTask::canonical),
        train: files.train.clone(),
        dev: files.dev.clone(),
        teachers,
        target_files: Vec::new(),
    })
}

/// The digests of the files that a task learns from: a set, wherever they lie.
fn target_files(found: &InputsReport, task: &TaskSpec, files: &BTreeSet<String>) -> Result<Vec<Digest>, Why> {
    let known = |file: &String| {
        let digest = found.tasks.get(&task.name).and_then(|inputs| inputs.targets.get(file));
        digest.cloned().ok_or_else(|| Why::InputsIncomplete { lacks: file.clone() })
    };
    Ok(files.iter().map(known).collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect())
}

/// What the pods of its runs are.
pub(super) fn pod(spec: &BamExperimentSpec) -> RunPod {
    let secret = spec.storage.object_store.as_ref().and_then(|store| store.secret_ref.as_ref());
    RunPod {
        keep_jobs: spec.compute.keep_jobs.unwrap_or_default(),
        image: spec.compute.image.clone(),
        resources: spec.compute.resources.clone(),
        secret: secret.map(|secret| secret.name.clone()),
        accelerator: spec.compute.accelerator.clone(),
        spot: spec.compute.spot.unwrap_or_default(),
        priority_class_name: spec.priority_class_name.clone(),
        queue_name: spec.queue_name.clone(),
        pod_template: spec.compute.pod_template.clone(),
    }
}

fn student_hyperparameters(spec: &BamExperimentSpec) -> Hyperparameters {
    spec.hyperparameters.resolve(spec.tasks.len())
}

/// The task's own options, else those of all teachers, else the student's as far as they describe the inputs.
fn teacher_hyperparameters(spec: &BamExperimentSpec, distill: &DistillSpec, task: &TaskSpec) -> Hyperparameters {
    let own = task.teacher.as_ref().map(|teacher| teacher.hyperparameters.clone()).unwrap_or_default();
    own.or(&distill.hyperparameters).or(&spec.hyperparameters.of_inputs()).resolve(1)
}

/// The part of a run of these tasks that changes nothing of what it learns. Its store is a name here; the platform puts the
/// folder in its place at which an attempt sees it, or a working copy of it.
fn execution<'a>(spec: &BamExperimentSpec, tasks: impl IntoIterator<Item = &'a TaskSpec>) -> Execution {
    let files = |task: &TaskSpec| Some((task.name.clone(), task.files.clone()?));
    Execution {
        store: spec.storage.uri(),
        object_store: None,
        pretrained: spec.model.pretrained.clone(),
        threads: spec.compute.threads,
        micro_batch_tokens: spec.compute.micro_batch_tokens,
        activation_checkpointing: false,
        save_checkpoints_steps: spec.compute.save_checkpoints_steps,
        write_test_outputs: spec.compute.write_test_outputs.unwrap_or_default(),
        files: tasks.into_iter().filter_map(files).collect(),
        target_files: BTreeMap::new(),
    }
}
