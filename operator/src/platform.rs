//! Where attempts run, and the loop that connects it with the planner.
//!
//! A platform looks and acts; it decides nothing. So the cluster, the laptop and the tests share everything else.

mod queue;

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use bam_crds::{BamExperiment, BamExperimentStatus, BamRunSpec, BamRunStatus};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tracing::Instrument;

use crate::plan::{Action, Plan, Planned, experiment, run};
use queue::Queue;

/// An object that a plan is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// Where it is; empty without a cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An experiment.
    Experiment,
    /// A run.
    Run,
}

impl Subject {
    /// An experiment.
    pub fn experiment(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: Kind::Experiment, namespace: namespace.into(), name: name.into() }
    }

    /// A run.
    pub fn run(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: Kind::Run, namespace: namespace.into(), name: name.into() }
    }
}

impl Kind {
    /// As a word.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{separator}{}", self.kind.noun(), self.namespace, self.name)
    }
}

/// What was seen of a subject.
#[derive(Clone, Debug)]
pub enum Observed {
    /// Of an experiment.
    Experiment(Box<BamExperiment>, Box<experiment::Observed>),
    /// Of a run.
    Run(Box<BamRunSpec>, Box<run::Observed>),
}

/// How a subject stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// An experiment.
    Experiment(BamExperimentStatus),
    /// A run.
    Run(BamRunStatus),
}

/// A status that is to be made known.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The one that was published last.
    pub before: Status,
    /// The new one.
    pub after: Status,
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// Somebody did it before: the plan was made from an older look. The next one will see it.
    DoneBefore,
    /// It cannot be done just now; the next plan may try again.
    NotNow,
}

/// Where attempts run.
///
/// Futures need not be `Send`: a platform is driven from one task.
#[allow(async_fn_in_trait)]
pub trait Platform {
    /// What can go wrong here.
    type Error: std::error::Error;

    /// The time.
    fn now(&self) -> Timestamp;

    /// Waits until something may have changed, at most until `revisit`, and says what. None: it is over.
    ///
    /// May be dropped while it waits: what has changed must then be said the next time.
    async fn wait(&self, revisit: Option<Timestamp>) -> Result<Option<BTreeSet<Subject>>, Self::Error>;

    /// Looks at a subject. None: there is no such thing any more. What is seen may be out of date.
    async fn observe(&self, subject: &Subject) -> Result<Option<Observed>, Self::Error>;

    /// Carries out one action, decided for `subject`.
    async fn execute(&self, subject: &Subject, action: &Action) -> Result<Outcome, Self::Error>;

    /// Makes a status known. [`Outcome::NotNow`]: it was decided from an outdated look.
    async fn publish(&self, subject: &Subject, change: &Change) -> Result<Outcome, Self::Error>;

    /// Passes that may be under way at the same time, each over another subject.
    fn concurrency(&self) -> usize {
        1
    }

    /// Can this one wait while others are due? Nothing of it has ended, so that nothing else may begin.
    fn can_wait(&self, _: &Subject) -> bool {
        false
    }

    /// `count` says how many subjects wait for a pass. It looks at all of them.
    fn queued(&self, _count: impl FnOnce() -> usize) {}

    /// A pass over a subject is over.
    ///
    /// # Errors
    /// Its own, if the platform cannot go on after it. Otherwise: when to try again.
    fn passed(
        &self,
        _: &Subject,
        _: Duration,
        result: Result<(), Self::Error>,
    ) -> Result<Option<Timestamp>, Self::Error> {
        result.map(|()| None)
    }
}

/// How soon an action is planned anew that could not be done.
const NOT_NOW: SignedDuration = SignedDuration::from_secs(1);
/// How soon a subject is looked at again whose status could not be made known. What was in the way wakes it sooner, if there
/// was anything.
const UNPUBLISHED: SignedDuration = SignedDuration::from_secs(10);

