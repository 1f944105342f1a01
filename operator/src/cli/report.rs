//! `bam report`: an experiment's scores, from what is remembered.

use std::io::IsTerminal;

use bam_crds::run::RunPhase;
use bam_crds::store;

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
    let report = describe::report(look.name(), &status, |run| {
        let node = graph.trainings.iter().find(|node| node.name == run.name)?;
        let hash = node.science_hash().filter(|_| run.phase == RunPhase::Succeeded)?;
        Some(bam_dir.join(store::run(hash)).join(store::MODEL))
    });
    say(&format!("{report:#}\n"));
    Ok(())
}
