//! What `bam run` makes of attempts that end in one way or another.

use std::fs;

use crate::bam::{Bam, golden};

#[test]
fn teachers_then_student_then_the_table() {
    let bam = Bam::new();
    let said = bam.run(&bam.distilled());
    assert_eq!(said.code, Some(0), "{said:#?}");
    golden("table-distilled.txt", &bam.normalized(&said.out));
    assert_eq!(bam.trained().len(), 3);
    assert_eq!(bam.attempts(), 4);

    let again = bam.run(&bam.distilled());
    assert_eq!((again.code, &again.out), (Some(0), &said.out), "a finished experiment shows its table at once");
    assert_eq!(bam.attempts(), 4, "and tries nothing");
}

#[test]
fn trials_differ_by_their_seed_and_have_a_median() {
    let bam = Bam::new();
    let said = bam.run(&bam.manifest("trials: 3\n  maxParallelRuns: 2"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    golden("table-trials.txt", &bam.normalized(&said.out));
}

#[test]
fn a_crash_is_tried_again() {
    let bam = Bam::new().orders(r#"{"ends": {"teacher rte": ["signal 11"]}}"#);
    let said = bam.run(&bam.distilled());
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("teacher rte is tried again at"), "{}", said.err);
    assert!(said.err.contains("the last attempt crashed (signal 11)"), "{}", said.err);
    assert!(bam.trained().values().all(|times| *times == 1));
}

#[test]
fn a_run_that_fails_for_good_ends_with_its_log_and_running_again_tries_again() {
    let bam = Bam::new().orders(r#"{"ends": {"teacher rte": ["exit 70", "exit 70"]}}"#);
    let said = bam.run(&bam.distilled());
    assert_eq!(said.code, Some(1), "{said:#?}");
    let message = said.err.split("bam: ").last().unwrap();
    golden("failed-run.txt", &bam.normalized(message));
    assert_eq!(bam.trained().len(), 0, "the other teacher is of no use without this one");

    let again = bam.run(&bam.distilled());
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert_eq!(bam.trained().len(), 3);
}

#[test]
fn data_with_a_fault_fail_at_once_and_are_checked_again_when_they_were_edited() {
    let bam = Bam::new();
    let good = bam.read("glue_data/rte/train.tsv");
    bam.write("glue_data/rte/train.tsv", "header\ngood row\nbad row\n");
    let said = bam.run(&bam.distilled());
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("glue_data/rte/train.tsv:3: the label is not one of 0, 1"), "{}", said.err);
    assert_eq!(bam.attempts(), 1, "nothing is trained on them, and nothing is tried twice");

    bam.write("glue_data/rte/train.tsv", &good);
    assert_eq!(bam.run(&bam.distilled()).code, Some(0));
    let before = bam.trained().len();

    bam.write("glue_data/rte/train.tsv", &(good + "one more row\n"));
    assert_eq!(bam.run(&bam.distilled()).code, Some(0));
    assert_eq!(bam.trained().len(), before + 2, "another rte teacher and another student; mrpc's teacher is the same");
}

#[test]
fn a_teacher_whose_targets_get_lost_is_trained_again_while_the_student_waits() {
    let bam = Bam::new().orders(r#"{"ends": {"student rte mrpc": ["lose teacher"]}}"#);
    let said = bam.run(&bam.distilled());
    assert_eq!(said.code, Some(0), "{said:#?}");
    let mut times: Vec<_> = bam.trained().into_values().collect();
    times.sort();
    assert_eq!(times, [1, 1, 2], "{}", said.err);
}

#[test]
fn models_that_were_deleted_are_trained_again_if_they_are_needed() {
    let bam = Bam::new();
    assert_eq!(bam.run(&bam.distilled()).code, Some(0));
    let student = bam.read("trained.log").lines().last().unwrap().to_owned();
    fs::remove_dir_all(bam.dir().join("runs").join(&student)).unwrap();
    assert_eq!(bam.run(&bam.distilled()).code, Some(0));
    assert_eq!(bam.trained()[&student], 2);
    assert_eq!(bam.trained().len(), 3);

    let teacher = bam.read("trained.log").lines().next().unwrap().to_owned();
    fs::remove_dir_all(bam.dir().join("runs").join(&teacher)).unwrap();
    assert_eq!(bam.run(&bam.distilled()).code, Some(0));
    assert_eq!(bam.trained()[&teacher], 1, "no student needs it any more");
}

#[test]
fn a_store_without_its_ledger_is_enough() {
    let bam = Bam::new();
    let said = bam.run(&bam.distilled());
    fs::remove_dir_all(bam.dir().join(".bam")).unwrap();
    let again = bam.run(&bam.distilled());
    assert_eq!((again.code, &again.out), (Some(0), &said.out), "{again:#?}");
    assert_eq!(bam.attempts(), 1, "only the inputs are checked");
}

#[test]
fn a_ledger_file_that_was_edited_by_hand_is_set_aside_and_the_rest_is_worked_out() {
    let bam = Bam::new();
    let said = bam.run(&bam.distilled());
    let runs = bam.dir().join(".bam/runs");
    for run in fs::read_dir(&runs).unwrap() {
        let run = run.unwrap().path();
        for file in ["run.json", "status.json"] {
            fs::write(run.join(file), "{ oops").unwrap();
        }
    }
    bam.write(".bam/experiments/exp/status.json", "");
    let again = bam.run(&bam.distilled());
    assert_eq!((again.code, &again.out), (Some(0), &said.out), "{again:#?}");
    assert!(again.err.contains("status.json makes no sense"), "{}", again.err);
    assert!(again.err.contains("status.json.broken"), "{}", again.err);
    assert!(bam.trained().values().all(|times| *times == 1));
}

#[test]
fn what_stands_in_the_way_is_named() {
    let bam = Bam::new();
    bam.write(".bam", "a file where a folder should be");
    let said = bam.run(&bam.distilled());
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains(".bam/experiments") && said.err.contains("--bam-dir"), "{}", said.err);

    let manifest = bam.distilled();
    let said = bam.bam(&["run", "--trainer", "/nowhere/bam-trainer", "-f", manifest.to_str().unwrap()]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("there is no bam-trainer at /nowhere/bam-trainer"), "{}", said.err);

    let said = bam.bam(&["run", "--bam-dir", "/nowhere", "-f", manifest.to_str().unwrap()]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("cannot use /nowhere as the artifact store"), "{}", said.err);
}
