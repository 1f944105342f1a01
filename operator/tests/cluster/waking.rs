//! Who has to look when something has changed.

use bam_crds::run::Role;
use bam_operator::cluster::observe::Seen;
use bam_operator::cluster::wake;
use bam_operator::platform::Subject;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::fixture::{RUN, experiment, guarded, job, put, run};

fn names(subjects: Vec<Subject>) -> Vec<String> {
    let mut names: Vec<_> = subjects.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn an_experiment_wakes_itself_and_those_that_name_it_as_a_teacher() {
    let seen = Seen::default();
    put(&seen.experiments, experiment("pupil", json!({ "teachers": { "rte": { "experiment": "teacher" } } })));
    put(&seen.experiments, experiment("other", Value::Null));
    let changed = seen.experiments.apply(Event::Apply(experiment("teacher", Value::Null))).remove(0);
    assert_eq!(names(wake::by_experiment(&seen, &changed)), ["experiment lab/pupil", "experiment lab/teacher"]);
}

#[test]
fn a_run_wakes_its_owners_and_those_who_may_wait_for_it_only_when_it_stands_otherwise() {
    let seen = Seen::default();
    put(&seen.experiments, experiment("pupil", json!({ "teachers": { "rte": { "run": RUN } } })));
    let running = run("r", json!({ "phase": "Running" }));
    let came = seen.runs.apply(Event::Apply(guarded(running))).remove(0);
    let itself = format!("run lab/{RUN}");
    assert_eq!(names(wake::by_run(&seen, &came)), ["experiment lab/exp", "experiment lab/pupil", &itself]);

    let progress = json!({ "phase": "Running", "progress": { "stage": "Training", "done": 1, "total": 2 } });
    let further = seen.runs.apply(Event::Apply(guarded(run("r", progress)))).remove(0);
    assert_eq!(names(wake::by_run(&seen, &further)), ["experiment lab/exp", &itself]);
}

#[test]
fn a_run_that_was_in_the_way_wakes_everybody_when_it_is_gone() {
    let seen = Seen::default();
    put(&seen.experiments, experiment("other", Value::Null));
    let mut leaving = run("r", json!({}));
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Default::default()));
    put(&seen.runs, guarded(leaving.clone()));
    let gone = seen.runs.apply(Event::Delete(guarded(leaving))).remove(0);
    assert!(names(wake::by_run(&seen, &gone)).contains(&"experiment lab/other".to_owned()));
}

#[test]
fn an_experiment_that_is_suspended_wakes_its_runs() {
    let seen = Seen::default();
    put(&seen.experiments, experiment("exp", Value::Null));
    let mut its = run("r", json!({}));
    its.metadata.owner_references.as_mut().unwrap()[0].uid = "uid-exp".to_owned();
    put(&seen.runs, guarded(its));
    let mut suspended = experiment("exp", Value::Null);
    suspended.0.as_mut().unwrap().spec.suspend = true;
    let changed = seen.experiments.apply(Event::Apply(suspended)).remove(0);
    assert_eq!(
        names(wake::by_experiment(&seen, &changed)),
        ["experiment lab/exp".to_owned(), format!("run lab/{RUN}")]
    );
}

#[test]
fn a_job_wakes_its_run() {
    let seen = Seen::default();
    let changed = seen.jobs.apply(Event::Apply(job(1, "r", None))).remove(0);
    assert_eq!(names(wake::by_part(&changed)), [format!("run lab/{RUN}")]);
}

#[test]
fn a_claim_that_comes_or_can_be_used_otherwise_wakes_the_runs_whose_store_it_is() {
    let seen = Seen::default();
    put(&seen.runs, guarded(run("r", json!({}))));
    let claim = |name: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "lab" } })).unwrap()
    };
    let came = seen.claims.apply(Event::Apply(claim("bam-dir"))).remove(0);
    assert_eq!(names(wake::by_claim(&seen, &came)), [format!("run lab/{RUN}")]);
    let mut bound = claim("bam-dir");
    bound.status.get_or_insert_default().access_modes = Some(vec!["ReadWriteOnce".to_owned()]);
    let shared = seen.claims.apply(Event::Apply(bound.clone())).remove(0);
    assert_eq!(names(wake::by_claim(&seen, &shared)), [format!("run lab/{RUN}")]);
    assert!(seen.claims.apply(Event::Apply(bound)).is_empty(), "nothing is otherwise");
    let other = seen.claims.apply(Event::Apply(claim("other"))).remove(0);
    assert!(wake::by_claim(&seen, &other).is_empty());
}

#[test]
fn a_run_that_another_experiment_makes_wakes_those_that_are_halted_and_may_need_it_too() {
    let seen = Seen::default();
    let mut suspended = experiment("idle", Value::Null);
    suspended.0.as_mut().unwrap().spec.suspend = true;
    put(&seen.experiments, suspended);
    let failed = json!({ "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let mut late = experiment("late", Value::Null);
    late.0.as_mut().unwrap().status = serde_json::from_value(json!({ "conditions": [failed] })).unwrap();
    put(&seen.experiments, late);
    let made = seen.runs.apply(Event::Apply(guarded(run("r", json!({}))))).remove(0);
    let woken = names(wake::by_run(&seen, &made));
    for name in ["experiment lab/idle", "experiment lab/late"] {
        assert!(woken.contains(&name.to_owned()), "{woken:?}");
    }
}

#[test]
fn something_that_has_ended_goes_before_what_has_not_begun_and_what_is_only_to_be_told() {
    for (what, known, phase, can_wait) in [
        ("nothing was begun", None, None, true),
        ("its run was begun", Some("Pending"), Some("Running"), true),
        ("its run has ended", Some("Running"), Some("Succeeded"), false),
        ("its run has ended, and it was told so", Some("Succeeded"), Some("Succeeded"), true),
    ] {
        let seen = Seen::default();
        let mut its = experiment("exp", Value::Null);
        let status =
            known.map(|phase| json!({ "runs": [{ "name": RUN, "role": "Inputs", "tasks": [], "phase": phase }] }));
        its.0.as_mut().unwrap().status = status.map(|status| serde_json::from_value(status).unwrap());
        put(&seen.experiments, its);
        phase.into_iter().for_each(|phase| put(&seen.runs, guarded(run("r", json!({ "phase": phase })))));
        assert_eq!(seen.can_wait(&Subject::experiment("lab", "exp")), can_wait, "{what}");
    }
    let ended = Some("Complete");
    for (what, role, status, its_job, can_wait) in [
        ("a run of which nothing has begun", Role::Inputs, json!({}), None, true),
        ("a student that has its teachers, and has not begun", Role::Student, json!({}), None, false),
        ("a run that is at work", Role::Inputs, json!({}), Some(job(1, "r", None)), true),
        ("a run whose Job is over", Role::Inputs, json!({}), Some(job(1, "r", ended)), false),
        ("a run that is to be tried again", Role::Inputs, json!({ "attempts": 1 }), None, false),
        ("a run that is over", Role::Student, json!({ "phase": "Succeeded" }), Some(job(1, "r", ended)), true),
    ] {
        let seen = Seen::default();
        let mut its = run("r", status);
        its.spec.role = role;
        put(&seen.runs, guarded(its));
        its_job.into_iter().for_each(|job| put(&seen.jobs, job));
        assert_eq!(seen.can_wait(&Subject::run("lab", RUN)), can_wait, "{what}");
    }
}
