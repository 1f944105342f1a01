//! A whole small training, distilled and multi-task, step by step against an independent program (`tests/parity/replay.py`):
//! which loss, gradient norm, learning rate and lambda it has at every step.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{PRETRAINED, text};
use serde_json::Value;

/// Of loss and gradient norm, relative: single precision here, double there, and what the steps before made of that.
const TOLERANCE: f64 = 1e-5;

fn golden(name: &str) -> PathBuf {
    let folder = std::env::var_os("BAM_GOLDEN_DIR").map(PathBuf::from);
    folder.unwrap_or_else(|| "tests/golden".into()).join(name)
}

/// Writes the store that the golden training began with.
fn store(folder: &Path, golden: &Value, config: &Value) {
    for file in golden["files"].as_array().unwrap() {
        let path = folder.join(file["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file["text"].as_str().unwrap()).unwrap();
    }
    let pretrained = folder.join("pretrained_models").join(PRETRAINED);
    fs::write(pretrained.join("config.json"), config.to_string()).unwrap();
    fs::copy(self::golden("training.safetensors"), pretrained.join("model.safetensors")).unwrap();
}

/// What is the same at every step, and the steps.
fn trace(folder: &Path, model: &str) -> (Value, Vec<Value>) {
    let path = folder.join(format!("models/{model}/outputs/trace_1.jsonl"));
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.next().unwrap(), lines.collect())
}

#[test]
fn a_distilled_multi_task_training_goes_the_way_of_an_independent_program() {
    let golden: Value = serde_json::from_str(&fs::read_to_string(golden("training.json")).unwrap()).unwrap();
    let mut folders: BTreeMap<&str, tempfile::TempDir> = BTreeMap::new();
    let mut students = 0;
    for model in golden["models"].as_array().unwrap() {
        let word = |key: &str| model[key].as_str().unwrap();
        let folder = folders.entry(word("dropout")).or_insert_with(|| {
            let folder = tempfile::tempdir().unwrap();
            store(folder.path(), &golden, &model["config"]);
            folder
        });
        let mut command = common::trainer();
        let output = command.arg(word("name")).arg(folder.path()).arg(model["options"].to_string()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        students += u32::from(word("name") == "student");

        let ((header, found), expected) = (trace(folder.path(), word("name")), model["steps"].as_array().unwrap());
        assert_eq!(found.len(), expected.len());
        // None anywhere, or some everywhere.
        let rate = if word("dropout") == "without" { 0.0 } else { 0.1 };
        let encoder = &header["model"];
        for said in [&header["headDropout"], &encoder["hidden_dropout_prob"], &encoder["attention_probs_dropout_prob"]]
        {
            assert_eq!(said.as_f64(), Some(rate), "{} {} dropout", word("name"), word("dropout"));
        }
        for (found, expected) in found.iter().zip(expected) {
            let step = format!("{} {} dropout, step {}", word("name"), word("dropout"), found["step"]);
            assert_eq!(found["rows"], expected["rows"], "{step}");
            for (key, tolerance) in
                [("loss", TOLERANCE), ("gradientNorm", TOLERANCE), ("learningRate", 1e-12), ("lambda", 1e-12)]
            {
                let [found, expected] = [found, expected].map(|line| line[key].as_f64().unwrap());
                let difference = (found - expected).abs();
                assert!(difference <= tolerance * expected.abs(), "{step}: {key} is {found}, expected {expected}");
            }
        }
    }
    assert_eq!(students, 2, "one without dropout, one with");
}
