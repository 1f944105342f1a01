//! A platform in memory: attempts end as their fates say, the clock jumps, and hands slip.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;

use bam_crds::experiment::{BamExperiment, BamExperimentStatus, ExperimentPhase};
use bam_crds::report::TaskResult;
use bam_crds::run::Role;
use bam_crds::{BamRunSpec, BamRunStatus, Digest, ExitReason, RunConfig, RunReport, names};
use bam_operator::plan::experiment::{self, Run};
use bam_operator::plan::retry::{Disruption, Ending};
use bam_operator::plan::run::{self, Attempt, AttemptState, Stored, Teacher};
use bam_operator::plan::{Action, Reopened, Start};
use bam_operator::platform::{Change, Kind, Observed, Outcome, Platform, Status, Subject};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::build;

/// How an attempt will end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Completes,
    Exits(i32),
    RunsOutOfMemory,
    /// Writes a checkpoint, this many steps on.
    Checkpoints(u64),
    /// Goes away unseen, with whatever had started it.
    Vanishes,
    /// Completes, and at that moment the artifacts of the first finished teacher get lost.
    CompletesAndTeacherIsLost,
}

/// What slips when something is looked at or done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slip {
    Nothing,
    /// The action is lost.
    Dropped,
    /// The action is carried out twice.
    Doubled,
    /// The look is an older one.
    Stale,
}

#[derive(Clone, Debug)]
pub struct SimRun {
    pub spec: BamRunSpec,
    pub status: BamRunStatus,
    pub reopened: Reopened,
    pub attempts: BTreeMap<u32, Attempt>,
    /// Attempts of which nothing is left to see.
    removed: BTreeSet<u32>,
    ends: BTreeMap<u32, (Timestamp, Fate)>,
    saved: u64,
}

#[derive(Debug)]
pub struct State {
    pub now: Timestamp,
    pub experiment: BamExperiment,
    pub status: BamExperimentStatus,
    pub runs: BTreeMap<String, SimRun>,
    pub whole: BTreeSet<Digest>,
    pub fates: VecDeque<Fate>,
    pub slips: VecDeque<Slip>,
    /// What runs reach that learn from nobody, by their seed.
    pub scores: BTreeMap<u32, f64>,
    /// How often each science was trained to its end.
    pub trained: BTreeMap<Digest, usize>,
    /// How often each science's artifacts were lost.
    pub lost: BTreeMap<Digest, usize>,
    pub started: Vec<Start>,
    pub most_at_once: usize,
    /// Students that were started although a teacher's targets were not there.
    pub too_early: Vec<String>,
    pub publishes: usize,
    /// The most bytes that the experiment's status may have, and those that it had at most.
    pub longest_status: Option<usize>,
    pub longest: usize,
    /// What was done, and what the experiment's status said, with the seconds since the beginning.
    pub journal: Vec<String>,
    looks: BTreeMap<Subject, Vec<(Option<Observed>, usize)>>,
    changed: bool,
    passes: usize,
}

/// The world; its store can be seen from outside if `sees_store`.
#[derive(Debug)]
pub struct World {
    pub state: RefCell<State>,
    pub sees_store: bool,
}

impl World {
    pub fn new(experiment: BamExperiment) -> Self {
        let state = State {
            now: build::start(),
            experiment,
            status: BamExperimentStatus::default(),
            runs: BTreeMap::new(),
            whole: BTreeSet::new(),
            fates: VecDeque::new(),
            slips: VecDeque::new(),
            scores: BTreeMap::new(),
            trained: BTreeMap::new(),
            lost: BTreeMap::new(),
            started: Vec::new(),
            most_at_once: 0,
            too_early: Vec::new(),
            publishes: 0,
            longest_status: None,
            longest: 0,
            journal: Vec::new(),
            looks: BTreeMap::new(),
            changed: true,
            passes: 0,
        };
        Self { state: RefCell::new(state), sees_store: true }
    }

    pub fn with_fates(self, fates: impl IntoIterator<Item = Fate>) -> Self {
        self.state.borrow_mut().fates.extend(fates);
        self
    }

    pub fn with_slips(self, slips: impl IntoIterator<Item = Slip>) -> Self {
        self.state.borrow_mut().slips.extend(slips);
        self
    }

    /// Drives the world until its experiment is over.
    pub fn run(self) -> State {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(bam_operator::platform::drive(&self)).unwrap();
        self.state.into_inner()
    }
}

impl State {
    /// Everything that is there when another one has ended.
    pub fn take_over(&mut self, before: &Self) {
        (self.now, self.status) = (before.now, before.status.clone());
        (self.runs, self.whole) = (before.runs.clone(), before.whole.clone());
    }

