//! The reference's command line: its five README commands, its files in their places.

mod common;

use std::fs;
use std::process::Output;

use common::{Fixture, text};
use serde_json::{Value, json};

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

#[test]
fn every_trial_has_its_own_seed_and_its_line_in_the_results() {
    let fixture = Fixture::new();
    let options = r#"{"task_names": ["rte"], "num_trials": 2, "n_writes_distill": 2, "write_test_outputs": false,
        "write_trace": true, "write_tensorboard": true}"#;
    let output = run(&fixture, "rte-model", options);
    assert!(output.status.success(), "{}", text(&output));
    let results = fs::read_to_string(fixture.path("models/rte-model/results.txt")).unwrap();
    assert_eq!(results.lines().count(), 2, "{results}");
    let pickle = |trial| fs::read(fixture.path(&format!("models/rte-model/outputs/rte_train_predictions_{trial}.pkl")));
    assert!(pickle(1).unwrap() != pickle(2).unwrap(), "two trials learned the same");
    assert!(!fixture.path("models/rte-model/outputs/rte_test_predictions_1.pkl").exists());
    for trial in [1, 2] {
        assert!(fixture.path(&format!("models/rte-model/outputs/trace_{trial}.jsonl")).exists());
        let events = fs::read_dir(fixture.path(&format!("models/rte-model/tensorboard/trial_{trial}"))).unwrap();
        assert_eq!(events.count(), 1);
    }
}

#[test]
fn results_as_json_have_every_trial_and_what_they_say_together() {
    let fixture = Fixture::new();
    let options = r#"{"task_names": ["rte", "mrpc"], "num_trials": 2, "seed": 5, "write_test_outputs": false}"#;
    let output = run(&fixture, "both", options);
    assert!(output.status.success(), "{}", text(&output));
    let read = |name: &str| fs::read_to_string(fixture.path(&format!("models/both/{name}"))).unwrap();
    let results: Value = serde_json::from_str(&read("results.json")).unwrap();
    let runs: Value = serde_json::from_str(&read("run.json")).unwrap();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2);
    for (number, trial) in trials.iter().enumerate() {
        assert_eq!((&trial["seed"], &trial["run"]), (&json!(5 + number), &runs["trials"][number]));
        assert_eq!((&trial["results"][0]["task"], &trial["results"][1]["task"]), (&json!("rte"), &json!("mrpc")));
    }
    for (position, task) in ["rte", "mrpc"].iter().enumerate() {
        let loss = |trial: usize| trials[trial]["results"][position]["metrics"]["loss"].as_f64().unwrap();
        let summary = &results["summary"][task]["loss"];
        assert_eq!(summary["trials"], 2);
        let close = |name: &str, expected: f64| (summary[name].as_f64().unwrap() - expected).abs() < 1e-12;
        let mean = (loss(0) + loss(1)) / 2.0;
        assert!(close("mean", mean) && close("median", mean), "{summary}");
        assert!(close("standardDeviation", (loss(0) - loss(1)).abs() / 2f64.sqrt()), "{summary}");
    }
}

#[test]
fn missing_test_files_come_with_the_option_that_does_without_them() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.path("glue_data/rte/test.tsv")).unwrap();
    let output = run(&fixture, "rte-model", r#"{"task_names": ["rte"]}"#);
    assert_eq!(output.status.code(), Some(66), "{}", text(&output));
    assert!(text(&output).contains("\"write_test_outputs\": false does without them"), "{}", text(&output));
}

#[test]
fn a_submission_needs_predictions_of_glue_s_own_test_sets() {
    let fixture = Fixture::new();
    let output = run(&fixture, "rte-model", r#"{"task_names": ["rte"]}"#);
    assert!(output.status.success(), "{}", text(&output));
    let zip = fixture.path("submission.zip");
    let mut command = fixture.trainer();
    command.arg("submission").arg("--from").arg(fixture.path("models/rte-model")).arg("--to").arg(&zip);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("models/rte-model predicted 12 rows, but GLUE's test set has 3000"), "{said}");
    assert!(said.contains("SST-2.tsv is missing: no model here learned sst"), "{said}");
    assert!(!zip.exists());
}
