//! `kubectl bam logs`: what the trainers of an experiment's runs say; of pods that are gone, what is known of their end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bam_crds::experiment::RunSummary;
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamExperimentStatus, BamRunStatus, ExitReason, names, nearest};
use futures_util::io::AsyncBufReadExt;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use super::super::{Exit, complain, describe, say};
use super::cluster::Cluster;
use super::{Place, Which};
use crate::cluster::facts::{Facts, PodFacts};
use crate::cluster::job::CONTAINER;
use crate::plan::retry;
use crate::plan::status::title;
use crate::plan::why::and;

/// How often new pods are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `kubectl bam logs`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Of this run alone: its name, or `inputs`, `teacher`, `teacher:rte`, `student`, `student:2`.
    #[arg(long)]
    run: Option<String>,
    /// Go on until the experiment is over, with the runs and attempts that are still to come.
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// Of the attempt before the newest one.
    #[arg(short, long)]
    previous: bool,
}

pub async fn logs(arguments: &Arguments, place: &Place) -> Result<(), Exit> {
    let cluster = Cluster::of(place).await?;
    let status = cluster.status(&arguments.which.experiment).await?;
    let chosen = chosen(&status, arguments.run.as_deref())?;
    if arguments.follow { follow(&cluster, arguments).await } else { once(&cluster, arguments, &status, &chosen).await }
}

/// The runs that are meant.
fn chosen<'a>(status: &'a BamExperimentStatus, wanted: Option<&str>) -> Result<Vec<&'a RunSummary>, Exit> {
    let is_meant = |run: &&RunSummary| wanted.is_none_or(|wanted| is_called(run, wanted));
    let chosen: Vec<_> = status.runs.iter().filter(is_meant).collect();
    let (Some(wanted), true) = (wanted, chosen.is_empty()) else { return Ok(chosen) };
    let words: BTreeSet<_> = status.runs.iter().map(word).collect();
    if words.is_empty() {
        return Err(Exit::failed("it has no runs yet: `kubectl bam explain` says what it waits for"));
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let meant = nearest(wanted, words.iter().copied());
    let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
    Err(Exit::failed(format!("it has no run {wanted}{meant}: there are {}", and(&words))))
}

/// What to call a run after `--run`.
pub fn word(run: &RunSummary) -> String {
    match run.role {
        Role::Inputs => "inputs".to_owned(),
        Role::Teacher => format!("teacher:{}", run.tasks.join(",")),
        Role::Student => format!("student:{}", run.trial.unwrap_or(1)),
    }
}

fn is_called(run: &RunSummary, wanted: &str) -> bool {
    run.name == wanted || run.role.noun() == wanted || word(run) == wanted
}

/// Prints the log of an attempt of each run, and of those that have none what is known.
async fn once(
    cluster: &Cluster,
    arguments: &Arguments,
    status: &BamExperimentStatus,
    chosen: &[&RunSummary],
) -> Result<(), Exit> {
    let pods = pods(cluster, chosen).await?;
    let back = usize::from(arguments.previous);
    let trials = describe::trials(status);
    let mut gone = Vec::new();
    let found: Vec<_> = chosen.iter().filter_map(|run| Some((*run, newest(&pods, &run.name, back)?))).collect();
    let names_run = found.len() > 1;
    for (run, pod) in found {
        let title = title(run, trials);
        let prefix = if names_run { format!("[{title}] ") } else { String::new() };
        if let Some(waits) = PodFacts::of(pod).waits.filter(|_| PodFacts::of(pod).end.is_none()) {
            complain(&format!("{title}: its pod {} {waits}", pod.name_any()));
            continue;
        }
        stream(cluster, pod, false, &prefix).await?;
    }
    for run in chosen.iter().filter(|run| newest(&pods, &run.name, back).is_none()) {
        gone.push(*run);
    }
    // Of runs that went well, or that were not asked for by name, a log that is gone is not missed.
    let missed = |run: &&&RunSummary| arguments.run.is_some() || run.phase == RunPhase::Failed;
    let mut said = false;
    for run in gone.iter().filter(missed) {
        said = true;
        let known = known(&cluster.run(&run.name).await?.unwrap_or_default(), run.phase, arguments.previous);
        complain(&format!("{} ({}) {known}", title(run, trials), run.name));
    }
    if !names_run && !said && chosen.len() == gone.len() {
        let name = &arguments.which.experiment;
        complain(&format!(
            "no pod of experiment {name} is there: logs of runs that went well are kept with `compute.keepJobs: Always`; \
             `kubectl bam explain {name}` says what it waits for"
        ));
    }
    Ok(())
}

