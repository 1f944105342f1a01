//! What the commands print of experiments in every state, for people and for programs.

use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};

use serde_json::json;

use crate::lab::{Lab, golden};

const HALF: [&str; 3] = ["Succeeded", "Succeeded", "Running"];
const ALL: [&str; 4] = ["Succeeded"; 4];

#[test]
fn a_plan_without_a_cluster() {
    let lab = Lab::new();
    let manifest =
        lab.manifest("exp", json!({ "trials": 3, "compute": { "resources": { "requests": { "memory": "4Gi" } } } }));
    golden("plan-offline.txt", &lab.bam(&["plan", "--offline", "-f", &manifest]));
    golden("plan-offline.json", &lab.bam(&["plan", "--offline", "-o", "json", "-f", &manifest]));
    lab.kubeconfig("http://127.0.0.1:1");
    let said = lab.bam(&["plan", "-f", &manifest]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.starts_with("kubectl bam: note: planned without a cluster, since cannot reach"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.out.contains("├─ 2 teachers (rte, mrpc)"), "{}", said.out);
}

#[test]
fn a_plan_joins_what_others_have_made_and_waits_for_a_claim_that_is_not_there() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &HALF);
    let other = lab.manifest("other", json!({ "distill": { "annealing": false }, "compute": { "threads": 3 } }));
    golden("plan-joined.txt", &lab.bam(&["plan", "-f", &other]));
    golden("plan-joined.json", &lab.bam(&["plan", "-f", &other, "--output", "json"]));
    let mut elsewhere = json!({ "persistentVolumeClaim": { "claimName": "elsewhere" } });
    elsewhere = json!({ "storage": elsewhere, "managedBy": "example.com/hub" });
    golden("plan-no-claim.txt", &lab.bam(&["plan", "-f", &lab.manifest("elsewhere", elsewhere)]));
}

#[test]
fn a_plan_shows_what_a_manifest_would_change() {
    let lab = Lab::new();
    lab.experiment("exp", json!({ "suspend": true }), &HALF);
    golden("plan-unchanged.txt", &lab.bam(&["plan", "-f", &lab.manifest("exp", json!({}))]));
    let more = lab.manifest("exp", json!({ "trials": 3, "maxParallelRuns": 2 }));
    golden("plan-changed.txt", &lab.bam(&["plan", "-f", &more]));
    let others = lab.manifest("exp", json!({ "seed": 2, "tasks": [{ "name": "mrpc" }, { "name": "rte" }] }));
    golden("plan-refused.txt", &lab.bam(&["plan", "-f", &others]));
    golden("plan-refused.json", &lab.bam(&["plan", "-f", &others, "-o", "json"]));
    assert!(lab.server.objects().patches.is_empty(), "a plan changes nothing");
}

#[test]
fn a_plan_of_what_is_done_has_nothing_to_train() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &ALL);
    golden("plan-done.txt", &lab.bam(&["plan", "-f", &lab.manifest("exp", json!({}))]));
}

#[test]
fn explanations_and_reports() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &HALF);
    lab.experiment("whole", json!({ "hyperparameters": { "maxSeqLength": 64 } }), &ALL);
    lab.experiment("broken", json!({ "tasks": [{ "name": "rte" }] }), &["Failed"]);
    lab.server.put("bamexperiments", crate::lab::object("fresh", json!({})));
    golden("explain-running.txt", &lab.bam(&["explain", "exp"]));
    golden("explain-running.json", &lab.bam(&["explain", "exp", "-o", "json"]));
    golden("explain-failed.txt", &lab.bam(&["explain", "broken"]));
    golden("explain-fresh.txt", &lab.bam(&["explain", "fresh"]));
    golden("report.txt", &lab.bam(&["report", "whole"]));
    golden("report.json", &lab.bam(&["report", "whole", "-o", "json"]));
    golden("report-nothing.txt", &lab.bam(&["report", "fresh"]));
}

