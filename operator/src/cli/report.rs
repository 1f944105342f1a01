//! `bam report`: an experiment's scores, from what is remembered.

use std::io::IsTerminal;

use bam_crds::run::{Role, RunPhase};
use bam_crds::store;
use serde_json::json;

use super::explain::{fresh, look};
use super::{BamDir, Exit, describe, input, say};

/// Arguments of `bam report`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The experiment's name.
    experiment: String,
    #[command(flatten)]
    bam_dir: BamDir,
    /// As JSON, with all metrics.
    #[arg(long)]
    json: bool,
}

pub fn report(arguments: &Arguments) -> Result<(), Exit> {
    let bam_dir = arguments.bam_dir.absolute()?;
    let experiment = input::remembered(&arguments.experiment, &bam_dir)?;
    let look = look(experiment, &bam_dir)?;
    let (graph, plan) = fresh(&look)?;
    let status = plan.status;
    if !arguments.json {
        let bold = std::io::stdout().is_terminal();
        let text = describe::results(&graph, &status, &bam_dir, bold);
        let text = if text.is_empty() { "nothing is trained yet\n".to_owned() } else { text };
        say(&text);
        return Ok(());
    }
    let trainings = status.runs.iter().filter(|run| run.role != Role::Inputs);
    let runs = trainings.map(|run| {
        let node = graph.trainings.iter().find(|node| node.name == run.name);
        let hash = node.and_then(|node| node.science_hash()).filter(|_| run.phase == RunPhase::Succeeded);
        let model = hash.map(|hash| bam_dir.join(store::run(hash)).join(store::MODEL));
        json!({
            "name": run.name,
            "role": run.role,
            "tasks": run.tasks,
            "trial": run.trial,
            "phase": run.phase,
            "message": run.message,
            "results": run.results,
            "model": model,
        })
    });
    let report = json!({
        "experiment": look.name(),
        "phase": status.phase,
        "scores": status.scores,
        "runs": runs.collect::<Vec<_>>(),
    });
    say(&format!("{report:#}\n"));
    Ok(())
}
