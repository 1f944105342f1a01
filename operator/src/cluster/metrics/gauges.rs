//! How things stand, as gauges.

use std::collections::BTreeMap;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::report::Stage;
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamExperimentStatus, BamRunStatus};
use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::{DECODED, ROLES, gauges, known, register, word};

const RUN_PHASES: [RunPhase; 4] = [RunPhase::Pending, RunPhase::Running, RunPhase::Succeeded, RunPhase::Failed];
const EXPERIMENT_PHASES: [ExperimentPhase; 7] = [
    ExperimentPhase::Pending,
    ExperimentPhase::CheckingInputs,
    ExperimentPhase::TrainingTeachers,
    ExperimentPhase::TrainingStudent,
    ExperimentPhase::Suspended,
    ExperimentPhase::Complete,
    ExperimentPhase::Failed,
];

/// How things stand, collected object by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    experiments: BTreeMap<String, i64>,
    runs: BTreeMap<(String, String), i64>,
    steps: BTreeMap<String, [i64; 2]>,
    undecodable: BTreeMap<&'static str, i64>,
    queue: usize,
    backing_off: usize,
}

impl State {
    /// So many subjects wait for a pass, and the last pass of so many failed. No object is known yet.
    pub fn new(queue: usize, backing_off: usize) -> Self {
        Self { queue, backing_off, ..Self::default() }
    }

    /// There is an experiment that stands like this.
    pub fn experiment(&mut self, status: &BamExperimentStatus) {
        *self.experiments.entry(word(status.phase)).or_default() += 1;
    }

    /// There is a run that stands like this. Its steps count while it trains.
    pub fn run(&mut self, role: Role, status: &BamRunStatus) {
        *self.runs.entry((word(role), word(status.phase))).or_default() += 1;
        let progress = status.progress.as_ref().filter(|progress| progress.stage == Stage::Training);
        if let (RunPhase::Running, Some(progress)) = (status.phase, progress) {
            let [done, total] = self.steps.entry(word(role)).or_default();
            *done = done.saturating_add_unsigned(progress.done);
            *total = total.saturating_add_unsigned(progress.total);
        }
    }

    /// There is an object that the operator does not understand: one of [`DECODED`].
    pub fn undecodable(&mut self, kind: &'static str) {
        *self.undecodable.entry(known(&DECODED, kind)).or_default() += 1;
    }
}

/// [`State`] as metrics.
pub struct Gauges {
    experiments: IntGaugeVec,
    runs: IntGaugeVec,
    steps_done: IntGaugeVec,
    steps: IntGaugeVec,
    undecodable: IntGaugeVec,
    queue: IntGauge,
    backing_off: IntGauge,
}

impl Gauges {
    pub fn new() -> Self {
        let one = |name, help| IntGauge::new(name, help).expect("a valid metric");
        Self {
            experiments: gauges("bam_experiments", "Experiments by phase.", &["phase"]),
            runs: gauges("bam_runs", "Runs by role and phase.", &["role", "phase"]),
            steps_done: gauges("bam_training_steps_done", "Steps that the runs in training have done.", &["role"]),
            steps: gauges("bam_training_steps", "Steps that the runs in training have in all.", &["role"]),
            undecodable: gauges("bam_undecodable_objects", "Objects that this version cannot read.", &["kind"]),
            queue: one("bam_queue_depth", "Experiments and runs that wait for a pass."),
            backing_off: one("bam_objects_backing_off", "Experiments and runs whose last pass failed."),
        }
    }

    /// Sets every value of every label, also to 0: dashboards and alerts need no `or vector(0)`.
    pub fn set(&self, state: &State) {
        for phase in EXPERIMENT_PHASES.map(word) {
            let count = state.experiments.get(&phase).copied().unwrap_or(0);
            self.experiments.with_label_values(&[&phase]).set(count);
        }
        for role in ROLES.map(word) {
            for phase in RUN_PHASES.map(word) {
                let count = state.runs.get(&(role.clone(), phase.clone())).copied().unwrap_or(0);
                self.runs.with_label_values(&[&role, &phase]).set(count);
            }
            let [done, total] = state.steps.get(&role).copied().unwrap_or_default();
            self.steps_done.with_label_values(&[&role]).set(done);
            self.steps.with_label_values(&[&role]).set(total);
        }
        for kind in DECODED {
            self.undecodable.with_label_values(&[kind]).set(state.undecodable.get(kind).copied().unwrap_or(0));
        }
        self.queue.set(i64::try_from(state.queue).unwrap_or(i64::MAX));
        self.backing_off.set(i64::try_from(state.backing_off).unwrap_or(i64::MAX));
    }

    pub fn register(&self, registry: &Registry) {
        for gauges in [&self.experiments, &self.runs, &self.steps_done, &self.steps, &self.undecodable] {
            register(registry, gauges.clone());
        }
        register(registry, self.queue.clone());
        register(registry, self.backing_off.clone());
    }
}
