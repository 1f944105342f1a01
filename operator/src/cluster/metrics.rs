//! What the operator counts for Prometheus.
//!
//! Every label value comes from a closed set, but for the names of a bounded number of namespaces: no series is ever named
//! after an object, and free text goes to the log. So the number of series is bounded however many experiments there are, and a
//! test says by how much. Counters begin at 0 for every value of their labels, since a counter that begins at 1 has never
//! increased.
//!
//! What every operator has, it counts under the names of controller-runtime, which dashboards know.
//!
//! Gauges of how things stand ([`Metrics::set_state`]) are absent until the operator has seen the cluster: zero failed
//! experiments is a statement.

use std::sync::Once;
use std::time::Duration;

use bam_crds::ExitReason;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{AttemptRecord, Role, Usage};
use k8s_openapi::jiff::SignedDuration;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::Serialize;

use super::CONCURRENCY;
use crate::plan::retry::{SIGKILL, SIGTERM};

mod gauges;
mod standard;

use gauges::Gauges;
pub use gauges::State;
pub use standard::Standard;

/// What the operator does.
pub const ACTIONS: [&str; 7] =
    ["create_run", "join_run", "reopen_run", "start_attempt", "stop_attempt", "remove_attempt", "remove_experiment"];
/// What becomes of it.
pub const OUTCOMES: [&str; 4] = ["done", "done_before", "not_now", "error"];
/// What it watches.
pub const WATCHED: [&str; 9] = [
    "bamexperiments",
    "bamruns",
    "bamprofiles",
    "clusterbamprofiles",
    "jobs",
    "pods",
    "persistentvolumeclaims",
    "events",
    "workloads",
];
/// What can be of a form that it does not understand.
pub const DECODED: [&str; 4] = ["bamexperiments", "bamruns", "bamprofiles", "clusterbamprofiles"];
/// What it asks of the API server beside its watches.
pub const REQUESTS: [(&str, &str); 16] = [
    ("get", "bamexperiments"),
    ("delete", "bamexperiments"),
    ("patch", "bamexperiments/status"),
    ("create", "bamruns"),
    ("patch", "bamruns"),
    ("patch", "bamruns/status"),
    ("create", "services"),
    ("get", "jobs"),
    ("create", "jobs"),
    ("delete", "jobs"),
    ("list", "pods"),
    ("create", "events"),
    ("patch", "events"),
    ("get", "leases"),
    ("create", "leases"),
    ("update", "leases"),
];
/// What the API server answers. `conflict`: 409, somebody was there before.
pub const API_RESULTS: [&str; 4] = ["ok", "conflict", "error", "timeout"];
/// How asking a trainer for its progress ends. `skipped`: there were too many to ask.
pub const PULL_RESULTS: [&str; 4] = ["ok", "error", "timeout", "skipped"];
/// A run's first attempt, or a later one.
pub const TRIES: [&str; 2] = ["first", "again"];
/// How an attempt ended that its trainer said nothing about: by SIGTERM or SIGKILL, with a code that is not a trainer's,
/// unseen.
pub const UNREPORTED: [&str; 3] = ["Killed", "Crashed", "Lost"];

/// What came of the time that attempts took.
const USES: [&str; 4] = ["productive", "replayed", "wasted", "idle"];
const ENDS: [ExperimentPhase; 3] = [ExperimentPhase::Complete, ExperimentPhase::Failed, ExperimentPhase::Cancelled];
const ROLES: [Role; 3] = [Role::Inputs, Role::Teacher, Role::Student];

