//! `bam-trainer submission`: the zip that GLUE's leaderboard takes, from the test predictions of trained models.
//!
//! The leaderboard wants all eleven files, each with a header, one row for each row of its test set, and labels by name. All
//! that keeps a zip from being taken is found here, and said at once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bam_crds::{Digest, ExitReason, Manifest, store as layout};
use clap::Args;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::data::rows::row_hash;
use crate::data::targets::Targets;
use crate::failure::{Failure, Problems};
use crate::metrics::argmax;
use crate::prepare::{data_file, read_rows};
use crate::reference::first_run_at;
use crate::store::{RunFolder, Store};
use crate::task::{self, Split};
use crate::{digest, durable};

/// What goes into a submission.
#[derive(Args, Clone, Debug)]
pub struct Submission {
    /// Models with test predictions: BAM_DIR/models/NAME (its first trial) or BAM_DIR/runs/HASH. Together they answer each
    /// test set at most once.
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    pub from: Vec<PathBuf>,
    /// File to write.
    #[arg(long, default_value = "submission.zip", value_name = "FILE")]
    pub to: PathBuf,
    /// Give every row of a test set that no model answers one and the same answer, so that the leaderboard takes the rest.
    #[arg(long)]
    pub fill_missing: bool,
}

/// One file of a submission: a test set of GLUE.
struct TestSet {
    /// Its name in the zip.
    file: &'static str,
    task: &'static str,
    split: Split,
    /// Rows of GLUE's test set. The leaderboard refuses any other number.
    rows: usize,
    /// Labels that the leaderboard knows; none: a score.
    labels: &'static [&'static str],
    /// The answer of `--fill-missing`.
    filler: &'static str,
}

const BINARY: &[&str] = &["0", "1"];
const ENTAILMENT: &[&str] = &["entailment", "not_entailment"];
const NLI: &[&str] = &["contradiction", "entailment", "neutral"];

/// GLUE's test sets. A filler is the training set's more frequent class, or one of several that are about as frequent.
const TEST_SETS: [TestSet; 11] = [
    TestSet { file: "CoLA.tsv", task: "cola", split: Split::Test, rows: 1063, labels: BINARY, filler: "1" },
    TestSet { file: "SST-2.tsv", task: "sst", split: Split::Test, rows: 1821, labels: BINARY, filler: "1" },
    TestSet { file: "MRPC.tsv", task: "mrpc", split: Split::Test, rows: 1725, labels: BINARY, filler: "1" },
    TestSet { file: "STS-B.tsv", task: "sts", split: Split::Test, rows: 1379, labels: &[], filler: "2.500" },
    TestSet { file: "QQP.tsv", task: "qqp", split: Split::Test, rows: 390_965, labels: BINARY, filler: "0" },
    TestSet { file: "MNLI-m.tsv", task: "mnli", split: Split::TestMatched, rows: 9796, labels: NLI, filler: "neutral" },
    TestSet {
        file: "MNLI-mm.tsv",
        task: "mnli",
        split: Split::TestMismatched,
        rows: 9847,
        labels: NLI,
        filler: "neutral",
    },
    TestSet {
        file: "QNLI.tsv",
        task: "qnli",
        split: Split::Test,
        rows: 5463,
        labels: ENTAILMENT,
        filler: "entailment",
    },
    TestSet { file: "RTE.tsv", task: "rte", split: Split::Test, rows: 3000, labels: ENTAILMENT, filler: "entailment" },
    TestSet { file: "WNLI.tsv", task: "wnli", split: Split::Test, rows: 146, labels: BINARY, filler: "0" },
    TestSet { file: "AX.tsv", task: "mnli", split: Split::Diagnostic, rows: 1104, labels: NLI, filler: "neutral" },
];

