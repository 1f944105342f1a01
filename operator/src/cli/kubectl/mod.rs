//! `kubectl bam`: the same program as `bam`, under the name by which `kubectl` finds it. Experiments are those of a cluster.

mod cluster;
pub mod complete;
mod difference;
mod explain;
mod logs;
mod plan;
mod push;
mod watch;
mod wish;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{Exit, Format, describe, is_bold, table};
use cluster::Cluster;
use wish::Wish;

/// The name of the program as a plugin of `kubectl`.
pub const NAME: &str = "kubectl-bam";

/// Looks after BAM experiments in a cluster.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl bam", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which runs a manifest consists of, which of them are there already, and what would change.
    #[command(after_help = "Example: kubectl bam plan -f examples/rte-mrpc-bam.yaml")]
    Plan(plan::Arguments),
    /// Say where an experiment stands, run by run, and what it waits for.
    #[command(after_help = "Example: kubectl bam explain rte-mrpc-bam")]
    Explain {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        format: Format,
    },
    /// Watch an experiment until it is over; 0 says that it is complete, and 1 that it has failed.
    #[command(after_help = "Example: kubectl bam watch rte-mrpc-bam && kubectl bam report rte-mrpc-bam")]
    Watch {
        #[command(flatten)]
        which: Which,
        /// A line for each change instead of progress bars.
        #[arg(long)]
        plain: bool,
    },
    /// Show what the trainers of an experiment's runs say: of each run the newest attempt.
    #[command(after_help = "Example: kubectl bam logs rte-mrpc-bam --run teacher:rte --follow")]
    Logs(logs::Arguments),
    /// Show an experiment's scores.
    #[command(after_help = "Example: kubectl bam report rte-mrpc-bam --output json")]
    Report {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        format: Format,
    },
    /// Bring runs that `bam run` trained on this machine into the cluster's store, so that nothing of them is trained again.
    #[command(
        after_help = "Example: kubectl bam push -f examples/rte-mrpc-bam.yaml --bam-dir ./bam_dir && kubectl apply -f \
        examples/rte-mrpc-bam.yaml"
    )]
    Push(push::Arguments),
    /// Give the machines back: what trains for this experiment alone writes a checkpoint and stops.
    #[command(after_help = "Example: kubectl bam suspend rte-mrpc-bam")]
    Suspend(Which),
    /// Go on with a suspended experiment where it was.
    #[command(after_help = "Example: kubectl bam resume rte-mrpc-bam")]
    Resume(Which),
    /// End an experiment for good. What is trained stays.
    #[command(after_help = "Example: kubectl bam cancel rte-mrpc-bam")]
    Cancel(Which),
    /// Try again what has failed, with fresh budgets, from the last checkpoints.
    #[command(after_help = "Example: kubectl bam retry rte-mrpc-bam")]
    Retry(Which),
}

/// Which experiment is meant.
#[derive(Debug, Args)]
struct Which {
    /// The experiment's name.
    #[arg(value_name = "NAME")]
    experiment: String,
}

/// Where the experiments are.
#[derive(Clone, Debug, Default, Args)]
struct Place {
    /// Their namespace. Default: that of the context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// A context of the kubeconfig. Default: its current one.
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig. Default: KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Runs the command that was given.
pub async fn main() -> Result<(), Exit> {
    let Cli { command, place } = Cli::parse();
    carry_out(&command, &place).await
}

async fn carry_out(command: &Command, place: &Place) -> Result<(), Exit> {
    let wish = |wish: Wish, which: &Which| (wish, which.experiment.clone());
    let (wish, name) = match command {
        Command::Plan(arguments) => return plan::plan(arguments, place).await,
        Command::Watch { which, plain } => return watch::watch(place, &which.experiment, *plain).await,
        Command::Push(arguments) => return push::push(arguments, place).await,
        Command::Logs(arguments) => return logs::logs(arguments, place).await,
        Command::Explain { which, format } => {
            let (name, cluster) = (&which.experiment, Cluster::of(place).await?);
            let status = cluster.status(name).await?;
            let logs = cluster.logs_of_failed(&status).await;
            format.say(|| explain::text(name, &status, &logs), || explain::json(name, &status, &logs));
            return Ok(());
        }
        Command::Report { which, format } => {
            let status = Cluster::of(place).await?.status(&which.experiment).await?;
            let text = || describe::or_nothing(table::scores(&status, is_bold()));
            format.say(text, || describe::report(&which.experiment, &status, |_| None));
            return Ok(());
        }
        Command::Suspend(which) => wish(Wish::Suspend, which),
        Command::Resume(which) => wish(Wish::Resume, which),
        Command::Cancel(which) => wish(Wish::Cancel, which),
        Command::Retry(which) => wish(Wish::Retry, which),
    };
    wish::ask(&Cluster::of(place).await?, wish, &name).await
}
