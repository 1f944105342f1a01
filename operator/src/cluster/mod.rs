//! The platform of a Kubernetes cluster: attempts are Jobs, and the API server remembers.
//!
//! ```text
//! watch --> facts, cache --> wake --> drive: observe --> plan --> execute (job, api) --> publish (status, story)
//!                                               ^
//!                                          progress
//! ```
//!
//! The files without a client in them are pure: [`facts`], [`observe`], [`wake`], [`job`], [`story`].

mod api;
pub mod cache;
mod clock;
mod error;
pub mod facts;
pub mod job;
mod lease;
pub mod metrics;
pub mod observe;
mod progress;
pub mod serve;
mod settings;
mod start;
pub mod story;
mod unseen;
pub mod wake;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bam_crds::{BamExperiment, BamRun, BamRunSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::{mpsc, watch as signal};

use crate::plan::{Action, Start, Why};
use crate::platform::{Change, Kind, Observed, Outcome, Platform, Status, Subject};
use api::{Object, Server};
pub use clock::Clock;
pub use error::Error;
use facts::{ExperimentFacts, PodFacts, RunFacts};
use job::{Owner, Trainer};
use lease::Leadership;
use metrics::Metrics;
use observe::Seen;
use progress::Told;
use serve::Health;
pub use settings::{LogFormat, Settings};
pub use start::{Outside, main, operate, reports};
use story::Chapter;
use unseen::{Known, Thing, Unseen};
pub use watch::Reports;

/// The loop goes round at least this often, also when nothing happens: it shows that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// First pause after a failed pass over a subject; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Passes at the same time: each is a few calls to the API server.
const CONCURRENCY: usize = 16;
/// An event is an extra, and waits for nobody.
const EVENT_PATIENCE: Duration = Duration::from_secs(5);

/// Kinds of objects, by their plurals.
const EXPERIMENTS: &str = "bamexperiments";
const RUNS: &str = "bamruns";
const JOBS: &str = "jobs";

/// A cluster as a platform.
pub struct Cluster {
    server: Server,
    leadership: Leadership,
    clock: Clock,
    recorder: Recorder,
    trainer: Trainer,
    seen: Arc<Seen>,
    unseen: Unseen,
    told: Arc<Told>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    woken: tokio::sync::Mutex<mpsc::UnboundedReceiver<Subject>>,
    stop: signal::Receiver<bool>,
    failures: Mutex<BTreeMap<Subject, Failure>>,
    /// What each pass that is under way looked at.
    looks: Mutex<BTreeMap<Subject, Look>>,
    queued: Mutex<usize>,
}

/// Which object a pass looked at, and which version of it.
#[derive(Clone, Debug)]
struct Look {
    uid: String,
    version: String,
}

/// Passes over a subject that failed one after the other.
#[derive(Clone, Debug)]
struct Failure {
    count: u32,
    /// What the API server said, if a person may have to do something about it.
    refused: Option<String>,
}

impl Cluster {
    fn failures(&self) -> MutexGuard<'_, BTreeMap<Subject, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<Subject, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaits(&self, subject: &Subject, look: &Look) -> bool {
        self.unseen.awaits(thing(subject), Some(Known { uid: &look.uid, version: Some(&look.version) }))
    }

    /// The version that was seen last.
    fn version(&self, Subject { kind, namespace, name }: &Subject) -> Option<String> {
        match kind {
            Kind::Experiment => self.seen.experiments.get(namespace, name).map(|facts| facts.version.clone()),
            Kind::Run => self.seen.runs.get(namespace, name).map(|facts| facts.version.clone()),
        }
    }

    fn refused(&self, subject: &Subject) -> Option<Why> {
        let message = self.failures().get(subject)?.refused.clone()?;
        Some(Why::Refused { message })
    }

