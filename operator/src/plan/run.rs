//! When a run is tried, and how it stands. A run knows its teachers and its attempts, and nothing of experiments.

use std::collections::BTreeMap;

use bam_crds::experiment::KeepJobs;
use bam_crds::run::{Failures, Role, RunPhase, RunProgress};
use bam_crds::{BamRunSpec, BamRunStatus, Digest, ExitReason, RunReport, names};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::retry::{self, Ending, Payer};
use super::status::{Finding, failure_message, set_condition, time};
use super::why::and;
use super::{Action, Plan, Planned, Reopened, Start, Why, usage};

/// What was seen of a run, perhaps out of date.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The status that was published last.
    pub status: BamRunStatus,
    /// The attempts that can still be seen, by number.
    pub attempts: BTreeMap<u32, Attempt>,
    /// What the store holds of it.
    pub stored: Stored,
    /// The runs that it learns from and that exist, by science hash.
    pub teachers: BTreeMap<Digest, Teacher>,
    /// Whether somebody wants it to be tried again.
    pub reopened: Reopened,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// All experiments that need it are suspended, or out of time.
    pub suspended: bool,
    /// What keeps another attempt from being begun, for now.
    pub obstacle: Option<Why>,
    /// Why the last try to begin one was refused. It is tried again all the same.
    pub refused: Option<Why>,
    /// When all this will be otherwise by the mere passing of time.
    pub look_again: Option<Timestamp>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// Where it stands.
    pub state: AttemptState,
    /// Whether there is something of it that can be removed when nobody needs it any more.
    pub removable: bool,
}

/// Where an attempt stands.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptState {
    /// Begun, and it is not its turn yet: what it waits for, to continue "attempt 1 …".
    Queued(String),
    /// Begun, but not at work yet: what it waits for, to continue "attempt 1 …".
    Starting(String),
    /// Alive, with what it says of its progress.
    Running(Option<RunProgress>),
    /// At work when it was heard of last, on the machine of this name, which does not answer.
    Silent(String),
    /// Over.
    Ended(Box<Ending>),
}

/// What the store holds of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Stored {
    /// Nobody can tell from here.
    #[default]
    Unseen,
    /// No whole manifest.
    Absent,
    /// A whole manifest, and the report beside it.
    Whole(Option<Box<RunReport>>),
}

/// A run that another one learns from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Teacher {
    /// Where it stands.
    pub phase: RunPhase,
    /// Its attempts so far.
    pub attempts: u32,
    /// What was asked of it.
    pub reopened: Reopened,
}

impl Teacher {
    /// Are its targets there, as far as is known?
    fn is_done(&self) -> bool {
        self.phase == RunPhase::Succeeded && !self.reopened.voids(self.attempts)
    }

    /// Will it not be tried again?
    fn has_failed(&self) -> bool {
        self.phase == RunPhase::Failed && !self.reopened.voids(self.attempts)
    }
}

/// Decides what to do about the run `name`.
pub fn plan(name: &str, spec: &BamRunSpec, observed: &Observed, now: Timestamp) -> Plan<BamRunStatus> {
    let case = Case { name, spec, observed };
    let mut status = observed.status.clone();
    case.reopen(&mut status);
    case.settle(&mut status, now);
    let verdict = case.judge(&status, now);
    apply(&mut status, &verdict, now);
    let stop = case.stop(&verdict, &mut status);
    status.observed_generation = observed.generation;
    for condition in &mut status.conditions {
        condition.observed_generation = observed.generation;
    }
    let why = verdict.why();
    let mut actions = case.begin(&verdict);
    actions.extend(stop);
    actions.extend(case.tidy_up());
    Plan { actions, status, revisit: case.revisit(&verdict), whys: BTreeMap::from([(name.to_owned(), why)]) }
}

/// What the last attempt of a run that ended missed of its teachers: their targets were gone, or not what they were.
#[derive(Default)]
pub struct Complaint<'a> {
    /// The attempt.
    pub attempt: u32,
    /// The teachers; mostly none.
    pub missed: Vec<&'a Digest>,
}

