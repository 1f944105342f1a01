//! `bam-trainer`: its command lines become one configuration each, which is run; the exit code says how it ended.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bam_crds::{ExitReason, InputsConfig, RunConfig, RunReport};
use bam_trainer::ending::{self, Ending, exit_code, guarded};
use bam_trainer::failure::Failure;
use bam_trainer::fetch::{self, Client, Fetcher, Lock, ModelRequest, Patience};
use bam_trainer::interrupt::{self, Interrupt};
use bam_trainer::journal::Journals;
use bam_trainer::receive::receive;
use bam_trainer::report::Reporter;
use bam_trainer::run::{Machinery, check, run};
use bam_trainer::store::Store;
use bam_trainer::submission::{self, Submission};
use bam_trainer::{device, inputs, reference, serve};
use clap::{Args, Parser, Subcommand};
use serde::de::DeserializeOwned;
use url::Url;

/// Trains BERT with BAM (Born-Again Multi-task networks).
///
/// Either the reference's command line, `bam-trainer MODEL_NAME BAM_DIR HPARAMS`, or one of the commands below, the first two
/// of which an operator uses.
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
        #[command(flatten)]
        journals: Journals,
        #[command(flatten)]
        words: Words,
    },
    /// Fetch GLUE's data and a pretrained model into a BAM_DIR. What is there already needs no network.
    Fetch(Box<Fetch>),
    /// Check data and weights, and report their digests.
    Inputs {
        /// File with an InputsConfig (JSON).
        #[arg(long)]
        config: PathBuf,
        #[command(flatten)]
        words: Words,
    },
    /// Take runs that were trained elsewhere into the store: what `kubectl bam push` sends on standard input.
    Receive {
        /// File with an InputsConfig (JSON), which says where the store is.
        #[arg(long)]
        config: PathBuf,
        #[command(flatten)]
        words: Words,
    },
    /// Make the zip that GLUE's leaderboard takes.
    Submission(Submission),
}

#[derive(Debug, Args)]
struct Fetch {
    /// Folder for glue_data and pretrained_models.
    bam_dir: PathBuf,
    /// Tasks whose data to fetch, such as rte,mrpc; `all`: the whole of GLUE.
    #[arg(long, value_name = "TASK,…", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Pretrained model to fetch, such as google-bert/bert-base-uncased.
    #[arg(long, value_name = "ORG/NAME")]
    model: Option<String>,
    /// Branch, tag or commit of the model.
    #[arg(long, default_value = fetch::MAIN, requires = "model")]
    revision: String,
    /// Name of its folder in pretrained_models; by default the model's own, without ORG.
    #[arg(long = "as", value_name = "NAME", requires = "model")]
    folder: Option<String>,
    /// Digests of all that may be taken, as sha256sum writes them.
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// What GLUE's files are below.
    #[arg(long, value_name = "URL", default_value = fetch::GLUE_URL)]
    glue_url: Url,
    /// Model repository, in Hugging Face's layout. A token in HF_TOKEN is shown to it.
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = fetch::MODEL_URL)]
    model_url: Url,
}

/// Where it says how it is getting on, and how it ended.
#[derive(Debug, Args)]
struct Words {
    /// File to write the final report to. One that cannot be replaced (a pod's termination message) is overwritten, and
    /// gets at most 4096 bytes.
    #[arg(long)]
    report: PathBuf,
    /// Address to answer GET /progress, /metrics and /healthz at.
    #[arg(long, value_name = "IP:PORT")]
    serve: Option<SocketAddr>,
}

/// Before the initialisers of all libraries: libtorch's alone take long enough for a signal to come.
#[cfg(all(target_os = "linux", not(test)))]
#[used]
#[unsafe(link_section = ".preinit_array")]
static FIRST_OF_ALL: extern "C" fn() = interrupt::hold;

fn main() -> ExitCode {
    interrupt::hold();
    device::cpu_settings();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let words = cli.command.as_ref().and_then(Command::words);
    // Standard output of `receive` belongs to whoever sends.
    let for_a_person = words.is_none() || matches!(cli.command, Some(Command::Receive { .. }));
    let reporter = if for_a_person { Reporter::for_a_person() } else { Reporter::detect() };
    let ending = Ending { report: words.map(|words| words.report.clone()), board: reporter.board().clone() };
    let interrupt = match Interrupt::watch(on_signal(&ending, &reporter)) {
        Ok(interrupt) => interrupt,
        Err(error) => {
            let message = format!("cannot start a thread: {error}; raise the limit of processes");
            return ending.say(Err(Failure::new(ExitReason::Internal, message))).into();
        }
    };
    if let Some(address) = words.and_then(|words| words.serve) {
        let said = match serve::start(address, reporter.board()) {
            Ok(address) => format!("progress and metrics: http://{address}/progress and /metrics"),
            Err(error) => format!("warning: nothing is served at {address}: {error}"),
        };
        reporter.note(&said);
    }
    let result = guarded(|| work(&cli, reporter, interrupt.clone()));
    // The last word is being said already.
    let _heeding = interrupt.heed();
    ending.say(result).into()
}

