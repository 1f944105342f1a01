//! What trainers say.

use serde_json::json;

use crate::lab::{Lab, golden};

fn lab() -> Lab {
    let lab = Lab::new();
    let exp = lab.experiment("exp", json!({}), &["Succeeded", "Succeeded", "Running"]);
    let runs: Vec<_> = exp.status.unwrap().runs.iter().map(|run| run.name.clone()).collect();
    lab.pod(&runs[1], 1, "rte, first attempt\n");
    lab.pod(&runs[1], 2, "rte, second attempt\nand its second line\n");
    lab.pod(&runs[2], 1, "mrpc trains\n");
    // Of several hosts the first one tells.
    lab.host(&runs[2], 1, 1, "mrpc trains on another host too\n");
    lab
}

#[test]
fn of_several_runs_each_line_says_whose_it_is() {
    let lab = lab();
    golden("logs.txt", &lab.bam(&["logs", "exp"]));
}

#[test]
fn of_one_run_the_newest_attempt_or_the_one_before() {
    let lab = lab();
    golden("logs-of-one.txt", &lab.bam(&["logs", "exp", "--run", "teacher:rte"]));
    golden("logs-previous.txt", &lab.bam(&["logs", "exp", "--run", "teacher:rte", "--previous"]));
    golden("logs-gone.txt", &lab.bam(&["logs", "exp", "--run", "inputs"]));
    golden("logs-not-yet.txt", &lab.bam(&["logs", "exp", "--run", "student"]));
}

#[test]
fn of_a_run_that_failed_and_whose_pod_is_gone_what_the_status_says() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &["Failed"]);
    golden("logs-failed.txt", &lab.bam(&["logs", "exp"]));
}

#[test]
fn followed_until_the_experiment_is_over() {
    let lab = Lab::new();
    let exp = lab.experiment("exp", json!({}), &["Succeeded"; 4]);
    lab.pod(&exp.status.unwrap().runs[3].name, 1, "the student\nlearns\n");
    golden("logs-followed.txt", &lab.bam(&["logs", "exp", "--follow"]));
}
