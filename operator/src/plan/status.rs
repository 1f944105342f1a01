//! How things stand, folded from what was seen: conditions, summaries, scores.

use std::collections::BTreeMap;

use bam_crds::experiment::{RunSummary, ScoreSummary};
use bam_crds::report::Stage;
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamRunStatus, Statistics};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::Why;
use super::graph::Node;

/// A moment as a status keeps it: in whole seconds, so that it is the same after it was written and read.
pub fn time(at: Timestamp) -> Time {
    let seconds = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    Time(at.round(seconds).unwrap_or(at))
}

/// Whether something holds of an object, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The condition's type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The stable word.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// Puts a finding into the conditions. A condition's time is that of its last change.
pub fn set_condition(conditions: &mut Vec<Condition>, finding: Finding, now: Timestamp) {
    let status = if finding.holds { "True" } else { "False" };
    let known = conditions.iter().position(|condition| condition.type_ == finding.kind);
    let since = known.map(|at| &conditions[at]).filter(|known| known.status == status);
    let condition = Condition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason,
        message: finding.message,
        last_transition_time: since.map_or_else(|| time(now), |known| known.last_transition_time.clone()),
        observed_generation: None,
    };
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// The condition `kind`, if it holds.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Why a run failed for good; empty if it did not.
pub fn failure_message(status: &BamRunStatus) -> String {
    condition(&status.conditions, "Failed").map(|condition| condition.message.clone()).unwrap_or_default()
}

/// A run as its experiment shows it.
pub fn summary(node: &Node, run: Option<&BamRunStatus>, why: &Why) -> RunSummary {
    let phase = run.map(|run| run.phase).unwrap_or_default();
    let report = run.and_then(|run| run.report.as_ref()).filter(|_| phase == RunPhase::Succeeded);
    let ended = run.and_then(|run| {
        run.conditions
            .iter()
            .filter(|condition| condition.status == "True")
            .map(|it| it.last_transition_time.clone())
            .next()
    });
    let message = match phase {
        RunPhase::Pending => why.to_string(),
        RunPhase::Failed => run.map(failure_message).unwrap_or_default(),
        RunPhase::Running | RunPhase::Succeeded => String::new(),
    };
    RunSummary {
        name: node.name.clone(),
        role: node.role,
        tasks: node.tasks.clone(),
        trial: node.trial,
        fold: node.spec.config.as_ref().and_then(|config| config.science.fold),
        phase,
        message,
        shared: String::new(),
        progress: run.and_then(|run| run.progress.clone()),
        results: report.map(|report| report.results.clone()).unwrap_or_default(),
        finished_at: ended,
    }
}

/// What to call a run of an experiment with so many trials: `inputs check`, `teacher rte`, `teacher rte (fold 1 of 5)`,
/// `student`, `student 2`.
pub fn title(run: &RunSummary, trials: usize) -> String {
    match run.role {
        Role::Inputs => "inputs check".to_owned(),
        Role::Teacher => {
            let fold = run.fold.map(|fold| format!(" ({fold})")).unwrap_or_default();
            format!("teacher {}{fold}", run.tasks.join(" "))
        }
        Role::Student if trials == 1 => "student".to_owned(),
        Role::Student => format!("student {}", run.trial.unwrap_or_default()),
    }
}

/// `done/all` of the runs of a role.
pub fn tally(runs: &[RunSummary], role: Role) -> String {
    let all: Vec<_> = runs.iter().filter(|run| run.role == role).collect();
    let done = all.iter().filter(|run| run.phase == RunPhase::Succeeded).count();
    if all.is_empty() { String::new() } else { format!("{done}/{}", all.len()) }
}

/// Done steps of all trainings in per cent, each run weighing as many steps as it will take. 100 only when all are done:
/// the last step is not the end of a run.
pub fn progress(nodes: &[Node], runs: &[RunSummary]) -> String {
    let (mut done, mut all, mut most) = (0.0, 0.0, 100.0);
    for node in nodes {
        let run = runs.iter().find(|run| run.name == node.name);
        let steps = node.steps.unwrap_or(1).max(1) as f64;
        all += steps;
        done += steps * run.map_or(0.0, share_done);
        if run.is_none_or(|run| run.phase != RunPhase::Succeeded) {
            most = 99.0;
        }
    }
    if all == 0.0 { "0 %".to_owned() } else { format!("{:.0} %", (done / all * 100.0).floor().min(most)) }
}

fn share_done(run: &RunSummary) -> f64 {
    match (run.phase, &run.progress) {
        (RunPhase::Succeeded, _) => 1.0,
        (_, Some(progress)) => match progress.stage {
            Stage::Fetching | Stage::Preparing => 0.0,
            Stage::Training => (progress.done as f64 / progress.total.max(1) as f64).min(1.0),
            // What follows the training takes no optimizer step.
            Stage::Evaluating | Stage::WritingTargets | Stage::Saving => 1.0,
        },
        _ => 0.0,
    }
}

/// The students' main scores over all finished trials, by task.
pub fn scores(runs: &[RunSummary]) -> BTreeMap<String, ScoreSummary> {
    let mut by_task: BTreeMap<&str, (&str, Vec<f64>)> = BTreeMap::new();
    let students = runs.iter().filter(|run| run.role == Role::Student && run.phase == RunPhase::Succeeded);
    for result in students.flat_map(|run| &run.results) {
        if let Some(score) = result.metrics.get(&result.main_metric).filter(|score| score.is_finite()) {
            by_task.entry(&result.task).or_insert((&result.main_metric, Vec::new())).1.push(*score);
        }
    }
    let summary = |(task, (metric, scores)): (&str, (&str, Vec<f64>))| {
        let Statistics { trials, median, mean, standard_deviation } = Statistics::of(&scores)?;
        // Of every metric that a task is judged by more is better.
        let (metric, best) = (metric.to_owned(), scores.into_iter().reduce(f64::max));
        Some((task.to_owned(), ScoreSummary { metric, trials, best, median, mean, standard_deviation }))
    };
    by_task.into_iter().filter_map(summary).collect()
}
