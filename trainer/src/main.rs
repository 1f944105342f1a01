//! `bam-trainer`: its command lines become one configuration each, which is run; the exit code says how it ended.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use bam_crds::{ExitReason, InputsConfig, RunConfig, RunReport};
use bam_trainer::failure::Failure;
use bam_trainer::run::{Machinery, check, run};
use bam_trainer::{device, inputs, reference, store};
use clap::{Args, Parser, Subcommand};
use serde::de::DeserializeOwned;

/// Trains BERT with BAM (Born-Again Multi-task networks).
///
/// Either the reference's command line, `bam-trainer MODEL_NAME BAM_DIR HPARAMS`, or one of the commands below, which
/// an operator uses.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    reference: Option<Reference>,
}

#[derive(Debug, Args)]
struct Reference {
    /// Name of the model: results go to BAM_DIR/models/MODEL_NAME.
    model_name: String,
    /// Folder with glue_data and pretrained_models.
    bam_dir: PathBuf,
    /// Options as a JSON object, or the name of a file that holds one.
    #[arg(default_value = "{}")]
    hparams: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train one run.
    Train {
        /// File with a RunConfig (JSON).
        #[arg(long)]
        config: PathBuf,
        /// Name of this attempt: its folder below the run's checkpoints.
        #[arg(long)]
        attempt: String,
        /// File to write the final report to.
        #[arg(long)]
        report: PathBuf,
    },
    /// Check data and weights, and report their digests.
    Inputs {
        /// File with an InputsConfig (JSON).
        #[arg(long)]
        config: PathBuf,
        /// File to write the final report to.
        #[arg(long)]
        report: PathBuf,
    },
}

fn main() -> ExitCode {
    device::cpu_settings();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no failure; anything else is a bad configuration, and nobody's crash.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit_code(ExitReason::BadConfig) } else { ExitCode::SUCCESS };
        }
    };
    let report_path = match &cli.command {
        Some(Command::Train { report, .. } | Command::Inputs { report, .. }) => Some(report.clone()),
        None => None,
    };
    let result = guarded(|| work(&cli));
    let report = result.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        failure.report()
    });
    match report_path.map_or(Ok(()), |path| store::write_json(&path, &report)) {
        Ok(()) => exit_code(report.reason),
        Err(failure) => {
            eprintln!("{failure}");
            exit_code(failure.reason)
        }
    }
}

fn work(cli: &Cli) -> Result<RunReport, Failure> {
    match (&cli.command, &cli.reference) {
        (Some(Command::Train { config, attempt, .. }), _) => {
            let config: RunConfig = read(config)?;
            check(&config)?;
            run(&config, attempt, &Machinery::new(config.execution.threads)?)
        }
        (Some(Command::Inputs { config, .. }), _) => {
            let config: InputsConfig = read(config)?;
            let machinery = Machinery::new(config.execution.threads)?;
            let found = inputs::check(&config, &machinery.reporter, &machinery.interrupt)?;
            Ok(RunReport { inputs: Some(found), ..RunReport::new(ExitReason::Completed, "") })
        }
        (None, Some(Reference { model_name, bam_dir, hparams })) => reference::run(model_name, bam_dir, hparams),
        (None, None) => unreachable!("clap shows the help instead"),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bad = |problem: String| Failure::new(ExitReason::BadConfig, format!("{}: {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

fn exit_code(reason: ExitReason) -> ExitCode {
    ExitCode::from(u8::try_from(reason.code()).unwrap_or(70))
}

/// Runs `work`; a panic becomes a failure. libtorch tells of a lack of memory by one.
fn guarded(work: impl FnOnce() -> Result<RunReport, Failure>) -> Result<RunReport, Failure> {
    static FIRST: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|panic| {
        // The first one: what follows a thread's panic says only that there was one.
        if let Ok(mut first) = FIRST.lock()
            && first.is_empty()
        {
            *first = panic.to_string();
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = FIRST.lock().map(|first| first.clone()).unwrap_or_default();
        let memory = ["not enough memory", "out of memory", "can't allocate memory", "ALLOC_FAILED"];
        let reason = match memory.iter().any(|words| message.contains(words)) {
            true => ExitReason::OutOfMemory,
            false => ExitReason::Internal,
        };
        Err(Failure::new(reason, message))
    })
}