/// Upper bounds in seconds: from a check of the inputs to a night of training.
const TRAINING_SECONDS: [f64; 9] = [10.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 36_000.0, 86_400.0, 604_800.0];
/// Upper bounds in seconds: what Kubernetes remembers of time is in whole ones.
const WAITING_SECONDS: [f64; 8] = [1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 10_800.0];
/// Upper bounds in seconds: an idle API server answers below the second, a busy one above the fifth.
const API_SECONDS: [f64; 8] = [0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

/// All metrics of one operator.
pub struct Metrics {
    registry: Registry,
    standard: Standard,
    actions: IntCounterVec,
    attempts_started: IntCounterVec,
    attempts_ended: IntCounterVec,
    attempt_seconds: HistogramVec,
    accelerator_seconds: IntCounterVec,
    replayed_steps: IntCounterVec,
    attempt_wait_seconds: HistogramVec,
    student_wait_seconds: HistogramVec,
    experiment_seconds: HistogramVec,
    watch_events: IntCounterVec,
    watch_errors: IntCounterVec,
    api_requests: IntCounterVec,
    api_seconds: HistogramVec,
    progress_pulls: IntCounterVec,
    leads: IntGauge,
    gauges: Gauges,
    seen: Once,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at 0.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name, help, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric"))
        };
        let seconds = |name, help, labels: &[&str], bounds: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            register(&registry, HistogramVec::new(options, labels).expect("a valid metric"))
        };
        let metrics = Self {
            standard: Standard::new(&registry, CONCURRENCY),
            actions: counters("bam_actions_total", "Actions of plans, by what became of them.", &["action", "outcome"]),
            attempts_started: counters("bam_attempts_started_total", "Attempts begun.", &["role", "attempt"]),
            attempts_ended: counters(
                "bam_attempts_ended_total",
                "Attempts seen to have ended, by how.",
                &["role", "reason"],
            ),
            attempt_seconds: seconds(
                "bam_attempt_duration_seconds",
                "Time of one attempt, from the making of its Job to its end.",
                &["role"],
                &TRAINING_SECONDS,
            ),
            accelerator_seconds: counters(
                "bam_accelerator_seconds_total",
                "Seconds that attempts held machines, times accelerators, by what came of them (a pod without any counts as one).",
                &["role", "use"],
            ),
            replayed_steps: counters(
                "bam_steps_replayed_total",
                "Optimizer steps that were not safe when their attempt ended: the next one does them once more.",
                &["role"],
            ),
            attempt_wait_seconds: seconds(
                "bam_attempt_wait_seconds",
                "Time from the making of an attempt's Job until its trainer is at work: for a queue, a node, an image.",
                &["role"],
                &WAITING_SECONDS,
            ),
            student_wait_seconds: seconds(
                "bam_student_wait_seconds",
                "Time from the end of a student's last teacher until its first attempt is made.",
                &[],
                &WAITING_SECONDS,
            ),
            experiment_seconds: seconds(
                "bam_experiment_duration_seconds",
                "Time from the making of an experiment to its end, by how it ended.",
                &["phase"],
                &TRAINING_SECONDS,
            ),
            watch_events: counters("bam_watch_events_total", "Changes that watches told of.", &["kind"]),
            watch_errors: counters("bam_watch_errors_total", "Watches that broke or could not begin.", &["kind"]),
            api_requests: counters(
                "bam_api_requests_total",
                "Requests to the API server other than watches.",
                &["verb", "kind", "result"],
            ),
            api_seconds: seconds(
                "bam_api_request_duration_seconds",
                "Time of one request to the API server other than a watch.",
                &["verb", "kind"],
                &API_SECONDS,
            ),
            progress_pulls: counters("bam_progress_pulls_total", "Trainers asked for their progress.", &["result"]),
            leads: register(
                &registry,
                IntGauge::new("bam_operator_leader", "1 while this operator does the work, 0 while another one does.")
                    .expect("a valid metric"),
            ),
            gauges: Gauges::new(),
            seen: Once::new(),
            registry,
        };
        metrics.begin_at_zero();
        let build = gauges("bam_build_info", "1; the label says which version of the operator this is.", &["version"]);
        register(&metrics.registry, build).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = Box::new(ProcessCollector::for_self());
        metrics.registry.register(process).expect("no two metrics have one name");
        metrics
    }

    fn begin_at_zero(&self) {
        let of_each = |counters: &IntCounterVec, values: &[&str]| {
            for value in values {
                counters.with_label_values(&[value]);
            }
        };
        let of_pairs = |counters: &IntCounterVec, firsts: &[&str], seconds: &[&str]| {
            for (first, second) in firsts.iter().flat_map(|first| seconds.iter().map(move |second| (first, second))) {
                counters.with_label_values(&[first, second]);
            }
        };
        let roles = ROLES.map(word);
        let roles = roles.each_ref().map(String::as_str);
        let reasons = ExitReason::ALL.map(word);
        let reasons: Vec<&str> = reasons.iter().map(String::as_str).chain(UNREPORTED).collect();
        for histogram in [&self.attempt_seconds, &self.attempt_wait_seconds] {
            roles.iter().for_each(|role| drop(histogram.with_label_values(&[role])));
        }
        self.student_wait_seconds.with_label_values::<&str>(&[]);
        ENDS.map(word).iter().for_each(|phase| drop(self.experiment_seconds.with_label_values(&[phase])));
        of_pairs(&self.actions, &ACTIONS, &OUTCOMES);
        of_pairs(&self.attempts_started, &roles, &TRIES);
        of_pairs(&self.attempts_ended, &roles, &reasons);
        of_pairs(&self.accelerator_seconds, &roles, &USES);
        of_each(&self.replayed_steps, &roles);
        of_each(&self.watch_events, &WATCHED);
        of_each(&self.watch_errors, &WATCHED);
        of_each(&self.progress_pulls, &PULL_RESULTS);
        for (verb, kind) in REQUESTS {
            API_RESULTS.iter().for_each(|result| drop(self.api_requests.with_label_values(&[verb, kind, result])));
        }
    }

    /// What every operator counts: its queue, its passes, its requests.
    pub fn standard(&self) -> &Standard {
        &self.standard
    }

    /// An action of a plan was tried: one of [`ACTIONS`], one of [`OUTCOMES`].
    pub fn action(&self, action: &'static str, outcome: &'static str) {
        self.actions.with_label_values(&[known(&ACTIONS, action), known(&OUTCOMES, outcome)]).inc();
    }

    /// The attempt of this number was begun.
    pub fn attempt_started(&self, role: Role, number: u32) {
        let attempt = TRIES[usize::from(number > 1)];
        self.attempts_started.with_label_values(&[word(role).as_str(), attempt]).inc();
    }

    /// An attempt was seen to have ended. To be called when the status that holds the record was written for the first
    /// time, so that no ending counts twice.
    pub fn attempt_ended(&self, role: Role, record: &AttemptRecord) {
        let reason = match (record.reason, record.exit_code) {
            (Some(reason), _) => word(reason),
            (None, Some(SIGKILL | SIGTERM)) => UNREPORTED[0].to_owned(),
            (None, Some(_)) => UNREPORTED[1].to_owned(),
            (None, None) => UNREPORTED[2].to_owned(),
        };
        self.attempts_ended.with_label_values(&[word(role), reason]).inc();
        let took = record.finished_at.0.duration_since(record.started_at.0);
        self.attempt_seconds.with_label_values(&[word(role)]).observe(took.as_secs_f64().max(0.0));
    }

    /// Attempts cost so much more than before.
    pub fn used(&self, role: Role, before: Usage, after: Usage) {
        let of =
            |usage: Usage| [usage.productive_seconds, usage.replayed_seconds, usage.wasted_seconds, usage.idle_seconds];
        for ((name, after), before) in USES.into_iter().zip(of(after)).zip(of(before)) {
            self.accelerator_seconds
                .with_label_values(&[word(role).as_str(), name])
                .inc_by(after.saturating_sub(before));
        }
        let replayed = after.replayed_steps.saturating_sub(before.replayed_steps);
        self.replayed_steps.with_label_values(&[word(role)]).inc_by(replayed);
    }

    /// The trainer of an attempt is at work, so long after its Job was made.
    pub fn attempt_at_work(&self, role: Role, waited: SignedDuration) {
        self.attempt_wait_seconds.with_label_values(&[word(role)]).observe(waited.as_secs_f64().max(0.0));
    }

    /// A student's first attempt was made, so long after its last teacher was done.
    pub fn student_started(&self, waited: SignedDuration) {
        self.student_wait_seconds.with_label_values::<&str>(&[]).observe(waited.as_secs_f64().max(0.0));
    }

    /// An experiment came to this end, so long after it was made. To be called when the status that says so was written.
    pub fn experiment_ended(&self, phase: ExperimentPhase, took: SignedDuration) {
        self.experiment_seconds.with_label_values(&[word(phase)]).observe(took.as_secs_f64().max(0.0));
    }

    /// A watch told of a change: one of [`WATCHED`].
    pub fn watch_event(&self, kind: &'static str) {
        self.watch_events.with_label_values(&[known(&WATCHED, kind)]).inc();
    }

    /// A watch broke or could not begin: one of [`WATCHED`].
    pub fn watch_error(&self, kind: &'static str) {
        self.watch_errors.with_label_values(&[known(&WATCHED, kind)]).inc();
    }

    /// A request was answered, or given up: one of [`REQUESTS`], one of [`API_RESULTS`].
    pub fn api_call(&self, verb: &'static str, kind: &'static str, result: &'static str, took: Duration) {
        debug_assert!(REQUESTS.contains(&(verb, kind)), "REQUESTS lacks {verb} {kind}");
        let (verb, kind) = if REQUESTS.contains(&(verb, kind)) { (verb, kind) } else { (OTHER, OTHER) };
        self.api_requests.with_label_values(&[verb, kind, known(&API_RESULTS, result)]).inc();
        self.api_seconds.with_label_values(&[verb, kind]).observe(took.as_secs_f64());
    }

    /// A trainer was asked for its progress: one of [`PULL_RESULTS`].
    pub fn progress_pull(&self, result: &'static str) {
        self.progress_pulls.with_label_values(&[known(&PULL_RESULTS, result)]).inc();
    }

    /// This operator does the work from now on.
    pub fn leads(&self) {
        self.leads.set(1);
        self.standard.leads();
    }

    /// How things stand now. To be called when all watches have told of what there is, and then after every change or
    /// every few seconds.
    pub fn set_state(&self, state: &State) {
        self.gauges.set(state);
        self.seen.call_once(|| self.gauges.register(&self.registry));
    }

    /// Everything, in Prometheus' text format ([`prometheus::TEXT_FORMAT`]).
    pub fn render(&self) -> String {
        self.standard.age();
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot write the metrics");
            String::new()
        })
    }
}

