//! Where a command does not lead to what was asked for, it says what to do next.

use serde_json::json;

use crate::lab::{Lab, golden};

#[test]
fn there_is_no_such_experiment() {
    let lab = Lab::new();
    golden("error-none-at-all.txt", &lab.bam(&["explain", "exp"]));
    lab.experiment("rte-bam", json!({}), &["Running"]);
    lab.experiment("mrpc-bam", json!({ "seed": 2 }), &["Running"]);
    golden("error-other-name.txt", &lab.bam(&["suspend", "rte-ban"]));
    golden("error-no-such-run.txt", &lab.bam(&["logs", "rte-bam", "--run", "input"]));
}

#[test]
fn there_is_no_cluster() {
    let lab = Lab::new();
    golden("error-no-context.txt", &lab.bam(&["explain", "exp", "--context", "there"]));
    golden("error-no-kubeconfig.txt", &lab.bam(&["explain", "exp", "--kubeconfig", "/nowhere/config"]));
    lab.kubeconfig("http://127.0.0.1:1");
    golden("error-no-answer.txt", &lab.bam(&["explain", "exp"]));
}

#[test]
fn the_cluster_refuses() {
    let lab = Lab::new();
    lab.experiment("exp", json!({}), &["Running"]);
    let refuse = |code: u16| {
        lab.server.objects().refuses.insert("bamexperiments".to_owned(), code);
        lab.bam(&["report", "exp"])
    };
    golden("error-forbidden.txt", &refuse(403));
    golden("error-unknown-person.txt", &refuse(401));
    golden("error-not-installed.txt", &refuse(404));
    lab.server.objects().refuses.clear();
    lab.server.objects().refuses.insert("pods".to_owned(), 403);
    golden("error-forbidden-pods.txt", &lab.bam(&["logs", "exp"]));
}

#[test]
fn a_manifest_with_faults_is_not_planned() {
    let lab = Lab::new();
    let said = lab.bam(&["plan", "-f", &lab.manifest("exp", json!({ "trails": 3 }))]);
    golden("error-faults.txt", &said);
}
