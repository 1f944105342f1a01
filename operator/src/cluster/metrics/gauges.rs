//! How things stand, as gauges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use bam_crds::experiment::ExperimentPhase;
use bam_crds::report::Stage;
use bam_crds::run::{Role, RunPhase, RunProgress};
use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::{DECODED, ROLES, gauges, known, register, word};

const RUN_PHASES: [RunPhase; 4] = [RunPhase::Pending, RunPhase::Running, RunPhase::Succeeded, RunPhase::Failed];
const EXPERIMENT_PHASES: [ExperimentPhase; 8] = [
    ExperimentPhase::Pending,
    ExperimentPhase::CheckingInputs,
    ExperimentPhase::TrainingTeachers,
    ExperimentPhase::TrainingStudent,
    ExperimentPhase::Suspended,
    ExperimentPhase::Cancelled,
    ExperimentPhase::Complete,
    ExperimentPhase::Failed,
];

/// So many namespaces have series of their own, those with the most objects; the others share those of [`REST`].
const NAMESPACES: usize = 40;
/// No namespace has such a name.
const REST: &str = "_other";

/// How things stand, collected object by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By namespace and phase.
    experiments: BTreeMap<(String, String), i64>,
    /// By namespace, role and phase.
    runs: BTreeMap<(String, String, String), i64>,
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

    /// There is an experiment in this namespace that stands like this.
    pub fn experiment(&mut self, namespace: &str, phase: ExperimentPhase) {
        *self.experiments.entry((namespace.to_owned(), word(phase))).or_default() += 1;
    }

    /// There is a run in this namespace that stands like this. Its steps count while it trains.
    pub fn run(&mut self, namespace: &str, role: Role, phase: RunPhase, progress: Option<&RunProgress>) {
        *self.runs.entry((namespace.to_owned(), word(role), word(phase))).or_default() += 1;
        let progress = progress.filter(|progress| progress.stage == Stage::Training);
        if let (RunPhase::Running, Some(progress)) = (phase, progress) {
            let [done, total] = self.steps.entry(word(role)).or_default();
            *done = done.saturating_add_unsigned(progress.done);
            *total = total.saturating_add_unsigned(progress.total);
        }
    }

    /// There is an object that the operator does not understand: one of [`DECODED`].
    pub fn undecodable(&mut self, kind: &'static str) {
        *self.undecodable.entry(known(&DECODED, kind)).or_default() += 1;
    }

    /// The namespaces that get series of their own.
    fn largest_namespaces(&self) -> BTreeSet<String> {
        let mut sizes = BTreeMap::<&str, i64>::new();
        let experiments = self.experiments.iter().map(|((namespace, _), count)| (namespace, count));
        let runs = self.runs.iter().map(|((namespace, ..), count)| (namespace, count));
        experiments.chain(runs).for_each(|(namespace, count)| *sizes.entry(namespace).or_default() += count);
        let mut sizes: Vec<_> = sizes.into_iter().collect();
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        sizes.into_iter().take(NAMESPACES).map(|(namespace, _)| namespace.to_owned()).collect()
    }

    /// The same, with what lies in namespaces other than these counted as that of one.
    fn gathered(&self, namespaces: &BTreeSet<String>) -> Self {
        let of = |namespace: &String| if namespaces.contains(namespace) { namespace.clone() } else { REST.to_owned() };
        let mut all = Self { experiments: BTreeMap::new(), runs: BTreeMap::new(), ..self.clone() };
        for ((namespace, phase), count) in &self.experiments {
            *all.experiments.entry((of(namespace), phase.clone())).or_default() += count;
        }
        for ((namespace, role, phase), count) in &self.runs {
            *all.runs.entry((of(namespace), role.clone(), phase.clone())).or_default() += count;
        }
        all
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
    /// The namespaces that have series.
    namespaces: Mutex<BTreeSet<String>>,
}

impl Gauges {
    pub fn new() -> Self {
        let one = |name, help| IntGauge::new(name, help).expect("a valid metric");
        Self {
            experiments: gauges("bam_experiments", "Experiments by phase.", &["namespace", "phase"]),
            runs: gauges("bam_runs", "Runs by role and phase.", &["namespace", "role", "phase"]),
            steps_done: gauges("bam_training_steps_done", "Steps that the runs in training have done.", &["role"]),
            steps: gauges("bam_training_steps", "Steps that the runs in training have in all.", &["role"]),
            undecodable: gauges("bam_undecodable_objects", "Objects that this version cannot read.", &["kind"]),
            queue: one("workqueue_depth", "Experiments and runs that wait for a reconciliation."),
            backing_off: one("bam_objects_backing_off", "Experiments and runs whose last reconciliation failed."),
            namespaces: Mutex::default(),
        }
    }

    /// Sets every value of every label, also to 0: that a namespace has no failed experiment is a statement.
    pub fn set(&self, state: &State) {
        self.set_by_namespace(state);
        for role in ROLES.map(word) {
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

    fn set_by_namespace(&self, state: &State) {
        let largest = state.largest_namespaces();
        let state = state.gathered(&largest);
        let rest = state.experiments.keys().map(|key| &key.0).chain(state.runs.keys().map(|key| &key.0));
        let namespaces: BTreeSet<_> = rest.cloned().collect();
        let mut shown = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        for namespace in &namespaces {
            for phase in EXPERIMENT_PHASES.map(word) {
                let count = state.experiments.get(&(namespace.clone(), phase.clone())).copied().unwrap_or(0);
                self.experiments.with_label_values(&[namespace, &phase]).set(count);
            }
            for (role, phase) in roles_and_phases() {
                let count = state.runs.get(&(namespace.clone(), role.clone(), phase.clone())).copied().unwrap_or(0);
                self.runs.with_label_values(&[namespace, &role, &phase]).set(count);
            }
        }
        for gone in shown.difference(&namespaces) {
            // An error says that there is no such series.
            EXPERIMENT_PHASES.map(word).iter().for_each(|phase| {
                let _ = self.experiments.remove_label_values(&[gone, phase]);
            });
            roles_and_phases().for_each(|(role, phase)| {
                let _ = self.runs.remove_label_values(&[gone, &role, &phase]);
            });
        }
        *shown = namespaces;
    }

    pub fn register(&self, registry: &Registry) {
        for gauges in [&self.experiments, &self.runs, &self.steps_done, &self.steps, &self.undecodable] {
            register(registry, gauges.clone());
        }
        register(registry, self.queue.clone());
        register(registry, self.backing_off.clone());
    }
}

fn roles_and_phases() -> impl Iterator<Item = (String, String)> {
    ROLES.into_iter().flat_map(|role| RUN_PHASES.into_iter().map(move |phase| (word(role), word(phase))))
}
