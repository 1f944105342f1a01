//! The `bam` command line, and that of `kubectl bam`. One file per command of the first, one for the second; what they share is
//! here and in the files without a command's name.

mod check;
mod completion;
mod dag;
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

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

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
    /// Print what a shell needs to complete these commands.
    Completion(completion::Arguments),
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

/// How something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How a command says what it found.
#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// For people, or for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Format {
    fn say(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        match self.output {
            Output::Text => say(&text()),
            Output::Json => say(&format!("{:#}\n", json())),
        }
    }
}

/// Whether what is printed may be bold: on a terminal, unless `NO_COLOR` says otherwise.
fn is_bold() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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
    match called().as_str() {
        kubectl::NAME => return conclude(kubectl::main().await),
        kubectl::complete::NAME => {
            let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            kubectl::complete::main(&words).await;
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let result = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments).await,
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Completion(arguments) => {
            completion::completion(&arguments);
            Ok(())
        }
    };
    conclude(result)
}

/// The name by which this program was called.
fn called() -> String {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Says what went wrong.
fn conclude(result: Result<(), Exit>) -> ExitCode {
    let (message, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Exit::Failed(message)) => (message, 1),
        Err(Exit::Faults) => return ExitCode::from(2),
        Err(Exit::Interrupted(message)) => (message, 130),
    };
    complain(&message);
    ExitCode::from(code)
}

/// Prints to standard output. A reader that has gone away (`bam plan | head`) is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints to standard error.
fn complain(message: &str) {
    let program = if called() == kubectl::NAME { "kubectl bam" } else { "bam" };
    let _ = writeln!(std::io::stderr(), "{program}: {message}");
}
