//! Words for runs that several commands use.

use std::path::{Path, PathBuf};

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::RunSummary;
use bam_crds::run::{Role, RunPhase};
use bam_crds::store;
use serde_json::{Value, json};

use super::table;
use crate::plan::graph::Graph;

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
    json!({
        "experiment": experiment,
        "phase": status.phase,
        "scores": status.scores,
        "runs": runs.collect::<Vec<_>>(),
    })
}