/// What a command prints on a terminal.
fn on_a_terminal(lab: &Lab, arguments: &[&str], no_color: bool) -> String {
    let (mut ours, mut theirs) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: two numbers to write to, and nothing else that is wanted.
    assert_eq!(unsafe { libc::openpty(&mut ours, &mut theirs, none, none.cast(), none.cast()) }, 0);
    // SAFETY: both were just opened, and nobody else has them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut command = lab.command("kubectl-bam", arguments);
    command.stdout(theirs);
    if no_color {
        command.env("NO_COLOR", "1");
    }
    assert!(command.spawn().unwrap().wait().unwrap().success());
    let mut text = vec![0; 4096];
    let read = std::fs::File::from(ours).read(&mut text).unwrap();
    String::from_utf8(text[..read].to_vec()).unwrap()
}

#[test]
fn the_best_is_bold_on_a_terminal_and_nowhere_else() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &ALL);
    let bold = "\u{1b}[1m";
    assert!(on_a_terminal(&lab, &["report", "exp"], false).contains(bold));
    assert!(!on_a_terminal(&lab, &["report", "exp"], true).contains(bold), "not where NO_COLOR is set");
    assert!(!lab.bam(&["report", "exp"]).out.contains(bold), "nor in a file");
}

#[test]
fn wishes() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &HALF);
    lab.experiment("broken", json!({ "tasks": [{ "name": "rte" }] }), &["Failed"]);
    golden("suspend.txt", &lab.bam(&["suspend", "exp"]));
    golden("resume.txt", &lab.bam(&["resume", "exp"]));
    golden("resume-again.txt", &lab.bam(&["resume", "exp"]));
    golden("retry.txt", &lab.bam(&["retry", "broken"]));
    golden("retry-nothing.txt", &lab.bam(&["retry", "exp"]));
    golden("cancel.txt", &lab.bam(&["cancel", "exp"]));
    let objects = lab.server.objects();
    let wishes: Vec<_> = objects.patches.iter().map(|patch| patch["spec"].clone()).collect();
    let expected =
        [json!({ "suspend": true }), json!({ "suspend": false }), json!({ "retry": 1 }), json!({ "cancel": true })];
    assert_eq!(wishes, expected);
}

#[test]
fn help_has_an_example_for_every_command() {
    let lab = Lab::new();
    golden("help.txt", &lab.bam(&["--help"]));
    for command in ["plan", "push", "explain", "watch", "logs", "report", "suspend", "resume", "cancel", "retry"] {
        let said = lab.bam(&[command, "--help"]);
        assert!(said.out.contains(&format!("Example: kubectl bam {command} ")), "{}", said.out);
    }
    golden("help-logs.txt", &lab.bam(&["logs", "--help"]));
}

#[test]
fn words_are_completed() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &HALF);
    lab.experiment("whole", json!({ "hyperparameters": { "maxSeqLength": 64 } }), &ALL);
    let complete = |words: &[&str]| lab.said(lab.command("kubectl_complete-bam", words)).out;
    assert!(complete(&[""]).starts_with("plan\tShow which runs"), "{}", complete(&[""]));
    assert_eq!(complete(&["res"]), "resume\tGo on with a suspended experiment where it was\n:4\n");
    assert_eq!(complete(&["report", ""]), "exp\tTrainingTeachers\nwhole\tComplete\n:4\n");
    assert_eq!(complete(&["-n", "lab", "report", "w"]), "whole\tComplete\n:4\n");
    assert_eq!(complete(&["logs", "exp", "--run", "teacher:r"]), "teacher:rte\tSucceeded\n:4\n");
    assert_eq!(complete(&["plan", "-f", ""]), ":0\n");
    assert_eq!(complete(&["report", "exp", "--output", ""]), "text\njson\n:4\n");
    assert_eq!(complete(&["report", "exp", ""]), ":4\n");
    assert!(complete(&["watch", "--pl"]).starts_with("--plain\t"));
    lab.kubeconfig("http://127.0.0.1:1");
    assert_eq!(complete(&["report", ""]), ":4\n", "without a cluster there is nothing to say, and no error");
    for shell in ["bash", "zsh", "fish"] {
        let said = lab.said(lab.command("bam", &["completion", shell]));
        assert!(said.code == Some(0) && said.out.contains("explain"), "{said:?}");
    }
}
