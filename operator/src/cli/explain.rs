//! `bam explain`: what an experiment waits for, and why, from what is remembered. It changes nothing.

use std::path::{Path, PathBuf};

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::RunPhase;
use bam_crds::{BamExperiment, BamExperimentStatus};
use k8s_openapi::jiff::Timestamp;

use super::{BamDir, Exit, describe, input, say};
use crate::local::ledger::Ledger;
use crate::local::{Look, Mode};
use crate::plan::graph::Graph;
use crate::plan::{Plan, experiment, retry, run};

/// Arguments of `bam explain`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The name of an experiment that was run before.
    #[arg(required_unless_present = "file")]
    experiment: Option<String>,
    /// Or its manifest. May stand several times.
    #[arg(short, long, value_name = "FILE", conflicts_with = "experiment")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    bam_dir: BamDir,
}

pub fn explain(arguments: &Arguments) -> Result<(), Exit> {
    let bam_dir = arguments.bam_dir.absolute()?;
    let experiments = match &arguments.experiment {
        None => input::experiments(&arguments.file)?,
        Some(name) => vec![input::remembered(name, &bam_dir)?],
    };
    for experiment in experiments {
        let look = look(experiment, &bam_dir)?;
        let (graph, plan) = fresh(&look)?;
        say(&explanation(&look, &graph, &plan)?);
    }
    Ok(())
}

/// A look at an experiment that changes nothing.
pub fn look(experiment: BamExperiment, bam_dir: &Path) -> Result<Look, Exit> {
    let max_parallel = experiment.spec.max_parallel_runs.unwrap_or(1);
    Ok(Look { bam_dir: bam_dir.to_owned(), ledger: Ledger::open(bam_dir, Mode::ReadOnly)?, experiment, max_parallel })
}

/// How an experiment stands now, and not when its status was last written.
pub fn fresh(look: &Look) -> Result<(Graph, Plan<BamExperimentStatus>), Exit> {
    let now = Timestamp::now();
    let (_, mut seen) = look.experiment()?;
    for (name, run) in &mut seen.runs {
        if let Some((spec, observed)) = look.run(name)? {
            run.status = run::plan(name, &spec, &observed, now).status;
        }
    }
    let graph = seen.graph(&look.experiment);
    Ok((graph, experiment::plan(&look.experiment, &seen, now)))
}

fn explanation(look: &Look, graph: &Graph, plan: &Plan<BamExperimentStatus>) -> Result<String, Exit> {
    let status = &plan.status;
    let mut text = format!("{}: {:?}, {} done\n", look.name(), status.phase, status.progress);
    let width = graph.nodes().map(|node| node.title.chars().count()).max().unwrap_or_default();
    for node in graph.nodes() {
        let why = &plan.whys[&node.name];
        text += &format!("  {:<width$}  {}  {why}\n", node.title, node.name);
        for record in &look.ledger.run_status(&node.name)?.history {
            if record.reason != Some(bam_crds::ExitReason::Completed) {
                text += &format!("  {:<width$}    attempt {} {}\n", "", record.number, retry::describe(record));
                text += &describe::indented(&record.log, width + 8);
            }
        }
    }
    text.extend(graph.obstacles().map(|obstacle| format!("  {obstacle}\n")));
    if graph.trainings.is_empty() && graph.fault.is_none() {
        text += "  teachers and students have names once their inputs are checked\n";
    }
    text += match status.phase {
        ExperimentPhase::Complete | ExperimentPhase::Cancelled => "",
        // What failed otherwise would fail again: its sentence says what to do.
        ExperimentPhase::Failed if !status.runs.iter().any(|run| run.phase == RunPhase::Failed) => "",
        ExperimentPhase::Failed => "`bam run -f` with its manifest tries again\n",
        ExperimentPhase::Suspended => "`bam run -f` with `suspend: false` in its manifest goes on\n",
        _ if status.runs.iter().any(|run| run.phase == RunPhase::Running) => "",
        _ => "no attempt is under way: if no `bam run` is waiting, start one to go on\n",
    };
    Ok(text)
}