/// What a value outside its set is counted as.
const OTHER: &str = "other";

/// Keeps a label within its set. Tests find a value that the set lacks; in the field it is not worth a crash.
fn known(set: &[&'static str], value: &'static str) -> &'static str {
    debug_assert!(set.contains(&value), "{value} is not one of {set:?}");
    if set.contains(&value) { value } else { OTHER }
}

/// The word for it that manifests and statuses have too.
fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => OTHER.to_owned(),
    }
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid metric")
}

/// Names and labels are constants of this file, so that this cannot fail after its tests have passed.
fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> C {
    registry.register(Box::new(metric.clone())).expect("no two metrics have one name");
    metric
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use bam_crds::experiment::ExperimentPhase;
    use bam_crds::report::Stage;
    use bam_crds::run::{RunPhase, RunProgress};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use prometheus::proto::MetricType;

    use super::standard::{CODES, METHODS};
    use super::*;
    use crate::platform::Subject;
    use hyper::StatusCode;

    fn ended(reason: Option<ExitReason>, exit_code: Option<i32>) -> AttemptRecord {
        let (started_at, finished_at) = (Time(Timestamp::UNIX_EPOCH), Time(Timestamp::UNIX_EPOCH));
        AttemptRecord {
            number: 1,
            reason,
            exit_code,
            message: String::new(),
            log: Vec::new(),
            started_at,
            finished_at,
            saved_steps: 0,
        }
    }

    /// One of each controller.
    fn subjects() -> [Subject; 2] {
        [Subject::experiment("lab", "exp"), Subject::run("lab", "run-1")]
    }

    /// After everything that can happen has happened.
    fn used() -> Metrics {
        let metrics = Metrics::new();
        for subject in subjects() {
            metrics.standard().woken(&subject);
            metrics.standard().begins(&subject);
            metrics.standard().reconciled(&subject, true, Duration::from_millis(3));
        }
        for (verb, kind) in REQUESTS {
            metrics.api_call(verb, kind, "ok", Duration::from_millis(30));
        }
        let mut state = State::default();
        (0..500).for_each(|number| state.experiment(&format!("team-{number}"), ExperimentPhase::default()));
        metrics.set_state(&state);
        metrics
    }

    /// The metrics by name: type and help.
    fn families() -> Vec<(String, MetricType, String)> {
        let families = used().registry.gather();
        families.iter().map(|family| (family.name().into(), family.get_field_type(), family.help().into())).collect()
    }

    #[test]
    fn there_are_fewer_than_1500_series_whatever_happens() {
        let rendered = used().render();
        let series = rendered.lines().filter(|line| !line.starts_with('#')).count();
        assert!((1000..1500).contains(&series), "{series} series");
        assert!(rendered.contains("bam_experiments{namespace=\"_other\",phase=\"Pending\"} 460\n"), "{rendered}");
    }

    #[test]
    fn nothing_that_happens_makes_a_counter_with_new_labels() {
        let before = used().render().lines().count();
        let metrics = used();
        let standard = metrics.standard();
        for (well, subject) in [true, false].into_iter().flat_map(|well| subjects().map(|subject| (well, subject))) {
            standard.woken(&subject);
            standard.begins(&subject);
            standard.reconciled(&subject, well, Duration::ZERO);
        }
        for method in METHODS {
            let codes = CODES.iter().map(|code| StatusCode::from_u16(*code).ok());
            codes.chain([None]).for_each(|code| standard.requested(&method, code));
        }
        metrics.leads();
        ENDS.iter().for_each(|phase| metrics.experiment_ended(*phase, SignedDuration::ZERO));
        metrics.student_started(SignedDuration::ZERO);
        ACTIONS.iter().for_each(|action| OUTCOMES.iter().for_each(|outcome| metrics.action(action, outcome)));
        for role in ROLES {
            metrics.attempt_at_work(role, SignedDuration::ZERO);
            [1, 2, 3].iter().for_each(|number| metrics.attempt_started(role, *number));
            ExitReason::ALL.iter().for_each(|reason| metrics.attempt_ended(role, &ended(Some(*reason), None)));
            [None, Some(137), Some(139)].iter().for_each(|code| metrics.attempt_ended(role, &ended(None, *code)));
        }
        for kind in WATCHED {
            metrics.watch_event(kind);
            metrics.watch_error(kind);
        }
        for (verb, kind) in REQUESTS {
            API_RESULTS.iter().for_each(|result| metrics.api_call(verb, kind, result, Duration::ZERO));
        }
        PULL_RESULTS.iter().for_each(|result| metrics.progress_pull(result));
        assert_eq!(metrics.render().lines().count(), before);
        // Of an API server's answers some are counted as one.
        let rendered = metrics.render();
        let mut others = rendered.lines().filter(|line| line.contains("\"other\""));
        assert!(others.all(|line| line.starts_with("rest_client_requests_total{code=\"other\"")), "{rendered}");
    }

    #[test]
    fn names_and_helps_are_as_prometheus_wants_them() {
        for (name, kind, help) in families() {
            let prefixes =
                ["bam_", "process_", "controller_runtime_", "workqueue_", "rest_client_", "leader_election_"];
            assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(help.ends_with('.'), "{name}: {help}");
            assert_eq!(name.ends_with("_total"), kind == MetricType::COUNTER, "{name}");
            if kind == MetricType::HISTOGRAM {
                assert!(name.ends_with("_seconds"), "{name}");
            }
        }
    }

    #[test]
    fn what_dashboards_for_any_operator_ask_for_is_there_under_its_usual_name_and_labels() {
        let rendered = used().render();
        // Those of controller-runtime 0.22 and client-go 0.34 that a dashboard is drawn from. `workqueue_depth` is of the one
        // queue, and the requests are all to one host.
        for (name, labels) in [
            ("controller_runtime_reconcile_total", "{controller=\"bamrun\",result=\"success\"}"),
            ("controller_runtime_reconcile_errors_total", "{controller=\"bamrun\"}"),
            ("controller_runtime_reconcile_time_seconds_bucket", "{controller=\"bamrun\",le=\"0.1\"}"),
            ("controller_runtime_active_workers", "{controller=\"bamrun\"}"),
            ("controller_runtime_max_concurrent_reconciles", "{controller=\"bamrun\"}"),
            ("workqueue_depth", ""),
            ("workqueue_adds_total", "{name=\"bamrun\"}"),
            ("workqueue_retries_total", "{name=\"bamrun\"}"),
            ("workqueue_queue_duration_seconds_bucket", "{name=\"bamrun\",le=\"0.1\"}"),
            ("workqueue_work_duration_seconds_bucket", "{name=\"bamrun\",le=\"0.1\"}"),
            ("workqueue_unfinished_work_seconds", "{name=\"bamrun\"}"),
            ("workqueue_longest_running_processor_seconds", "{name=\"bamrun\"}"),
            ("leader_election_master_status", "{name=\"bam-operator\"}"),
            ("rest_client_requests_total", "{code=\"200\",method=\"GET\"}"),
        ] {
            let series = format!("\n{name}{labels} ");
            assert!(rendered.contains(&series), "{series}\n{rendered}");
        }
    }

    #[test]
    fn a_subject_waits_is_worked_on_and_comes_again() {
        let metrics = Metrics::new();
        let (standard, [experiment, run]) = (metrics.standard(), subjects());
        let says = |name: &str, controller: &str| {
            let label = if name.starts_with("controller") { "controller" } else { "name" };
            let series = format!("{name}{{{label}=\"{controller}\"}} ");
            let text = metrics.render();
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok()).unwrap()
        };
        standard.woken(&run);
        standard.woken(&run);
        assert_eq!(says("workqueue_adds_total", "bamrun"), 1.0, "it stands in the queue once");
        assert_eq!(says("controller_runtime_active_workers", "bamrun"), 0.0);

        standard.begins(&run);
        assert_eq!(says("workqueue_queue_duration_seconds_count", "bamrun"), 1.0);
        assert_eq!(says("controller_runtime_active_workers", "bamrun"), 1.0);
        assert!(says("workqueue_unfinished_work_seconds", "bamrun") > 0.0);
        assert!(says("workqueue_longest_running_processor_seconds", "bamrun") > 0.0);
        standard.woken(&run);
        assert_eq!(says("workqueue_adds_total", "bamrun"), 2.0, "what changes meanwhile is looked at again");

        standard.reconciled(&run, false, Duration::from_millis(3));
        assert_eq!(says("controller_runtime_active_workers", "bamrun"), 0.0);
        assert_eq!(says("workqueue_unfinished_work_seconds", "bamrun"), 0.0);
        assert_eq!(says("workqueue_retries_total", "bamrun"), 1.0);
        assert_eq!(says("workqueue_work_duration_seconds_count", "bamrun"), 1.0);

        standard.begins(&experiment);
        standard.reconciled(&experiment, true, Duration::from_millis(3));
        assert_eq!(says("workqueue_queue_duration_seconds_count", "bamexperiment"), 0.0, "time alone brought it here");
        assert_eq!(says("workqueue_retries_total", "bamexperiment"), 0.0);
        assert_eq!(says("workqueue_adds_total", "bamexperiment"), 0.0);
    }

    #[test]
    fn an_attempt_without_a_word_ended_by_its_exit_code() {
        let metrics = Metrics::new();
        metrics.attempt_ended(Role::Teacher, &ended(Some(ExitReason::OutOfMemory), Some(137)));
        metrics.attempt_ended(Role::Teacher, &ended(None, Some(143)));
        metrics.attempt_ended(Role::Student, &ended(None, Some(139)));
        metrics.attempt_ended(Role::Inputs, &ended(None, None));
        let rendered = metrics.render();
        for (role, reason) in
            [("Teacher", "OutOfMemory"), ("Teacher", "Killed"), ("Student", "Crashed"), ("Inputs", "Lost")]
        {
            let line = format!("bam_attempts_ended_total{{reason=\"{reason}\",role=\"{role}\"}} 1\n");
            assert!(rendered.contains(&line), "{line}");
        }
    }

    #[test]
    fn how_things_stand_is_not_said_before_it_was_seen() {
        let metrics = Metrics::new();
        assert!(!metrics.render().contains("bam_experiments"));
        let mut state = State::new(2, 0);
        state.experiment("team", ExperimentPhase::Failed);
        let progress = |done| Some(RunProgress::new(Stage::Training, done, 10));
        for done in [3, 4] {
            state.run("team", Role::Teacher, RunPhase::Running, progress(done).as_ref());
        }
        state.run("team", Role::Student, RunPhase::Failed, progress(5).as_ref());
        state.undecodable("bamruns");
        metrics.set_state(&state);
        let rendered = metrics.render();
        for line in [
            "bam_experiments{namespace=\"team\",phase=\"Failed\"} 1",
            "bam_experiments{namespace=\"team\",phase=\"Complete\"} 0",
            "bam_runs{namespace=\"team\",phase=\"Running\",role=\"Teacher\"} 2",
            "bam_training_steps_done{role=\"Teacher\"} 7",
            "bam_training_steps{role=\"Teacher\"} 20",
            "bam_training_steps{role=\"Student\"} 0",
            "bam_undecodable_objects{kind=\"bamruns\"} 1",
            "workqueue_depth 2",
        ] {
            assert!(rendered.contains(&format!("{line}\n")), "{line}\n{rendered}");
        }
        metrics.set_state(&State::default());
        assert!(!metrics.render().contains("\"team\""), "it is gone");
    }

    #[test]
    fn the_dashboard_and_the_alerts_ask_only_for_metrics_that_there_are() {
        let mut there = BTreeSet::new();
        for (name, kind, _) in families() {
            let parts: &[&str] = if kind == MetricType::HISTOGRAM { &["_bucket", "_sum", "_count"] } else { &[""] };
            there.extend(parts.iter().map(|part| format!("{name}{part}")));
        }
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/bam-operator");
        for file in ["dashboards/bam.json", "alerts/bam.yaml"] {
            let text = std::fs::read_to_string(chart.join(file)).unwrap();
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let prefixes =
                ["bam_", "process_", "controller_runtime_", "workqueue_", "rest_client_", "leader_election_"];
            let asked: BTreeSet<_> =
                words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect();
            assert!(asked.len() > 5, "{file}: {asked:?}");
            let missing: Vec<_> = asked.into_iter().filter(|name| !there.contains(*name)).collect();
            assert_eq!(missing, Vec::<&str>::new(), "{file}");
        }
    }
}
