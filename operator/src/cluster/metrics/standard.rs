//! What every operator has, under the names that controller-runtime and client-go give it: dashboards know them.
//!
//! Experiments and runs are two controllers with one queue. What of it can be told of each is told of each; its length
//! (`workqueue_depth`) is not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bam_crds::names;
use hyper::{Method, StatusCode};
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{OTHER, gauges, register};
use crate::platform::{Kind, Subject};

/// What is reconciled.
const CONTROLLERS: [&str; 2] = ["bamexperiment", "bamrun"];
/// How a reconciliation ends.
const RESULTS: [&str; 2] = ["success", "error"];
/// How requests are made.
pub const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// What the API server answers; what else it may say is counted as one.
pub const CODES: [u16; 13] = [200, 201, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503, 504];
/// No answer came. As client-go writes it.
const NO_ANSWER: &str = "<error>";

/// Upper bounds in seconds. A reconciliation that changes nothing takes less than the first.
const RECONCILE_SECONDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0];

/// Metrics of the queue, of the passes over what is taken from it, and of requests.
pub struct Standard {
    reconciliations: IntCounterVec,
    reconcile_errors: IntCounterVec,
    reconcile_seconds: HistogramVec,
    active_workers: IntGaugeVec,
    adds: IntCounterVec,
    retries: IntCounterVec,
    queue_seconds: HistogramVec,
    work_seconds: HistogramVec,
    unfinished_seconds: GaugeVec,
    longest_seconds: GaugeVec,
    requests: IntCounterVec,
    leader: IntGaugeVec,
    work: Mutex<Work>,
}

/// What waits and what is under way.
#[derive(Default)]
struct Work {
    /// Subjects that were woken, and since when they wait for a pass.
    waiting: BTreeMap<Subject, Instant>,
    /// Subjects with a pass over them, and since when.
    passes: BTreeMap<Subject, Instant>,
}

