//! `kubectl bam`: the same program as `bam`, under the name by which `kubectl` finds it. Experiments are those of a cluster.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{RunPhase, RunProgress};
use bam_crds::{BamExperiment, BamExperimentStatus};
use clap::{Args, Parser, Subcommand};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::{Exit, conclude, describe, say, table};
use crate::plan::status::title;

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
    /// Say where an experiment stands, run by run, and what it waits for.
    Explain {
        /// Its name.
        experiment: String,
    },
    /// Show an experiment's scores.
    Report {
        /// Its name.
        experiment: String,
        /// As JSON, with all metrics.
        #[arg(long)]
        json: bool,
    },
    /// Give the machines back: what trains for this experiment alone writes a checkpoint and stops.
    Suspend {
        /// Its name.
        experiment: String,
    },
    /// Go on with a suspended experiment where it was.
    Resume {
        /// Its name.
        experiment: String,
    },
    /// End an experiment for good. What is trained stays.
    Cancel {
        /// Its name.
        experiment: String,
    },
    /// Try again what has failed, with fresh budgets, from the last checkpoints.
    Retry {
        /// Its name.
        experiment: String,
    },
}

/// Where the experiments are.
#[derive(Debug, Args)]
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

/// What a person may ask of an experiment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Suspend,
    Resume,
    Cancel,
    Retry,
}

/// Runs the command that was given, and says how it ended.
pub async fn main() -> ExitCode {
    let Cli { command, place } = Cli::parse();
    conclude("kubectl bam", carry_out(&command, &place).await)
}

async fn carry_out(command: &Command, place: &Place) -> Result<(), Exit> {
    let experiments = Experiments::of(place).await?;
    match command {
        Command::Explain { experiment } => say(&explanation(experiment, &experiments.status(experiment).await?)),
        Command::Report { experiment, json: false } => {
            let scores = table::scores(&experiments.status(experiment).await?, std::io::stdout().is_terminal());
            say(if scores.is_empty() { "nothing is trained yet\n" } else { &scores });
        }
        Command::Report { experiment, json: true } => {
            let report = describe::report(experiment, &experiments.status(experiment).await?, |_| None);
            say(&format!("{report:#}\n"));
        }
        Command::Suspend { experiment } => experiments.ask(Wish::Suspend, experiment).await?,
        Command::Resume { experiment } => experiments.ask(Wish::Resume, experiment).await?,
        Command::Cancel { experiment } => experiments.ask(Wish::Cancel, experiment).await?,
        Command::Retry { experiment } => experiments.ask(Wish::Retry, experiment).await?,
    }
    Ok(())
}

/// The experiments of a namespace.
struct Experiments {
    api: Api<BamExperiment>,
    namespace: String,
}

impl Experiments {
    async fn of(place: &Place) -> Result<Self, Exit> {
        let failed = |error: &dyn std::fmt::Display| Exit::failed(format!("cannot reach a cluster: {error}"));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions { context: place.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = match &place.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.map_err(|error| failed(&error))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(&error))?;
        let namespace = place.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| failed(&error))?;
        Ok(Self { api: Api::namespaced(client, &namespace), namespace })
    }

    async fn get(&self, name: &str) -> Result<BamExperiment, Exit> {
        let namespace = &self.namespace;
        match self.api.get_opt(name).await {
            Ok(Some(experiment)) => Ok(experiment),
            Ok(None) => Err(Exit::failed(format!(
                "there is no experiment {name} in namespace {namespace}: `kubectl get bamexperiments --all-namespaces` shows \
                 those that there are"
            ))),
            Err(error) => Err(Exit::failed(format!("cannot read experiment {name} in namespace {namespace}: {error}"))),
        }
    }

    async fn status(&self, name: &str) -> Result<BamExperimentStatus, Exit> {
        Ok(self.get(name).await?.status.unwrap_or_default())
    }

    async fn ask(&self, wish: Wish, name: &str) -> Result<(), Exit> {
        let experiment = self.get(name).await?;
        let (spec, said) = wish.of(&experiment).map_err(|why| Exit::failed(format!("{name} {why}")))?;
        // The version that was looked at: somebody else may wish something, too.
        let version = &experiment.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
        let parameters = PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() };
        match self.api.patch(name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => say(&format!("{name} {said}\n")),
            Err(error) => return Err(Exit::failed(format!("cannot change experiment {name}: {error}"))),
        }
        Ok(())
    }
}

impl Wish {
    /// The change of its spec that stands for it, and what becomes of it; or why there is none.
    fn of(self, experiment: &BamExperiment) -> Result<(Value, &'static str), String> {
        let status = experiment.status.clone().unwrap_or_default();
        let (spec, phase) = (&experiment.spec, status.phase);
        match self {
            Self::Suspend | Self::Cancel if phase.is_final() => Err(format!("is {phase:?}: nothing trains for it")),
            Self::Suspend => {
                Ok((json!({ "suspend": true }), "stops at its next checkpoint: `kubectl bam resume` goes on there"))
            }
            Self::Resume if !spec.suspend => Err("is not suspended".to_owned()),
            Self::Resume => Ok((json!({ "suspend": false }), "goes on where it was")),
            Self::Cancel => {
                Ok((json!({ "cancel": true }), "is over: what it trained stays, and another experiment finds it"))
            }
            Self::Retry if phase == ExperimentPhase::Cancelled => {
                Err("is cancelled: create another experiment".to_owned())
            }
            Self::Retry if !status.runs.iter().any(|run| run.phase == RunPhase::Failed) => {
                Err("has no run that failed: `kubectl bam explain` says what it waits for".to_owned())
            }
            Self::Retry => {
                let retry = spec.retry.max(status.retried).saturating_add(1);
                Ok((json!({ "retry": retry }), "tries again what has failed"))
            }
        }
    }
}

