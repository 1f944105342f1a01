use std::collections::BTreeMap;
use std::io::Read;

use bam_crds::Science;
use bam_crds::store::{Artifact, Machine};
use serde_json::json;

use super::*;

/// A store with finished runs, whose predictions are made up.
struct Made {
    folder: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn zip(&self) -> PathBuf {
        self.folder.path().join("out.zip")
    }

    /// A run that learned `tasks` and has these predictions. Returns its folder.
    fn run(&self, seed: u32, tasks: &[&str], predictions: &[(&TestSet, Targets)]) -> PathBuf {
        let digest = Digest::of_bytes(b"");
        let task = |name: &&str| json!({ "name": name, "train": digest, "dev": digest });
        let science: Science = serde_json::from_value(json!({
            "semanticsVersion": 1,
            "model": { "config": digest, "vocabulary": digest },
            "tasks": tasks.iter().map(task).collect::<Vec<_>>(),
            "seed": seed,
        }))
        .unwrap();
        let store = Store::open(self.folder.path()).unwrap();
        let run = store.run(&science.hash());
        let place = |(set, targets): &(&TestSet, Targets)| {
            let name = layout::predictions(set.task, set.split.name());
            let artifact = run.place(&name, &targets.to_bytes()).unwrap();
            (name, artifact)
        };
        let files: BTreeMap<String, Artifact> = predictions.iter().map(place).collect();
        let machine = Machine {
            device: "cpu".into(),
            threads: 1,
            instruction_set: "avx2".into(),
            micro_batch_tokens: 2048,
            trainer: "0.1.0".into(),
        };
        let (science_hash, used_targets) = (science.hash(), BTreeMap::new());
        let manifest = Manifest { science_hash, science, files, used_targets, machine, attempt: "first".into() };
        run.finish(&manifest).unwrap();
        run.path("")
    }

    fn write(&self, from: &[&PathBuf], fill_missing: bool) -> Result<String, Failure> {
        let from = from.iter().map(|folder| (*folder).clone()).collect();
        write(&Submission { from, to: self.zip(), fill_missing })
    }

    /// Names and contents of the zip, in its order.
    fn read(&self) -> Vec<(String, String)> {
        let mut zip = zip::ZipArchive::new(File::open(self.zip()).unwrap()).unwrap();
        let read = |at: usize| {
            let mut file = zip.by_index(at).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (file.name().unwrap().into_owned(), text)
        };
        (0..11).map(read).collect()
    }
}

fn set(file: &str) -> &'static TestSet {
    TEST_SETS.iter().find(|set| set.file == file).unwrap()
}