/// Drives a platform until it says that it is over: wait for a change, look, plan, act, publish.
///
/// A subject is never passed over twice at the same time. What was begun is ended before this returns.
///
/// # Errors
/// The first after which the platform cannot go on. Everything is safe then, and driving may start again.
pub async fn drive<P: Platform>(platform: &P) -> Result<(), P::Error> {
    let mut queue = Queue::default();
    let mut passes = FuturesUnordered::new();
    loop {
        while passes.len() < platform.concurrency()
            && let Some(subject) = queue.take(platform.now(), |subject| platform.can_wait(subject))
        {
            passes.push(timed(platform, subject));
        }
        platform.queued(|| queue.due(platform.now()));
        let revisit = if passes.len() < platform.concurrency() { queue.next() } else { None };
        tokio::select! {
            biased;
            Some((subject, took, result)) = passes.next() => {
                let (revisit, result) = match result {
                    Ok(revisit) => (revisit, Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let again = platform.passed(&subject, took, result)?;
                queue.give_back(subject, again.or(revisit));
            }
            woken = platform.wait(revisit) => match woken? {
                Some(subjects) => queue.add(subjects, platform.now()),
                None => break,
            },
        }
    }
    while let Some((subject, took, result)) = passes.next().await {
        platform.passed(&subject, took, result.map(|_| ()))?;
    }
    Ok(())
}

type Passed<E> = (Subject, Duration, Result<Option<Timestamp>, E>);

async fn timed<P: Platform>(platform: &P, subject: Subject) -> Passed<P::Error> {
    let began = Instant::now();
    let Subject { kind, namespace, name } = &subject;
    let span = tracing::info_span!("reconcile", kind = kind.noun(), namespace, name);
    let result = pass(platform, &subject).instrument(span).await;
    (subject, began.elapsed(), result)
}

/// One pass over one subject: look, plan, act, publish. Returns when to look at it again even if nothing happens.
///
/// # Errors
/// Those of the platform. If an action cannot be carried out, the status is published all the same.
pub async fn pass<P: Platform>(platform: &P, subject: &Subject) -> Result<Option<Timestamp>, P::Error> {
    let now = platform.now();
    let Some(observed) = platform.observe(subject).await? else { return Ok(None) };
    let (actions, revisit, change) = match observed {
        Observed::Experiment(experiment, seen) => {
            let Plan { actions, status, revisit, .. } = experiment::plan(&experiment, &seen, now);
            (actions, revisit, Change { before: Status::Experiment(seen.status), after: Status::Experiment(status) })
        }
        Observed::Run(spec, seen) => {
            let Plan { actions, status, revisit, .. } = run::plan(&subject.name, &spec, &seen, now);
            (actions, revisit, Change { before: Status::Run(seen.status), after: Status::Run(status) })
        }
    };
    let acted = carry_out(platform, subject, &actions).await;
    let unpublished = change.after != change.before && platform.publish(subject, &change).await? == Outcome::NotNow;
    let again = unpublished.then(|| after(platform, UNPUBLISHED));
    Ok(acted?.into_iter().chain(again).chain(revisit).min())
}

/// Carries out all actions: one that fails keeps none of the others from being done. Returns when to plan anew those that
/// cannot be done now, or the first error.
async fn carry_out<P: Platform>(
    platform: &P,
    subject: &Subject,
    actions: &[Planned],
) -> Result<Option<Timestamp>, P::Error> {
    let (mut again, mut failed) = (None, None);
    for Planned { title, action, why } in actions {
        let span = tracing::info_span!("action", action = action.name(), run = action.run(), reason = why.reason());
        let outcome = match platform.execute(subject, action).instrument(span).await {
            Ok(outcome) => outcome,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        match outcome {
            Outcome::Done => {
                let namespace = Some(subject.namespace.as_str()).filter(|namespace| !namespace.is_empty());
                let (run, reason) = (action.run(), why.reason());
                tracing::info!(namespace, run, reason, "{title}: {action}, since it {why}");
            }
            Outcome::DoneBefore => tracing::debug!(run = action.run(), "{title}: {action}: done before"),
            Outcome::NotNow => again = Some(after(platform, NOT_NOW)),
        }
    }
    failed.map_or(Ok(again), Err)
}

fn after<P: Platform>(platform: &P, pause: SignedDuration) -> Timestamp {
    platform.now().saturating_add(pause).unwrap_or(Timestamp::MAX)
}
