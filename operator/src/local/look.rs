//! Looking: what the planner is told of this machine. In read-only mode it leaves everything as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bam_crds::run::RunProgress;
use bam_crds::{BamExperiment, BamExperimentSpec, BamExperimentStatus, BamRunSpec, Digest, Progress, names};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::ledger::{AttemptFolder, Ended, Ledger};
use super::{Error, Mode, progress, store};
use crate::plan::experiment::{self, Run, is_halted};
use crate::plan::graph::{self, Graph, Node};
use crate::plan::retry::{Disruption, Ending, Held};
use crate::plan::run::{self, Attempt, AttemptState, Stored, Teacher};
use crate::plan::teachers::{self, Named, Registry};

/// Looks at one experiment and its runs.
#[derive(Clone, Debug)]
pub struct Look {
    /// The artifact store, absolute.
    pub bam_dir: PathBuf,
    /// What is remembered.
    pub ledger: Ledger,
    /// The experiment.
    pub experiment: BamExperiment,
    /// Runs at the same time.
    pub max_parallel: u32,
}

impl Look {
    /// The experiment's name.
    pub fn name(&self) -> &str {
        self.experiment.metadata.name.as_deref().unwrap_or_default()
    }

    /// The experiment, and the graph of its runs.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn experiment(&self) -> Result<(Graph, experiment::Observed), Error> {
        self.experiment_with(self.ledger.experiment_status(self.name())?)
    }

    /// The same, as if this were its status.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn experiment_with(&self, status: BamExperimentStatus) -> Result<(Graph, experiment::Observed), Error> {
        let spec = &self.experiment.spec;
        let mut seen = experiment::Observed {
            status,
            inputs_key: store::inputs_key(&self.bam_dir, spec)?,
            timed: false,
            limit: Some(self.max_parallel),
            runs: BTreeMap::new(),
            teachers: Named::new(),
            unusable: BTreeMap::new(),
            // What one says is in the spec already.
            profile: None,
            obstacle: None,
            longest_status: None,
            whole: Some(BTreeSet::new()),
        };
        seen.teachers = teachers::find(self.name(), spec, &seen.status, &self.ledger);
        // The other runs have names only after this one has said what the inputs are.
        let inputs = graph::inputs(spec, &seen.inputs_key);
        self.add(&mut seen, &inputs)?;
        let mut graph = seen.graph(&self.experiment);
        for node in &graph.trainings {
            self.add(&mut seen, node)?;
        }
        // Who teaches, and so the students' names, is known only when the teachers are.
        if !graph.gates.is_empty() {
            graph = seen.graph(&self.experiment);
            for node in &graph.trainings {
                self.add(&mut seen, node)?;
            }
        }
        Ok((graph, seen))
    }

    fn add(&self, seen: &mut experiment::Observed, node: &Node) -> Result<(), Error> {
        if let Some(record) = self.ledger.run(&node.name)? {
            let run = Run {
                made_by: record.made_by,
                owned: true,
                spec: record.spec,
                status: self.ledger.run_status(&node.name)?,
                reopened: self.ledger.reopened(&node.name)?,
            };
            seen.runs.insert(node.name.clone(), run);
        }
        // After the status: what is said to be done is looked for later than it was said.
        if let Some(hash) = node.science_hash()
            && store::stored(&self.bam_dir, hash)? != Stored::Absent
        {
            seen.whole.get_or_insert_default().insert(hash.clone());
        }
        Ok(())
    }

    /// A run, if there is one of that name.
    ///
    /// # Errors
    /// If a file cannot be read, or the end of an attempt cannot be written down.
    pub fn run(&self, name: &str) -> Result<Option<(BamRunSpec, run::Observed)>, Error> {
        let Some(record) = self.ledger.run(name)? else { return Ok(None) };
        let status = self.ledger.run_status(name)?;
        let mut attempts = BTreeMap::new();
        for number in 1..=self.ledger.attempts(name) {
            attempts.insert(number, self.attempt(name, number)?);
        }
        let config = record.spec.config.as_ref();
        let mut teachers = BTreeMap::new();
        for hash in config.iter().flat_map(|config| config.science.teachers()) {
            teachers.extend(self.teacher(hash)?.map(|teacher| (hash.clone(), teacher)));
        }
        let seen = run::Observed {
            status,
            attempts,
            stored: config.map_or(Ok(Stored::Unseen), |config| store::stored(&self.bam_dir, &config.science_hash))?,
            teachers,
            reopened: self.ledger.reopened(name)?,
            generation: None,
            suspended: is_halted(&self.experiment),
            obstacle: None,
            refused: None,
            look_again: None,
        };
        Ok(Some((record.spec, seen)))
    }

    fn teacher(&self, hash: &Digest) -> Result<Option<Teacher>, Error> {
        let run = names::run(hash, &self.experiment.spec.storage.identity());
        if self.ledger.run(&run)?.is_none() {
            return Ok(None);
        }
        let status = self.ledger.run_status(&run)?;
        let reopened = self.ledger.reopened(&run)?;
        Ok(Some(Teacher { phase: status.phase, attempts: status.attempts, reopened }))
    }

    fn attempt(&self, run: &str, number: u32) -> Result<Attempt, Error> {
        let folder = self.ledger.attempt(run, number);
        let state = match folder.ended()? {
            Some(ended) => AttemptState::Ended(Box::new(ending(&folder, &ended)?)),
            None if self.ledger.is_locked(run)? => AttemptState::Running(live_progress(&folder)),
            None => self.ended_unseen(run, &folder)?,
        };
        Ok(Attempt { started_at: folder.started()?.at, state, removable: false })
    }

    /// An attempt that is over although no `bam` was there to see it end.
    fn ended_unseen(&self, run: &str, folder: &AttemptFolder) -> Result<AttemptState, Error> {
        let mut ended = Ended { at: Timestamp::now(), code: None, out_of_memory: false };
        if self.ledger.mode() == Mode::ReadWrite {
            // Whoever holds the lock may be about to write the end that it saw.
            let Some(_lock) = self.ledger.lock(run)? else {
                return Ok(AttemptState::Running(live_progress(folder)));
            };
            folder.save_ended(&ended)?;
            ended = folder.ended()?.unwrap_or(ended);
        }
        Ok(AttemptState::Ended(Box::new(ending(folder, &ended)?)))
    }
}