/// Where the answers of a file come from.
#[derive(Debug)]
enum Source {
    Model(PathBuf),
    Filler(&'static str),
}

/// A file of the submission, ready to be written.
struct Answers {
    file: &'static str,
    /// In the order of the test set.
    answers: Vec<String>,
    source: Source,
}

/// Writes the zip, and returns what a person wants to know of it: a line per file.
///
/// # Errors
/// Everything that keeps the leaderboard from taking it, at once.
pub fn write(submission: &Submission) -> Result<String, Failure> {
    let mut problems = Problems::default();
    let opened = submission.from.iter().map(|folder| problems.take(Model::open(folder))).collect::<Vec<_>>();
    let models: Vec<Model> = opened.into_iter().flatten().collect();
    let files = TEST_SETS.iter().map(|set| answers(set, &models, submission.fill_missing));
    let files: Vec<_> = files.map(|answers| problems.take(answers)).collect();
    problems.check()?;
    let files: Vec<Answers> = files.into_iter().flatten().collect();
    durable::write(&submission.to, |file| archive(file, &files))?;
    let mut said: String = files.iter().map(Answers::line).collect();
    said += &format!("{} is ready for https://gluebenchmark.com/submit\n", submission.to.display());
    Ok(said)
}

/// A trained model that may answer test sets.
struct Model {
    /// As it was given.
    given: PathBuf,
    store: Store,
    run: RunFolder,
    manifest: Manifest,
}

impl Model {
    fn open(given: &Path) -> Result<Self, Failure> {
        let folder = fs::canonicalize(given).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(ExitReason::MissingInput, format!("{}: there is no such folder", given.display()))
            }
            _ => Failure::store("open", given, &error),
        })?;
        let bad = |problem: &str| Failure::new(ExitReason::BadConfig, format!("{}: {problem}", given.display()));
        let neither = || bad("neither a model's folder (BAM_DIR/models/NAME) nor a run's (BAM_DIR/runs/HASH)");
        // Both lie two levels below the store.
        let store = Store::open(folder.ancestors().nth(2).ok_or_else(neither)?)?;
        let hash: Digest = if folder.join("run.json").exists() {
            first_run_at(&folder.join("run.json"))?
        } else {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            name.parse().map_err(|_| neither())?
        };
        let run = store.run(&hash);
        let manifest = run.manifest()?.ok_or_else(|| bad("this training is not finished"))?;
        Ok(Self { given: given.to_owned(), store, run, manifest })
    }

    /// Did it learn this task?
    fn learned(&self, task: &str) -> bool {
        self.manifest.science.tasks.iter().any(|learned| learned.name == task)
    }

    /// Its predictions of a test set, if it has some.
    fn predictions(&self, set: &TestSet) -> Result<Option<Targets>, Failure> {
        let name = layout::predictions(set.task, set.split.name());
        let Some(expected) = self.manifest.files.get(&name) else { return Ok(None) };
        let path = self.run.path(&name);
        let found = digest::of_file(&path).map_err(|error| Failure::store("read the predictions", &path, &error))?;
        if found != *expected {
            let message = format!("{}: its content is not what the run's manifest says", path.display());
            return Err(Failure::new(ExitReason::BadData, message));
        }
        Ok(Some(Targets::read(&path)?))
    }

    /// Are these predictions of the file that is there now? One that is gone proves nothing.
    fn of_that_file(&self, set: &TestSet, predictions: &Targets) -> Result<bool, Failure> {
        let task = task::find(set.task).filter(|task| data_file(&self.store, task, set.split).exists());
        let Some(task) = task else { return Ok(true) };
        let rows = read_rows(&self.store, task, set.split, &self.manifest.science.hyperparameters)?;
        Ok(rows.iter().map(row_hash).eq(predictions.row_hashes.iter().copied()))
    }
}

