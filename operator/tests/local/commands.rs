//! The commands that only look.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::bam::{Bam, golden};

/// Every file below a folder with its content.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_plan_before_anything_was_run() {
    let bam = Bam::new();
    let manifest = bam.distilled();
    let manifest = manifest.to_str().unwrap();
    let before = contents(bam.dir());
    let offline = bam.bam(&["plan", "--offline", "-f", manifest]);
    golden("plan-offline.txt", &bam.normalized(&offline.out));
    let planned = bam.bam(&["plan", "-f", manifest]);
    golden("plan-new.txt", &bam.normalized(&planned.out));
    assert_eq!(contents(bam.dir()), before, "a plan changes nothing");
}

#[test]
fn a_plan_where_the_data_are_absent() {
    let bam = Bam::new();
    fs::remove_dir_all(bam.dir().join("glue_data/mrpc")).unwrap();
    let manifest = bam.distilled();
    let planned = bam.bam(&["plan", "-f", manifest.to_str().unwrap()]);
    assert_eq!(planned.code, Some(0));
    golden("plan-without-data.txt", &bam.normalized(&planned.out));
}

#[test]
fn a_plan_needs_no_folder_if_it_reads_none() {
    let bam = Bam::new();
    let manifest = bam.distilled();
    let plan = ["plan", "-f", manifest.to_str().unwrap(), "--bam-dir", "/nowhere"];
    let said = bam.bam(&plan);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("cannot use /nowhere as the artifact store"), "{}", said.err);
    let said = bam.bam(&[&plan[..], &["--offline"]].concat());
    assert_eq!(said.code, Some(0), "{said:#?}");
}

#[test]
fn a_gate_that_is_closed_is_not_explained_as_one_that_another_try_opens() {
    let bam = Bam::new();
    let manifest = bam.manifest("distill: {qualityGate: {min: \"99\"}}");
    assert_eq!(bam.run(&manifest).code, Some(1));
    let explained = bam.bam(&["explain", "exp"]);
    assert!(explained.out.contains("its qualityGate asks for 99"), "{}", explained.out);
    assert!(!explained.out.contains("tries again"), "{}", explained.out);
}

#[test]
fn plan_explain_and_report_where_something_was_trained() {
    let bam = Bam::new().orders(r#"{"ends": {"teacher mrpc": ["exit 70", "exit 70"]}}"#);
    let manifest = bam.distilled();
    bam.run(&manifest);
    let before = contents(bam.dir());
    let manifest = manifest.to_str().unwrap();
    let planned = bam.bam(&["plan", "-f", manifest]);
    golden("plan-failed.txt", &bam.normalized(&planned.out));
    let explained = bam.bam(&["explain", "exp"]);
    golden("explain-failed.txt", &bam.normalized(&explained.out));
    let by_file = bam.bam(&["explain", "-f", manifest]);
    assert_eq!(by_file.out, explained.out);
    let reported = bam.bam(&["report", "exp"]);
    golden("report-failed.txt", &bam.normalized(&reported.out));
    assert_eq!(contents(bam.dir()), before, "looking changes nothing");
}

#[test]
fn another_experiment_shares_the_teachers() {
    let bam = Bam::new();
    bam.run(&bam.distilled());
    let manifest = bam.manifest("distill: {annealing: false}\n  compute: {threads: 3}");
    let text = fs::read_to_string(&manifest).unwrap().replace("name: exp", "name: other");
    fs::write(&manifest, text).unwrap();
    let planned = bam.bam(&["plan", "-f", manifest.to_str().unwrap()]);
    golden("plan-shared.txt", &bam.normalized(&planned.out));
    let said = bam.run(&manifest);
    assert_eq!(said.code, Some(0));
    assert_eq!(bam.trained().len(), 4, "two teachers, two students");
}

#[test]
fn a_report_for_programs() {
    let bam = Bam::new();
    bam.run(&bam.distilled());
    let reported = bam.bam(&["report", "exp", "--output", "json"]);
    golden("report.json", &bam.normalized(&reported.out));
    let unknown = bam.bam(&["report", "expp"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("knows no experiment expp: here are exp"), "{}", unknown.err);
}

#[test]
fn faults_of_a_manifest_end_with_2_and_nothing_is_started() {
    let bam = Bam::new();
    let manifest = bam.manifest("trials: 0\n  sead: 3");
    let manifest = manifest.to_str().unwrap();
    for command in ["check", "plan", "run"] {
        let said = bam.bam(&[command, "-f", manifest]);
        assert_eq!(said.code, Some(2), "{command}: {said:#?}");
        let text = said.out + &said.err;
        assert!(text.contains("exp.yaml:8: spec.trials: must be at least 1, but is 0"), "{command}: {text}");
        assert!(
            text.contains("exp.yaml:9: spec.sead: there is no such field; did you mean seed?"),
            "{command}: {text}"
        );
    }
    assert!(!bam.dir().join(".bam").exists());
}

#[test]
fn a_file_may_hold_several_experiments() {
    let bam = Bam::new();
    let first = fs::read_to_string(bam.distilled()).unwrap();
    let second = first.replace("name: exp", "name: plain").replace("distill: {}", "trials: 2");
    let file = bam.dir().join("both.yaml");
    fs::write(&file, format!("{first}---\n{second}")).unwrap();
    let said = bam.run(&file);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.out.contains("exp\n") && said.out.contains("plain\n"), "{}", said.out);
    assert_eq!(bam.trained().len(), 5);
}

#[test]
fn a_profile_counts_where_it_is_given_and_else_a_line_says_that_it_does_not() {
    let bam = Bam::new();
    let manifest = bam.manifest("compute: {profile: {name: l4}, threads: 2}");
    bam.write(
        "l4.yaml",
        "apiVersion: bam.dev/v1alpha1\nkind: BamProfile\nmetadata: {name: l4}\nspec: {failurePolicy: {applicationRetries: 5}}\n",
    );
    let (manifest, profile) = (manifest.to_str().unwrap(), bam.dir().join("l4.yaml"));
    let profile = profile.to_str().unwrap();

    let alone = bam.bam(&["plan", "--offline", "-f", manifest]);
    let note = "note: exp: BamProfile l4 is not among what was given: what it says";
    assert_eq!((alone.code, alone.err.lines().count()), (Some(0), 1), "{}", alone.err);
    assert!(alone.err.contains(note), "{}", alone.err);
    let both = bam.bam(&["plan", "--offline", "-f", manifest, "-f", profile]);
    assert_eq!((both.code, both.err.as_str()), (Some(0), ""));
    assert_ne!(both.out, alone.out, "retries are another number");

    let checked = bam.bam(&["check", "-f", profile, "-f", manifest]);
    assert_eq!(checked.code, Some(0), "{}", checked.out);
    assert!(checked.out.contains("no faults (BamProfile l4)"), "{}", checked.out);
    let nothing = bam.bam(&["run", "-f", profile]);
    assert!(nothing.err.contains("there is no BamExperiment in it"), "{}", nothing.err);
}