/// Row i answers output i modulo the number of labels; a regression 0.5, 1.2, -0.1 over and over.
fn predictions(set: &TestSet, labels: &[&str], rows: usize) -> Targets {
    let row = |row: usize| -> Vec<f32> {
        match labels {
            [] => vec![[0.5, 1.2, -0.1][row % 3]],
            _ => (0..labels.len()).map(|label| f32::from(u8::from(label == row % labels.len()))).collect(),
        }
    };
    Targets {
        task: set.task.into(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        eids: (0..rows as u32).collect(),
        row_hashes: vec![0; rows],
        logits: (0..rows).flat_map(row).collect(),
    }
}

fn whole(set: &'static TestSet) -> (&'static TestSet, Targets) {
    (set, predictions(set, set.labels, set.rows))
}

#[test]
fn a_submission_has_the_eleven_files_with_header_all_rows_and_labels_by_name() {
    let made = Made::new();
    let mut all: Vec<_> = TEST_SETS.iter().map(whole).collect();
    // The labels of a model's outputs may come in any order.
    let rte = all.iter_mut().find(|(set, _)| set.file == "RTE.tsv").unwrap();
    rte.1 = predictions(rte.0, &["not_entailment", "entailment"], rte.0.rows);
    let (some, others) = all.split_at(5);
    let tasks = ["cola", "sst", "mrpc", "sts", "qqp"];
    let models = [made.run(1, &tasks, some), made.run(2, &["mnli", "qnli", "rte", "wnli"], others)];
    let said = made.write(&[&models[0], &models[1]], false).unwrap();
    assert!(!said.contains("FILLED"), "{said}");

    let files = made.read();
    let expected = [
        ("CoLA.tsv", 1063, ["0", "1", "0"]),
        ("SST-2.tsv", 1821, ["0", "1", "0"]),
        ("MRPC.tsv", 1725, ["0", "1", "0"]),
        ("STS-B.tsv", 1379, ["2.500", "5.000", "0.000"]),
        ("QQP.tsv", 390_965, ["0", "1", "0"]),
        ("MNLI-m.tsv", 9796, ["contradiction", "entailment", "neutral"]),
        ("MNLI-mm.tsv", 9847, ["contradiction", "entailment", "neutral"]),
        ("QNLI.tsv", 5463, ["entailment", "not_entailment", "entailment"]),
        ("RTE.tsv", 3000, ["not_entailment", "entailment", "not_entailment"]),
        ("WNLI.tsv", 146, ["0", "1", "0"]),
        ("AX.tsv", 1104, ["contradiction", "entailment", "neutral"]),
    ];
    assert_eq!(files.len(), expected.len());
    for ((name, text), (file, rows, answers)) in files.iter().zip(expected) {
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        assert_eq!((name.as_str(), lines.len()), (file, rows + 1));
        assert_eq!(lines[0], "index\tprediction");
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(lines[index + 1], format!("{index}\t{answer}"), "{file}");
        }
        assert!(lines[rows].starts_with(&format!("{}\t", rows - 1)), "{file}");
    }

    let bytes = fs::read(made.zip()).unwrap();
    made.write(&[&models[1], &models[0]], false).unwrap();
    assert!(fs::read(made.zip()).unwrap() == bytes, "the same answers are other bytes");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_is_written() {
    let made = Made::new();
    let cut = |file, labels: &[&str], rows| (set(file), predictions(set(file), labels, rows));
    let mut broken = predictions(set("CoLA.tsv"), BINARY, 1063);
    broken.logits[9] = f32::NAN;
    let first = made.run(
        1,
        &["rte", "mrpc", "qnli", "cola", "sst"],
        &[
            cut("RTE.tsv", ENTAILMENT, 2999),
            cut("MRPC.tsv", &["no", "yes"], 1725),
            whole(set("QNLI.tsv")),
            (set("CoLA.tsv"), broken),
        ],
    );
    let second = made.run(2, &["qnli"], &[whole(set("QNLI.tsv"))]);
    let nowhere = made.folder.path().join("nowhere");
    let failure = made.write(&[&first, &second], false).unwrap_err();
    let (one, other) = (first.display(), second.display());
    let expected = [
        format!("CoLA.tsv: {one} has a prediction of row 4 that is not finite"),
        format!("SST-2.tsv is missing: {one} learned sst, but did not predict its split test: train it with"),
        format!("MRPC.tsv: {one} has a label \"no\", which the leaderboard does not know"),
        "STS-B.tsv is missing: no model here learned sts: add one to --from, or give --fill-missing".to_owned(),
        "QQP.tsv is missing".to_owned(),
        "MNLI-m.tsv is missing".to_owned(),
        "MNLI-mm.tsv is missing".to_owned(),
        format!("QNLI.tsv: {one} and {other} all answer it: give one of them alone"),
        format!("RTE.tsv: {one} predicted 2999 rows, but GLUE's test set has 3000"),
        "WNLI.tsv is missing".to_owned(),
        "AX.tsv is missing".to_owned(),
    ];
    let said: Vec<&str> = failure.message.lines().collect();
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(&expected) {
        assert!(said.starts_with(expected), "{said} does not begin with {expected}");
    }
    assert_eq!(failure.reason, ExitReason::BadData);
    assert!(!made.zip().exists());

    let failure = made.write(&[&nowhere, &made.folder.path().to_owned()], true).unwrap_err();
    assert!(failure.message.contains("nowhere: there is no such folder"), "{failure}");
    assert!(failure.message.contains("neither a model's folder"), "{failure}");
}

#[test]
fn what_is_missing_is_filled_only_when_asked_for_and_then_it_is_said() {
    let made = Made::new();
    let model = made.run(1, &["rte"], &[whole(set("RTE.tsv"))]);
    let said = made.write(&[&model], true).unwrap();
    let filled: Vec<&str> = said.lines().filter(|line| line.contains("FILLED: every answer is ")).collect();
    assert_eq!(filled.len(), 10, "{said}");
    assert!(said.contains(&format!("RTE.tsv         3000 rows  {}\n", model.display())), "{said}");
    for (name, text) in made.read() {
        assert_eq!(text.lines().count(), set(&name).rows + 1, "{name}");
        let same = |line: &str| line.ends_with(&format!("\t{}", set(&name).filler));
        assert_eq!(text.lines().skip(1).all(same), name != "RTE.tsv", "{name}");
    }
}

#[test]
fn predictions_of_rows_that_are_not_in_the_test_file_any_more_are_refused() {
    let made = Made::new();
    let model = made.run(1, &["rte"], &[whole(set("RTE.tsv"))]);
    let data = made.folder.path().join("glue_data/rte");
    fs::create_dir_all(&data).unwrap();
    let rows: String = (0..3000).map(|row| format!("{row}\tone\tother\n")).collect();
    fs::write(data.join("test.tsv"), format!("index\tsentence1\tsentence2\n{rows}")).unwrap();
    let failure = made.write(&[&model], true).unwrap_err();
    assert!(failure.message.contains("predicted other rows than those that are in"), "{failure}");
}
