//! The plan of an experiment as a person and a program read it: its runs, what each of them is, and what comes of failures.
//! The same for a folder and for a cluster.

use std::collections::BTreeMap;

use bam_crds::BamExperiment;
use bam_crds::experiment::{ComputeSpec, Resources};
use bam_crds::run::Role;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::plan::experiment::{self, Observed};
use crate::plan::graph::{Graph, Node};
use crate::plan::{Why, retry};

/// An experiment with all that is known of it.
pub struct Dag<'a> {
    /// The experiment.
    pub experiment: &'a BamExperiment,
    /// Its store, and what else is to be said at the top, in lines.
    pub place: String,
    /// Its runs.
    pub graph: &'a Graph,
    /// How they stand.
    pub seen: &'a Observed,
    /// Why the inputs are not known, or who knows them.
    pub inputs: Inputs,
    /// What else is to be known before it begins, in sentences.
    pub notes: Vec<String>,
}

/// Where it is known from what the inputs are.
pub enum Inputs {
    /// From its own check.
    Checked,
    /// From another experiment's: this one is not created yet, and its check has no name.
    CheckedBy(String),
    /// They are not known, and why not.
    Unknown(String),
}

/// What a run is to this experiment.
struct Standing {
    /// `new`, `cached`, `joined`, or empty: it is the experiment's own.
    state: &'static str,
    why: String,
}

