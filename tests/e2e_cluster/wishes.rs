//! What a person may ask of an experiment that is there: to end for good, to be tried again, to be left alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Role, RunPhase};
use serde_json::Value;

use crate::diary::Kind;
use crate::experiment::{debug, slow, with};
use crate::namespace::Namespace;

/// What `kubectl bam` says, with this program as its plugin: on standard output, or as an error.
pub fn kubectl_bam(namespace: &Namespace, arguments: &[&str]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    symlink(env!("CARGO_BIN_EXE_bam"), folder.path().join("kubectl-bam")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut kubectl = Command::new("kubectl");
    kubectl.env("PATH", path).env("KUBECONFIG", std::env::var_os("BAM_TEST_KUBECONFIG").unwrap());
    let output = kubectl.arg("bam").args(arguments).args(["-n", &namespace.name]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn cancelled_it_is_over_for_good_and_the_next_one_goes_on_where_it_was() {
    let Some(namespace) = Namespace::new("cancel") else { return };
    let unwanted = slow(debug("unwanted", &["rte"]));
    namespace.apply(&unwanted);
    namespace.kubectl(&["wait", "--for=condition=Running", "bam/unwanted", "--timeout=60s"]);
    let teacher = namespace.run_of("unwanted", Role::Teacher, "rte").name;
    namespace.run_when(&teacher, "trains", |status| {
        status.phase == RunPhase::Running && status.progress.as_ref().is_some_and(|progress| progress.done > 5)
    });
    let said = kubectl_bam(&namespace, &["cancel", "unwanted"]).unwrap();
    assert!(said.contains("unwanted is over"), "{said}");
    namespace.wait_for("unwanted", ExperimentPhase::Cancelled);
    namespace.within(60, "no pod is left", |seen| seen.all(Kind::Pod).is_empty().then_some(()));
    let (well, said) =
        namespace.try_kubectl(&["patch", "bam", "unwanted", "--type=merge", "-p", r#"{"spec":{"cancel":false}}"#]);
    assert!(!well && said.contains("what is cancelled is over: create a new experiment"), "{said}");

    namespace.apply(&slow(debug("wanted", &["rte"])));
    namespace.run_when(&teacher, "says where it goes on", |status| {
        status.progress.as_ref().is_some_and(|progress| progress.resumed_from >= 5)
    });
    namespace.complete("wanted");
    let status = namespace.run_when(&teacher, "is done", |status| status.phase == RunPhase::Succeeded);
    assert_eq!(status.attempts, 2);
    assert!(status.report.is_some_and(|report| report.resumed_from >= 5), "it began anew");
    let looks = namespace.kubectl(&["get", "bam"]);
    assert!(looks.lines().any(|line| line.contains("unwanted") && line.contains("Cancelled")), "{looks}");
}

#[test]
fn what_failed_is_tried_again_on_request_and_what_is_another_s_is_left_alone() {
    let Some(namespace) = Namespace::new("retry") else { return };
    namespace.apply(&with(debug("elsewhere", &["rte"]), "managedBy", "example.com/another-cluster"));

    let rows = namespace.store.folder.join("glue_data/rte/dev.tsv");
    let good = fs::read_to_string(&rows).unwrap();
    let (header, rest) = good.split_once('\n').unwrap();
    fs::write(&rows, format!("{header}\na row\twithout a label\n{rest}")).unwrap();
    namespace.apply(&with(debug("again", &["rte"]), "compute/keepJobs", "Always"));
    namespace.wait_for("again", ExperimentPhase::Failed);
    fs::write(&rows, good).unwrap();
    let said = kubectl_bam(&namespace, &["explain", "again"]).unwrap();
    assert!(said.contains("inputs check") && said.contains("it failed: ") && said.contains("dev.tsv"), "{said}");
    assert_eq!(kubectl_bam(&namespace, &["retry", "again"]).unwrap(), "again tries again what has failed\n");
    namespace.within(60, "it has not failed any more", |seen| {
        (seen.experiment("again")?.phase != ExperimentPhase::Failed).then_some(())
    });
    let status = namespace.complete("again");
    assert_eq!(status.retried, 1);
    let attempts = namespace.attempts("again");
    let expected = [("Inputs rte", 2), ("Teacher rte", 1), ("Student rte", 1)];
    assert_eq!(attempts, expected.map(|(title, attempts)| (title.to_owned(), attempts)));
    assert_eq!(namespace.diary.read(|seen| seen.all(Kind::Job).len()), 4, "all of them are kept");

    let report: Value =
        serde_json::from_str(&kubectl_bam(&namespace, &["report", "again", "--output", "json"]).unwrap()).unwrap();
    assert_eq!(report["scores"]["rte"]["trials"], 1);
    let table = kubectl_bam(&namespace, &["report", "again"]).unwrap();
    assert!(table.starts_with("task") && table.contains("rte"), "{table}");
    let log = kubectl_bam(&namespace, &["logs", "again", "--run", "student"]).unwrap();
    assert!(log.lines().count() > 3, "{log}");
    let watched = kubectl_bam(&namespace, &["watch", "again"]).unwrap();
    assert_eq!(watched, table, "it is over");
    let file = namespace.store.folder.join("again.json");
    fs::write(&file, with(debug("again", &["rte"]), "seed", 2).to_string()).unwrap();
    let planned = kubectl_bam(&namespace, &["plan", "-f", file.to_str().unwrap(), "--output", "json"]).unwrap_err();
    assert_eq!(planned, "", "what is said is the plan; that it is refused says the exit code");
    fs::write(&file, debug("next", &["rte"]).to_string()).unwrap();
    let planned = kubectl_bam(&namespace, &["plan", "-f", file.to_str().unwrap()]).unwrap();
    assert!(planned.contains("joined; is done; is shared with experiment again"), "{planned}");
    let refused = kubectl_bam(&namespace, &["retry", "again"]).unwrap_err();
    assert!(refused.contains("kubectl bam: again has no run that failed"), "{refused}");
    let refused = kubectl_bam(&namespace, &["suspend", "nobody"]).unwrap_err();
    assert!(refused.contains("there is no experiment nobody in namespace"), "{refused}");

    let elsewhere = namespace.get(&["bam", "elsewhere", "-n", &namespace.name]);
    assert_eq!(elsewhere["status"], Value::Null);
}
