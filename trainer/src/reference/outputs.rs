//! `models/<model name>/`: what the reference leaves behind, made of the runs in the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bam_crds::report::TaskResult;
use bam_crds::store as layout;
use bam_crds::{Digest, ExitReason, RunConfig, RunReport};
use serde::{Deserialize, Serialize};

use super::results::Results;
use super::{Options, warn};
use crate::data::targets::Targets;
use crate::digest;
use crate::failure::Failure;
use crate::journal::Journals;
use crate::pickle::{self, TrialScores};
use crate::store::{RunFolder, Store, replace, write_json};
use crate::task::{self, Metric, Split, Task};

/// `run.json`: which runs a model name stands for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    /// Science hashes of the trials in order: folders below `runs`.
    trials: Vec<Digest>,
}

/// Finished trials in order.
pub(super) type Trials = [(RunConfig, RunReport)];

/// What a model left for its students.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Teacher {
    /// A run in the store.
    Run(Digest),
    /// A pickle of the reference: its digest, and where in the store it is.
    Pickle(Digest, String),
}

/// The first trial of a model, for use as a teacher of `task`: the run behind it, or, of a model that the reference itself
/// trained, its pickled predictions.
pub(super) fn first_trial(store: &Store, model: &str, task: &str) -> Result<Teacher, Failure> {
    let path = store.path(&format!("models/{model}/run.json"));
    match first_run_at(&path) {
        Ok(run) => Ok(Teacher::Run(run)),
        Err(failure) if failure.reason == ExitReason::MissingInput => {
            if let Some(pickle) = pickle_of(store, model, task)? {
                return Ok(pickle);
            }
            let command = format!("bam-trainer {model} BAM_DIR '{{\"task_names\": [\"{task}\"]}}'");
            let problem = format!("the teacher of {task} is not trained yet; run `{command}` first");
            Err(Failure::new(failure.reason, format!("teachers: {}: {problem}", path.display())))
        }
        Err(failure) => Err(Failure::new(failure.reason, format!("teachers: {}", failure.message))),
    }
}

/// The run behind the first trial of a model, by its `run.json`.
pub(crate) fn first_run_at(path: &Path) -> Result<Digest, Failure> {
    let bad = |problem: String| Failure::new(ExitReason::BadData, format!("{}: {problem}", path.display()));
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(ExitReason::MissingInput, format!("{}: this model is not trained yet", path.display()))
        }
        _ => Failure::store("read", path, &error),
    })?;
    let pointer: Pointer = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    pointer.trials.into_iter().next().ok_or_else(|| bad("it names no run; train the model again".to_owned()))
}

/// The predictions of the training rows of `task` that the reference pickled after a model's first trial.
fn pickle_of(store: &Store, model: &str, task: &str) -> Result<Option<Teacher>, Failure> {
    let place = format!("models/{model}/outputs/{}", predictions_name(task, Split::Train, 1));
    match digest::of_file(&store.path(&place)) {
        Ok(file) => Ok(Some(Teacher::Pickle(file.sha256, place))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::store("read", &store.path(&place), &error)),
    }
}

/// The reference's name for a trial's predictions.
fn predictions_name(task: &str, split: Split, trial: u32) -> String {
    format!("{task}_{}_predictions_{trial}.pkl", split.name())
}

/// A model's folder.
pub(super) struct ModelFolder {
    path: PathBuf,
}

impl ModelFolder {
    pub(super) fn create(store: &Store, model_name: &str) -> Result<Self, Failure> {
        let path = store.path(&format!("models/{model_name}"));
        for folder in ["outputs", "checkpoints"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(|error| Failure::store("create", &folder, &error))?;
        }
        Ok(Self { path })
    }

    /// Where a trial is written down, as far as the options want it.
    pub(super) fn journals(&self, options: &Options, trial: u32) -> Journals {
        Journals {
            trace: options.write_trace.then(|| self.path.join(format!("outputs/trace_{trial}.jsonl"))),
            tensorboard: options.write_tensorboard.then(|| self.path.join(format!("tensorboard/trial_{trial}"))),
        }
    }

