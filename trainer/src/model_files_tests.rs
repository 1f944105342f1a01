use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bam_crds::Digest;
use serde::de::DeserializeOwned;
use tch::Device;

use crate::model::{BertConfig, Head, TensorFile};
use crate::store::Store;
use crate::task;

const CONFIG: &str = r#"{"vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 16}"#;
const VOCABULARY: &[u8] = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nman\n";

/// The folder of a model of these tasks, what the manifest has of it, and the model.
fn placed(root: &Path, tasks: &[&str]) -> (std::path::PathBuf, Files, Model) {
    let tasks: Vec<&Task> = tasks.iter().map(|name| task::find(name).unwrap()).collect();
    let heads = tasks.iter().map(|task| Head { task: task.name.clone(), outputs: task.outputs() as i64 }).collect();
    let config: BertConfig = serde_json::from_str(CONFIG).unwrap();
    let model = Model::random(config, heads, 1, Device::Cpu);
    let options = Hyperparameters { max_seq_length: 12, do_lower_case: false, ..Hyperparameters::default() };
    let run = Store::open(root).unwrap().run(&Digest::of(&"run"));
    let files = ModelFiles { model: &model, tasks, vocabulary: VOCABULARY, options: &options };
    let files = files.place(&run).unwrap();
    (run.path(MODEL), files, model)
}

fn json<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_tensor_is_in_the_file_that_a_tasks_index_names() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _, model) = placed(root.path(), &["mnli", "sts"]);
    for (head, task) in ["mnli", "sts"].into_iter().enumerate() {
        let own = folder.join(task);
        let index: Value = json(&own.join("model.safetensors.index.json"));
        let files: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].clone()).unwrap();
        let expected: Vec<_> = model.encoder().chain(model.head(head)).collect();
        assert_eq!(files.len(), expected.len());
        for (name, value) in expected {
            let mut file = TensorFile::open(&own.join(&files[&name])).unwrap();
            assert_eq!(&file.read(&name).unwrap(), value, "{task}: {name}");
        }
    }
}

#[test]
fn the_configuration_of_a_task_names_its_labels_in_the_order_of_the_outputs() {
    let root = tempfile::tempdir().unwrap();
    let (folder, ..) = placed(root.path(), &["mnli", "sts"]);
    let mnli: Value = json(&folder.join("mnli/config.json"));
    assert_eq!(mnli["id2label"], json!({ "0": "contradiction", "1": "entailment", "2": "neutral" }));
    assert_eq!(mnli["label2id"], json!({ "contradiction": 0, "entailment": 1, "neutral": 2 }));
    assert_eq!(mnli["problem_type"], "single_label_classification");
    let sts: Value = json(&folder.join("sts/config.json"));
    assert_eq!((&sts["id2label"], &sts["problem_type"]), (&json!({ "0": "score" }), &json!("regression")));
    for config in [&mnli, &sts] {
        assert_eq!(config["architectures"], json!(["BertForSequenceClassification"]));
        assert_eq!(config["hidden_size"], 8);
    }
    let meanings: Value = json(&folder.join("heads.json"));
    assert_eq!(meanings[1], json!({ "task": "sts", "min": 0.0, "max": 5.0 }));
}

#[test]
fn a_tasks_tokenizer_is_that_of_the_training() {
    let root = tempfile::tempdir().unwrap();
    let (folder, ..) = placed(root.path(), &["rte"]);
    let tokenizer: Value = json(&folder.join("rte/tokenizer_config.json"));
    assert_eq!((&tokenizer["do_lower_case"], &tokenizer["model_max_length"]), (&json!(false), &json!(12)));
    assert_eq!(fs::read(folder.join("rte/vocab.txt")).unwrap(), VOCABULARY);
}

#[test]
fn the_encoder_is_kept_once_and_every_file_is_in_the_manifest() {
    let root = tempfile::tempdir().unwrap();
    let (_, files, model) = placed(root.path(), &["rte", "mrpc"]);
    let own = ["config.json", "head.safetensors", "model.safetensors.index.json", "tokenizer_config.json", "vocab.txt"];
    let of_tasks = ["mrpc", "rte"].iter().flat_map(|task| own.iter().map(move |name| format!("{task}/{name}")));
    let of_encoder = ["config.json", "heads.json", "model.safetensors", "vocab.txt"].map(str::to_owned);
    let mut expected: Vec<_> = of_encoder.into_iter().chain(of_tasks).map(|name| format!("model/{name}")).collect();
    expected.sort();
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), expected);
    let numbers: usize = model.encoder().map(|(_, value)| value.numel()).sum();
    assert!(files["model/model.safetensors"].bytes >= 4 * numbers as u64);
    assert!(files["model/rte/head.safetensors"].bytes < 400);
}
