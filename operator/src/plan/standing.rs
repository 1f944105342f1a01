//! What all decisions about an experiment come to: its phase, what it waits for, its status.

use std::collections::BTreeMap;

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::{ExperimentPhase, RunSummary};
use bam_crds::profile::ProfileInUse;
use bam_crds::run::{Role, Usage};
use k8s_openapi::jiff::Timestamp;

use super::Why;
use super::experiment::World;
use super::graph::Node;
use super::profile;
use super::status::{Finding, progress, scores, set_condition, summary, tally};
use super::why::and;

/// Runs that `waitingFor` names one by one; it counts the others.
const NAMED: usize = 4;

/// Where an experiment stands.
pub(super) struct Standing<'a> {
    world: &'a World<'a>,
    whys: &'a BTreeMap<String, Why>,
    phase: ExperimentPhase,
    /// The runs that it waits for now.
    stage: Vec<&'a Node>,
}

impl<'a> Standing<'a> {
    pub(super) fn new(world: &'a World<'a>, whys: &'a BTreeMap<String, Why>) -> Self {
        let (mut phase, stage) = stage(world);
        // What others do for themselves does not make it complete.
        if world.is_cancelled() && world.observed.status.phase == ExperimentPhase::Cancelled {
            phase = ExperimentPhase::Cancelled;
        } else if !phase.is_final() {
            phase = match &world.halted {
                None => phase,
                Some(Why::Suspended) => ExperimentPhase::Suspended,
                Some(Why::Cancelled) => ExperimentPhase::Cancelled,
                Some(_) => ExperimentPhase::Failed,
            };
        }
        Self { world, whys, phase, stage }
    }

    pub(super) fn status(&self, generation: Option<i64>, now: Timestamp) -> BamExperimentStatus {
        let graph = self.world.graph;
        let runs: Vec<_> = graph
            .nodes()
            .map(|node| RunSummary {
                shared: self.world.shared(node).map(|why| why.to_string()).unwrap_or_default(),
                ..summary(node, self.world.run(node).map(|run| &run.status), &self.whys[&node.name])
            })
            .collect();
        let mut conditions = self.world.observed.status.conditions.clone();
        for finding in self.findings() {
            set_condition(&mut conditions, finding, now);
        }
        for condition in &mut conditions {
            condition.observed_generation = generation;
        }
        BamExperimentStatus {
            observed_generation: generation,
            phase: self.phase,
            teachers: tally(&runs, Role::Teacher),
            students: tally(&runs, Role::Student),
            progress: progress(&graph.trainings, &runs),
            waiting_for: self.waiting_for(),
            conditions,
            retried: self.world.retried(),
            inputs: graph.pinned.clone(),
            named_teachers: self.named_teachers(),
            passed_gate: self.passed_gate(),
            profile: self.profile(),
            scores: scores(&runs),
            usage: self.usage(),
            runs,
        }
    }

    fn named_teachers(&self) -> BTreeMap<String, String> {
        let known =
            self.world.observed.teachers.iter().filter_map(|(entry, teacher)| Some((entry, teacher.as_ref().ok()?)));
        known.map(|(entry, teacher)| (entry.to_string(), teacher.run.clone())).collect()
    }

    /// What is over makes no more runs.
    fn profile(&self) -> Option<ProfileInUse> {
        if self.phase.is_final() && self.world.observed.status.phase.is_final() {
            return self.world.observed.status.profile.clone();
        }
        let found = self.world.observed.profile.as_ref()?.as_ref().ok()?;
        Some(profile::in_use(self.world.manifest.compute.profile.as_ref()?, found))
    }

    fn usage(&self) -> Usage {
        let runs = self.world.graph.nodes().filter_map(|node| self.world.run(node));
        runs.map(|run| run.status.usage).fold(Usage::default(), Usage::plus)
    }

    fn passed_gate(&self) -> BTreeMap<String, Vec<String>> {
        let gates = self.world.graph.gates.iter();
        gates.filter_map(|(task, gate)| Some((task.clone(), gate.clone().ok()?))).collect()
    }

    /// All conditions, from the first time on: what a person waits for must be there to be waited for.
    fn findings(&self) -> Vec<Finding> {
        let pinned = self.world.graph.pinned.is_some();
        let trainings = &self.world.graph.trainings;
        // Not those that others were better than.
        let teaches = |node: &&Node| trainings.iter().any(|other| other.teachers.contains(&node.name));
        let teachers_ready =
            pinned && self.is_sound() && trainings.iter().filter(teaches).all(|it| self.world.is_done(it));
        let complete = self.phase == ExperimentPhase::Complete;
        let failed = matches!(self.phase, ExperimentPhase::Failed | ExperimentPhase::Cancelled);
        let finding = |kind, holds, (reason, message)| Finding { kind, holds, reason, message };
        let done = || (Why::Done.reason().to_owned(), "all of it is done".to_owned());
        let halted = self.world.halted.as_ref().filter(|why| failed && **why != Why::Suspended);
        let now = || {
            if let Some(why) = halted {
                return (why.reason().to_owned(), format!("the experiment {why}"));
            }
            let unknown = self.held().or_else(|| self.unknown().next());
            let waits = unknown.or_else(|| self.stage.first().map(|node| self.say(node)));
            waits.unwrap_or_else(|| self.culprit())
        };
        let or_now = |holds: bool| if holds { done() } else { now() };
        let suspended = self.phase == ExperimentPhase::Suspended;
        let suspension = || match suspended {
            true => (Why::Suspended.reason().to_owned(), "spec.suspend is true".to_owned()),
            false => ("NotSuspended".to_owned(), "nothing is held back".to_owned()),
        };
        let mut alive = self.world.graph.nodes().filter(|node| self.world.is_alive(node));
        let running = alive.next().map(|node| self.say(node));
        let or_idle = || if complete { done() } else { now() };
        vec![
            finding("InputsReady", pinned, or_now(pinned)),
            finding("Running", running.is_some(), running.unwrap_or_else(or_idle)),
            finding("TeachersReady", teachers_ready, or_now(teachers_ready)),
            finding("Suspended", suspended, suspension()),
            finding("Complete", complete, or_now(complete)),
            finding("Failed", failed, if complete { done() } else { now() }),
        ]
    }

