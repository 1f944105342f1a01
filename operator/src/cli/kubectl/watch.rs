//! `kubectl bam watch`: what a person sees of an experiment until it is over. It changes nothing.

use std::pin::pin;
use std::time::Duration;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::RunPhase;
use bam_crds::{BamExperiment, BamExperimentStatus, Progress};
use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};

use super::super::describe::{self, Logs};
use super::super::{Exit, is_bold, say, screen, table};
use super::Place;
use super::cluster::{Cluster, EXPERIMENTS, causes, is_refusal};
use crate::local::Screen;

/// The API server ends a watch after so many seconds, and a new one begins: so a silent connection is a lost one.
const WATCH_SECONDS: u32 = 30;
/// A connection on which nothing is heard for longer is lost.
const SILENCE: Duration = Duration::from_secs(40);
/// An operator looks at an experiment sooner than that.
const OVERLOOKED: Duration = Duration::from_secs(15);

pub async fn watch(place: &Place, name: &str, plain: bool) -> Result<(), Exit> {
    let cluster = Cluster::with_patience(place, Some(SILENCE)).await?;
    // First of all, what cannot be watched is said.
    cluster.get(name).await?;
    let screen = screen::open(plain);
    let ended = follow(&cluster, name, &*screen).await;
    screen.finish();
    let ended = ended?;
    let logs = cluster.logs_of_failed(&ended).await;
    conclude(name, &ended, &logs)
}

/// Shows the experiment until it is over.
async fn follow(cluster: &Cluster, name: &str, screen: &dyn Screen) -> Result<BamExperimentStatus, Exit> {
    let config = Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let mut events = pin!(watcher(cluster.experiments(), config).default_backoff());
    let mut view = View { name, screen, waits: String::new(), is_lost: false, is_listed: false, is_observed: false };
    let mut overlooked = pin!(tokio::time::sleep(OVERLOOKED));
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut overlooked, if !overlooked.is_elapsed() => {
                view.overlooked();
                continue;
            }
            _ = tokio::signal::ctrl_c() => {
                return Err(Exit::Interrupted(format!(
                    "no longer watched; experiment {name} goes on (`kubectl bam suspend {name}` would stop it)"
                )));
            }
        };
        match event {
            Some(Ok(event)) => {
                if let Some(status) = view.event(event)? {
                    return Ok(status);
                }
            }
            Some(Err(error)) => view.lost(cluster, &error)?,
            None => return Err(Exit::failed("the watch ended: try again")),
        }
    }
}

struct View<'a> {
    name: &'a str,
    screen: &'a dyn Screen,
    /// What it was said to wait for last.
    waits: String,
    is_lost: bool,
    /// Whether the list that is being read has it.
    is_listed: bool,
    /// Whether an operator has looked at it.
    is_observed: bool,
}

impl View<'_> {
    /// Shows what has happened. Its status, if it is over.
    fn event(&mut self, event: Event<BamExperiment>) -> Result<Option<BamExperimentStatus>, Exit> {
        // The first word of a new list is said before the cluster is asked.
        if !matches!(event, Event::Init) && std::mem::take(&mut self.is_lost) {
            tracing::warn!("the cluster answers again");
        }
        match event {
            Event::Init => self.is_listed = false,
            Event::InitDone if self.is_listed => {}
            Event::InitDone | Event::Delete(_) => {
                return Err(Exit::failed(format!(
                    "experiment {} was deleted; what it trained stays in the store",
                    self.name
                )));
            }
            Event::Apply(experiment) | Event::InitApply(experiment) => {
                self.is_listed = true;
                return Ok(self.show(experiment));
            }
        }
        Ok(None)
    }

    fn show(&mut self, experiment: BamExperiment) -> Option<BamExperimentStatus> {
        let status = experiment.status.unwrap_or_default();
        self.is_observed |= status.observed_generation.is_some();
        self.screen.experiment(&status);
        let running = status.runs.iter().filter(|run| run.phase == RunPhase::Running);
        for (run, progress) in running.filter_map(|run| Some((&run.name, run.progress.as_ref()?))) {
            let (stage, done, total) = (progress.stage, progress.done, progress.total);
            self.screen.progress(run, &Progress::new(stage, done, total));
        }
        // While something trains, that is shown.
        if status.runs.iter().all(|run| run.phase != RunPhase::Running) && status.waiting_for != self.waits {
            self.waits.clone_from(&status.waiting_for);
            if !self.waits.is_empty() {
                tracing::info!("waits: {}", self.waits);
            }
        }
        // A status of an older spec is not the end: somebody may just have asked for another try.
        let of_now =
            status.observed_generation.is_none() || status.observed_generation == experiment.metadata.generation;
        (status.phase.is_final() && of_now).then_some(status)
    }

    fn lost(&mut self, cluster: &Cluster, error: &watcher::Error) -> Result<(), Exit> {
        use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
        let (InitialListFailed(inner) | WatchStartFailed(inner) | WatchFailed(inner)) = error else {
            // What was watched for too long is listed again.
            return Ok(());
        };
        if is_refusal(inner) {
            return Err(cluster.explained("watch", EXPERIMENTS, inner));
        }
        if !std::mem::replace(&mut self.is_lost, true) {
            tracing::warn!("the cluster does not answer ({}); trying again, and the experiment goes on", causes(inner));
        }
        Ok(())
    }

    fn overlooked(&self) {
        if !self.is_observed {
            tracing::warn!("no operator has looked at experiment {} yet: is one running?", self.name);
        }
    }
}

/// Shows what came of it.
fn conclude(name: &str, status: &BamExperimentStatus, logs: &Logs) -> Result<(), Exit> {
    say(&table::scores(status, is_bold()));
    match status.phase {
        ExperimentPhase::Complete => Ok(()),
        ExperimentPhase::Cancelled => Err(Exit::failed(format!("{name} is cancelled; what it trained stays"))),
        _ => {
            let place = |run: &str| format!("log: kubectl bam logs {name} --run {run}");
            Err(Exit::failed(describe::failures(status, logs, place)))
        }
    }
}