impl<'a> Complaint<'a> {
    /// Nothing if the run was over and opened again since.
    pub fn of(status: &'a BamRunStatus, reopened: &Reopened) -> Self {
        let last = status.history.last().filter(|last| !reopened.voids(last.number));
        let Some((last, report)) = last.zip(status.report.as_ref()) else { return Self::default() };
        let missed = match last.reason {
            Some(ExitReason::MissingInput | ExitReason::BadData) => report.missing.iter().chain(&report.changed),
            _ => return Self::default(),
        };
        Self { attempt: last.number, missed: missed.collect() }
    }
}

/// What is to become of a run.
enum Verdict {
    /// It is done, and this is its report.
    Succeeded(Option<Box<RunReport>>),
    /// It will not be tried again, and this is why.
    Failed(String),
    /// This attempt is begun, and waits for its turn.
    Queued(u32, String),
    /// This attempt is begun, and waits for something.
    Starting(u32, String),
    Running(u32, Option<RunProgress>),
    /// This attempt may be under way, on a machine that does not answer.
    Silent(u32, String),
    /// It is not tried now; perhaps at that moment.
    Waits(Why, Option<Timestamp>),
    Starts(Start, Why),
}

impl Verdict {
    fn phase(&self) -> RunPhase {
        match self {
            Self::Succeeded(_) => RunPhase::Succeeded,
            Self::Failed(_) => RunPhase::Failed,
            Self::Running(..) | Self::Silent(..) => RunPhase::Running,
            Self::Queued(..) | Self::Starting(..) | Self::Waits(..) | Self::Starts(..) => RunPhase::Pending,
        }
    }

    fn why(&self) -> Why {
        match self {
            Self::Succeeded(_) => Why::Done,
            Self::Failed(message) => Why::Failed { message: message.clone() },
            Self::Queued(attempt, waits) => Why::Queued { attempt: *attempt, waits: waits.clone() },
            Self::Starting(attempt, waits) => Why::Starting { attempt: *attempt, waits: waits.clone() },
            Self::Running(attempt, _) => Why::UnderWay { attempt: *attempt, progress: None },
            Self::Silent(attempt, node) => Why::NodeSilent { attempt: *attempt, node: node.clone() },
            Self::Waits(why, _) | Self::Starts(_, why) => why.clone(),
        }
    }
}

/// The teachers that a run cannot start without.
#[derive(Default)]
struct Missed<'a> {
    /// To be trained first.
    waited_for: Vec<&'a Digest>,
    /// Trained again for this run already, and still not right.
    twice: Vec<&'a Digest>,
}

/// All that a decision looks at.
struct Case<'a> {
    name: &'a str,
    spec: &'a BamRunSpec,
    observed: &'a Observed,
}

impl<'a> Case<'a> {
    /// A run that was over and is wanted again gets fresh budgets.
    fn reopen(&self, status: &mut BamRunStatus) {
        if status.phase.is_final() && self.observed.reopened.voids(status.attempts) {
            status.phase = RunPhase::Pending;
            status.failures = Failures::default();
            status.not_before = None;
            status.report = None;
        }
    }

    /// Writes what ended since the last time into the status.
    fn settle(&self, status: &mut BamRunStatus, now: Timestamp) {
        for (&number, attempt) in &self.observed.attempts {
            status.attempts = status.attempts.max(number);
            let AttemptState::Ended(ending) = &attempt.state else { continue };
            if number <= status.settled() {
                continue;
            }
            if !self.observed.reopened.voids(number) && !self.ended_well(ending) {
                let before = status.history.iter().map(|record| record.saved_steps).max().unwrap_or_default();
                let mut payer = ending.payer(before, self.spec.config.is_some());
                if payer == Payer::Infrastructure && number == status.stopped {
                    payer = Payer::Nobody;
                }
                let pause = retry::charge(&mut status.failures, payer, self.name);
                // A machine's clock may be ahead: nobody waits for that.
                let ended = ending.at.min(now);
                status.not_before = pause.map(|pause| time(ended.saturating_add(pause).unwrap_or(ended)));
            }
            status.usage = status.usage.plus(usage::of(self.spec, status, ending));
            retry::remember(&mut status.history, ending.record(number, attempt.started_at));
            // The end of its log stands in the history.
            status.report = ending.report.clone().map(|report| RunReport { log: Vec::new(), ..report });
        }
    }