/// What to do when asked to end while there is nothing to save.
fn on_signal(ending: &Ending, reporter: &Reporter) -> impl Fn() -> u8 + Send + 'static {
    let (ending, bar) = (ending.clone(), reporter.bar().cloned());
    move || {
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        ending.say(Err(ending.board.read().steps.stopped()))
    }
}

/// Help and version are no failure; anything else is a bad configuration, and nobody's crash. Whoever made a pod of these
/// arguments reads the report.
fn misused(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let reason = ExitReason::BadConfig;
    if let Some(path) = report_among(std::env::args_os()) {
        // Standard error has it in any case.
        let _ = ending::write(&path, &RunReport::new(reason, error.to_string()));
    }
    exit_code(reason).into()
}

/// The file for the report in arguments that make no sense as a whole.
fn report_among(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    arguments.find(|argument| argument == "--report")?;
    arguments.next().map(PathBuf::from)
}

impl Command {
    fn words(&self) -> Option<&Words> {
        match self {
            Self::Train { words, .. } | Self::Inputs { words, .. } | Self::Receive { words, .. } => Some(words),
            Self::Submission(_) | Self::Fetch(_) => None,
        }
    }
}

impl Fetch {
    fn fetch(&self, reporter: &Reporter) -> Result<(), Failure> {
        let tasks = match &self.tasks[..] {
            [all] if all == "all" => fetch::DATA_SETS.iter().map(|set| set.task.to_owned()).collect(),
            tasks => tasks.to_vec(),
        };
        let model = self.model.as_ref().map(|model| ModelRequest {
            url: self.model_url.clone(),
            model: model.clone(),
            revision: self.revision.clone(),
            folder: self.folder.clone(),
        });
        let lock = self.lock.as_deref().map(Lock::read).transpose()?;
        let request =
            fetch::Request { bam_dir: self.bam_dir.clone(), tasks, glue_url: self.glue_url.clone(), model, lock };
        let client = Client::from_environment(&self.model_url);
        fetch::fetch(&request, Fetcher { client, patience: Patience::default(), reporter })
    }
}

fn work(cli: &Cli, reporter: Reporter, interrupt: Interrupt) -> Result<RunReport, Failure> {
    match (&cli.command, &cli.reference) {
        (Some(Command::Train { config, attempt, journals, .. }), _) => {
            let config: RunConfig = read(config)?;
            check(&config)?;
            run(&config, attempt, &Machinery::new(config.execution.threads, reporter, interrupt)?, journals)
        }
        (Some(Command::Fetch(arguments)), _) => {
            arguments.fetch(&reporter)?;
            Ok(RunReport::new(ExitReason::Completed, ""))
        }
        (Some(Command::Inputs { config, .. }), _) => {
            let config: InputsConfig = read(config)?;
            let machinery = Machinery::new(config.execution.threads, reporter, interrupt)?;
            let found = inputs::check(&config, &machinery.reporter)?;
            Ok(RunReport { inputs: Some(found), ..RunReport::new(ExitReason::Completed, "") })
        }
        (Some(Command::Receive { config, .. }), _) => {
            let config: InputsConfig = read(config)?;
            let from = BufReader::with_capacity(1 << 20, io::stdin());
            receive(&Store::of(&config.execution)?, from, io::stdout())?;
            Ok(RunReport::new(ExitReason::Completed, ""))
        }
        (Some(Command::Submission(submission)), _) => {
            let said = submission::write(submission)?;
            // The pipe may be closed already; the file is there.
            let _ = write!(io::stdout(), "{said}");
            Ok(RunReport::new(ExitReason::Completed, ""))
        }
        (None, Some(Reference { model_name, bam_dir, hparams })) => {
            reference::run(model_name, bam_dir, hparams, reporter, interrupt)
        }
        (None, None) => unreachable!("clap shows the help instead"),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bad = |problem: String| Failure::new(ExitReason::BadConfig, format!("{}: {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}
