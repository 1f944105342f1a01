//! `bam run`: trains an experiment on this machine, or goes on where it was stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bam_crds::BamExperiment;
use bam_crds::experiment::ExperimentPhase;

use super::{BamDir, Exit, describe, input, is_bold, say, screen};
use crate::local::{Local, Look, Mode, Screen, Settings, ledger::Ledger, trainer};
use crate::plan::{retry, teachers};
use crate::platform::drive;

/// Arguments of `bam run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    manifests: input::Manifests,
    #[command(flatten)]
    bam_dir: BamDir,
    /// Runs that train at the same time [default: the manifest's maxParallelRuns, else 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_parallel: Option<u32>,
    /// The trainer program [default: bam-trainer beside this program, else on the PATH].
    #[arg(long, env = "BAM_TRAINER", value_name = "PATH")]
    trainer: Option<PathBuf>,
    /// Log lines instead of progress bars.
    #[arg(long)]
    plain: bool,
}

pub async fn run(arguments: &Arguments) -> Result<(), Exit> {
    let experiments = input::experiments(&arguments.manifests.files)?;
    let bam_dir = arguments.bam_dir.absolute()?;
    let trainer = trainer::find(arguments.trainer.as_deref())?;
    let several = experiments.len() > 1;
    for experiment in experiments {
        let name = experiment.metadata.name.clone().unwrap_or_default();
        let max_parallel = arguments.max_parallel.or(experiment.spec.max_parallel_runs).unwrap_or(1);
        let settings = Settings { bam_dir: bam_dir.clone(), trainer: trainer.clone(), max_parallel };
        if several {
            say(&format!("{name}\n"));
        }
        train(arguments, settings, experiment).await?;
    }
    Ok(())
}

async fn train(arguments: &Arguments, settings: Settings, experiment: BamExperiment) -> Result<(), Exit> {
    let bam_dir = settings.bam_dir.clone();
    let max_parallel = settings.max_parallel;
    note_changes(&experiment, &bam_dir)?;
    require_named_teachers(&experiment, &bam_dir)?;
    let screen = screen::open(arguments.plain);
    let followed = follow(settings, experiment.clone(), &*screen).await;
    screen.finish();
    let interrupted = followed?;
    if interrupted {
        return Err(Exit::Interrupted(
            "stopped; what was trained is safe, run the same command again to go on".to_owned(),
        ));
    }
    let ledger = Ledger::open(&bam_dir, Mode::ReadOnly)?;
    conclude(&Look { bam_dir, ledger, experiment, max_parallel })
}

async fn follow(settings: Settings, experiment: BamExperiment, screen: &dyn Screen) -> Result<bool, Exit> {
    let local = Local::new(settings, experiment, screen)?;
    local.reopen_failed()?;
    drive(&local).await?;
    Ok(local.interrupted())
}

/// In a cluster a spec cannot change. Here it can, since what is trained is found by what it is.
fn note_changes(experiment: &BamExperiment, bam_dir: &Path) -> Result<(), Exit> {
    let name = experiment.metadata.name.as_deref().unwrap_or_default();
    let before = Ledger::open(bam_dir, Mode::ReadOnly)?.experiment(name)?;
    if before.is_some_and(|before| before.spec != experiment.spec) {
        super::complain(&format!("note: {name} is not what it was when it was run last; what fits is used again"));
    }
    Ok(())
}

/// In a cluster a teacher that the manifest names may come later. Here nobody else makes it while this waits.
fn require_named_teachers(experiment: &BamExperiment, bam_dir: &Path) -> Result<(), Exit> {
    let name = experiment.metadata.name.as_deref().unwrap_or_default();
    let ledger = Ledger::open(bam_dir, Mode::ReadOnly)?;
    let named = teachers::find(name, &experiment.spec, &ledger.experiment_status(name)?, &ledger);
    let missing: Vec<_> = named
        .iter()
        .filter_map(|(entry, teacher)| {
            Some(format!("distill.teachers.{entry}: the student {}", teacher.as_ref().err()?))
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Exit::failed(missing.join("\n") + "\nrun the experiments that are named first, with the same --bam-dir"))
}

/// Shows what came of it.
fn conclude(look: &Look) -> Result<(), Exit> {
    let (graph, seen) = look.experiment()?;
    say(&describe::results(&graph, &seen.status, &look.bam_dir, is_bold()));
    match seen.status.phase {
        ExperimentPhase::Complete => return Ok(()),
        ExperimentPhase::Suspended => return Err(Exit::failed(seen.status.waiting_for)),
        _ => {}
    }
    let mut logs = BTreeMap::new();
    for run in describe::failed(&seen.status) {
        logs.insert(run.name.clone(), retry::last_log(&look.ledger.run_status(&run.name)?));
    }
    let failures = describe::failures(&seen.status, &logs, |run| {
        let attempt = look.ledger.attempt(run, look.ledger.attempts(run));
        format!("log: {}", attempt.stderr().display())
    });
    Err(Exit::failed(failures))
}
