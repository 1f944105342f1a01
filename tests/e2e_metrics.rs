//! The dashboard and the alerts against a real Prometheus that scrapes an operator's metrics: every panel must show
//! something, and every alert must see what it is about.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bam_crds::ExitReason;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::report::Stage;
use bam_crds::run::{AttemptRecord, Role, RunPhase, RunProgress, Usage};
use bam_operator::cluster::metrics::{ACTIONS, Metrics, REQUESTS, State};
use bam_operator::cluster::serve::{Health, Heartbeat, Readiness, serve};
use bam_operator::platform::Subject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;

/// One second of an operator's life.
fn live(metrics: &Metrics, second: u64) {
    let took = Duration::from_millis(second % 7);
    for subject in [Subject::experiment("team", "exp"), Subject::run("team", "run-1")] {
        metrics.standard().woken(&subject);
        metrics.standard().begins(&subject);
        metrics.standard().reconciled(&subject, true, took);
    }
    ACTIONS.iter().for_each(|action| metrics.action(action, "done"));
    REQUESTS.iter().for_each(|(verb, kind)| metrics.api_call(verb, kind, "ok", took));
    metrics.watch_event("bamruns");
    metrics.progress_pull("ok");
    metrics.attempt_started(Role::Teacher, 1);
    metrics.attempt_ended(Role::Teacher, &completed());
    let usage = Usage { productive_seconds: second + 1, ..Usage::default() };
    metrics.used(Role::Teacher, Usage { productive_seconds: second, ..usage }, usage);
    metrics.attempt_at_work(Role::Teacher, SignedDuration::from_secs(3));
    metrics.student_started(SignedDuration::from_secs(1));
    metrics.experiment_ended(ExperimentPhase::Complete, SignedDuration::from_hours(1));

    let mut state = State::new(1, 0);
    state.experiment("team", ExperimentPhase::TrainingTeachers);
    let progress = Some(RunProgress::new(Stage::Training, second, 1000));
    state.run("team", Role::Teacher, RunPhase::Running, progress.as_ref());
    metrics.set_state(&state);
}

fn completed() -> AttemptRecord {
    let time = Time(Timestamp::UNIX_EPOCH);
    AttemptRecord {
        number: 1,
        reason: Some(ExitReason::Completed),
        exit_code: Some(0),
        message: String::new(),
        log: Vec::new(),
        started_at: time.clone(),
        finished_at: time,
        saved_steps: 1000,
    }
}

#[tokio::test]
async fn every_panel_shows_something_and_every_alert_sees_what_it_is_about() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let metrics = Arc::new(Metrics::new());
    let health = Health { readiness: Readiness::default(), heartbeat: Heartbeat::new(Duration::from_secs(60)) };
    let server = tokio::spawn(serve(listener, Arc::new(health), metrics.clone(), std::future::pending()));
    let life = tokio::spawn(async move {
        for second in 0.. {
            live(&metrics, second);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/dashboard_check.py");
    let check = move || Command::new(script).args(["--metrics-url", &url]).output().unwrap();
    let output = tokio::task::spawn_blocking(check).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", said.lines().last().unwrap_or_default());
    life.abort();
    server.abort();
}
