//! Words for runs that several commands use.

use std::path::Path;

use bam_crds::BamExperimentStatus;
use bam_crds::run::{Role, RunPhase};
use bam_crds::store;

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
