//! The reference's command line: its five README commands, its files in their places.

mod common;

use std::fs;
use std::process::Output;

use common::{Fixture, text};

/// Options that make the tiny model of the fixture quick, put into the reference's own.
fn run(fixture: &Fixture, name: &str, options: &str) -> Output {
    let quick =
        r#""pretrained_model_name": "tiny", "max_seq_length": 32, "num_train_epochs": 1, "train_batch_size": 16"#;
    let options = options.strip_suffix('}').unwrap();
    let comma = if options.len() > 1 { ", " } else { "" };
    let mut command = fixture.trainer();
    command.arg(name).arg(fixture.store()).arg(format!("{options}{comma}{quick}}}"));
    command.output().unwrap()
}

fn files(fixture: &Fixture, name: &str) -> Vec<String> {
    let folder = fixture.path(&format!("models/{name}"));
    let mut files = Vec::new();
    for folder in [folder.clone(), folder.join("outputs")] {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        files.extend(names);
    }
    files.sort();
    files
}

#[test]
fn the_five_commands_of_the_reference_s_readme_work() {
    let fixture = Fixture::new();
    let commands = [
        ("debug-model", r#"{"debug": true}"#),
        ("rte-model", r#"{"task_names": ["rte"]}"#),
        ("mrpc-model", r#"{"task_names": ["mrpc"]}"#),
        ("rte-mrpc-model", r#"{"task_names": ["rte", "mrpc"]}"#),
        (
            "rte-mrpc-bam-model",
            r#"{"task_names": ["rte", "mrpc"], "distill": true, "teachers": {"rte": "rte-model", "mrpc": "mrpc-model"}}"#,
        ),
    ];
    for (name, options) in commands {
        let output = run(&fixture, name, options);
        assert!(output.status.success(), "{name}: {}", text(&output));
    }

    let both = [
        "checkpoints",
        "mrpc_test_predictions_1.pkl",
        "mrpc_train_predictions_1.pkl",
        "outputs",
        "results.json",
        "results.pkl",
        "results.txt",
        "rte_test_predictions_1.pkl",
        "rte_train_predictions_1.pkl",
        "run.json",
    ];
    assert_eq!(files(&fixture, "rte-mrpc-bam-model"), both);
    let results = fs::read_to_string(fixture.path("models/rte-mrpc-bam-model/results.txt")).unwrap();
    let lines: Vec<&str> = results.lines().collect();
    assert_eq!(lines.len(), 2, "{results}");
    for (line, task) in lines.iter().zip(["rte", "mrpc"]) {
        assert!(line.starts_with(&format!("{task}: accuracy: ")) && line.contains(" - loss: "), "{line}");
    }
}

#[test]
fn a_teacher_that_is_not_trained_is_named_with_the_command_that_trains_it() {
    let fixture = Fixture::new();
    let options = r#"{"distill": true, "teachers": {"rte": "rte-model", "mrpc": "mrpc-model"}}"#;
    let output = run(&fixture, "bam", options);
    assert_eq!(output.status.code(), Some(66), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for task in ["rte", "mrpc"] {
        assert!(
            said.contains(&format!("run `bam-trainer {task}-model BAM_DIR '{{\"task_names\": [\"{task}\"]}}'` first")),
            "{said}"
        );
    }
    assert!(!fixture.path("models/bam").exists(), "nothing is written before everything is checked");
}

/// Leaves of a model what the reference leaves: no run in the store, no pointer to one.
fn as_the_reference_left_it(fixture: &Fixture, name: &str) {
    let pointer = fixture.path(&format!("models/{name}/run.json"));
    let said: serde_json::Value = serde_json::from_slice(&fs::read(&pointer).unwrap()).unwrap();
    for run in said["trials"].as_array().unwrap() {
        fs::remove_dir_all(fixture.path(&format!("runs/{}", run.as_str().unwrap()))).unwrap();
    }
    fs::remove_file(pointer).unwrap();
}

#[test]
fn a_teacher_that_the_reference_trained_teaches_the_same_as_the_run_would() {
    let fixture = Fixture::new();
    let teacher = run(&fixture, "teacher", r#"{"write_test_outputs": false}"#);
    assert!(teacher.status.success(), "{}", text(&teacher));
    let student = |name: &str| {
        let options =
            r#"{"write_test_outputs": false, "distill": true, "teachers": {"rte": "teacher", "mrpc": "teacher"}}"#;
        let output = run(&fixture, name, options);
        assert!(output.status.success(), "{name}: {}", text(&output));
        ["rte", "mrpc"].map(|task| {
            fs::read(fixture.path(&format!("models/{name}/outputs/{task}_train_predictions_1.pkl"))).unwrap()
        })
    };
    let of_the_run = student("of-the-run");
    as_the_reference_left_it(&fixture, "teacher");
    assert!(student("of-the-pickle") == of_the_run);
    let pointer = |name: &str| fs::read_to_string(fixture.path(&format!("models/{name}/run.json"))).unwrap();
    assert_ne!(pointer("of-the-pickle"), pointer("of-the-run"), "they were trained on other files");
}

#[test]
fn pickles_that_do_not_fit_are_named_before_the_first_step_all_at_once() {
    let fixture = Fixture::new();
    let narrow = r#"{"write_test_outputs": false, "double_unordered": false}"#;
    assert!(run(&fixture, "teacher", narrow).status.success());
    as_the_reference_left_it(&fixture, "teacher");
    fs::write(fixture.path("models/teacher/outputs/rte_train_predictions_1.pkl"), b"cos\nsystem\n.").unwrap();
    let options =
        r#"{"write_test_outputs": false, "distill": true, "teachers": {"rte": "teacher", "mrpc": "teacher"}}"#;
    let output = run(&fixture, "student", options);
    assert_eq!(output.status.code(), Some(65), "{}", text(&output));
    let said = text(&output);
    for part in [
        "models/teacher/outputs/rte_train_predictions_1.pkl: not a file of targets: byte 11: it refers to os.system",
        "models/teacher/outputs/mrpc_train_predictions_1.pkl has no targets for the 50 swapped copies of mrpc",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn several_teachers_of_a_task_stand_in_a_list() {
    let fixture = Fixture::new();
    for (name, seed) in [("one", 1), ("two", 2)] {
        let options = format!(r#"{{"task_names": ["rte"], "write_test_outputs": false, "seed": {seed}}}"#);
        assert!(run(&fixture, name, &options).status.success());
    }
    as_the_reference_left_it(&fixture, "two");
    let student = |name: &str, teachers: &str| {
        let options =
            r#"{"task_names": ["rte"], "write_test_outputs": false, "distill": true, "teachers": {"rte": TEACHERS}}"#;
        let output = run(&fixture, name, &options.replace("TEACHERS", teachers));
        assert!(output.status.success(), "{name}: {}", text(&output));
        fs::read_to_string(fixture.path(&format!("models/{name}/run.json"))).unwrap()
    };
    let both = student("both", r#"["one", "two"]"#);
    assert_eq!(student("in-another-order", r#"["two", "one", "two"]"#), both);
    assert_ne!(student("alone", r#""one""#), both);
}

#[test]
fn every_trial_has_its_own_seed_and_its_line_in_the_results() {
    let fixture = Fixture::new();
    let options = r#"{"task_names": ["rte"], "num_trials": 2, "n_writes_distill": 2, "write_test_outputs": false}"#;
    let output = run(&fixture, "rte-model", options);
    assert!(output.status.success(), "{}", text(&output));
    let results = fs::read_to_string(fixture.path("models/rte-model/results.txt")).unwrap();
    assert_eq!(results.lines().count(), 2, "{results}");
    let pickle = |trial| fs::read(fixture.path(&format!("models/rte-model/outputs/rte_train_predictions_{trial}.pkl")));
    assert!(pickle(1).unwrap() != pickle(2).unwrap(), "two trials learned the same");
    assert!(!fixture.path("models/rte-model/outputs/rte_test_predictions_1.pkl").exists());
}

#[test]
fn missing_test_files_come_with_the_option_that_does_without_them() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.path("glue_data/rte/test.tsv")).unwrap();
    let output = run(&fixture, "rte-model", r#"{"task_names": ["rte"]}"#);
    assert_eq!(output.status.code(), Some(66), "{}", text(&output));
    assert!(text(&output).contains("\"write_test_outputs\": false does without them"), "{}", text(&output));
}
