//! `bam report`: an experiment's scores, from what is remembered.

use bam_crds::run::RunPhase;
use bam_crds::store;

use super::explain::{fresh, look};
use super::{BamDir, Exit, Format, describe, input, is_bold};

/// Arguments of `bam report`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The experiment's name.
    experiment: String,
    #[command(flatten)]
    bam_dir: BamDir,
    /// JSON has all metrics, and where the models lie.
    #[command(flatten)]
    format: Format,
}

pub fn report(arguments: &Arguments) -> Result<(), Exit> {
    let bam_dir = arguments.bam_dir.absolute()?;
    let experiment = input::remembered(&arguments.experiment, &bam_dir)?;
    let look = look(experiment, &bam_dir)?;
    let (graph, plan) = fresh(&look)?;
    let status = plan.status;
    let text = || describe::or_nothing(describe::results(&graph, &status, &bam_dir, is_bold()));
    let json = || {
        describe::report(look.name(), &status, |run| {
            let node = graph.trainings.iter().find(|node| node.name == run.name)?;
            let hash = node.science_hash().filter(|_| run.phase == RunPhase::Succeeded)?;
            Some(bam_dir.join(store::run(hash)).join(store::MODEL))
        })
    };
    arguments.format.say(text, json);
    Ok(())
}
