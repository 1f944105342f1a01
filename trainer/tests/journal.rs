//! What is written down of a training: the trace, and TensorBoard's events. Neither changes what is learned.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bam_crds::{ExitReason, RunConfig, RunReport};
use common::{Fixture, text};
use serde_json::{Value, json};

const SHORT: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "2", "learningRate": "1e-3"}"#;

/// The command that trains a run and traces it, and the trace.
fn traced(fixture: &Fixture, config: &RunConfig, attempt: &str) -> (Command, PathBuf, PathBuf) {
    let (mut command, report) = fixture.train_command(config, attempt);
    let trace = fixture.path("trace.jsonl");
    command.arg("--trace").arg(&trace);
    (command, trace, report)
}

fn lines(trace: &Path) -> Vec<Value> {
    fs::read_to_string(trace).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_trace_has_a_line_for_every_step_and_changes_nothing_that_is_learned() {
    let (plain, fixture) = (Fixture::new(), Fixture::new());
    let config = plain.config(&["rte", "mrpc"], SHORT, &[]);
    let report = plain.train(&config, "plain");
    let (mut command, trace, _) = traced(&fixture, &fixture.config(&["rte", "mrpc"], SHORT, &[]), "traced");
    done(command.arg("--tensorboard").arg(fixture.path("events")));
    assert!(plain.artifacts(&config) == fixture.artifacts(&config), "weights, targets or results differ");

    let lines = lines(&trace);
    assert_eq!(lines[0]["format"], "bam-trace-1");
    assert_eq!(lines[0]["scienceHash"], config.science_hash.as_str());
    assert_eq!(lines[0]["steps"], report.total_steps);
    assert_eq!((&lines[0]["precision"], &lines[0]["tasks"][0]["targetFiles"]), (&json!("fp32"), &json!([])));
    assert_eq!(lines.len() as u64, 1 + report.total_steps);
    for (step, line) in lines[1..].iter().enumerate() {
        assert_eq!(line["step"], step);
        let rows = line["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 8, "{line}");
        assert!(rows.iter().all(|row| row.is_null() || (row[0].is_string() && row[1].is_u64())), "{line}");
        assert!(line["loss"].as_f64().unwrap() > 0.0 && line["gradientNorm"].as_f64().unwrap() > 0.0, "{line}");
        let lambda = step as f64 / report.total_steps as f64;
        assert!((line["lambda"].as_f64().unwrap() - lambda).abs() < 1e-15, "{line}");
    }
    let weights = fixture.path(lines[0]["weights"].as_str().unwrap());
    assert_eq!(weights, fixture.path("trace.jsonl.initial.safetensors"));
    let initial = fs::read(weights).unwrap();
    let trained = fs::read(fixture.run_folder(&config).join("model/model.safetensors")).unwrap();
    let mut expected = tensors(&trained);
    expected.extend(["rte", "mrpc"].iter().flat_map(|task| ["weight", "bias"].map(|of| format!("heads.{task}.{of}"))));
    assert_eq!(tensors(&initial), expected);
}

/// The names of the tensors of a safetensors file.
fn tensors(file: &[u8]) -> BTreeSet<String> {
    let (length, rest) = file.split_first_chunk().unwrap();
    let header: Value = serde_json::from_slice(&rest[..u64::from_le_bytes(*length) as usize]).unwrap();
    header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned().collect()
}

#[test]
fn the_trace_of_a_training_that_was_killed_is_that_of_one_that_was_never_touched() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte", "mrpc"], SHORT, &[]);
    let (mut command, trace, _) = traced(&fixture, &config, "undisturbed");
    done(&mut command);
    let expected = fs::read(trace).unwrap();

    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let fixture = Fixture::new();
        let mut config = config.clone();
        config.execution = fixture.execution();
        // Saved seldom, so that steps are done again, and written down once.
        config.execution.save_checkpoints_steps = Some(7);
        let mut resumed = Vec::new();
        for attempt in 0.. {
            let (mut command, trace, report) = traced(&fixture, &config, &format!("attempt-{attempt}"));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let enough = 3 * (attempt + 1) * expected.len() / 16;
            let size = || fs::metadata(&trace).map_or(0, |found| found.len() as usize);
            let checkpoints = fixture.run_folder(&config).join("checkpoints");
            while attempt < 3 && child.try_wait().unwrap().is_none() && (size() < enough || !checkpoints.exists()) {
                std::thread::yield_now();
            }
            if attempt < 3 {
                // SAFETY: a signal to a child of ours that was not waited for, so its pid is still its own.
                unsafe { libc::kill(child.id() as libc::pid_t, signal) };
            }
            let ended = child.wait().unwrap();
            if let Ok(report) = fs::read(report) {
                resumed.push(serde_json::from_slice::<RunReport>(&report).unwrap().resumed_from);
            }
            if ended.success() {
                break;
            }
        }
        assert!(resumed.iter().any(|step| *step > 0), "it never resumed: {resumed:?}");
        let found = fs::read(fixture.path("trace.jsonl")).unwrap();
        assert!(found == expected, "stopped by {signal}, resumed from {resumed:?}: the traces differ");
    }
}

#[test]
fn a_training_that_goes_on_does_not_go_on_in_another_s_trace() {
    let fixture = Fixture::new();
    let mut config = fixture.config(&["rte"], &SHORT.replace("\"2\"", "\"200\""), &[]);
    config.execution.save_checkpoints_steps = Some(1);
    let (mut command, trace, _) = traced(&fixture, &config, "first");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoints = fixture.run_folder(&config).join("checkpoints/first/step-000002.json");
    while !checkpoints.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    // SAFETY: a signal to a child of ours that was not waited for, so its pid is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(81));

    let good = fs::read_to_string(&trace).unwrap();
    let two = good.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    for (content, problem) in [
        (None, "there is no such trace"),
        (Some(String::new()), "this is not the trace of this run"),
        (Some(good.replacen("\"seed\":3", "\"seed\":4", 1)), "this is not the trace of this run"),
        (Some(two), "this trace ends before step 1"),
    ] {
        let _ = fs::remove_file(&trace);
        if let Some(content) = &content {
            fs::write(&trace, content).unwrap();
        }
        let (mut command, _, report) = traced(&fixture, &config, "second");
        assert_eq!(command.output().unwrap().status.code(), Some(64), "{problem}");
        let report: RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        assert_eq!(report.reason, ExitReason::BadConfig);
        assert!(report.message.contains(problem), "{}", report.message);
        assert_eq!(fs::read_to_string(&trace).ok(), content, "{problem}: it was changed");
    }
}
