//! From the command line to a running operator, and to its end.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bam_crds::names;
use bam_crds::profile::ProfileKind;
use clap::Parser;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as flag};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::api::Server;
use super::cache::Changed;
use super::counted::counted;
use super::events::Events;
use super::facts::{PodFacts, ProfileFacts, RunFacts};
use super::job::Trainer;
use super::lease::{Candidate, Leadership};
use super::metrics::{Metrics, State};
use super::observe::Seen;
use super::profiles::{self, OF_NO_NAMESPACE};
use super::progress::{self, Told};
use super::serve::{Health, Heartbeat, Readiness, serve};
use super::unseen::Unseen;
use super::watch::{Name, Reports, watch};
use super::{BEAT, Clock, Cluster, Settings, memory, queue, telemetry, wake};
use crate::platform::{Subject, drive};

const EXPERIMENTS: Name = Name { kind: "bamexperiments", readiness: "watch of bamexperiments" };
const RUNS: Name = Name { kind: "bamruns", readiness: "watch of bamruns" };
const JOBS: Name = Name { kind: "jobs", readiness: "watch of jobs" };
const PODS: Name = Name { kind: "pods", readiness: "watch of pods" };
const HINDRANCES: Name = Name { kind: "events", readiness: "watch of events" };
const PROFILES: Name = Name { kind: "bamprofiles", readiness: "watch of bamprofiles" };
const CLUSTER_PROFILES: Name = Name { kind: "clusterbamprofiles", readiness: "watch of clusterbamprofiles" };
const CLAIMS: Name = Name { kind: "persistentvolumeclaims", readiness: "watch of persistentvolumeclaims" };

const WORKLOADS: Name = Name { kind: "workloads", readiness: "watch of workloads" };

/// Everything is looked at again this often, whatever the watches say.
const RESYNC: Duration = Duration::from_mins(10);
/// No answer is waited for longer, and no watch is silent for longer.
const READ_PATIENCE: Duration = Duration::from_mins(5);
/// At its end an operator waits no longer until its last events are written.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The main loop is stuck if it has not gone round for so many beats.
const MISSED_BEATS: u32 = 12;

/// Runs the operator until SIGTERM or SIGINT.
pub async fn main() -> ExitCode {
    memory::keep_small();
    let settings = Settings::parse();
    // Two providers in one program would be a panic at the first connection; this is the one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let telemetry = match telemetry::start(settings.log_format) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("traces: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    drop(telemetry);
    code
}

async fn run(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let stop = stop_signal()?;
    let reports = reports();
    let client = counted(client().await?, reports.metrics.clone());
    let listener = TcpListener::bind(settings.listen).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %settings.listen, "bam-operator");

    let mut over = stop.clone();
    let until = async move { drop(over.wait_for(|stop| *stop).await) };
    tokio::spawn(memory::give_back());
    let server = tokio::spawn(serve(listener, reports.health.clone(), reports.metrics.clone(), until));
    operate(settings, Outside { client, clock: Clock::system(), name: name(), stop }, reports).await?;
    server.await??;
    tracing::info!("stopped");
    Ok(())
}

/// What an operator gets from outside: everything else it makes itself.
pub struct Outside {
    /// The way to the API server.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// Of this operator: no other one that runs has it.
    pub name: String,
    /// True as soon as the operator is to stop.
    pub stop: flag::Receiver<bool>,
}

/// Whom an operator tells how it is: nothing was seen yet, and nothing counted.
pub fn reports() -> Reports {
    let health = Health {
        readiness: Readiness::new(
            [EXPERIMENTS, RUNS, JOBS, PODS, CLAIMS, PROFILES, CLUSTER_PROFILES].map(|name| name.readiness),
        ),
        heartbeat: Heartbeat::new(BEAT * MISSED_BEATS),
    };
    Reports { health: Arc::new(health), metrics: Arc::new(Metrics::new()) }
}

