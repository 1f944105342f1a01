//! The platform of a single machine: attempts are subprocesses, and a [`ledger`] of files remembers.
//!
//! Whatever is killed, and whenever, the next `bam run` goes on where things stood. Two at once share the work.

mod child;
mod error;
mod files;
pub mod ledger;
mod look;
pub mod progress;
mod signals;
pub mod store;
pub mod trainer;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::RunPhase;
use bam_crds::{BamExperiment, BamExperimentStatus, BamRunSpec, Progress, names};
use k8s_openapi::jiff::Timestamp;

use crate::attempt;
use crate::plan::{Action, Reopened, Rung, Start};
use crate::platform::{Change, Kind, Observed, Outcome, Platform, Status, Subject};
use child::{Child, Exit};
pub use error::Error;
pub use files::Mode;
use ledger::{Ended, Ledger, RunRecord, Started};
pub use look::Look;
use signals::{Signals, Woken};

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the end of an attempt is looked for that another `bam` began.
const ELSEWHERE: Duration = Duration::from_millis(500);
/// How often progress is put down in the statuses.
const REFRESH: Duration = Duration::from_secs(5);
/// How long a trainer has to write its checkpoint after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);
/// A second signal counts only after this time: wrappers such as `timeout` send one to the process and one to its group.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// Where a person sees how it goes.
pub trait Screen {
    /// How the experiment stands now, perhaps as before.
    fn experiment(&self, status: &BamExperimentStatus);
    /// A run got further.
    fn progress(&self, run: &str, progress: &Progress);
    /// Nothing more will happen.
    fn finish(&self) {}
}

/// What a single machine is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The artifact store, absolute.
    pub bam_dir: PathBuf,
    /// The trainer program.
    pub trainer: PathBuf,
    /// Runs at the same time.
    pub max_parallel: u32,
}

/// One experiment on a single machine.
pub struct Local<'a> {
    settings: Settings,
    look: Look,
    screen: &'a dyn Screen,
    signals: tokio::sync::Mutex<Signals>,
    children: RefCell<BTreeMap<String, Attempt>>,
    /// The experiment's runs, as far as they are known.
    runs: RefCell<BTreeSet<String>>,
    /// Runs whose attempt another `bam` began.
    elsewhere: RefCell<BTreeSet<String>>,
    phase: Cell<ExperimentPhase>,
    changed: Cell<bool>,
    looked: Cell<Instant>,
    interrupted: Cell<bool>,
}

struct Attempt {
    number: u32,
    child: Child,
}

impl<'a> Local<'a> {
    /// Prepares to run `experiment`. Must be called within a runtime.
    ///
    /// # Errors
    /// If the ledger cannot be written, or signals cannot be received.
    pub fn new(settings: Settings, experiment: BamExperiment, screen: &'a dyn Screen) -> Result<Self, Error> {
        let ledger = Ledger::open(&settings.bam_dir, Mode::ReadWrite)?;
        ledger.save_experiment(&experiment)?;
        let look = Look { bam_dir: settings.bam_dir.clone(), ledger, experiment, max_parallel: settings.max_parallel };
        Ok(Self {
            settings,
            look,
            screen,
            signals: tokio::sync::Mutex::new(Signals::new()?),
            children: RefCell::default(),
            runs: RefCell::default(),
            elsewhere: RefCell::default(),
            phase: Cell::default(),
            changed: Cell::new(true),
            looked: Cell::new(Instant::now()),
            interrupted: Cell::new(false),
        })
    }

    /// Was it stopped by a signal?
    pub fn interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// Has every run of the experiment tried again that had failed for good: somebody asks for it by running it again.
    ///
    /// # Errors
    /// If the ledger cannot be read or written.
    pub fn reopen_failed(&self) -> Result<(), Error> {
        let (_, seen) = self.look.experiment()?;
        for (name, run) in seen.runs.iter().filter(|(_, run)| run.status.phase == RunPhase::Failed) {
            let by = BTreeSet::from(["bam run".to_owned()]);
            self.look.ledger.reopen(name, &Reopened { after: run.status.attempts, by })?;
        }
        Ok(())
    }

