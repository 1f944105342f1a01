//! Events, as two statuses tell them.

use bam_crds::{BamExperimentStatus, BamRunStatus};
use bam_operator::cluster::story::{Chapter, of_experiment, of_run};
use serde_json::{Value, json};

fn told(story: &[Chapter]) -> Vec<String> {
    let mark = |chapter: &Chapter| if chapter.warning { "! " } else { "" };
    story.iter().map(|chapter| format!("{}{}: {}", mark(chapter), chapter.reason, chapter.note)).collect()
}

fn experiment(status: Value) -> BamExperimentStatus {
    serde_json::from_value(status).unwrap()
}

fn run(status: Value) -> BamRunStatus {
    serde_json::from_value(status).unwrap()
}

fn teacher(phase: &str) -> Value {
    json!({ "name": "run-1", "role": "Teacher", "tasks": ["rte"], "phase": phase })
}

#[test]
fn an_experiment_tells_its_story_in_order() {
    let begins = experiment(json!({ "phase": "CheckingInputs" }));
    let trains = experiment(json!({ "phase": "TrainingTeachers", "teachers": "0/1", "runs": [teacher("Running")] }));
    assert_eq!(
        told(&of_experiment(&begins, &trains)),
        ["TrainingTeachers: 0/1 teachers are done", "RunStarted: teacher rte is under way"]
    );
    let inputs = |phase: &str| json!({ "name": "run-0", "role": "Inputs", "tasks": ["rte"], "phase": phase });
    let checks = experiment(json!({ "phase": "CheckingInputs", "runs": [inputs("Running")] }));
    let both = json!([inputs("Succeeded"), teacher("Running")]);
    let at_once = experiment(json!({ "phase": "TrainingTeachers", "teachers": "0/1", "runs": both }));
    assert_eq!(
        told(&of_experiment(&checks, &at_once)),
        [
            "RunSucceeded: inputs check is done",
            "TrainingTeachers: 0/1 teachers are done",
            "RunStarted: teacher rte is under way"
        ]
    );
    let mut done = teacher("Succeeded");
    done["results"] =
        json!([{ "task": "rte", "mainMetric": "accuracy", "metrics": { "accuracy": 66.25 }, "rows": 277 }]);
    let score = json!({ "rte": { "metric": "accuracy", "trials": 1, "median": 66.25, "mean": 66.25 } });
    let over = experiment(json!({ "phase": "Complete", "runs": [done], "scores": score }));
    assert_eq!(
        told(&of_experiment(&trains, &over)),
        ["RunSucceeded: teacher rte is done: rte accuracy 66.2", "Complete: all runs are done: rte accuracy 66.2"]
    );
    assert!(of_experiment(&over, &over).is_empty());
}

#[test]
fn what_somebody_has_to_do_something_about_is_a_warning_and_is_said_once() {
    let condition = |reason: &str, message: &str| {
        json!([{
            "type": "InputsReady", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": "2027-01-15T08:00:00Z",
        }])
    };
    let fine = experiment(json!({ "conditions": condition("New", "") }));
    let stuck = experiment(json!({ "conditions": condition("ClaimMissing", "inputs check waits for the claim") }));
    assert_eq!(told(&of_experiment(&fine, &stuck)), ["! ClaimMissing: inputs check waits for the claim"]);
    assert!(of_experiment(&stuck, &stuck).is_empty());
}

#[test]
fn a_run_that_somebody_else_made_says_so() {
    let mut shared = teacher("Pending");
    shared["shared"] = json!("is shared with experiment other, which made it");
    let story = of_experiment(&experiment(json!({})), &experiment(json!({ "runs": [shared] })));
    assert_eq!(told(&story), ["RunShared: teacher rte is shared with experiment other, which made it"]);
    assert_eq!(story[0].run.as_deref(), Some("run-1"));
}

#[test]
fn a_run_tells_of_its_attempts() {
    let record = |number: u32, reason: &str, code: i32| {
        json!({
            "number": number, "reason": reason, "exitCode": code,
            "startedAt": "2027-01-15T08:00:00Z", "finishedAt": "2027-01-15T08:00:20Z",
        })
    };
    let new = run(json!({}));
    let first = run(json!({ "attempts": 1 }));
    let failed = run(json!({ "attempts": 1, "history": [record(1, "Internal", 70)] }));
    let again = run(json!({ "attempts": 2, "history": [record(1, "Internal", 70)] }));
    let done = run(json!({ "attempts": 2, "history": [record(1, "Internal", 70), record(2, "Completed", 0)] }));
    assert_eq!(told(&of_run(&new, &first)), ["AttemptStarted: attempt 1 has begun"]);
    assert_eq!(told(&of_run(&first, &failed)), ["! AttemptFailed: attempt 1 had an internal error"]);
    assert_eq!(told(&of_run(&failed, &again)), ["AttemptStarted: attempt 2 has begun"]);
    assert_eq!(told(&of_run(&again, &done)), ["AttemptSucceeded: attempt 2 is done"]);
}

#[test]
fn a_note_fits_into_an_event() {
    let mut failed = teacher("Failed");
    failed["message"] = json!("é".repeat(2000));
    let story = of_experiment(&experiment(json!({})), &experiment(json!({ "runs": [failed] })));
    assert!(story[0].note.len() <= 1024, "{}", story[0].note.len());
}

#[test]
fn what_needs_somebody_is_told_also_when_the_phase_changes_at_the_same_moment() {
    let missing = json!([{
        "type": "Complete", "status": "False", "reason": "ClaimMissing", "message": "no claim",
        "lastTransitionTime": "2027-01-15T08:00:00Z",
    }]);
    let missing = experiment(json!({ "phase": "CheckingInputs", "conditions": missing }));
    let story = of_experiment(&experiment(json!({})), &missing);
    assert_eq!(told(&story), ["CheckingInputs: data and weights are checked, row by row", "! ClaimMissing: no claim"]);
}