impl Standard {
    /// All of them at 0; at most so many passes at the same time.
    pub fn new(registry: &Registry, concurrency: usize) -> Self {
        let counters = |name, help, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric"))
        };
        let seconds = |name, help, label: &str| {
            let options = HistogramOpts::new(name, help).buckets(RECONCILE_SECONDS.to_vec());
            register(registry, HistogramVec::new(options, &[label]).expect("a valid metric"))
        };
        let ages =
            |name, help| register(registry, GaugeVec::new(Opts::new(name, help), &["name"]).expect("a valid metric"));
        let counts = |name, help, label: &str| register(registry, gauges(name, help, &[label]));
        let most = counts(
            "controller_runtime_max_concurrent_reconciles",
            "Reconciliations that may go on at the same time, those of the other controller counted in.",
            "controller",
        );
        for controller in CONTROLLERS {
            most.with_label_values(&[controller]).set(i64::try_from(concurrency).unwrap_or(i64::MAX));
        }
        let standard = Self {
            reconciliations: counters(
                "controller_runtime_reconcile_total",
                "Reconciliations of one experiment or run.",
                &["controller", "result"],
            ),
            reconcile_errors: counters(
                "controller_runtime_reconcile_errors_total",
                "Reconciliations that failed.",
                &["controller"],
            ),
            reconcile_seconds: seconds(
                "controller_runtime_reconcile_time_seconds",
                "Time of one reconciliation.",
                "controller",
            ),
            active_workers: counts(
                "controller_runtime_active_workers",
                "Reconciliations that go on now.",
                "controller",
            ),
            adds: counters("workqueue_adds_total", "Experiments and runs that were woken.", &["name"]),
            retries: counters(
                "workqueue_retries_total",
                "Those that wait for another try after one that failed.",
                &["name"],
            ),
            queue_seconds: seconds(
                "workqueue_queue_duration_seconds",
                "Time from the waking of an experiment or run to its reconciliation.",
                "name",
            ),
            work_seconds: seconds("workqueue_work_duration_seconds", "Time of one reconciliation.", "name"),
            unfinished_seconds: ages(
                "workqueue_unfinished_work_seconds",
                "Age of the reconciliations that go on, together.",
            ),
            longest_seconds: ages(
                "workqueue_longest_running_processor_seconds",
                "Age of the oldest reconciliation that goes on.",
            ),
            requests: counters(
                "rest_client_requests_total",
                "Requests to the API server, watches too, by its answer.",
                &["code", "method"],
            ),
            leader: counts(
                "leader_election_master_status",
                "1 while this operator does the work, 0 while another one does.",
                "name",
            ),
            work: Mutex::default(),
        };
        standard.begin_at_zero();
        standard
    }

    fn begin_at_zero(&self) {
        for name in CONTROLLERS {
            RESULTS.iter().for_each(|result| drop(self.reconciliations.with_label_values(&[name, result])));
            for counters in [&self.reconcile_errors, &self.adds, &self.retries] {
                counters.with_label_values(&[name]);
            }
            for histogram in [&self.reconcile_seconds, &self.queue_seconds, &self.work_seconds] {
                histogram.with_label_values(&[name]);
            }
            self.active_workers.with_label_values(&[name]);
        }
        for method in METHODS {
            let codes = CODES.iter().map(u16::to_string).chain([NO_ANSWER, OTHER].map(str::to_owned));
            codes.for_each(|code| drop(self.requests.with_label_values(&[code.as_str(), method.as_str()])));
        }
        self.leader.with_label_values(&[names::OPERATOR]);
    }

    /// Something has happened to this subject. It stands in the queue once.
    pub fn woken(&self, subject: &Subject) {
        let mut work = self.lock();
        if !work.waiting.contains_key(subject) {
            work.waiting.insert(subject.clone(), Instant::now());
            self.adds.with_label_values(&[controller(subject)]).inc();
        }
    }

    /// A pass over it begins.
    pub fn begins(&self, subject: &Subject) {
        let mut work = self.lock();
        // Time alone may have brought it here.
        if let Some(since) = work.waiting.remove(subject) {
            self.queue_seconds.with_label_values(&[controller(subject)]).observe(since.elapsed().as_secs_f64());
        }
        if work.passes.insert(subject.clone(), Instant::now()).is_none() {
            self.active_workers.with_label_values(&[controller(subject)]).inc();
        }
    }

    /// The pass over it is over. One that failed comes again.
    pub fn reconciled(&self, subject: &Subject, well: bool, took: Duration) {
        let name = controller(subject);
        if self.lock().passes.remove(subject).is_some() {
            self.active_workers.with_label_values(&[name]).dec();
        }
        self.reconciliations.with_label_values(&[name, RESULTS[usize::from(!well)]]).inc();
        for seconds in [&self.reconcile_seconds, &self.work_seconds] {
            seconds.with_label_values(&[name]).observe(took.as_secs_f64());
        }
        if !well {
            self.reconcile_errors.with_label_values(&[name]).inc();
            self.retries.with_label_values(&[name]).inc();
        }
    }

    /// The API server has answered a request like this, or nobody has.
    pub fn requested(&self, method: &Method, answer: Option<StatusCode>) {
        let code = match answer.map(|code| code.as_u16()) {
            None => NO_ANSWER.to_owned(),
            Some(code) if CODES.contains(&code) => code.to_string(),
            Some(_) => OTHER.to_owned(),
        };
        let method = if METHODS.contains(method) { method.as_str() } else { OTHER };
        self.requests.with_label_values(&[code.as_str(), method]).inc();
    }

    /// This operator does the work from now on.
    pub fn leads(&self) {
        self.leader.with_label_values(&[names::OPERATOR]).set(1);
    }

    /// How old the passes are that go on now. To be called before anybody looks.
    pub fn age(&self) {
        let work = self.lock();
        for name in CONTROLLERS {
            let its = work.passes.iter().filter(|(subject, _)| controller(subject) == name);
            let ages: Vec<f64> = its.map(|(_, since)| since.elapsed().as_secs_f64()).collect();
            self.unfinished_seconds.with_label_values(&[name]).set(ages.iter().sum());
            self.longest_seconds.with_label_values(&[name]).set(ages.iter().copied().fold(0.0, f64::max));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As controller-runtime would name what looks after it.
fn controller(subject: &Subject) -> &'static str {
    match subject.kind {
        Kind::Experiment => CONTROLLERS[0],
        Kind::Run => CONTROLLERS[1],
    }
}
