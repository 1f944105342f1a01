//! The platform of a Kubernetes cluster: attempts are Jobs, and the API server remembers.
//!
//! ```text
//! watch --> facts, cache --> wake --> drive: observe --> plan --> execute (job, api) --> publish (api, story) --> events
//!                                               ^
//!                                          progress
//! ```
//!
//! The files without a client in them are pure: [`facts`], [`observe`], [`attempts`], [`wake`], [`job`], [`placement`], [`profiles`], [`slice`], [`story`].

mod api;
pub mod attempts;
pub mod cache;
mod clock;
mod counted;
mod error;
mod events;
mod execute;
pub mod facts;
pub mod job;
pub mod kept;
mod lease;
mod memory;
pub mod metrics;
pub mod observe;
pub mod placement;
pub mod profiles;
mod progress;
mod publish;
pub mod queue;
pub mod receiver;
pub mod serve;
mod settings;
pub mod slice;
mod start;
pub mod story;
mod telemetry;
mod unseen;
pub mod wake;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch as signal};
use tokio::time::Instant;

use crate::plan::{Action, Why};
use crate::platform::{Change, Kind, Observed, Outcome, Platform, Subject};
use api::{Object, Server};
pub use clock::Clock;
pub use error::Error;
use events::Events;
use job::Trainer;
use metrics::Metrics;
use observe::Seen;
use progress::Told;
use serve::Health;
pub use settings::{LogFormat, Settings};
pub use start::{Outside, main, operate, reports};
use unseen::{Known, Thing, Unseen};
pub use watch::Reports;

/// The loop goes round at least this often, also when nothing happens: it shows that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// What waits for a pass is counted at most this often: with thousands waiting, counting them at every turn would take
/// longer than the passes.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// First pause after a failed pass over a subject; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Passes at the same time: each is a few calls to the API server.
const CONCURRENCY: usize = 16;

/// Kinds of objects, by their plurals.
const EXPERIMENTS: &str = "bamexperiments";
const RUNS: &str = "bamruns";
const JOBS: &str = "jobs";

/// A cluster as a platform.
pub struct Cluster {
    server: Server,
    clock: Clock,
    events: Events,
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
    /// How many subjects wait for a pass, and when they were counted.
    queued: Mutex<(usize, Instant)>,
}

/// Which object a pass looked at, and which version of it.
#[derive(Clone, Debug)]
struct Look {
    uid: String,
    version: String,
    /// The API server itself said meanwhile that it is there, and to stay.
    lives: bool,
}

impl Look {
    fn at(uid: &str, version: &str) -> Self {
        Self { uid: uid.to_owned(), version: version.to_owned(), lives: false }
    }
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
        subjects.iter().for_each(|subject| self.metrics.standard().woken(subject));
        Ok(Some(subjects.into_iter().collect()))
    }

    async fn observe(&self, subject: &Subject) -> Result<Option<Observed>, Error> {
        self.metrics.standard().begins(subject);
        let Subject { namespace, name, .. } = subject;
        let (look, undecodable) = match subject.kind {
            Kind::Experiment => {
                let Some(facts) = self.seen.experiments.get(namespace, name) else { return Ok(None) };
                (Look::at(&facts.uid, &facts.version), facts.kept.as_ref().err().cloned())
            }
            Kind::Run => {
                let Some(facts) = self.seen.runs.get(namespace, name) else { return Ok(None) };
                (Look::at(&facts.uid, &facts.version), facts.kept.as_ref().err().cloned())
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
            for (job_uid, heard) in self.seen.ends_without_a_word(namespace, name) {
                if self.server.has_ended_pod(object(subject, &look.uid), &job_uid, &heard).await? {
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
        let result = self.carry_out(subject, action).await;
        let outcome = match &result {
            Ok(Outcome::Done) => "done",
            Ok(Outcome::DoneBefore) => "done_before",
            Ok(Outcome::NotNow) => "not_now",
            Err(_) => "error",
        };
        self.metrics.action(action.name(), outcome);
        result
    }

    async fn publish(&self, subject: &Subject, change: &Change) -> Result<Outcome, Error> {
        self.write_status(subject, change).await
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn can_wait(&self, subject: &Subject) -> bool {
        self.seen.can_wait(subject)
    }

    fn queued(&self, count: impl FnOnce() -> usize) {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        if queued.1.elapsed() >= COUNTED_EVERY {
            *queued = (count(), Instant::now());
        }
    }

    fn passed(&self, subject: &Subject, took: Duration, result: Result<(), Error>) -> Result<Option<Timestamp>, Error> {
        self.looks().remove(subject);
        let error = match result {
            Ok(()) => {
                self.metrics.standard().reconciled(subject, true, took);
                self.failures().remove(subject);
                return Ok(None);
            }
            Err(error) => error,
        };
        self.metrics.standard().reconciled(subject, false, took);
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