    fn slip(&mut self) -> Slip {
        self.slips.pop_front().unwrap_or(Slip::Nothing)
    }

    fn note(&mut self, what: &str) {
        let seconds = self.now.duration_since(build::start()).as_secs();
        self.journal.push(format!("{seconds:>4} s  {what}"));
    }

    /// What to call a run in the journal.
    fn title(&self, run: &str) -> String {
        let Some(run) = self.runs.get(run) else { return run.to_owned() };
        let seed =
            run.spec.config.as_ref().map(|config| config.science.seed).filter(|_| run.spec.role == Role::Student);
        let tasks = run.spec.config.iter().flat_map(|config| &config.science.tasks);
        let words: Vec<_> =
            tasks.map(|task| task.name.clone()).chain(seed.map(|seed| format!("(seed {seed})"))).collect();
        [run.spec.role.noun().to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    fn running(&self) -> usize {
        self.runs.values().map(|run| run.ends.len()).sum()
    }

    fn subjects(&self) -> BTreeSet<Subject> {
        let runs = self.runs.keys().map(|run| Subject::run("", run));
        runs.chain([Subject::experiment("", "exp")]).collect()
    }

    fn end_next(&mut self) -> bool {
        let next = self
            .runs
            .iter()
            .flat_map(|(name, run)| run.ends.iter().map(move |(n, (at, _))| (*at, name.clone(), *n)))
            .min();
        let Some((at, name, number)) = next else {
            return false;
        };
        self.now = self.now.max(at);
        self.end(&name, number);
        true
    }

    fn end(&mut self, name: &str, number: u32) {
        let run = self.runs.get_mut(name).unwrap();
        let (_, fate) = run.ends.remove(&number).unwrap();
        let spec = run.spec.clone();
        let ending = match (&spec.config, fate) {
            (Some(config), _) if self.whole.contains(&config.science_hash) => self.completes(&spec),
            (Some(config), _) if !config.science.teachers().iter().all(|hash| self.whole.contains(hash)) => {
                let missing = config.science.teachers().into_iter().filter(|hash| !self.whole.contains(hash));
                let mut ending = build::said(ExitReason::MissingInput, "targets are missing");
                ending.report.as_mut().unwrap().missing = missing.cloned().collect();
                ending
            }
            (_, Fate::Completes) => self.completes(&spec),
            (_, Fate::CompletesAndTeacherIsLost) => {
                self.lose_teacher();
                self.completes(&spec)
            }
            (_, Fate::Exits(code)) => build::exit(code),
            (_, Fate::RunsOutOfMemory) => build::exit(ExitReason::OutOfMemory.code()),
            (_, Fate::Checkpoints(further)) => {
                let run = self.runs.get_mut(name).unwrap();
                run.saved += further;
                build::checkpointed(run.saved)
            }
            (_, Fate::Vanishes) => Ending { code: None, disruption: Some(Disruption::RunnerGone), ..build::exit(0) },
        };
        let ending = Ending { at: self.now, ..ending };
        let run = self.runs.get_mut(name).unwrap();
        run.attempts.get_mut(&number).unwrap().state = AttemptState::Ended(Box::new(ending));
        self.changed = true;
    }

    fn completes(&mut self, spec: &BamRunSpec) -> Ending {
        let mut ending = build::said(ExitReason::Completed, "");
        let report = ending.report.as_mut().unwrap();
        if let Some(inputs) = &spec.inputs {
            report.inputs = Some(build::findings(&inputs.tasks));
        }
        if let Some(config) = &spec.config {
            *report = report_of(config, &self.scores);
            if self.whole.insert(config.science_hash.clone()) {
                *self.trained.entry(config.science_hash.clone()).or_default() += 1;
            }
        }
        ending
    }

    fn lose_teacher(&mut self) {
        let teachers = self.runs.values().filter(|run| run.spec.role == Role::Teacher);
        let hashes = teachers.filter_map(|run| Some(run.spec.config.as_ref()?.science_hash.clone()));
        let there = hashes.filter(|hash| self.whole.contains(hash)).min();
        if let Some(hash) = there {
            self.whole.remove(&hash);
            *self.lost.entry(hash).or_default() += 1;
        }
    }

    fn observe(&self, subject: &Subject, sees_store: bool) -> Option<Observed> {
        match subject.kind {
            Kind::Experiment => {
                let runs = self.runs.iter().map(|(name, run)| {
                    let seen = Run {
                        made_by: "exp".to_owned(),
                        owned: true,
                        spec: run.spec.clone(),
                        status: run.status.clone(),
                        reopened: run.reopened.clone(),
                    };
                    (name.clone(), seen)
                });
                let seen = experiment::Observed {
                    status: self.status.clone(),
                    inputs_key: "key".to_owned(),
                    timed: false,
                    limit: self.experiment.spec.max_parallel_runs,
                    runs: runs.collect(),
                    teachers: Default::default(),
                    unusable: BTreeMap::new(),
                    profile: None,
                    obstacle: None,
                    longest_status: self.longest_status,
                    whole: sees_store.then(|| self.whole.clone()),
                };
                Some(Observed::Experiment(Box::new(self.experiment.clone()), Box::new(seen)))
            }
            Kind::Run => {
                let run = self.runs.get(&subject.name)?;
                let seen = run::Observed {
                    status: run.status.clone(),
                    attempts: run.seen(sees_store),
                    stored: self.stored(run, sees_store),
                    teachers: self.teachers(&run.spec),
                    reopened: run.reopened.clone(),
                    generation: None,
                    suspended: self.experiment.spec.suspend || self.experiment.spec.cancel,
                    obstacle: None,
                    refused: None,
                    look_again: None,
                };
                Some(Observed::Run(Box::new(run.spec.clone()), Box::new(seen)))
            }
        }
    }

    fn stored(&self, run: &SimRun, sees_store: bool) -> Stored {
        match &run.spec.config {
            Some(config) if sees_store && self.whole.contains(&config.science_hash) => {
                Stored::Whole(Some(Box::new(report_of(config, &self.scores))))
            }
            Some(_) if sees_store => Stored::Absent,
            _ => Stored::Unseen,
        }
    }

    fn teachers(&self, spec: &BamRunSpec) -> BTreeMap<Digest, Teacher> {
        let wanted = spec.config.iter().flat_map(|config| config.science.teachers());
        let of = |hash: &Digest| {
            let run =
                self.runs.values().find(|run| run.spec.config.as_ref().is_some_and(|it| it.science_hash == *hash))?;
            let teacher =
                Teacher { phase: run.status.phase, attempts: run.status.attempts, reopened: run.reopened.clone() };
            Some((hash.clone(), teacher))
        };
        wanted.filter_map(of).collect()
    }

    fn begin(&mut self, start: &Start) -> Outcome {
        let fate = self.fates.front().copied().unwrap_or(Fate::Completes);
        let now = self.now;
        let Some(run) = self.runs.get_mut(&start.run) else {
            return Outcome::NotNow;
        };
        if run.attempts.contains_key(&start.number) {
            return Outcome::DoneBefore;
        }
        let alive = run.attempts.values().any(|attempt| !matches!(attempt.state, AttemptState::Ended(_)));
        assert!(!alive, "{} has one attempt at a time", start.run);
        assert!(run.ends.is_empty(), "{} has one attempt at a time", start.run);
        assert_eq!(start.number as usize, run.attempts.len() + 1, "attempts are counted");
        self.fates.pop_front();
        // Different lengths, so that attempts end in another order than they began.
        let length = SignedDuration::from_secs(10 + 7 * (self.started.len() as i64 % 5));
        run.attempts
            .insert(start.number, Attempt { started_at: now, state: AttemptState::Running(None), removable: false });
        run.ends.insert(start.number, (now.saturating_add(length).unwrap(), fate));
        let config = run.spec.config.clone();
        let teachers = config.iter().flat_map(|config| config.science.teachers());
        if teachers.into_iter().any(|hash| !self.whole.contains(hash)) {
            self.too_early.push(names::attempt(&start.run, start.number));
        }
        self.started.push(start.clone());
        self.most_at_once = self.most_at_once.max(self.running());
        Outcome::Done
    }

    fn execute(&mut self, action: &Action) -> Outcome {
        match action {
            Action::CreateRun { name, spec } => {
                if self.runs.contains_key(name) {
                    return Outcome::DoneBefore;
                }
                let run = SimRun {
                    spec: (**spec).clone(),
                    status: BamRunStatus::default(),
                    reopened: Reopened::default(),
                    attempts: BTreeMap::new(),
                    removed: BTreeSet::new(),
                    ends: BTreeMap::new(),
                    saved: 0,
                };
                self.runs.insert(name.clone(), run);
                Outcome::Done
            }
            Action::Reopen { run, reopened } => {
                let run = self.runs.get_mut(run).unwrap();
                let merged = run.reopened.clone().merged(reopened);
                if merged == run.reopened {
                    return Outcome::DoneBefore;
                }
                run.reopened = merged;
                Outcome::Done
            }
            Action::StartAttempt(start) => self.begin(start),
            Action::RemoveAttempt { run, number } => {
                let run = self.runs.get_mut(run).unwrap();
                let told = run.status.history.iter().any(|record| record.number >= *number);
                assert!(told, "attempt {number} is removed before the status tells of it");
                if run.removed.insert(*number) { Outcome::Done } else { Outcome::DoneBefore }
            }
            Action::JoinRun { .. } | Action::StopAttempt { .. } | Action::RemoveExperiment => {
                unreachable!("nothing to share, to stop or to forget")
            }
        }
    }
}

impl SimRun {
    /// The attempts that can be seen. As in a cluster, what is left of them can be removed where the store is not seen.
    fn seen(&self, sees_store: bool) -> BTreeMap<u32, Attempt> {
        let left = self.attempts.iter().filter(|(number, _)| !self.removed.contains(number));
        left.map(|(number, attempt)| (*number, Attempt { removable: !sees_store, ..attempt.clone() })).collect()
    }
}

fn report_of(config: &RunConfig, scores: &BTreeMap<u32, f64>) -> RunReport {
    let mut report = RunReport::new(ExitReason::Completed, "");
    report.science_hash = Some(config.science_hash.clone());
    let learns_from_nobody = config.science.teachers().is_empty();
    let score = scores.get(&config.science.seed).copied().filter(|_| learns_from_nobody).unwrap_or(75.0);
    let tasks = config.science.tasks.iter();
    report.results = tasks
        .map(|task| TaskResult {
            task: task.name.clone(),
            main_metric: "accuracy".to_owned(),
            // As many as a trainer tells.
            metrics: [("accuracy", score), ("f1", score / 1.1), ("loss", 2.0_f64.ln())]
                .map(|(metric, value)| (metric.to_owned(), value))
                .into(),
            majority: Some(50.0),
            rows: 320,
        })
        .collect();
    report
}

impl Platform for World {
    type Error = Infallible;

    fn now(&self) -> Timestamp {
        self.state.borrow().now
    }

    async fn wait(&self, revisit: Option<Timestamp>) -> Result<Option<BTreeSet<Subject>>, Infallible> {
        let mut state = self.state.borrow_mut();
        state.passes += 1;
        assert!(state.passes < 10_000, "it does not converge: {:#?}", state.status);
        let over = state.status.phase.is_final() || state.status.phase == ExperimentPhase::Suspended;
        if over && !state.changed && state.slips.is_empty() {
            return Ok(None);
        }
        if !std::mem::take(&mut state.changed) && state.slips.is_empty() {
            let next_end = state.runs.values().flat_map(|run| run.ends.values().map(|(at, _)| *at)).min();
            match (revisit, next_end) {
                (Some(revisit), Some(end)) if revisit < end => state.now = state.now.max(revisit),
                (_, Some(_)) => assert!(state.end_next()),
                (Some(revisit), None) => state.now = state.now.max(revisit),
                (None, None) => panic!("nothing will ever happen: {:#?}", state.status),
            }
        }
        Ok(Some(state.subjects()))
    }

    async fn observe(&self, subject: &Subject) -> Result<Option<Observed>, Infallible> {
        let mut state = self.state.borrow_mut();
        let fresh = state.observe(subject, self.sees_store);
        let looks = state.looks.entry(subject.clone()).or_default();
        looks.push((fresh.clone(), 0));
        let older = looks[looks.len().saturating_sub(3)].0.clone();
        Ok(if state.slip() == Slip::Stale { older } else { fresh })
    }

    async fn execute(&self, _: &Subject, action: &Action) -> Result<Outcome, Infallible> {
        let mut state = self.state.borrow_mut();
        state.changed = true;
        let outcome = match state.slip() {
            Slip::Dropped => Outcome::Done,
            Slip::Doubled => {
                state.execute(action);
                state.execute(action)
            }
            Slip::Nothing | Slip::Stale => state.execute(action),
        };
        let title = state.title(action.run());
        state.note(&format!("-> {title}: {action}"));
        Ok(outcome)
    }

    async fn publish(&self, subject: &Subject, change: &Change) -> Result<Outcome, Infallible> {
        let mut state = self.state.borrow_mut();
        state.changed = true;
        // As an API server does: what was decided from an older look overwrites nothing.
        let now = match subject.kind {
            Kind::Experiment => Status::Experiment(state.status.clone()),
            Kind::Run => Status::Run(state.runs[&subject.name].status.clone()),
        };
        if now != change.before {
            return Ok(Outcome::DoneBefore);
        }
        state.publishes += 1;
        match &change.after {
            Status::Experiment(status) => {
                if (status.phase, &status.waiting_for) != (state.status.phase, &state.status.waiting_for) {
                    state.note(&format!("{:?}, {}: {}", status.phase, status.progress, status.waiting_for));
                }
                state.longest = state.longest.max(serde_json::to_vec(status).unwrap().len());
                state.status = status.clone();
            }
            Status::Run(status) => state.runs.get_mut(&subject.name).unwrap().status = status.clone(),
        }
        Ok(Outcome::Done)
    }
}
