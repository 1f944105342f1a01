//! What a finished run keeps of its model, in the hands of Hugging Face's transformers: `make parity` says which Python has
//! that library.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use bam_crds::{ExitReason, store};
use common::{Fixture, text};

const OPTIONS: &str = r#"{"maxSeqLength": 16, "trainBatchSize": 8, "numTrainEpochs": "12", "learningRate": "5e-3"}"#;

/// Sentences and how alike they are, in STS-B's columns.
fn write_scores(fixture: &Fixture) {
    let folder = fixture.path("glue_data/sts");
    fs::create_dir_all(&folder).unwrap();
    let words = ["man", "woman", "dog", "house", "river", "Old", "new", "today"];
    for (split, rows) in [("train", 40), ("dev", 12)] {
        let mut lines = "index\tsentence1\tsentence2\tscore\n".to_owned();
        for row in 0..rows {
            let word = |at: usize| words[(row * 5 + at * 3 + row * at) % words.len()];
            let (same, score) = if row % 3 == 0 { (word(1), 4.5) } else { (word(2), 0.5 + (row % 4) as f64 / 2.0) };
            lines += &format!("{row}\tthe {} sees {} .\ta {same}, and {}\t{score}\n", word(1), word(3), word(4));
        }
        fs::write(folder.join(format!("{split}.tsv")), lines).unwrap();
    }
}

/// The two texts of each training row: columns 1 and 2 in both files.
fn texts(fixture: &Fixture, task: &str) -> Vec<[String; 2]> {
    let file = fs::read_to_string(fixture.path(&format!("{}/train.tsv", store::glue_data(task)))).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        [fields[1].to_owned(), fields[2].to_owned()]
    };
    file.lines().skip(1).map(row).collect()
}

#[test]
fn transformers_loads_every_task_of_a_finished_run_and_gives_the_same_logits() {
    let Some(python) = std::env::var_os("BAM_PARITY_PYTHON") else {
        println!("SKIPPED: a Python with transformers is needed (BAM_PARITY_PYTHON); `make parity` makes one");
        return;
    };
    let fixture = Fixture::new();
    write_scores(&fixture);
    let config = fixture.config(&["rte", "sts"], OPTIONS, &[]);
    let report = fixture.train(&config, "first");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);

    let texts: BTreeMap<_, _> = ["rte", "sts"].map(|task| (task, texts(&fixture, task))).into();
    let file = fixture.path("texts.json");
    fs::write(&file, serde_json::to_vec(&texts).unwrap()).unwrap();
    let run = fixture.run_folder(&config);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/transformers_loads.py");
    let mut command = Command::new(python);
    command.arg(script).args([run.join(store::MODEL), run.join(store::TARGETS), file]);
    let output = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}
