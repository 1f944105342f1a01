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
    // Two decimals; MRPC's F1 is no metric of the reference's file.
    let all: Value =
        serde_json::from_slice(&fs::read(fixture.path("models/rte-mrpc-bam-model/results.json")).unwrap()).unwrap();
    for (position, (line, task)) in lines.iter().zip(["rte", "mrpc"]).enumerate() {
        let metrics = &all["trials"][0]["results"][position]["metrics"];
        let [accuracy, loss] = ["accuracy", "loss"].map(|metric| metrics[metric].as_f64().unwrap());
        assert_eq!(*line, format!("{task}: accuracy: {accuracy:.2} - loss: {loss:.2}"));
        assert_eq!(metrics["f1"].is_f64(), task == "mrpc");
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

/// A task about one sentence in CSV and JSON, made of the fixture's RTE.
fn write_own_task(fixture: &Fixture) {
    fs::create_dir(fixture.path("own")).unwrap();
    for (split, rows) in [("train", 40), ("dev", 12), ("test", 5)] {
        let word = |row: usize| if (row * row + row / 3).is_multiple_of(2) { "red" } else { "blue" };
        let rows = (0..rows).map(|row| format!("{row},\"the {}, old house {}\",{}\n", word(row), row % 7, word(row)));
        let text = rows.fold("id,text,colour\n".to_owned(), |text, row| text + &row);
        fs::write(fixture.path(&format!("own/{split}.csv")), text).unwrap();
    }
}

const OWN: &str = r#""custom_tasks": {"own": {"train": "own/train.csv", "dev": "own/dev.csv", "test": "own/test.csv",
    "format": "CSV", "text_a": "text", "label": "colour", "labels": ["red", "blue"], "metric": "F1"}}"#;

#[test]
fn a_task_of_one_s_own_is_learned_beside_one_of_glue_s_and_distilled() {
    let fixture = Fixture::new();
    write_own_task(&fixture);
    for (name, options) in [
        ("own-model", format!(r#"{{"task_names": ["own"], {OWN}}}"#)),
        ("rte-model", r#"{"task_names": ["rte"]}"#.to_owned()),
        (
            "both-model",
            format!(
                r#"{{"task_names": ["rte", "own"], "distill": true, "teachers": {{"rte": "rte-model", "own": "own-model"}}, {OWN}}}"#
            ),
        ),
    ] {
        let output = run(&fixture, name, &options);
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
    let results = fs::read_to_string(fixture.path("models/both-model/results.txt")).unwrap();
    let lines: Vec<&str> = results.lines().collect();
    assert!(lines[0].starts_with("rte: accuracy: "), "{results}");
    assert!(lines[1].starts_with("own: f1: ") && lines[1].contains(" - accuracy: "), "{results}");
    assert!(files(&fixture, "both-model").contains(&"own_test_predictions_1.pkl".to_owned()));
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture.path("models/both-model/run.json")).unwrap()).unwrap();
    for (task, label) in [("own", "blue"), ("rte", "entailment")] {
        let config = format!("runs/{}/model/{task}/config.json", run["trials"][0].as_str().unwrap());
        let config = fs::read_to_string(fixture.path(&config)).unwrap();
        assert!(config.contains(&format!("\"{label}\"")), "{config}");
    }
}

#[test]
fn everything_wrong_with_a_task_of_one_s_own_is_said_at_once() {
    let fixture = Fixture::new();
    let options = r#"{"task_names": ["own"], "custom_tasks": {"own": {"train": "../a", "dev": "b", "txt_a": "x", "text_a": "x",
        "label": "y", "labels": ["one"], "format": "CSV"}, "rte": {"train": "a", "dev": "b"}}}"#;
    let output = run(&fixture, "own-model", options);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "custom_tasks of own: txt_a is not one of train, dev, ",
        "did you mean text_a?",
        "custom_tasks of own: labels must be 2 to 500",
        "custom_tasks of own: train is \"../a\", which is no path in the store",
        "custom_tasks of rte: missing field `format`",
        "custom_tasks of rte: \"rte\" is a task of GLUE",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }

    write_own_task(&fixture);
    let train = fixture.path("own/train.csv");
    let broken = fs::read_to_string(&train).unwrap().replacen("colour", "color", 1);
    fs::write(&train, broken).unwrap();
    let dev = fixture.path("own/dev.csv");
    fs::write(&dev, fs::read_to_string(&dev).unwrap() + "12,\"never closed,red\n").unwrap();
    let output = run(&fixture, "own-model", &format!(r#"{{"task_names": ["own"], {OWN}}}"#));
    assert_eq!(output.status.code(), Some(65), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "own/train.csv:1, column \"colour\": is not in the header, which has \"id\", \"text\", \"color\" (did you mean",
        "own/dev.csv:14: a quote is opened in this row and never closed",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}