    /// Writes the results of all finished trials, and the pickles of the last one.
    pub(super) fn write(&self, store: &Store, options: &Options, trials: &Trials) -> Result<(), Failure> {
        let pointer = Pointer { trials: trials.iter().map(|(config, _)| config.science_hash.clone()).collect() };
        write_json(&self.path.join("run.json"), &pointer)?;
        write_json(&self.path.join("results.json"), &Results::of(trials))?;
        replace(&self.path.join("results.txt"), results_text(trials).as_bytes())?;
        replace(&self.path.join("results.pkl"), &pickle::results(&scores(trials)))?;
        let trial = trials.len() as u32;
        let (config, _) = trials.last().expect("a trial was finished");
        let run = store.run(&config.science_hash);
        for name in &options.task_names {
            let Some(task) = &options.task(name) else { continue };
            if trial <= options.distill_outputs {
                self.predictions(&run, &layout::targets(name), task, Split::Train, trial)?;
            }
            for split in task.test_splits().filter(|_| trial <= options.test_outputs) {
                self.predictions(&run, &layout::predictions(name, split.name()), task, split, trial)?;
            }
        }
        Ok(())
    }

    fn predictions(&self, run: &RunFolder, from: &str, task: &Task, split: Split, trial: u32) -> Result<(), Failure> {
        let path = run.path(from);
        // A run that was whole already may have been trained without its test splits.
        if !path.exists() && split != Split::Train {
            warn(&format!(
                "{}: this run was finished without predictions of {split}; to have them, delete {} and give this command \
                 again, which trains it anew",
                path.display(),
                run.path("").display()
            ));
            return Ok(());
        }
        let targets = Targets::read(&path)?;
        let pickle = pickle::predictions(task, &targets.eids, &targets.logits);
        replace(&self.path.join("outputs").join(predictions_name(&task.name, split, trial)), &pickle)
    }
}

/// One line per trial and task: `rte: accuracy: 66.43 - loss: 0.62`.
pub(super) fn results_text(trials: &Trials) -> String {
    let line = |(task, metrics): &(String, Vec<(String, f64)>)| {
        let metrics: Vec<String> =
            metrics.iter().map(|(name, value)| format!("{name}: {}", two_places(*value))).collect();
        format!("{task}: {}\n", metrics.join(" - "))
    };
    scores(trials).iter().flatten().map(line).collect()
}

/// As Python writes it: an undefined metric is `nan`.
fn two_places(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{value:.2}") }
}

fn scores(trials: &Trials) -> Vec<TrialScores> {
    let of_trial = |(config, report): &(RunConfig, RunReport)| {
        report.results.iter().map(|result| (result.task.clone(), metrics(config, result))).collect()
    };
    trials.iter().map(of_trial).collect()
}

/// The reference's metrics in its order. It has no F1 of its tasks, which stands in `results.json`.
fn metrics(config: &RunConfig, result: &TaskResult) -> Vec<(String, f64)> {
    let identity = config.science.tasks.iter().find(|task| task.name == result.task);
    let task = identity.and_then(|identity| task::of(identity, config.execution.files.get(&identity.name)));
    let metrics = task.map(|task| task.metrics).unwrap_or_default();
    let is_known = |metric: &Metric| *metric != Metric::F1 || metrics.first() == Some(&Metric::F1);
    let names = metrics.iter().copied().filter(is_known).map(Metric::name).chain(["loss"]);
    names.map(|name| (name.to_owned(), result.metrics.get(name).copied().unwrap_or(f64::NAN))).collect()
}

#[cfg(test)]
mod tests {
    use super::two_places;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, text) in [(66.425, "66.42"), (0.0, "0.00"), (f64::NAN, "nan"), (-f64::NAN, "nan")] {
            assert_eq!(two_places(value), text);
        }
    }
}