    async fn create_run(&self, experiment: &Subject, name: &str, spec: &BamRunSpec) -> Result<Outcome, Error> {
        let Some(facts) = self.seen.experiments.get(&experiment.namespace, &experiment.name) else {
            return Ok(Outcome::NotNow);
        };
        if self.awaits_run(&experiment.namespace, name) {
            return Ok(Outcome::NotNow);
        }
        let maker = object(experiment, &facts.uid);
        // A deleted experiment's runs may be seen to go before it does: making them anew, for an owner that is gone, would
        // give them to the garbage collector, and perhaps take them from another experiment that has joined them.
        if !self.server.is_living(maker).await? {
            return Ok(Outcome::NotNow);
        }
        // Another experiment's pass may have made it meanwhile, or be at it.
        let Some(_making) = self.unseen.making((RUNS, &experiment.namespace, name)) else { return Ok(Outcome::NotNow) };
        let is_seen = self.seen.runs.get(&experiment.namespace, name).is_some();
        if is_seen || self.awaits_run(&experiment.namespace, name) {
            return Ok(Outcome::NotNow);
        }
        let made = self.server.create_run(maker, name, spec).await;
        let made = made.map(|metadata| self.unseen.made((RUNS, &experiment.namespace, name), &metadata));
        // One of that name that was not there a moment ago: another experiment's, or one on its way out. Both are seen soon.
        expect(made, &[409], Outcome::NotNow)
    }

    async fn join_run(&self, experiment: &Subject, name: &str) -> Result<Outcome, Error> {
        let Some((owner, run)) = self.both(experiment, name) else { return Ok(Outcome::NotNow) };
        if self.awaits_run(&experiment.namespace, name) {
            return Ok(Outcome::NotNow);
        }
        // Deleted with its orphans left behind, it is taken out of its runs before it is seen to go: it must not come back
        // as the one owner, who is gone, of a run that was to stay.
        if !self.server.is_living(object(experiment, &owner.uid)).await? {
            return Ok(Outcome::NotNow);
        }
        let run = Object { namespace: &experiment.namespace, name, uid: &run.uid };
        let joined = self.server.join_run(object(experiment, &owner.uid), run).await;
        expect(self.changed_run(run, joined), &[404, 409], Outcome::NotNow)
    }

    /// Does a watch still have to tell of what was done to this run?
    fn awaits_run(&self, namespace: &str, name: &str) -> bool {
        let facts = self.seen.runs.get(namespace, name);
        let known = facts.as_ref().map(|facts| Known { uid: &facts.uid, version: Some(&facts.version) });
        self.unseen.awaits((RUNS, namespace, name), known)
    }

    fn changed_run(&self, run: Object<'_>, changed: Result<ObjectMeta, Error>) -> Result<(), Error> {
        changed.map(|metadata| self.unseen.changed((RUNS, run.namespace, run.name), &metadata))
    }

    fn both(&self, experiment: &Subject, run: &str) -> Option<(Arc<ExperimentFacts>, Arc<RunFacts>)> {
        let owner = self.seen.experiments.get(&experiment.namespace, &experiment.name)?;
        Some((owner, self.seen.runs.get(&experiment.namespace, run)?))
    }

    async fn reopen_run(
        &self,
        namespace: &str,
        name: &str,
        reopened: &crate::plan::Reopened,
    ) -> Result<Outcome, Error> {
        let Some(run) = self.seen.runs.get(namespace, name) else { return Ok(Outcome::NotNow) };
        if run.reopened.clone().merged(reopened) == run.reopened {
            return Ok(Outcome::DoneBefore);
        }
        if self.awaits_run(namespace, name) {
            return Ok(Outcome::NotNow);
        }
        let run = Object { namespace, name, uid: &run.uid };
        expect(self.changed_run(run, self.server.reopen_run(run, reopened).await), &[404, 409], Outcome::NotNow)
    }

