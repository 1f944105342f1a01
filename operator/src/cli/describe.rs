//! Words for runs that several commands use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::RunSummary;
use bam_crds::run::{Role, RunPhase};
use bam_crds::store;
use serde_json::{Value, json};

use super::table;
use crate::plan::graph::Graph;
use crate::plan::status::{condition, title};

/// How many students there are.
pub fn trials(status: &BamExperimentStatus) -> usize {
    status.runs.iter().filter(|run| run.role == Role::Student).count()
}

/// The scores, and where the students' models lie.
pub fn results(graph: &Graph, status: &BamExperimentStatus, bam_dir: &Path, bold: bool) -> String {
    let mut text = table::scores(status, bold);
    let done = |name: &str| status.runs.iter().any(|run| run.name == name && run.phase == RunPhase::Succeeded);
    for node in graph.trainings.iter().filter(|node| node.role == Role::Student && done(&node.name)) {
        if let Some(hash) = node.science_hash() {
            let model = bam_dir.join(store::run(hash)).join(store::MODEL);
            text += &format!("\n{}: {}", node.title, model.display());
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The last lines of failed runs' logs, by run.
pub type Logs = BTreeMap<String, Vec<String>>;

/// The runs that have failed.
pub fn failed(status: &BamExperimentStatus) -> impl Iterator<Item = &RunSummary> {
    status.runs.iter().filter(|run| run.phase == RunPhase::Failed)
}

/// Lines of a log, each so far from the margin.
pub fn indented(lines: &[String], margin: usize) -> String {
    lines.iter().map(|line| format!("{:margin$}{line}\n", "")).collect()
}

/// Why it failed: every run that did, with the last lines of its log, and where more is said.
pub fn failures(status: &BamExperimentStatus, logs: &Logs, place: impl Fn(&str) -> String) -> String {
    let trials = trials(status);
    let failed = failed(status).map(|run| {
        let lines = logs.get(&run.name).map(|lines| indented(lines, 4)).unwrap_or_default();
        format!("{} ({}) failed: {}\n{lines}  {}", title(run, trials), run.name, run.message, place(&run.name))
    });
    let failed: Vec<_> = failed.collect();
    if !failed.is_empty() {
        return failed.join("\n");
    }
    let said = condition(&status.conditions, "Failed");
    said.map(|condition| condition.message.clone()).unwrap_or_default()
}

/// A table, or what is said where there is none yet.
pub fn or_nothing(table: String) -> String {
    if table.is_empty() { "nothing is trained yet\n".to_owned() } else { table }
}

/// Numbers as they are meant: 55, where the computer has 55.00000000000001.
fn rounded(value: Value) -> Value {
    const DIGITS: f64 = 1e6;
    match value {
        Value::Number(number) if number.is_f64() => {
            json!(number.as_f64().map(|number| (number * DIGITS).round() / DIGITS))
        }
        Value::Array(items) => items.into_iter().map(rounded).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, rounded(value))).collect(),
        value => value,
    }
}

/// Its scores for programs. `model` says where a run's model lies, as far as that can be told.
pub fn report(experiment: &str, status: &BamExperimentStatus, model: impl Fn(&RunSummary) -> Option<PathBuf>) -> Value {
    let trainings = status.runs.iter().filter(|run| run.role != Role::Inputs);
    let runs = trainings.map(|run| {
        json!({
            "name": run.name,
            "role": run.role,
            "tasks": run.tasks,
            "trial": run.trial,
            "phase": run.phase,
            "message": run.message,
            "results": run.results,
            "model": model(run),
        })
    });
    rounded(json!({
        "experiment": experiment,
        "phase": status.phase,
        "scores": status.scores,
        "runs": runs.collect::<Vec<_>>(),
    }))
}