impl Dag<'_> {
    fn name(&self) -> &str {
        self.experiment.metadata.name.as_deref().unwrap_or_default()
    }

    /// For a person.
    pub fn text(&self) -> String {
        let graph = self.graph;
        let plan = experiment::plan(self.experiment, self.seen, Timestamp::now());
        let mut text = format!("{}: {}\n{}\n", self.name(), headline(self.experiment), self.place);
        let width = graph.nodes().map(|node| label(node).chars().count()).max().unwrap_or_default();
        let check = if self.has_check() { &graph.inputs.name } else { "named when it is created" };
        text += &format!("├─ {:<width$}  {check}  {}\n", label(&graph.inputs), self.inputs());
        if graph.trainings.is_empty() {
            text += &shape(self.experiment);
        }
        let last = graph.trainings.len();
        for (index, node) in graph.trainings.iter().enumerate() {
            let branch = if index + 1 == last { "└─" } else { "├─" };
            let steps = node.steps.map(|steps| format!("{steps} steps: ")).unwrap_or_default();
            let Standing { state, why } = self.standing(node, &plan.whys[&node.name]);
            let parts = [state, &why].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
            text += &format!("{branch} {:<width$}  {}  {steps}{parts}\n", label(node), node.name);
        }
        text.extend(graph.obstacles().chain(self.notes.iter().cloned()).map(|line| line + "\n"));
        text += &format!("\n{}\n\nIf an attempt does not end well:\n", self.at_once(self.open(&plan.whys)));
        for line in retry::in_words(&self.seen.spec(self.experiment).failure_policy.resolve()) {
            text += &format!("  {line}\n");
        }
        text
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let plan = experiment::plan(self.experiment, self.seen, Timestamp::now());
        let nodes = self.graph.nodes().filter(|node| self.has_check() || node.role != Role::Inputs);
        let runs = nodes.map(|node| {
            let why = &plan.whys[&node.name];
            let Standing { state, why: message } = self.standing(node, why);
            json!({
                "name": node.name, "title": node.title, "role": node.role, "tasks": node.tasks, "trial": node.trial,
                "steps": node.steps, "learnsFrom": node.teachers,
                "madeBy": self.seen.runs.get(&node.name).map(|run| &run.made_by),
                "state": if state.is_empty() { "own" } else { state }, "reason": why.reason(), "message": message,
            })
        });
        let open = self.open(&plan.whys);
        json!({
            "experiment": self.name(),
            "inputs": self.inputs(),
            "runs": runs.collect::<Vec<_>>(),
            "obstacles": self.graph.obstacles().collect::<Vec<_>>(),
            "notes": self.notes,
            "toTrain": { "teachers": open.0, "students": open.1, "atOnce": self.peak(open) },
            "ifAnAttemptFails": retry::in_words(&self.seen.spec(self.experiment).failure_policy.resolve()),
        })
    }

    /// Does the check of the inputs have a name yet?
    fn has_check(&self) -> bool {
        !self.seen.inputs_key.is_empty()
    }

    fn inputs(&self) -> String {
        let Some(pinned) = &self.graph.pinned else {
            return match &self.inputs {
                Inputs::Unknown(reason) => format!("unknown: {reason}"),
                _ => "unknown".to_owned(),
            };
        };
        let rows = pinned.report.tasks.iter();
        let rows = rows.map(|(task, files)| format!("{task} {}+{} rows", files.train_rows, files.dev_rows));
        let rows = rows.collect::<Vec<_>>().join(", ");
        match &self.inputs {
            Inputs::CheckedBy(experiment) => format!("new; experiment {experiment} found {rows}"),
            _ => format!("known: {rows}"),
        }
    }

    fn standing(&self, node: &Node, why: &Why) -> Standing {
        let sentence = match why {
            Why::New | Why::FirstAttempt => String::new(),
            why => why.to_string(),
        };
        match self.seen.runs.get(&node.name) {
            Some(run) if run.made_by != self.name() => {
                let joined =
                    Why::Joined { by: run.made_by.clone(), differences: run.differences(node, &self.experiment.spec) };
                Standing { state: "joined", why: format!("{why}; {joined}") }
            }
            Some(_) => Standing { state: "", why: why.to_string() },
            None if *why == Why::Cached => Standing { state: "cached", why: sentence },
            None => Standing { state: "new", why: sentence },
        }
    }

    /// Teachers and students that are still to be trained, and can be.
    fn open(&self, whys: &BTreeMap<String, Why>) -> (usize, usize) {
        if self.graph.trainings.is_empty() {
            return counts(self.experiment);
        }
        let is_open = |node: &&Node| {
            let never = matches!(whys[&node.name], Why::Cached | Why::NotNeeded | Why::TeacherFailed { .. });
            !never && self.seen.runs.get(&node.name).is_none_or(|run| !run.is_over())
        };
        let of = |role: Role| self.graph.trainings.iter().filter(|node| node.role == role).filter(is_open).count();
        let students = if self.graph.unknown.is_empty() { of(Role::Student) } else { counts(self.experiment).1 };
        (of(Role::Teacher), students)
    }

    /// The most runs that can train at the same time: students begin when the teachers are done.
    fn peak(&self, (teachers, students): (usize, usize)) -> usize {
        let limit = self.seen.limit.map_or(usize::MAX, |limit| limit as usize);
        teachers.max(students).min(limit)
    }

    fn at_once(&self, open: (usize, usize)) -> String {
        let count = |count: usize, noun: &str| match count {
            1 => format!("1 {noun}"),
            count => format!("{count} {noun}s"),
        };
        let left = match open {
            (0, 0) => return "Nothing is left to train.".to_owned(),
            (0, students) => count(students, "student"),
            (teachers, 0) => count(teachers, "teacher"),
            (teachers, students) => format!("{}, then {}", count(teachers, "teacher"), count(students, "student")),
        };
        let peak = match self.peak(open) {
            1 => "one run at a time".to_owned(),
            peak => format!("at most {peak} runs at once"),
        };
        format!("To train: {left}; {peak}{}.", each(&self.seen.spec(self.experiment).compute))
    }
}

/// What each pod asks for, where the manifest says it.
fn each(compute: &ComputeSpec) -> String {
    let Resources { requests, limits } = &compute.resources;
    // What is not asked for but limited is asked for.
    let asked = limits.iter().filter(|(name, _)| !requests.contains_key(*name)).chain(requests);
    let mut parts: Vec<_> = asked.map(|(name, amount)| format!("{name} {}", amount.0)).collect();
    if let Some(accelerator) = &compute.accelerator {
        let nvidia = accelerator.nvidia.as_ref();
        let kind = nvidia.and_then(|it| it.product.as_deref()).or(accelerator.tpu.as_ref().map(|it| it.kind.as_str()));
        let hosts = Some(accelerator.hosts()).filter(|hosts| *hosts > 1);
        let hosts = hosts.map(|hosts| format!(" on each of {hosts} hosts")).unwrap_or_default();
        parts.push(format!("{} × {}{hosts}", accelerator.count(), kind.unwrap_or("NVIDIA GPU")));
    }
    let spot = if compute.spot == Some(true) { " on a spot machine" } else { "" };
    if parts.is_empty() && spot.is_empty() {
        return String::new();
    }
    let parts = if parts.is_empty() { String::new() } else { format!(" with {}", parts.join(", ")) };
    format!(", each{parts}{spot}")
}

