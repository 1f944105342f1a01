//! The `bam` command line, and that of `kubectl bam`. One file per command of the first, one for the second; what they share is
//! here and in the files without a command's name.

mod check;
mod describe;
mod explain;
mod input;
mod kubectl;
mod logging;
mod plan;
mod report;
mod run;
mod screen;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::local;

/// Trains BAM experiments without a cluster: teachers first, then the student that learns from them.
#[derive(Debug, Parser)]
#[command(name = "bam", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train an experiment, or go on where it was stopped.
    Run(run::Arguments),
    /// Show which runs an experiment consists of, and what would be done.
    Plan(plan::Arguments),
    /// Say everything that is wrong with a manifest.
    Check(check::Arguments),
    /// Say what an experiment waits for, and why.
    Explain(explain::Arguments),
    /// Show an experiment's scores.
    Report(report::Arguments),
}

/// Where the artifact store is.
#[derive(Clone, Debug, Args)]
struct BamDir {
    /// Folder with glue_data/ and pretrained_models/; what is trained goes into runs/.
    #[arg(long = "bam-dir", env = "BAM_DIR", value_name = "DIR", default_value = "./bam_dir")]
    path: PathBuf,
}

impl BamDir {
    fn absolute(&self) -> Result<PathBuf, Exit> {
        match self.path.canonicalize() {
            Ok(path) if path.is_dir() => Ok(path),
            Ok(path) => {
                Err(Exit::failed(format!("{} is no folder: name one with --bam-dir or BAM_DIR", path.display())))
            }
            Err(error) => Err(Exit::failed(format!(
                "cannot use {} as the artifact store: {error}; make the folder with glue_data/<task>/ and \
                 pretrained_models/<name>/ in it, or name another with --bam-dir or BAM_DIR",
                self.path.display()
            ))),
        }
    }
}

/// How a command ended otherwise than well.
#[derive(Debug)]
enum Exit {
    /// 1: something failed, and why.
    Failed(String),
    /// 2: the manifest has faults, which were said.
    Faults,
    /// 130: stopped by a signal, and how to go on.
    Interrupted(String),
}

impl Exit {
    fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl From<local::Error> for Exit {
    fn from(error: local::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command that was given, and says how it ended.
pub async fn main() -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from);
    if called.is_some_and(|path| path.file_stem().is_some_and(|name| name == kubectl::NAME)) {
        return kubectl::main().await;
    }
    let result = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments).await,
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Report(arguments) => report::report(&arguments),
    };
    conclude("bam", result)
}

/// Says what went wrong in a command of `program`.
fn conclude(program: &str, result: Result<(), Exit>) -> ExitCode {
    let (message, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Exit::Failed(message)) => (message, 1),
        Err(Exit::Faults) => return ExitCode::from(2),
        Err(Exit::Interrupted(message)) => (message, 130),
    };
    let _ = writeln!(std::io::stderr(), "{program}: {message}");
    ExitCode::from(code)
}

/// Prints to standard output. A reader that has gone away (`bam plan | head`) is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints to standard error.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "bam: {message}");
}