/// The answers to one test set.
fn answers(set: &TestSet, models: &[Model], fill_missing: bool) -> Result<Answers, Failure> {
    let bad = |problem: String| Failure::new(ExitReason::BadData, format!("{}: {problem}", set.file));
    let mut found = Vec::new();
    for model in models {
        found.extend(model.predictions(set)?.map(|predictions| (model, predictions)));
    }
    match &found[..] {
        [] if fill_missing => {
            let answers = vec![set.filler.to_owned(); set.rows];
            Ok(Answers { file: set.file, answers, source: Source::Filler(set.filler) })
        }
        [] => Err(missing(set, models)),
        [(model, predictions)] => {
            let of = model.given.display();
            if predictions.eids.len() != set.rows || !predictions.eids.iter().copied().eq(0..set.rows as u32) {
                let rows = predictions.eids.len();
                return Err(bad(format!("{of} predicted {rows} rows, but GLUE's test set has {}", set.rows)));
            }
            if !model.of_that_file(set, predictions)? {
                let file = task::find(set.task).map(|task| data_file(&model.store, task, set.split));
                let file = file.unwrap_or_default();
                return Err(bad(format!("{of} predicted other rows than those that are in {} now", file.display())));
            }
            let answers = named(set, predictions).map_err(|problem| bad(format!("{of} {problem}")))?;
            Ok(Answers { file: set.file, answers, source: Source::Model(model.given.clone()) })
        }
        several => {
            let names: Vec<_> = several.iter().map(|(model, _)| model.given.display().to_string()).collect();
            Err(bad(format!("{} all answer it: give one of them alone", names.join(" and "))))
        }
    }
}

/// Why nothing answers a test set.
fn missing(set: &TestSet, models: &[Model]) -> Failure {
    let why = match models.iter().find(|model| model.learned(set.task)) {
        Some(model) => format!(
            "{} learned {}, but did not predict its split {}: train it with write_test_outputs",
            model.given.display(),
            set.task,
            set.split
        ),
        None => format!("no model here learned {}: add one to --from", set.task),
    };
    let message = format!("{} is missing: {why}, or give --fill-missing", set.file);
    Failure::new(ExitReason::MissingInput, message)
}

/// Predictions in the leaderboard's words.
fn named(set: &TestSet, predictions: &Targets) -> Result<Vec<String>, String> {
    if let Some(row) =
        predictions.logits.chunks_exact(predictions.outputs()).position(|row| row.iter().any(|x| !x.is_finite()))
    {
        return Err(format!("has a prediction of row {row} that is not finite"));
    }
    if let Some(unknown) = predictions.labels.iter().find(|label| !set.labels.contains(&label.as_str())) {
        return Err(format!("has a label {unknown:?}, which the leaderboard does not know"));
    }
    if set.labels.len() != predictions.labels.len() {
        return Err(format!("has the labels {:?}, and the leaderboard {:?}", predictions.labels, set.labels));
    }
    let answer = |row: &[f32]| match set.labels {
        // Trained on the scale from 0 to 1, and not bounded by it.
        [] => format!("{:.3}", (f64::from(row[0]) * 5.0).clamp(0.0, 5.0)),
        _ => predictions.labels[argmax(row)].clone(),
    };
    Ok(predictions.logits.chunks_exact(predictions.outputs()).map(answer).collect())
}

impl Answers {
    fn line(&self) -> String {
        let source = match &self.source {
            Source::Model(model) => model.display().to_string(),
            Source::Filler(answer) => format!("FILLED: every answer is {answer}"),
        };
        format!("{:<12} {:>7} rows  {source}\n", self.file, self.answers.len())
    }
}

/// The same answers are the same bytes.
fn archive(file: &File, files: &[Answers]) -> io::Result<()> {
    let mut zip = ZipWriter::new(file);
    for Answers { file, answers, .. } in files {
        zip.start_file(*file, SimpleFileOptions::default().last_modified_time(zip::DateTime::default()))?;
        let rows = answers.iter().enumerate().map(|(index, answer)| format!("{index}\t{answer}\n"));
        let text: String = ["index\tprediction\n".to_owned()].into_iter().chain(rows).collect();
        zip.write_all(text.as_bytes())?;
    }
    zip.finish()?;
    Ok(())
}

#[cfg(test)]
#[path = "submission_tests.rs"]
mod tests;