    fn ledger(&self) -> &Ledger {
        &self.look.ledger
    }

    fn subjects(&self) -> BTreeSet<Subject> {
        self.changed.set(false);
        self.looked.set(Instant::now());
        let runs = self.runs.borrow().iter().cloned().map(|run| Subject::run("", run)).collect::<Vec<_>>();
        runs.into_iter().chain([Subject::experiment("", self.look.name())]).collect()
    }

    fn is_over(&self) -> bool {
        let over = self.phase.get().is_final() || self.phase.get() == ExperimentPhase::Suspended;
        over && self.children.borrow().is_empty()
    }

    /// Puts the end of every child that has ended on the disk, before anything else is decided.
    fn reap(&self) -> Result<(), Error> {
        let ended: Vec<_> = self
            .children
            .borrow_mut()
            .iter_mut()
            .filter_map(|(run, attempt)| Some((run.clone(), attempt.number, attempt.child.exit()?)))
            .collect();
        for (run, number, Exit { code, out_of_memory }) in ended {
            let ended = Ended { at: self.now(), code: Some(code), out_of_memory };
            self.ledger().attempt(&run, number).save_ended(&ended)?;
            self.children.borrow_mut().remove(&run);
            self.changed.set(true);
        }
        Ok(())
    }

    fn show_progress(&self) {
        for (run, attempt) in self.children.borrow().iter() {
            if let Some(progress) = progress::last(&self.ledger().attempt(run, attempt.number).stdout()) {
                self.screen.progress(run, &progress);
            }
        }
        for run in self.elsewhere.borrow().iter() {
            let last = self.ledger().attempts(run);
            if let Some(progress) = progress::last(&self.ledger().attempt(run, last).stdout()) {
                self.screen.progress(run, &progress);
            }
        }
    }

    /// How long to sleep at most.
    fn nap(&self, revisit: Option<Timestamp>) -> Duration {
        let until = revisit.map(|at| at.duration_since(self.now()));
        let until = until.map_or(REFRESH, |until| Duration::try_from(until).unwrap_or_default());
        let watching = !self.children.borrow().is_empty() || !self.elsewhere.borrow().is_empty();
        if watching { until.min(TICK) } else { until }
    }

    /// Is it time for another look although nothing seems to have happened?
    fn look_is_old(&self) -> bool {
        let age = self.looked.get().elapsed();
        let elsewhere = !self.elsewhere.borrow().is_empty();
        age >= REFRESH || (elsewhere && age >= ELSEWHERE)
    }

    fn signal_all(&self, signal: i32) {
        self.children.borrow().values().for_each(|attempt| attempt.child.signal(signal));
    }

    /// Lets every child write its checkpoint; a second signal, or too long a wait, kills them.
    async fn stop(&self, signals: &mut Signals) -> Result<(), Error> {
        self.interrupted.set(true);
        self.signal_all(libc::SIGTERM);
        let asked = Instant::now();
        loop {
            self.reap()?;
            if self.children.borrow().is_empty() {
                return Ok(());
            }
            let asked_again = signals.next(TICK).await == Woken::Stop && asked.elapsed() >= ONE_SIGNAL;
            if asked_again || asked.elapsed() >= GRACE {
                self.signal_all(libc::SIGKILL);
            }
        }
    }

    fn begin(&self, start: &Start) -> Result<Outcome, Error> {
        let Some(record) = self.ledger().run(&start.run)? else { return Ok(Outcome::NotNow) };
        let Some(lock) = self.ledger().lock(&start.run)? else { return Ok(Outcome::NotNow) };
        let folder = self.ledger().attempt(&start.run, start.number);
        if !folder.create()? {
            return Ok(Outcome::DoneBefore);
        }
        let begun = (|| {
            folder.save_started(&Started { at: self.now() })?;
            write_config(&folder.config(), &record.spec, &self.settings.bam_dir, start.rung)?;
            let (config, report) = (text(&folder.config()), text(&folder.report_file()));
            let attempt = names::attempt(&start.run, start.number);
            let arguments: &[&str] = match record.spec.inputs {
                Some(_) => &["inputs", "--config", &config, "--report", &report],
                None => &["train", "--config", &config, "--attempt", &attempt, "--report", &report],
            };
            Child::start(&self.settings.trainer, arguments, &folder, lock)
        })();
        // What never began is not a failure of the run.
        let child = begun.inspect_err(|_| folder.remove())?;
        self.children.borrow_mut().insert(start.run.clone(), Attempt { number: start.number, child });
        Ok(Outcome::Done)
    }
}

