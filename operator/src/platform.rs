//! Where attempts run, and the loop that connects it with the planner.
//!
//! A platform looks and acts; it decides nothing. So the cluster, the laptop and the tests share everything else.

use std::collections::{BTreeMap, BTreeSet};

use bam_crds::{BamExperiment, BamExperimentStatus, BamRunSpec, BamRunStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::plan::{Action, Plan, Planned, experiment, run};

/// An object that a plan is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An experiment, by its name.
    Experiment(String),
    /// A run, by its name.
    Run(String),
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

    /// Waits until something may have changed, at most until `revisit`, and says for what. None: it is over.
    async fn wait(&self, revisit: Option<Timestamp>) -> Result<Option<BTreeSet<Subject>>, Self::Error>;

    /// Looks at a subject. None: there is no such thing any more. What is seen may be out of date.
    async fn observe(&self, subject: &Subject) -> Result<Option<Observed>, Self::Error>;

    /// Carries out one action.
    async fn execute(&self, action: &Action) -> Result<Outcome, Self::Error>;

    /// Makes a status known.
    async fn publish(&self, subject: &Subject, status: &Status) -> Result<(), Self::Error>;
}

/// How soon an action is planned anew that could not be done.
const NOT_NOW: SignedDuration = SignedDuration::from_secs(1);

/// Drives a platform until it says that it is over: wait for a change, look, plan, act, publish.
///
/// # Errors
/// The first that the platform has. Everything is safe then, and driving may start again.
pub async fn drive<P: Platform>(platform: &P) -> Result<(), P::Error> {
    let mut revisits: BTreeMap<Subject, Timestamp> = BTreeMap::new();
    while let Some(mut subjects) = platform.wait(revisits.values().min().copied()).await? {
        let now = platform.now();
        subjects.extend(revisits.iter().filter(|(_, at)| **at <= now).map(|(subject, _)| subject.clone()));
        for subject in subjects {
            match pass(platform, &subject).await? {
                Some(revisit) => revisits.insert(subject, revisit),
                None => revisits.remove(&subject),
            };
        }
    }
    Ok(())
}

/// One pass over one subject. Returns when to look at it again even if nothing happens.
///
/// # Errors
/// Those of the platform.
pub async fn pass<P: Platform>(platform: &P, subject: &Subject) -> Result<Option<Timestamp>, P::Error> {
    let now = platform.now();
    let (actions, revisit, before, status) = match (platform.observe(subject).await?, subject) {
        (Some(Observed::Experiment(experiment, seen)), _) => {
            let Plan { actions, status, revisit, .. } = experiment::plan(&experiment, &seen, now);
            (actions, revisit, Status::Experiment(seen.status), Status::Experiment(status))
        }
        (Some(Observed::Run(spec, seen)), Subject::Run(name)) => {
            let Plan { actions, status, revisit, .. } = run::plan(name, &spec, &seen, now);
            (actions, revisit, Status::Run(seen.status), Status::Run(status))
        }
        _ => return Ok(None),
    };
    let soon = carry_out(platform, &actions).await?;
    if status != before {
        platform.publish(subject, &status).await?;
    }
    Ok(soon.or(revisit))
}

/// Carries out all actions. Returns when to plan anew those that cannot be done now.
async fn carry_out<P: Platform>(platform: &P, actions: &[Planned]) -> Result<Option<Timestamp>, P::Error> {
    let mut soon = None;
    for Planned { title, action, why } in actions {
        match platform.execute(action).await? {
            Outcome::Done => {
                tracing::info!(run = action.run(), reason = why.reason(), "{title}: {action}, since it {why}");
            }
            Outcome::DoneBefore => tracing::debug!(run = action.run(), "{title}: {action}: done before"),
            Outcome::NotNow => soon = Some(platform.now().saturating_add(NOT_NOW).unwrap_or(Timestamp::MAX)),
        }
    }
    Ok(soon)
}
