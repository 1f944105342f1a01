//! What all decisions about an experiment come to: its phase, what it waits for, its status.

use std::collections::BTreeMap;

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::Role;
use k8s_openapi::jiff::Timestamp;

use super::Why;
use super::experiment::World;
use super::graph::Node;
use super::status::{Finding, progress, scores, set_condition, summary, tally};

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
        let (phase, stage) = stage(world);
        Self { world, whys, phase, stage }
    }

    pub(super) fn status(&self, generation: Option<i64>, now: Timestamp) -> BamExperimentStatus {
        let graph = self.world.graph;
        let runs: Vec<_> = graph
            .nodes()
            .map(|node| summary(node, self.world.run(node).map(|run| &run.status), &self.whys[&node.name]))
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
            inputs: graph.pinned.clone(),
            scores: scores(&runs),
            runs,
        }
    }

    /// All conditions, from the first time on: what a person waits for must be there to be waited for.
    fn findings(&self) -> Vec<Finding> {
        let pinned = self.world.graph.pinned.is_some();
        let teachers = || self.world.graph.trainings.iter().filter(|node| node.role() == Role::Teacher);
        let teachers_ready =
            pinned && self.world.graph.fault.is_none() && teachers().all(|node| self.world.is_done(node));
        let complete = self.phase == ExperimentPhase::Complete;
        let failed = self.phase == ExperimentPhase::Failed;
        let finding = |kind, holds, (reason, message)| Finding { kind, holds, reason, message };
        let done = || (Why::Done.reason(), "all of it is done".to_owned());
        let now = || self.stage.first().map_or_else(|| self.culprit(), |node| self.say(node));
        let or_now = |holds: bool| if holds { done() } else { now() };
        vec![
            finding("InputsReady", pinned, or_now(pinned)),
            finding("TeachersReady", teachers_ready, or_now(teachers_ready)),
            finding("Complete", complete, or_now(complete)),
            finding("Failed", failed, if complete { done() } else { now() }),
        ]
    }

    /// What went wrong first, in the order of the graph.
    fn culprit(&self) -> (&'static str, String) {
        if let Some(fault) = &self.world.graph.fault {
            return (fault.reason(), format!("a run {fault}"));
        }
        let failed = self.world.graph.nodes().find(|node| self.world.has_failed(node));
        failed.map_or_else(|| (Why::New.reason(), String::new()), |node| self.say(node))
    }

    fn say(&self, node: &Node) -> (&'static str, String) {
        let why = &self.whys[&node.name];
        (why.reason(), format!("{} {why}", node.title))
    }

    fn waiting_for(&self) -> String {
        let mut parts: Vec<_> = self.stage.iter().take(NAMED).map(|node| self.say(node).1).collect();
        if self.stage.len() > NAMED {
            parts.push(format!("and {} more", self.stage.len() - NAMED));
        }
        parts.join("; ")
    }
}

/// The phase, and the runs that hold it up.
fn stage<'a>(world: &World<'a>) -> (ExperimentPhase, Vec<&'a Node>) {
    let graph = world.graph;
    let students = || graph.trainings.iter().filter(|node| node.role() == Role::Student);
    if !graph.trainings.is_empty() && students().all(|student| world.is_done(student)) {
        return (ExperimentPhase::Complete, Vec::new());
    }
    let open: Vec<_> = students().filter(|student| world.is_open(student)).collect();
    let missing: Vec<_> = graph
        .trainings
        .iter()
        .filter(|node| node.role() == Role::Teacher && world.is_needed(node) && !world.is_done(node))
        .collect();
    let inputs_failed = graph.pinned.is_none() && world.has_failed(&graph.inputs);
    if graph.fault.is_some() || inputs_failed || (graph.pinned.is_some() && open.is_empty()) {
        // Nothing can come of it any more. What is under way may end: its work is kept.
        let under_way: Vec<_> = graph.trainings.iter().filter(|node| world.is_under_way(node)).collect();
        return match under_way.first().map(|node| node.role()) {
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
    if missing.is_empty() {
        (ExperimentPhase::TrainingStudent, open)
    } else {
        (ExperimentPhase::TrainingTeachers, missing)
    }
}