    async fn start_attempt(&self, namespace: &str, start: &Start) -> Result<Outcome, Error> {
        let Some(run) = self.seen.runs.get(namespace, &start.run) else { return Ok(Outcome::NotNow) };
        let Some((spec, _)) = run.living() else { return Ok(Outcome::NotNow) };
        let job = job::job(Owner { namespace, uid: &run.uid, spec }, start, &self.trainer);
        let name = job.metadata.name.clone().unwrap_or_default();
        let known = self.seen.jobs.get(namespace, &name);
        let known = known.as_ref().map(|job| Known { uid: &job.uid, version: None });
        if self.unseen.awaits((JOBS, namespace, &name), known) {
            return Ok(Outcome::NotNow);
        }
        let begun = self.server.create_job(namespace, &job).await.map(|metadata| {
            self.unseen.made((JOBS, namespace, &name), &metadata);
            self.metrics.attempt_started(spec.role, start.number);
        });
        let outcome = expect(begun, &[409], Outcome::NotNow)?;
        let Some(job) = self.seen.jobs.get(namespace, &name).filter(|_| outcome == Outcome::NotNow) else {
            return Ok(outcome);
        };
        if job.run_uid == run.uid {
            return Ok(Outcome::DoneBefore);
        }
        // Of an earlier run of that name: it goes by itself, unless somebody has left it without an owner.
        if !job.deleting {
            self.remove_job(Object { namespace, name: &name, uid: &job.uid }).await?;
        }
        Ok(Outcome::NotNow)
    }

    async fn remove_attempt(&self, namespace: &str, run: &str, number: u32) -> Result<Outcome, Error> {
        let jobs = self.seen.jobs.of_run(namespace, run);
        let Some((name, job)) = jobs.iter().find(|(_, job)| job.number == number) else {
            return Ok(Outcome::DoneBefore);
        };
        if job.deleting {
            return Ok(Outcome::DoneBefore);
        }
        self.remove_job(Object { namespace, name, uid: &job.uid }).await
    }

    async fn remove_job(&self, job: Object<'_>) -> Result<Outcome, Error> {
        let thing = (JOBS, job.namespace, job.name);
        if self.unseen.awaits(thing, Some(Known { uid: job.uid, version: None })) {
            return Ok(Outcome::DoneBefore);
        }
        let removed = self.server.delete_job(job).await.map(|()| self.unseen.removed(thing, job.uid));
        expect(removed, &[404, 409], Outcome::DoneBefore)
    }

    async fn remove_experiment(&self, experiment: &Subject) -> Result<Outcome, Error> {
        // The version that was looked at: if somebody has just asked for more of it, it stays.
        let Some(look) = self.looks().get(experiment).cloned() else { return Ok(Outcome::NotNow) };
        let deleted = self.server.delete_experiment(object(experiment, &look.uid), &look.version).await;
        let deleted = deleted.map(|()| self.unseen.removed(thing(experiment), &look.uid));
        expect(deleted, &[404, 409], Outcome::DoneBefore)
    }

    /// Tells what happened. Events are for people: none of them is worth a failed pass.
    async fn tell(&self, subject: &Subject, reference: &ObjectReference, story: Vec<Chapter>) {
        if !self.leadership.holds() {
            return;
        }
        for Chapter { warning, reason, action, note, run } in story {
            let secondary = run.and_then(|run| {
                let facts = self.seen.runs.get(&subject.namespace, &run)?;
                Some(reference_of::<BamRun>(&subject.namespace, &run, &facts.uid))
            });
            let type_ = if warning { EventType::Warning } else { EventType::Normal };
            let event = Event { type_, reason, note: Some(note), action, secondary };
            match tokio::time::timeout(EVENT_PATIENCE, self.recorder.publish(&event, reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("{subject}: cannot write the event {}: {error}", event.reason),
                Err(_) => tracing::warn!("{subject}: cannot write the event {}: no answer", event.reason),
            }
        }
    }

    /// An object that cannot be understood has no plan; whoever made it must hear of it.
    async fn tell_undecodable(&self, subject: &Subject, uid: &str, error: &str) {
        tracing::warn!("{subject} cannot be understood: {error}");
        let note = format!("this operator cannot understand the object, and leaves it alone: {error}");
        let story = vec![Chapter::new(true, "Undecodable", "Read", note)];
        self.tell(subject, &reference(subject, uid), story).await;
    }
}

/// What is told by these HTTP statuses is no error.
fn expect(result: Result<(), Error>, codes: &[u16], outcome: Outcome) -> Result<Outcome, Error> {
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.code().is_some_and(|code| codes.contains(&code)) => Ok(outcome),
        Err(error) => Err(error),
    }
}