    /// Did this attempt leave what the run is for?
    fn ended_well(&self, ending: &Ending) -> bool {
        let report = ending.report.as_ref();
        ending.reason() == Some(ExitReason::Completed)
            && match (self.spec.role, &self.observed.stored) {
                (Role::Inputs, _) => report.is_some_and(|report| report.inputs.is_some()),
                (_, Stored::Unseen) => report.is_some(),
                (_, Stored::Absent) => false,
                (_, Stored::Whole(_)) => true,
            }
    }

    fn judge(&self, status: &BamRunStatus, now: Timestamp) -> Verdict {
        let open = self.observed.attempts.range(status.settled() + 1..);
        let mut alive = open.filter_map(|(number, attempt)| match &attempt.state {
            AttemptState::Queued(waits) => Some(Verdict::Queued(*number, waits.clone())),
            AttemptState::Starting(waits) => Some(Verdict::Starting(*number, waits.clone())),
            AttemptState::Running(progress) => Some(Verdict::Running(*number, progress.clone())),
            AttemptState::Silent(node) => Some(Verdict::Silent(*number, node.clone())),
            AttemptState::Ended(_) => None,
        });
        if let Some(alive) = alive.next() {
            return self.overdue(status, &alive, now).map_or(alive, Verdict::Failed);
        }
        if let Some(report) = self.success(status) {
            return Verdict::Succeeded(report);
        }
        // What is over does not come back by itself, whatever else was seen.
        match status.phase {
            RunPhase::Succeeded => return Verdict::Succeeded(status.report.clone().map(Box::new)),
            RunPhase::Failed => return Verdict::Failed(failure_message(status)),
            RunPhase::Pending | RunPhase::Running => {}
        }
        let missed = self.missed(status);
        match self.failure(status, &missed) {
            Some(message) => Verdict::Failed(message),
            None => self.next(status, &missed, now),
        }
    }

    /// Why the run fails although an attempt is under way: it was not at work in time.
    fn overdue(&self, status: &BamRunStatus, alive: &Verdict, now: Timestamp) -> Option<String> {
        if status.phase == RunPhase::Failed {
            return Some(failure_message(status));
        }
        let Verdict::Starting(number, waits) = alive else { return None };
        let until = self.pending_until(*number)?;
        let seconds = self.spec.failure_policy.pending_deadline_seconds?;
        (until <= now).then(|| {
            format!("attempt {number} {waits}, for longer than failurePolicy.pendingDeadlineSeconds ({seconds} s)")
        })
    }