    fn is_sound(&self) -> bool {
        self.world.graph.fault.is_none() && self.world.graph.unknown.is_empty()
    }

    /// The profile without which runs cannot be made that are still to be made.
    fn held(&self) -> Option<(String, String)> {
        let why = self.whys.values().find(|why| why.is_of_profile() && !self.phase.is_final())?;
        Some((why.reason().to_owned(), format!("the experiment {why}")))
    }

    /// What keeps the students from having names.
    fn unknown(&self) -> impl Iterator<Item = (String, String)> {
        self.world.graph.unknown.iter().map(|why| (why.reason().to_owned(), format!("student {why}")))
    }

    /// What went wrong first, in the order of the graph.
    fn culprit(&self) -> (String, String) {
        if let Some(fault) = &self.world.graph.fault {
            return (fault.reason().to_owned(), self.world.graph.obstacles().next().unwrap_or_default());
        }
        let failed = self.world.graph.nodes().find(|node| self.world.has_failed(node));
        failed.map_or_else(|| (Why::New.reason().to_owned(), String::new()), |node| self.say(node))
    }

    fn say(&self, node: &Node) -> (String, String) {
        let why = &self.whys[&node.name];
        (why.reason().to_owned(), format!("{} {why}", node.title))
    }

    fn waiting_for(&self) -> String {
        let obstacle = self.world.observed.obstacle.iter().map(|why| format!("the experiment {why}"));
        if self.phase == ExperimentPhase::Suspended {
            let alive = self.stage.iter().filter(|node| self.world.is_alive(node)).map(|node| node.title.as_str());
            let alive: Vec<_> = alive.collect();
            let stops = if alive.is_empty() { String::new() } else { format!("; {} still runs", and(&alive)) };
            return format!(
                "the experiment is suspended: set spec.suspend to false, and it goes on where it was{stops}"
            );
        }
        let open = !self.phase.is_final();
        let unknown = self.unknown().filter(|_| open).map(|(_, message)| message);
        let stage: Vec<_> = self.stage.iter().filter(|node| open && !self.whys[&node.name].is_of_profile()).collect();
        let runs = stage.iter().take(NAMED).map(|node| self.say(node).1);
        let held = self.held().map(|(_, message)| message);
        let mut parts: Vec<_> = obstacle.chain(held).chain(unknown).chain(runs).collect();
        if stage.len() > NAMED {
            parts.push(format!("and {} more", stage.len() - NAMED));
        }
        parts.join("; ")
    }
}

/// The phase, and the runs that hold it up.
fn stage<'a>(world: &World<'a>) -> (ExperimentPhase, Vec<&'a Node>) {
    let graph = world.graph;
    let students = || graph.trainings.iter().filter(|node| node.role == Role::Student);
    if students().next().is_some() && students().all(|student| world.is_done(student)) {
        return (ExperimentPhase::Complete, Vec::new());
    }
    let open: Vec<_> = students().filter(|student| world.is_open(student)).collect();
    let missing: Vec<_> = graph
        .trainings
        .iter()
        .filter(|node| node.role == Role::Teacher && world.is_needed(node) && !world.is_done(node))
        .collect();
    let inputs_failed = graph.pinned.is_none() && world.has_failed(&graph.inputs);
    let waits = !graph.unknown.is_empty();
    let hopeless = graph.pinned.is_some() && open.is_empty() && !waits;
    if graph.fault.is_some() || inputs_failed || hopeless {
        // Nothing can come of it any more. What is under way may end: its work is kept.
        let under_way: Vec<_> = graph.trainings.iter().filter(|node| world.is_under_way(node)).collect();
        return match under_way.first().map(|node| node.role) {
            None => (ExperimentPhase::Failed, under_way),
            Some(Role::Student) => (ExperimentPhase::TrainingStudent, under_way),
            Some(_) => (ExperimentPhase::TrainingTeachers, under_way),
        };
    }
    if graph.pinned.is_none() {
        let made = world.run(&graph.inputs).is_some();
        let phase = if made { ExperimentPhase::CheckingInputs } else { ExperimentPhase::Pending };
        return (phase, vec![&graph.inputs]);
    }
    if missing.is_empty() && !waits {
        (ExperimentPhase::TrainingStudent, open)
    } else {
        (ExperimentPhase::TrainingTeachers, missing)
    }
}