/// Watches, waits until everything was seen once, and drives.
///
/// # Errors
/// If a part of it ends that must not.
pub async fn operate(settings: Settings, outside: Outside, reports: Reports) -> Result<(), Box<dyn std::error::Error>> {
    let Outside { client, clock, name, stop } = outside;
    let (wake, woken) = mpsc::unbounded_channel();
    let (seen, told) = (Arc::new(Seen::default()), Arc::new(Told::default()));
    let mut tasks = JoinSet::new();
    start_watches(&mut tasks, &client, settings.namespace.as_deref(), &reports, &seen, &wake);
    if settings.kueue {
        let (client, namespace) = (client.clone(), settings.namespace.clone());
        tasks.spawn(watch_queues(client, namespace, reports.clone(), seen.clone(), wake.clone()));
    }
    let leadership = settings.lease.as_ref().map_or_else(Leadership::alone, |_| Leadership::of_one_of_several());
    let server = Server::new(client.clone(), reports.metrics.clone(), leadership.clone());
    let mut candidate = settings
        .lease
        .map(|lease| Candidate::new(server.clone(), &client, clock.clone(), leadership.clone(), lease, name.clone()));
    let mut telling = JoinSet::new();
    let events = Events::start(&mut telling, &client, &leadership, &name);
    let cluster = Cluster {
        server,
        clock,
        events,
        trainer: Trainer { image: settings.trainer_image, pull_policy: settings.trainer_image_pull_policy },
        seen: seen.clone(),
        unseen: Unseen::default(),
        told: told.clone(),
        metrics: reports.metrics.clone(),
        health: reports.health.clone(),
        woken: tokio::sync::Mutex::new(woken),
        stop: stop.clone(),
        failures: Mutex::default(),
        looks: Mutex::default(),
        queued: Mutex::new((0, Instant::now())),
    };
    let all_seen = async {
        while !reports.health.readiness.missing().is_empty() {
            reports.health.heartbeat.beat();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut stopped = stop.clone();
    tokio::select! {
        () = all_seen => tracing::info!("everything was seen once"),
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        ended = tasks.join_next() => return Err(lost(&ended)),
    }
    // With everything in view already: the next one is at work as soon as it leads.
    tokio::select! {
        () = win(&mut candidate, &reports) => reports.metrics.leads(),
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        ended = tasks.join_next() => return Err(lost(&ended)),
    }
    let again = wake.clone();
    let every = Duration::from_secs(settings.progress_seconds);
    let metrics = reports.metrics.clone();
    tasks.spawn(progress::follow(seen.clone(), told, metrics, every, move |namespace, run| {
        send(&again, [Subject::run(namespace, run)]);
    }));
    tasks.spawn(resync(seen, wake));
    tokio::select! {
        // It never fails: every error is told, and tried again.
        _ = drive(&cluster) => {}
        () = count(&cluster) => {}
        why = keep(&mut candidate) => return Err(why.into()),
        ended = tasks.join_next() => return Err(lost(&ended)),
    }
    // What happened until now is told, if anybody listens.
    drop(cluster);
    let _ = tokio::time::timeout(LAST_WORDS, telling.join_all()).await;
    if let Some(candidate) = &mut candidate {
        candidate.resign().await;
    }
    Ok(())
}

async fn win(candidate: &mut Option<Candidate>, reports: &Reports) {
    if let Some(candidate) = candidate {
        candidate.win(|| reports.health.heartbeat.beat()).await;
    }
}

async fn keep(candidate: &mut Option<Candidate>) -> String {
    match candidate {
        Some(candidate) => candidate.keep().await,
        None => std::future::pending().await,
    }
}

/// The pod's; outside of one, the process'.
fn name() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    })
}

/// No task ends by itself, and without one of them the others would work on what is no longer so.
fn lost(task: &Option<Result<(), JoinError>>) -> Box<dyn std::error::Error> {
    format!("a task of the operator ended, and it cannot go on without: {task:?}").into()
}

/// A client whose requests end: with retries of its own it would hold up passes that have a pause of their own, and without
/// a limit a list that nobody answers would be waited for without an end. (Watches hear something every minute.)
async fn client() -> Result<Client, Box<dyn std::error::Error>> {
    let mut config = kube::Config::infer().await?;
    (config.read_timeout, config.default_retry) = (Some(READ_PATIENCE), false);
    Ok(Client::try_from(config)?)
}

fn start_watches(
    tasks: &mut JoinSet<()>,
    client: &Client,
    namespace: Option<&str>,
    reports: &Reports,
    seen: &Arc<Seen>,
    wake: &mpsc::UnboundedSender<Subject>,
) {
    // Those of runs alone.
    let ours = || Config::default().labels(names::RUN_LABEL);
    macro_rules! start {
        ($name:expr, $config:expr, $cache:ident, $wakes:expr) => {{
            let (seen, wake, reports) = (seen.clone(), wake.clone(), reports.clone());
            let api = api(client, namespace);
            tasks.spawn(async move {
                let changed = |changed| send(&wake, $wakes(&seen, &changed));
                watch($name, api, $config, reports, &seen.$cache, changed, |_| false).await
            });
        }};
    }
    start!(EXPERIMENTS, Config::default(), experiments, wake::by_experiment);
    start!(RUNS, Config::default(), runs, |seen: &Seen, changed: &Changed<RunFacts>| {
        seen.forget(&changed.key.0, &changed.key.1);
        wake::by_run(seen, changed)
    });
    start!(JOBS, ours(), jobs, |_: &Seen, changed: &_| wake::by_part(changed));
    start!(PODS, ours(), pods, |seen: &Seen, changed: &Changed<PodFacts>| {
        let woken = wake::by_part(changed);
        woken.iter().for_each(|run| seen.forget(&run.namespace, &run.name));
        woken
    });
    // Those alone that tell why a Job has no pod. Nothing else waits for them.
    start!(HINDRANCES, hindrances(), hindrances, |_: &Seen, changed: &_| wake::by_part(changed));
    start!(CLAIMS, Config::default(), claims, wake::by_claim);
    macro_rules! start_profiles {
        ($name:expr, $kind:ident, $api:expr, $cache:ident) => {{
            let (seen, wake, reports, api) = (seen.clone(), wake.clone(), reports.clone(), $api);
            tasks.spawn(async move {
                let changed = |changed: Changed<_>| {
                    tell_undecodable($name, &changed);
                    send(&wake, wake::by_profile(&seen, ProfileKind::$kind, &changed));
                };
                let refused = |code| is_unreadable(&seen, &wake, ProfileKind::$kind, code);
                watch($name, api, Config::default(), reports, &seen.profiles.$cache, changed, refused).await
            });
        }};
    }
    start_profiles!(PROFILES, BamProfile, api(client, namespace), namespaced);
    if namespace.is_none() {
        start_profiles!(CLUSTER_PROFILES, ClusterBamProfile, Api::all(client.clone()), cluster);
    } else {
        seen.profiles.note(ProfileKind::ClusterBamProfile, Some(OF_NO_NAMESPACE.to_owned()));
        reports.health.readiness.ready(CLUSTER_PROFILES.readiness);
    }
}

