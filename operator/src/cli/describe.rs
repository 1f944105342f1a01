//! Words for runs that several commands use.

use std::path::Path;

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::RunSummary;
use bam_crds::report::Stage;
use bam_crds::run::{Role, RunPhase};
use bam_crds::store;

use super::table;
use crate::plan::graph::Graph;

/// What to call a run: `inputs check`, `teacher rte`, `student`, `student 2`.
pub fn title(run: &RunSummary, trials: usize) -> String {
    match run.role {
        Role::Inputs => "inputs check".to_owned(),
        Role::Teacher => format!("teacher {}", run.tasks.join(" ")),
        Role::Student if trials == 1 => "student".to_owned(),
        Role::Student => format!("student {}", run.trial.unwrap_or_default()),
    }
}

/// How many students there are.
pub fn trials(status: &BamExperimentStatus) -> usize {
    status.runs.iter().filter(|run| run.role == Role::Student).count()
}

/// What is going on, as a word or two.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Preparing => "preparing",
        Stage::Training => "training",
        Stage::Evaluating => "evaluating",
        Stage::WritingTargets => "writing targets",
        Stage::Saving => "saving",
    }
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
