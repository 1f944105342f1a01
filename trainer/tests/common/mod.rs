//! A store that fits into a test: a tiny random BERT, and two tasks of a few dozen rows in GLUE's format.
#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bam_crds::config::{InputsReport, TaskIdentity};
use bam_crds::identity::SEMANTICS_VERSION;
use bam_crds::{Digest, Execution, HyperparameterOverrides, InputsConfig, RunConfig, RunReport, Science};
use bam_trainer::model::{BertConfig, Model};
use tch::Device;

/// Name of the pretrained model of the fixture.
pub const PRETRAINED: &str = "tiny";

const WORDS: &[&str] = &[
    "the", "a", "man", "woman", "dog", "house", "river", "sells", "buys", "sees", "finds", "red", "blue", "old", "new",
    "in", "london", "paris", "today", "not", "two", "three", "and", ".", ",",
];

/// A store in a temporary folder.
pub struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder };
        fixture.write_model();
        fixture.write_data("rte", 60);
        fixture.write_data("mrpc", 50);
        fixture
    }

    pub fn store(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.store().join(relative)
    }

    fn write_model(&self) {
        let folder = self.path(&format!("pretrained_models/{PRETRAINED}"));
        fs::create_dir_all(&folder).unwrap();
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let vocabulary: Vec<&str> = special.iter().chain(WORDS).copied().collect();
        fs::write(folder.join("vocab.txt"), vocabulary.join("\n") + "\n").unwrap();
        let config: BertConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": vocabulary.len(), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 48, "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu",
        }))
        .unwrap();
        Model::random(config, Vec::new(), 7, Device::Cpu).save(&folder).unwrap();
    }

    /// Rows whose label is 1 when both sentences have the same second word.
    fn write_data(&self, task: &str, rows: usize) {
        let folder = self.path(&format!("glue_data/{task}"));
        fs::create_dir_all(&folder).unwrap();
        for (split, rows) in [("train", rows), ("dev", 20), ("test", 12)] {
            let labelled = split != "test";
            let header = match (task, labelled) {
                ("rte", true) => "index\tsentence1\tsentence2\tlabel",
                ("rte", false) => "index\tsentence1\tsentence2",
                (_, true) => "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
                (_, false) => "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
            };
            let mut text = header.to_owned() + "\n";
            for row in 0..rows {
                text += &line(task, row, labelled);
            }
            fs::write(folder.join(format!("{split}.tsv")), text).unwrap();
        }
    }

    /// The trainer, alone on one thread.
    pub fn trainer(&self) -> Command {
        trainer()
    }

    pub fn execution(&self) -> Execution {
        Execution {
            store: self.store().display().to_string(),
            pretrained: PRETRAINED.to_owned(),
            threads: Some(1),
            ..Execution::default()
        }
    }

    /// The command that checks the inputs.
    pub fn inputs_command(&self, tasks: &[&str]) -> (Command, PathBuf) {
        let config = InputsConfig {
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
            custom: Default::default(),
            targets: Default::default(),
            max_seq_length: 32,
            debug: false,
            fetch: None,
            execution: self.execution(),
        };
        let (path, report) = (self.path("inputs.json"), self.path("inputs-report.json"));
        fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        let mut command = self.trainer();
        command.arg("inputs").arg("--config").arg(&path).arg("--report").arg(&report);
        (command, report)
    }

    /// Runs `bam-trainer inputs`.
    pub fn inputs(&self, tasks: &[&str]) -> RunReport {
        let (mut command, report) = self.inputs_command(tasks);
        ended(&mut command, &report)
    }

    /// A run of these tasks. `options` are hyperparameters in JSON.
    pub fn config(&self, tasks: &[&str], options: &str, teachers: &[&Digest]) -> RunConfig {
        let inputs: InputsReport = self.inputs(tasks).inputs.expect("the inputs are good");
        let overrides: HyperparameterOverrides = serde_json::from_str(options).unwrap();
        let task = |(number, name): (usize, &&str)| TaskIdentity {
            name: (*name).to_owned(),
            custom: None,
            train: inputs.tasks[*name].train.clone(),
            dev: inputs.tasks[*name].dev.clone(),
            teachers: teachers.get(number).map(|teacher| (*teacher).clone()).into_iter().collect(),
            target_files: Vec::new(),
        };
        let science = Science {
            semantics_version: SEMANTICS_VERSION,
            model: inputs.model.clone(),
            tasks: tasks.iter().enumerate().map(task).collect(),
            hyperparameters: overrides.resolve(tasks.len()),
            distillation: Default::default(),
            seed: 3,
            precision: Default::default(),
            fold: None,
        };
        RunConfig::new(science, self.execution())
    }

    /// The command that trains a run.
    pub fn train_command(&self, config: &RunConfig, attempt: &str) -> (Command, PathBuf) {
        let path = self.path(&format!("{attempt}-config.json"));
        let report = self.path(&format!("{attempt}-report.json"));
        fs::write(&path, serde_json::to_vec(config).unwrap()).unwrap();
        let mut command = self.trainer();
        command.arg("train").arg("--config").arg(path).args(["--attempt", attempt]).arg("--report").arg(&report);
        (command, report)
    }

    /// Trains a run to whatever end.
    pub fn train(&self, config: &RunConfig, attempt: &str) -> RunReport {
        let (mut command, report) = self.train_command(config, attempt);
        ended(&mut command, &report)
    }

    pub fn run_folder(&self, config: &RunConfig) -> PathBuf {
        self.path(&bam_crds::store::run(&config.science_hash))
    }

    /// The run's files and their contents, without reports (they tell of time) and checkpoints.
    pub fn artifacts(&self, config: &RunConfig) -> Vec<(String, Vec<u8>)> {
        let folder = self.run_folder(config);
        let manifest: bam_crds::Manifest =
            serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let names = manifest.files.keys().filter(|name| *name != "report.json");
        names.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
    }
}

/// The trainer, alone on one thread.
pub fn trainer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bam-trainer"));
    command.env("BAM_DEVICE", "cpu").env("OMP_NUM_THREADS", "1");
    command
}

/// Runs a command to its end, and returns its report.
fn ended(command: &mut Command, report: &Path) -> RunReport {
    let output = command.output().unwrap();
    let report: RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(report.reason.code()), "{}", text(&output));
    report
}

fn line(task: &str, row: usize, labelled: bool) -> String {
    let word = |at: usize| WORDS[(row * 7 + at * 5 + row * row * at) % (WORDS.len() - 2)];
    let same = (row * row + row / 3).is_multiple_of(2);
    let second = if same { word(1) } else { word(2) };
    let long = ["today", "in", "london", "and", "paris"][..row % 5].join(" ");
    let a = format!("the {} {} {} .", word(1), word(3), long);
    let b = format!("a {second} {} .", word(4));
    match (task, labelled) {
        ("rte", true) => format!("{row}\t{a}\t{b}\t{}\n", if same { "entailment" } else { "not_entailment" }),
        ("rte", false) => format!("{row}\t{a}\t{b}\n"),
        (_, true) => format!("{}\t1\t2\t{a}\t{b}\n", u8::from(same)),
        (_, false) => format!("{row}\t1\t2\t{a}\t{b}\n"),
    }
}

pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