/// Where an experiment stands, run by run.
fn explanation(name: &str, status: &BamExperimentStatus) -> String {
    let done = if status.progress.is_empty() { String::new() } else { format!(", {} done", status.progress) };
    let mut text = format!("{name}: {:?}{done}\n", status.phase);
    let trials = describe::trials(status);
    let titles: Vec<_> = status.runs.iter().map(|run| title(run, trials)).collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or_default();
    for (run, title) in status.runs.iter().zip(titles) {
        let progress = run.progress.as_ref().filter(|_| run.phase == RunPhase::Running);
        let progress = progress.map(|RunProgress { stage, done, total }| format!("{stage:?} {done} of {total}"));
        let says = [progress.unwrap_or_default(), run.message.clone(), run.shared.clone()];
        let says = says.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        text += format!("  {title:<width$}  {}  {:<9}  {says}", run.name, format!("{:?}", run.phase)).trim_end();
        text.push('\n');
    }
    if !status.waiting_for.is_empty() {
        text += &format!("it waits: {}\n", status.waiting_for);
    }
    let failed = status.conditions.iter().find(|condition| condition.type_ == "Failed" && condition.status == "True");
    if let Some(failed) = failed {
        text += &format!("it failed: {}\n", failed.message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(spec: Value, status: Value) -> BamExperiment {
        let mut object = json!({
            "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "metadata": { "name": "exp" },
            "spec": {
                "tasks": [{ "name": "rte" }], "model": { "pretrained": "tiny" },
                "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
            },
            "status": status,
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_wish_is_a_change_of_the_spec_or_says_why_it_is_none() {
        let failed = json!({ "phase": "Failed", "retried": 4,
            "runs": [{ "name": "run-1", "role": "Teacher", "tasks": ["rte"], "phase": "Failed" }] });
        let table = [
            (
                "what trains is suspended",
                Wish::Suspend,
                json!({}),
                json!({ "phase": "TrainingTeachers" }),
                Ok(json!({ "suspend": true })),
            ),
            (
                "what is complete is not",
                Wish::Suspend,
                json!({}),
                json!({ "phase": "Complete" }),
                Err("is Complete: nothing trains for it"),
            ),
            (
                "what is suspended goes on",
                Wish::Resume,
                json!({ "suspend": true }),
                json!({ "phase": "Suspended" }),
                Ok(json!({ "suspend": false })),
            ),
            ("what is not cannot", Wish::Resume, json!({}), json!({ "phase": "Pending" }), Err("is not suspended")),
            (
                "what is suspended can be cancelled",
                Wish::Cancel,
                json!({ "suspend": true }),
                json!({ "phase": "Suspended" }),
                Ok(json!({ "cancel": true })),
            ),
            (
                "what has failed is over already",
                Wish::Cancel,
                json!({}),
                failed.clone(),
                Err("is Failed: nothing trains for it"),
            ),
            (
                "what has failed is tried again, also if the manifest was applied anew since",
                Wish::Retry,
                json!({ "retry": 1 }),
                failed,
                Ok(json!({ "retry": 5 })),
            ),
            (
                "what has not is not",
                Wish::Retry,
                json!({}),
                json!({ "phase": "TrainingStudent" }),
                Err("has no run that failed"),
            ),
            (
                "nor what is cancelled",
                Wish::Retry,
                json!({ "cancel": true }),
                json!({ "phase": "Cancelled" }),
                Err("create another experiment"),
            ),
        ];
        for (what, wish, spec, status, expected) in table {
            match (wish.of(&experiment(spec, status)), expected) {
                (Ok((change, _)), Ok(expected)) => assert_eq!(change, expected, "{what}"),
                (Err(why), Err(words)) => assert!(why.contains(words), "{what}: {why}"),
                (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn an_experiment_is_explained_run_by_run() {
        let status = json!({
            "phase": "TrainingTeachers", "progress": "48 %", "waitingFor": "teacher mrpc is under way (attempt 1)",
            "runs": [
                { "name": "run-0", "role": "Inputs", "tasks": ["rte", "mrpc"], "phase": "Succeeded" },
                { "name": "run-1", "role": "Teacher", "tasks": ["rte"], "phase": "Succeeded",
                  "shared": "is shared with experiment other, which made it" },
                { "name": "run-2", "role": "Teacher", "tasks": ["mrpc"], "phase": "Running",
                  "progress": { "stage": "Training", "done": 96, "total": 200 } },
                { "name": "run-3", "role": "Student", "tasks": ["rte", "mrpc"], "trial": 1, "phase": "Pending",
                  "message": "waits for teacher mrpc" },
            ],
        });
        let said = explanation("exp", &experiment(json!({}), status).status.unwrap());
        let expected = "\
exp: TrainingTeachers, 48 % done
  inputs check  run-0  Succeeded
  teacher rte   run-1  Succeeded  is shared with experiment other, which made it
  teacher mrpc  run-2  Running    Training 96 of 200
  student       run-3  Pending    waits for teacher mrpc
it waits: teacher mrpc is under way (attempt 1)
";
        assert_eq!(said, expected);
    }
}