fn headline(experiment: &BamExperiment) -> String {
    let spec = &experiment.spec;
    let tasks: Vec<_> = spec.tasks.iter().map(|task| task.name.as_str()).collect();
    let how = match &spec.distill {
        None => "plain fine-tuning".to_owned(),
        Some(distill) if distill.annealing => "distilled, weight moving from teachers to labels".to_owned(),
        Some(distill) => {
            let weight = distill.weight.as_ref().map_or("0.5".to_owned(), ToString::to_string);
            format!("distilled with constant weight {weight}")
        }
    };
    let temperature = spec.distill.as_ref().and_then(|distill| distill.temperature.as_ref());
    let how = temperature.map_or(how.clone(), |temperature| format!("{how}, at temperature {temperature}"));
    let trials = if spec.trials == 1 { String::new() } else { format!(", {} trials", spec.trials) };
    format!("{} on {}, {how}{trials}", spec.model.pretrained, tasks.join(", "))
}

fn label(node: &Node) -> String {
    match node.role {
        Role::Student if node.tasks.len() > 1 => format!("{} on {}", node.title, node.tasks.join(", ")),
        _ => node.title.clone(),
    }
}

/// How many teachers and students there will be, where they have no names yet.
fn counts(experiment: &BamExperiment) -> (usize, usize) {
    let spec = &experiment.spec;
    let teachers = spec.distill.iter().flat_map(|distill| {
        let trained = spec.tasks.iter().filter(|task| !distill.teachers.contains_key(&task.name));
        trained.map(|task| match distill.out_of_fold {
            Some(folds) => folds as usize,
            None => {
                let own = task.teacher.as_ref().and_then(|teacher| teacher.quality_gate.as_ref());
                own.or(distill.quality_gate.as_ref()).map_or(1, |gate| gate.best_of.max(1) as usize)
            }
        })
    });
    (teachers.sum(), spec.trials as usize)
}

/// What can be said of runs that have no names yet.
fn shape(experiment: &BamExperiment) -> String {
    let spec = &experiment.spec;
    let names = "named once the digests of data, vocabulary and weights are known";
    let distill = spec.distill.as_ref();
    let trained = |task: &str| distill.is_some_and(|distill| !distill.teachers.contains_key(task));
    let tasks: Vec<_> = spec.tasks.iter().map(|task| task.name.as_str()).filter(|task| trained(task)).collect();
    let (teachers, students) = counts(experiment);
    let teachers = if tasks.is_empty() {
        String::new()
    } else {
        let folds = distill.and_then(|distill| distill.out_of_fold);
        let without = folds.map(|folds| format!(", each without one of {folds} folds")).unwrap_or_default();
        let noun = if teachers == 1 { "teacher" } else { "teachers" };
        format!("├─ {teachers} {noun} ({}{without}): {names}\n", tasks.join(", "))
    };
    let students = if students == 1 { "1 student".to_owned() } else { format!("{students} students") };
    format!("{teachers}└─ {students}: {names}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_pod_asks_for_is_said() {
        // (what the manifest says, what is said of it)
        let cases = [
            (json!({}), ""),
            (json!({ "spot": true }), ", each on a spot machine"),
            (json!({ "resources": { "requests": { "memory": "4Gi" } } }), ", each with memory 4Gi"),
            (json!({ "accelerator": { "nvidia": {} } }), ", each with 1 × NVIDIA GPU"),
            (
                json!({ "accelerator": { "tpu": { "type": "tpu-v6e-slice", "topology": "2x4" } } }),
                ", each with 8 × tpu-v6e-slice",
            ),
            (
                json!({ "accelerator": { "tpu": { "type": "tpu-v6e-slice", "topology": "4x4" } } }),
                ", each with 4 × tpu-v6e-slice on each of 4 hosts",
            ),
        ];
        for (compute, said) in cases {
            assert_eq!(each(&serde_json::from_value(compute.clone()).unwrap()), said, "{compute}");
        }
    }
}