fn thing(subject: &Subject) -> Thing<'_> {
    let kind = match subject.kind {
        Kind::Experiment => EXPERIMENTS,
        Kind::Run => RUNS,
    };
    (kind, &subject.namespace, &subject.name)
}

fn object<'a>(subject: &'a Subject, uid: &'a str) -> Object<'a> {
    Object { namespace: &subject.namespace, name: &subject.name, uid }
}

fn reference(subject: &Subject, uid: &str) -> ObjectReference {
    match subject.kind {
        Kind::Experiment => reference_of::<BamExperiment>(&subject.namespace, &subject.name, uid),
        Kind::Run => reference_of::<BamRun>(&subject.namespace, &subject.name, uid),
    }
}

fn reference_of<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

impl Platform for Cluster {
    type Error = Error;

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn wait(&self, revisit: Option<Timestamp>) -> Result<Option<BTreeSet<Subject>>, Error> {
        self.health.heartbeat.beat();
        let until = revisit.map(|at| Duration::try_from(at.duration_since(self.now())).unwrap_or_default());
        let mut woken = self.woken.lock().await;
        let mut stop = self.stop.clone();
        let mut subjects = Vec::new();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(None),
            _ = woken.recv_many(&mut subjects, 4096) => {}
            () = tokio::time::sleep(until.unwrap_or(BEAT).min(BEAT)) => {}
        }
        Ok(Some(subjects.into_iter().collect()))
    }

    async fn observe(&self, subject: &Subject) -> Result<Option<Observed>, Error> {
        let Subject { namespace, name, .. } = subject;
        let (look, undecodable) = match subject.kind {
            Kind::Experiment => {
                let Some(facts) = self.seen.experiments.get(namespace, name) else { return Ok(None) };
                let look = Look { uid: facts.uid.clone(), version: facts.version.clone() };
                (look, facts.experiment.as_ref().err().cloned())
            }
            Kind::Run => {
                let Some(facts) = self.seen.runs.get(namespace, name) else { return Ok(None) };
                (Look { uid: facts.uid.clone(), version: facts.version.clone() }, facts.run.as_ref().err().cloned())
            }
        };
        if let Some(error) = undecodable {
            self.tell_undecodable(subject, &look.uid, &error).await;
            return Ok(None);
        }
        // Its watch will tell of what was done to it last, and wake it.
        if self.awaits(subject, &look) {
            return Ok(None);
        }
        // Another operator may have written of a Job that this one has not heard of yet. Taken for one that somebody has
        // removed, its run would be tried again beside it.
        if subject.kind == Kind::Run {
            for job in self.seen.missing_jobs(namespace, name) {
                if self.server.has_job(object(subject, &look.uid), &job).await? {
                    return Ok(None);
                }
            }
            // Its Job is over, and the watch of pods has not said how: without its last word it would count as lost.
            for job_uid in self.seen.ends_without_a_word(namespace, name) {
                if self.server.has_ended_pod(object(subject, &look.uid), &job_uid).await? {
                    return Ok(None);
                }
            }
        }
        self.looks().insert(subject.clone(), look);
        Ok(match subject.kind {
            Kind::Experiment => self.seen.experiment(namespace, name).map(|(experiment, mut seen)| {
                seen.obstacle = self.refused(subject);
                Observed::Experiment(Box::new(experiment), Box::new(seen))
            }),
            Kind::Run => {
                let progress = self.told.by(namespace, name);
                self.seen.run(namespace, name, progress, self.now()).map(|(spec, mut seen)| {
                    seen.refused = self.refused(subject);
                    Observed::Run(Box::new(spec), Box::new(seen))
                })
            }
        })
    }

    async fn execute(&self, subject: &Subject, action: &Action) -> Result<Outcome, Error> {
        let namespace = &subject.namespace;
        let result = match action {
            Action::CreateRun { name, spec } => self.create_run(subject, name, spec).await,
            Action::JoinRun { name } => self.join_run(subject, name).await,
            Action::Reopen { run, reopened } => self.reopen_run(namespace, run, reopened).await,
            Action::StartAttempt(start) => self.start_attempt(namespace, start).await,
            Action::RemoveExperiment => self.remove_experiment(subject).await,
            // A pod whose Job is removed is told to end, and has time for a checkpoint.
            Action::StopAttempt { run, number } | Action::RemoveAttempt { run, number } => {
                self.remove_attempt(namespace, run, *number).await
            }
        };
        let outcome = match &result {
            Ok(Outcome::Done) => "done",
            Ok(Outcome::DoneBefore) => "done_before",
            Ok(Outcome::NotNow) => "not_now",
            Err(_) => "error",
        };
        self.metrics.action(action.name(), outcome);
        result
    }

    async fn publish(&self, subject: &Subject, change: &Change) -> Result<(), Error> {
        let Some(look) = self.looks().remove(subject) else { return Ok(()) };
        // Decided from what is outdated by now: the watch has told, or will, and it is looked at again.
        if self.awaits(subject, &look) || self.version(subject).is_some_and(|known| known != look.version) {
            return Ok(());
        }
        let Look { uid, version } = look;
        let of = object(subject, &uid);
        let (written, story) = match (&change.before, &change.after) {
            (Status::Experiment(before), Status::Experiment(after)) => {
                let written = self.server.write_experiment_status(of, &version, after).await;
                (written, story::of_experiment(before, after))
            }
            (Status::Run(before), Status::Run(after)) => {
                (self.server.write_run_status(of, &version, after).await, story::of_run(before, after))
            }
            // A status is of the kind of its subject.
            _ => return Ok(()),
        };
        let written = written.map(|metadata| self.unseen.changed(thing(subject), &metadata));
        // It is gone, or was changed since it was looked at: the watch tells, and it is looked at again.
        if expect(written, &[404, 409], Outcome::DoneBefore)? == Outcome::DoneBefore {
            return Ok(());
        }
        if let (Status::Run(before), Status::Run(after)) = (&change.before, &change.after) {
            if let Some((spec, _)) =
                self.seen.runs.get(&subject.namespace, &subject.name).as_ref().and_then(|it| it.living())
            {
                story::ended(before, after).for_each(|record| self.metrics.attempt_ended(spec.role, record));
            }
            let settled = after.history.last().map_or(0, |last| last.number);
            self.seen.pods.forget_gone(&subject.namespace, &subject.name, |pod: &PodFacts| pod.number <= settled);
        }
        self.tell(subject, &reference(subject, &uid), story).await;
        Ok(())
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn queued(&self, subjects: usize) {
        *self.queued.lock().unwrap_or_else(PoisonError::into_inner) = subjects;
    }

    fn passed(&self, subject: &Subject, took: Duration, result: Result<(), Error>) -> Result<Option<Timestamp>, Error> {
        self.looks().remove(subject);
        let error = match result {
            Ok(()) => {
                self.metrics.pass(subject.kind.noun(), "ok", took);
                self.failures().remove(subject);
                return Ok(None);
            }
            Err(error) => error,
        };
        let result = if matches!(error, Error::Timeout { .. }) { "timeout" } else { "error" };
        self.metrics.pass(subject.kind.noun(), result, took);
        let mut failures = self.failures();
        let failure = failures.entry(subject.clone()).or_insert(Failure { count: 0, refused: None });
        failure.count += 1;
        failure.refused = error.is_refusal().then(|| error.to_string());
        let pause = pause(failure.count);
        tracing::warn!("{subject}: {error}; tried again in {} s", pause.as_secs());
        let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO);
        Ok(Some(self.now().saturating_add(pause).unwrap_or(Timestamp::MAX)))
    }
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}