/// Writes what a trainer is told: the run's spec, with the folder of the store and the rung of the ladder put in.
pub fn write_config(path: &Path, spec: &BamRunSpec, store: &Path, rung: Option<Rung>) -> Result<(), Error> {
    files::write(path, &attempt::config(spec, &text(store), rung))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Platform for Local<'_> {
    type Error = Error;

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, revisit: Option<Timestamp>) -> Result<Option<BTreeSet<Subject>>, Error> {
        let mut signals = self.signals.lock().await;
        loop {
            self.reap()?;
            if self.changed.get() {
                return Ok(Some(self.subjects()));
            }
            if self.is_over() {
                return Ok(None);
            }
            self.show_progress();
            if self.look_is_old() || revisit.is_some_and(|at| at <= self.now()) {
                return Ok(Some(self.subjects()));
            }
            if signals.next(self.nap(revisit)).await == Woken::Stop {
                self.stop(&mut signals).await?;
                return Ok(None);
            }
        }
    }

    async fn observe(&self, subject: &Subject) -> Result<Option<Observed>, Error> {
        match subject.kind {
            Kind::Experiment => {
                let (graph, seen) = self.look.experiment()?;
                *self.runs.borrow_mut() = graph.nodes().map(|node| node.name.clone()).collect();
                self.phase.set(seen.status.phase);
                // Another `bam run` may have published it.
                self.screen.experiment(&seen.status);
                Ok(Some(Observed::Experiment(Box::new(self.look.experiment.clone()), Box::new(seen))))
            }
            Kind::Run => {
                let name = &subject.name;
                let Some((spec, seen)) = self.look.run(name)? else { return Ok(None) };
                let elsewhere_now = look::is_alive(&seen) && !self.children.borrow().contains_key(name);
                let mut elsewhere = self.elsewhere.borrow_mut();
                if elsewhere_now {
                    elsewhere.insert(name.clone())
                } else {
                    elsewhere.remove(name)
                };
                Ok(Some(Observed::Run(Box::new(spec), Box::new(seen))))
            }
        }
    }

    async fn execute(&self, _: &Subject, action: &Action) -> Result<Outcome, Error> {
        let outcome = match action {
            Action::CreateRun { name, spec } => {
                let record = RunRecord { made_by: self.look.name().to_owned(), spec: (**spec).clone() };
                let made = self.ledger().create_run(name, &record)?;
                self.runs.borrow_mut().insert(name.clone());
                if made { Outcome::Done } else { Outcome::DoneBefore }
            }
            Action::Reopen { run, reopened } => {
                if self.ledger().reopen(run, reopened)? {
                    Outcome::Done
                } else {
                    Outcome::DoneBefore
                }
            }
            Action::StartAttempt(start) => self.begin(start)?,
            // Nobody owns anything here, logs and ledger stay, and what another `bam run` trains is its own.
            Action::JoinRun { .. }
            | Action::StopAttempt { .. }
            | Action::RemoveAttempt { .. }
            | Action::RemoveExperiment => Outcome::DoneBefore,
        };
        if outcome != Outcome::NotNow {
            self.changed.set(true);
        }
        Ok(outcome)
    }

    async fn publish(&self, subject: &Subject, change: &Change) -> Result<Outcome, Error> {
        let name = &subject.name;
        match &change.after {
            Status::Experiment(status) => {
                self.ledger().save_experiment_status(name, status)?;
                self.phase.set(status.phase);
                self.screen.experiment(status);
            }
            Status::Run(status) => self.ledger().save_run_status(name, status)?,
        }
        self.changed.set(true);
        Ok(Outcome::Done)
    }
}