fn tell_undecodable<K>(name: Name, changed: &Changed<ProfileFacts<K>>) {
    if let Some(Err(error)) = changed.after.as_ref().map(|facts| &facts.found) {
        let (namespace, profile) = &changed.key;
        tracing::warn!(namespace, "{} {profile} cannot be understood: {error}", name.kind);
    }
}

/// Can profiles of this kind not be read, by this answer? Says so once, and wakes those who name one when that changes.
fn is_unreadable(seen: &Seen, wake: &mpsc::UnboundedSender<Subject>, kind: ProfileKind, code: Option<u16>) -> bool {
    let unreadable = code.and_then(|code| profiles::unreadable(kind, code));
    let (is_answer, why) = (unreadable.is_some(), unreadable.clone().unwrap_or_default());
    // Of another error nobody can say what it means.
    if (is_answer || code.is_none()) && seen.profiles.note(kind, unreadable) {
        match is_answer {
            true => tracing::warn!("experiments cannot name a {kind:?}: {why}"),
            false => tracing::info!("experiments can name a {kind:?}"),
        }
        send(wake, wake::by_profiles(seen, kind, |_| true));
    }
    is_answer
}

/// Nothing else waits for them, and they may come later, or never.
async fn watch_queues(
    client: Client,
    namespace: Option<String>,
    reports: Reports,
    seen: Arc<Seen>,
    wake: mpsc::UnboundedSender<Subject>,
) {
    let resource = queue::workloads(&client).await;
    tracing::info!(version = resource.api_version, "watches the Workloads of Kueue");
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let changed = |changed: Changed<_>| send(&wake, wake::by_part(&changed));
    // Kueue may go again.
    let refused = |code| code == Some(404);
    watch(WORKLOADS, api, Config::default(), reports, &seen.workloads, changed, refused).await
}

fn hindrances() -> Config {
    Config::default().fields("involvedObject.kind=Job,reason=FailedCreate")
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Nobody listens any more only when the process ends.
fn send(wake: &mpsc::UnboundedSender<Subject>, subjects: impl IntoIterator<Item = Subject>) {
    subjects.into_iter().for_each(|subject| drop(wake.send(subject)));
}

async fn resync(seen: Arc<Seen>, wake: mpsc::UnboundedSender<Subject>) {
    loop {
        tokio::time::sleep(RESYNC).await;
        send(
            &wake,
            seen.experiments.all().into_iter().map(|((namespace, name), _)| Subject::experiment(namespace, name)),
        );
        send(&wake, seen.runs.all().into_iter().map(|((namespace, name), _)| Subject::run(namespace, name)));
    }
}

/// Keeps the gauges up to date.
async fn count(cluster: &Cluster) {
    loop {
        let (queued, _) = *cluster.queued.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut state = State::new(queued, cluster.failures().len());
        for ((namespace, _), facts) in cluster.seen.experiments.all() {
            match &facts.kept {
                Ok(_) => state.experiment(&namespace, facts.phase),
                Err(_) => state.undecodable(EXPERIMENTS.kind),
            }
        }
        for ((namespace, _), facts) in cluster.seen.runs.all() {
            match &facts.kept {
                Ok(_) => state.run(&namespace, facts.role, facts.phase, facts.progress.as_ref()),
                Err(_) => state.undecodable(RUNS.kind),
            }
        }
        let profiles = &cluster.seen.profiles;
        let strange = profiles.namespaced.all().into_iter().filter(|(_, facts)| facts.found.is_err());
        strange.for_each(|_| state.undecodable(PROFILES.kind));
        let strange = profiles.cluster.all().into_iter().filter(|(_, facts)| facts.found.is_err());
        strange.for_each(|_| state.undecodable(CLUSTER_PROFILES.kind));
        cluster.metrics.set_state(&state);
        tokio::time::sleep(BEAT).await;
    }
}

/// True from the first SIGTERM or SIGINT on.
fn stop_signal() -> std::io::Result<flag::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = flag::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; what was begun is ended");
        let _ = stop.send(true);
        // Kept, so that the flag stays.
        std::future::pending::<()>().await;
    });
    Ok(stopped)
}