/// What cannot be read is not there: whoever needs it says so.
impl Registry for Ledger {
    fn experiment(&self, name: &str) -> Option<(BamExperimentSpec, BamExperimentStatus)> {
        Some((Ledger::experiment(self, name).ok()??.spec, self.experiment_status(name).ok()?))
    }

    fn run(&self, name: &str) -> Option<BamRunSpec> {
        Some(Ledger::run(self, name).ok()??.spec)
    }
}

/// Is an attempt of this run alive?
pub(super) fn is_alive(seen: &run::Observed) -> bool {
    seen.attempts.values().any(|attempt| matches!(attempt.state, AttemptState::Running(_)))
}

fn live_progress(folder: &AttemptFolder) -> Option<RunProgress> {
    let progress = progress::last(&folder.stdout())?;
    let Progress { stage, done, total, resumed_from, .. } = progress;
    Some(RunProgress { resumed_from, ..RunProgress::new(stage, done, total) })
}

fn ending(folder: &AttemptFolder, ended: &Ended) -> Result<Ending, Error> {
    let report = folder.report();
    let disruption = match ended {
        Ended { out_of_memory: true, .. } => Some(Disruption::OutOfMemory),
        Ended { code: None, .. } => Some(Disruption::RunnerGone),
        Ended { .. } => None,
    };
    let said = report.as_ref().map(|report| report.saved_steps);
    let steps = said.or_else(|| {
        let last = live_progress(folder)?;
        (ended.code.is_none() && last.stage == bam_crds::report::Stage::Training).then_some(last.done)
    });
    let steps = steps.unwrap_or_default();
    // If nobody was there to see it end, it may have ended long before.
    let ran = match ended.code {
        Some(_) => ended.at.duration_since(folder.started()?.at),
        None => SignedDuration::ZERO,
    };
    let held = Held { idle: SignedDuration::ZERO, ran };
    let (note, log) = (String::new(), progress::end_of(&folder.stderr()));
    Ok(Ending { at: ended.at, code: ended.code, disruption, report, steps, note, log, held })
}
