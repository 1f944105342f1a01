//! The planner: from what a person asked for and what was seen to what is done next, as data.
//!
//! Everything in here is synchronous, deterministic and infallible. It sees no client, no clock, no file and no
//! randomness: time is an argument, maps are ordered. So the cluster, the laptop and the tests get the same decisions,
//! and a plan can be printed, compared and tested as text.
//!
//! * [`teachers`] finds the teachers that a manifest names;
//! * [`profile`] lays a manifest over the profile that it names;
//! * [`graph`] turns an experiment into the runs it consists of;
//! * [`gate`] judges teachers, and chooses among several;
//! * [`experiment`] decides which of them are made, and folds them into the experiment's status;
//! * [`run`] decides when a run is tried, and how it stands;
//! * `size` keeps statuses short;
//! * [`retry`] says who pays for an attempt that failed, [`usage`] what it cost;
//! * [`why`] holds the reason for every action, and for its absence.

pub mod experiment;
pub mod gate;
pub mod graph;
mod places;
pub mod profile;
pub mod retry;
pub mod run;
mod size;
mod standing;
pub mod status;
mod steps;
pub mod teachers;
pub mod usage;
pub mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bam_crds::BamRunSpec;
use bam_crds::run::Role;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use retry::Rung;
pub use why::Why;

/// What is done next, and how things stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<Status> {
    /// What to do, in order. Doing one twice, late or not at all is safe.
    pub actions: Vec<Planned>,
    /// The status to publish.
    pub status: Status,
    /// Look again at this moment, even if nothing happens.
    pub revisit: Option<Timestamp>,
    /// By run: why it stands where it stands. Every run that is not under way has one.
    pub whys: BTreeMap<String, Why>,
}

/// An action with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What to call the run that it is about: `teacher rte`.
    pub title: String,
    /// What to do.
    pub action: Action,
    /// Why.
    pub why: Why,
}

/// One effect, so specific that carrying it out leaves no choice.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make this run. If there is one of that name, it is the same run: join it.
    CreateRun {
        /// Its name, which is the hash of what it trains.
        name: String,
        /// What it is.
        spec: Box<BamRunSpec>,
    },
    /// Become an owner of this run, which another experiment made: it stays as long as somebody needs it.
    JoinRun {
        /// Its name.
        name: String,
    },
    /// Have a run that is over tried again: merge this into what was asked of it before.
    Reopen {
        /// The run.
        run: String,
        /// Which of its attempts no longer count, and who says so.
        reopened: Reopened,
    },
    /// Begin this attempt. If there is one of that number, it was begun before: leave it.
    StartAttempt(Start),
    /// Have this attempt write a checkpoint and end. If it has ended, leave it.
    StopAttempt {
        /// The run.
        run: String,
        /// The attempt.
        number: u32,
    },
    /// Delete this experiment: it was over long enough ago.
    RemoveExperiment,
    /// Remove what is left of an attempt that is over and told of in its run's status.
    RemoveAttempt {
        /// The run.
        run: String,
        /// The attempt.
        number: u32,
    },
}

/// What to call a run where nothing is known of its experiment: `teacher rte`, `student of rte and mrpc (seed 2)`.
fn title(spec: &BamRunSpec) -> String {
    let Some(config) = &spec.config else { return "inputs check".to_owned() };
    let science = &config.science;
    let tasks: Vec<_> = science.tasks.iter().map(|task| task.name.as_str()).collect();
    match spec.role {
        Role::Student => format!("student of {} (seed {})", why::and(&tasks), science.seed),
        role => {
            let fold = science.fold.map(|fold| format!(" ({fold})")).unwrap_or_default();
            format!("{} {}{fold}", role.noun(), why::and(&tasks))
        }
    }
}

impl Action {
    /// Its name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateRun { .. } => "create_run",
            Self::JoinRun { .. } => "join_run",
            Self::Reopen { .. } => "reopen_run",
            Self::StartAttempt(_) => "start_attempt",
            Self::StopAttempt { .. } => "stop_attempt",
            Self::RemoveAttempt { .. } => "remove_attempt",
            Self::RemoveExperiment => "remove_experiment",
        }
    }

    /// The run that it is about; empty: the experiment itself.
    pub fn run(&self) -> &str {
        match self {
            Self::RemoveExperiment => "",
            Self::CreateRun { name, .. } | Self::JoinRun { name } => name,
            Self::Reopen { run, .. } | Self::StopAttempt { run, .. } | Self::RemoveAttempt { run, .. } => run,
            Self::StartAttempt(start) => &start.run,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRun { .. } => f.write_str("make its run"),
            Self::JoinRun { .. } => f.write_str("share its run"),
            Self::Reopen { .. } => f.write_str("open its run again"),
            Self::StopAttempt { number, .. } => write!(f, "stop attempt {number}"),
            Self::RemoveAttempt { number, .. } => write!(f, "remove attempt {number}"),
            Self::RemoveExperiment => f.write_str("delete it"),
            Self::StartAttempt(Start { number, rung: None, .. }) => write!(f, "start attempt {number}"),
            Self::StartAttempt(Start { number, rung: Some(rung), .. }) => {
                write!(f, "start attempt {number} with {rung}")
            }
        }
    }
}

/// One attempt to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The run.
    pub run: String,
    /// Counted from 1, never used twice.
    pub number: u32,
    /// How little memory it may take; absent: as its spec says.
    pub rung: Option<Rung>,
}

/// A run that was over and is tried again. Counted in attempts and not in time: clocks may differ, and Kubernetes keeps
/// whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reopened {
    /// Attempts up to this number no longer count, neither as success nor as failure.
    pub after: u32,
    /// Who asked: the attempts that missed this run's targets, or a person.
    #[serde(default)]
    pub by: BTreeSet<String>,
}

impl Reopened {
    /// Both requests at once. The order in which requests arrive, and how often, does not matter.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        self.after = self.after.max(other.after);
        self.by.extend(other.by.iter().cloned());
        self
    }

    /// Is what a run reached in so many attempts void?
    pub fn voids(&self, attempts: u32) -> bool {
        !self.by.is_empty() && attempts <= self.after
    }
}