    /// When this attempt must be at work.
    fn pending_until(&self, number: u32) -> Option<Timestamp> {
        let seconds = self.spec.failure_policy.pending_deadline_seconds?;
        let since = self.observed.attempts.get(&number)?.started_at;
        Some(since.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX))
    }

    /// When to look again, even if nothing happens.
    fn revisit(&self, verdict: &Verdict) -> Option<Timestamp> {
        let own = match verdict {
            Verdict::Waits(_, Some(until)) => return Some(*until),
            Verdict::Starting(number, _) => self.pending_until(*number),
            _ => None,
        };
        own.into_iter().chain(self.observed.look_again).min()
    }

    /// The report of the run, if it is done.
    fn success(&self, status: &BamRunStatus) -> Option<Option<Box<RunReport>>> {
        let reopened = &self.observed.reopened;
        let completed = status
            .history
            .last()
            .is_some_and(|last| last.reason == Some(ExitReason::Completed) && !reopened.voids(last.number));
        let said = status.report.clone().map(Box::new);
        match (self.spec.role, &self.observed.stored) {
            (Role::Inputs, _) => {
                (completed && said.as_ref().is_some_and(|report| report.inputs.is_some())).then_some(said)
            }
            (_, Stored::Unseen) => (completed && said.is_some()).then_some(said),
            (_, Stored::Absent) => None,
            (_, Stored::Whole(report)) => {
                (completed || !reopened.voids(status.attempts)).then(|| report.clone().or(said))
            }
        }
    }

    /// The teachers that are not done, or that the last attempt missed and that are not done again.
    fn missed(&self, status: &BamRunStatus) -> Missed<'a> {
        let complaint = Complaint::of(status, &self.observed.reopened);
        let mut missed = Missed::default();
        for hash in self.spec.config.iter().flat_map(|config| config.science.teachers()) {
            let complained = complaint.missed.contains(&hash);
            let Some(teacher) = self.observed.teachers.get(hash) else {
                // Its run is gone, and perhaps not its targets: an attempt will tell.
                missed.waited_for.extend(complained.then_some(hash));
                continue;
            };
            let asked_by = |number| teacher.reopened.by.contains(&names::attempt(self.name, number));
            let answered = asked_by(complaint.attempt);
            let answered_before = (self.observed.reopened.after + 1..complaint.attempt).any(asked_by);
            if complained && answered_before && !answered {
                missed.twice.push(hash);
            } else if !teacher.is_done() || (complained && !answered) {
                missed.waited_for.push(hash);
            }
        }
        missed
    }

    /// Why the run will not be tried again, if it will not.
    fn failure(&self, status: &BamRunStatus, missed: &Missed<'_>) -> Option<String> {
        let has_failed = |hash: &&Digest| self.observed.teachers.get(*hash).is_some_and(Teacher::has_failed);
        let failed: Vec<_> = missed.waited_for.iter().copied().filter(has_failed).collect();
        if !failed.is_empty() {
            return Some(format!("the teacher of {} failed", and(&self.tasks_of(&failed))));
        }
        let last = status.history.last().filter(|last| !self.observed.reopened.voids(last.number))?;
        let ended = retry::describe(last);
        if !missed.twice.is_empty() {
            let tasks = and(&self.tasks_of(&missed.twice));
            return Some(format!("its last attempt {ended}, although the teacher of {tasks} was trained again"));
        }
        let is_final =
            matches!(last.reason, Some(ExitReason::BadConfig | ExitReason::BadData | ExitReason::MissingInput));
        if is_final && Complaint::of(status, &self.observed.reopened).missed.is_empty() {
            return Some(format!("its last attempt {ended}"));
        }
        if let Some(spent) = retry::spent(&status.failures, &self.spec.failure_policy) {
            return Some(format!("its last attempt {ended} ({spent})"));
        }
        retry::rung(self.spec, status.failures.out_of_memory).err()
    }

    fn next(&self, status: &BamRunStatus, missed: &Missed<'_>, now: Timestamp) -> Verdict {
        if self.observed.suspended {
            return Verdict::Waits(Why::Suspended, None);
        }
        if !missed.waited_for.is_empty() {
            return Verdict::Waits(Why::TeacherGone { tasks: self.tasks_of(&missed.waited_for) }, None);
        }
        let ended = status.history.last().map(retry::describe);
        if let Some(until) = status.not_before.as_ref().map(|time| time.0).filter(|until| *until > now) {
            return Verdict::Waits(Why::BackingOff { ended: ended.unwrap_or_default(), until }, Some(until));
        }
        if let Some(obstacle) = &self.observed.obstacle {
            return Verdict::Waits(obstacle.clone(), None);
        }
        let why = match ended {
            _ if let Some(refused) = &self.observed.refused => refused.clone(),
            _ if self.observed.reopened.voids(status.attempts) => {
                Why::AskedAgain { by: self.observed.reopened.by.iter().cloned().collect() }
            }
            Some(ended) => Why::AnotherAttempt { ended },
            None => Why::FirstAttempt,
        };
        let start = Start {
            run: self.name.to_owned(),
            number: status.attempts + 1,
            rung: retry::rung(self.spec, status.failures.out_of_memory).unwrap_or_default(),
        };
        Verdict::Starts(start, why)
    }

    fn tasks_of(&self, teachers: &[&Digest]) -> Vec<String> {
        let tasks = self.spec.config.iter().flat_map(|config| &config.science.tasks);
        let learns = tasks.filter(|task| task.teachers.iter().any(|hash| teachers.contains(&hash)));
        learns.map(|task| task.name.clone()).collect()
    }

    fn begin(&self, verdict: &Verdict) -> Vec<Planned> {
        let Verdict::Starts(start, why) = verdict else { return Vec::new() };
        vec![Planned { title: super::title(self.spec), action: Action::StartAttempt(start.clone()), why: why.clone() }]
    }

    /// Stops the attempt of a run that is suspended, or has failed without it, once the published status says so: whoever sees
    /// it end will know why.
    fn stop(&self, verdict: &Verdict, status: &mut BamRunStatus) -> Option<Planned> {
        let alive = |attempt: &Attempt| !matches!(attempt.state, AttemptState::Ended(_));
        let (number, why) = match verdict {
            Verdict::Queued(number, _)
            | Verdict::Starting(number, _)
            | Verdict::Running(number, _)
            | Verdict::Silent(number, _)
                if self.observed.suspended =>
            {
                (*number, Why::Suspended)
            }
            Verdict::Failed(_) => {
                let mut open = self.observed.attempts.range(status.settled() + 1..);
                (*open.find(|(_, attempt)| alive(attempt))?.0, verdict.why())
            }
            _ => return None,
        };
        status.stopped = number;
        (self.observed.status.stopped == number).then(|| Planned {
            title: super::title(self.spec),
            action: Action::StopAttempt { run: self.name.to_owned(), number },
            why,
        })
    }

    /// Removes what is left of attempts that the published status tells of, but for what is to be kept: a person will want to
    /// read the log of a run that failed.
    fn tidy_up(&self) -> impl Iterator<Item = Planned> {
        let published = &self.observed.status;
        let settled = published.settled();
        let keep = self.spec.pod.keep_jobs;
        let keeps_last = keep == KeepJobs::OnFailure && published.phase == RunPhase::Failed;
        let left = self.observed.attempts.iter().filter(|(_, attempt)| attempt.removable);
        let over = left.filter(move |(number, attempt)| {
            let ended = matches!(attempt.state, AttemptState::Ended(_));
            keep != KeepJobs::Always && ended && (**number < settled || (**number == settled && !keeps_last))
        });
        over.map(|(number, _)| Planned {
            title: super::title(self.spec),
            action: Action::RemoveAttempt { run: self.name.to_owned(), number: *number },
            why: Why::Settled { attempt: *number },
        })
    }
}

fn apply(status: &mut BamRunStatus, verdict: &Verdict, now: Timestamp) {
    let why = verdict.why();
    status.phase = verdict.phase();
    let waits = status.phase == RunPhase::Pending || matches!(verdict, Verdict::Silent(..));
    status.waiting_for = if waits { why.to_string() } else { String::new() };
    match verdict {
        Verdict::Succeeded(report) => {
            status.progress = None;
            status.report = report.as_deref().cloned();
        }
        Verdict::Failed(_) => status.progress = None,
        Verdict::Running(_, progress) => status.progress.clone_from(progress),
        Verdict::Queued(..)
        | Verdict::Starting(..)
        | Verdict::Silent(..)
        | Verdict::Waits(..)
        | Verdict::Starts(..) => {}
    }
    let message = if let Verdict::Failed(message) = verdict { message.clone() } else { why.to_string() };
    for (kind, phase) in [("Complete", RunPhase::Succeeded), ("Failed", RunPhase::Failed)] {
        let finding =
            Finding { kind, holds: status.phase == phase, reason: why.reason().to_owned(), message: message.clone() };
        set_condition(&mut status.conditions, finding, now);
    }
}