/// What is known of a run whose pod is gone, or was never there: to continue "teacher rte …".
fn known(status: &BamRunStatus, phase: RunPhase, previous: bool) -> String {
    let ended = status.history.iter().rev().nth(usize::from(previous));
    match ended {
        Some(last) if last.reason == Some(ExitReason::Completed) => format!(
            "has no pod any more; attempt {} is done (`compute.keepJobs: Always` keeps logs of what went well)",
            last.number
        ),
        Some(last) => {
            let lines = describe::indented(&last.log, 4);
            format!("has no pod any more; attempt {} {}\n{lines}", last.number, retry::describe(last))
                .trim_end()
                .to_owned()
        }
        None if previous => "has had no attempt before this one".to_owned(),
        None if phase == RunPhase::Succeeded => "was done before, and is whole in the store".to_owned(),
        None if status.waiting_for.is_empty() => "has no pod yet".to_owned(),
        None => format!("has no pod yet: it {}", status.waiting_for),
    }
}

/// The pods of these runs.
async fn pods(cluster: &Cluster, runs: &[&RunSummary]) -> Result<Vec<Pod>, Exit> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = runs.iter().map(|run| run.name.as_str()).collect();
    // An address can be only so long.
    let mut all = Vec::new();
    for names in names.chunks(50) {
        let labels = format!("{} in ({})", names::RUN_LABEL, names.join(","));
        let api = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        all.extend(cluster.list(&api, "pods", &ListParams::default().labels(&labels)).await?.items);
    }
    Ok(all)
}

/// The pod of a run's newest attempt, or of one so many `back`; of several hosts that of the first one.
fn newest<'a>(pods: &'a [Pod], run: &str, back: usize) -> Option<&'a Pod> {
    let its = pods.iter().filter(|pod| pod.labels().get(names::RUN_LABEL).is_some_and(|of| of == run));
    let mut attempts: BTreeMap<u32, &Pod> = BTreeMap::new();
    for pod in its {
        let newest = attempts.entry(PodFacts::of(pod).number).or_insert(pod);
        let rank = |pod: &Pod| (std::cmp::Reverse(PodFacts::of(pod).index), pod.creation_timestamp());
        if rank(newest) < rank(pod) {
            *newest = pod;
        }
    }
    attempts.into_values().rev().nth(back)
}

/// Prints a pod's log.
async fn stream(cluster: &Cluster, pod: &Pod, follow: bool, prefix: &str) -> Result<(), Exit> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let parameters = LogParams { container: Some(CONTAINER.to_owned()), follow, ..LogParams::default() };
    let failed = |error: &kube::Error| cluster.explained("get", "pods/log", error);
    let log = api.log_stream(&pod.name_any(), &parameters).await.map_err(|error| failed(&error))?;
    let mut lines = log.lines();
    loop {
        match lines.try_next().await {
            Ok(Some(line)) => say(&format!("{prefix}{line}\n")),
            Ok(None) => return Ok(()),
            Err(error) => return Err(failed(&kube::Error::ReadEvents(error))),
        }
    }
}

/// Prints the logs of all attempts from now on, until the experiment is over.
async fn follow(cluster: &Cluster, arguments: &Arguments) -> Result<(), Exit> {
    let name = &arguments.which.experiment;
    let (mut begun, mut streams, mut lost) = (BTreeSet::new(), FuturesUnordered::new(), false);
    loop {
        match look(cluster, arguments).await {
            Ok((over, found)) => {
                if std::mem::take(&mut lost) {
                    complain("the cluster answers again");
                }
                for (title, pod) in found {
                    if begun.insert(pod.uid().unwrap_or_default()) {
                        let prefix = if arguments.run.is_some() { String::new() } else { format!("[{title}] ") };
                        streams.push(async move {
                            let ended = stream(cluster, &pod, true, &prefix).await;
                            (pod, ended)
                        });
                    }
                }
                if over && streams.is_empty() {
                    return Ok(());
                }
            }
            Err(Exit::Failed(message)) if !begun.is_empty() => {
                if !std::mem::replace(&mut lost, true) {
                    complain(&format!("{message}; trying again"));
                }
            }
            Err(error) => return Err(error),
        }
        let mut pause = std::pin::pin!(tokio::time::sleep(LOOK));
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some((pod, Err(error))) = streams.next() => {
                    // It is gone, or the connection is: what is there is looked at anew.
                    let Exit::Failed(message) = error else { return Err(error) };
                    complain(&format!("{}: its log broke off: {message}", pod.name_any()));
                }
                _ = tokio::signal::ctrl_c() => {
                    return Err(Exit::Interrupted(format!("no longer followed; experiment {name} goes on")));
                }
            }
        }
    }
}

/// Whether it is over, and the pods whose logs can be read, with the titles of their runs.
async fn look(cluster: &Cluster, arguments: &Arguments) -> Result<(bool, Vec<(String, Pod)>), Exit> {
    let status = cluster.status(&arguments.which.experiment).await?;
    let chosen = chosen(&status, arguments.run.as_deref())?;
    let trials = describe::trials(&status);
    let pods = pods(cluster, &chosen).await?;
    let found = chosen.iter().filter_map(|run| Some((title(run, trials), newest(&pods, &run.name, 0)?.clone())));
    let readable = |pod: &Pod| PodFacts::of(pod).waits.is_none() || PodFacts::of(pod).end.is_some();
    let over = status.phase.is_final() || chosen.iter().all(|run| run.phase.is_final());
    Ok((over, found.filter(|(_, pod)| readable(pod)).collect()))
}
