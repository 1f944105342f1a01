//! The check of an experiment's inputs: every row of every file, vocabulary, weights; and their digests.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bam_crds::config::{InputsReport, ModelIdentity, TaskInputs};
use bam_crds::report::Stage;
use bam_crds::store::{self as layout, Artifact};
use bam_crds::{Digest, ExitReason, Hyperparameters, InputsConfig};

use crate::base::Base;
use crate::data::rows::Row;
use crate::data::targets::Targets;
use crate::digest;
use crate::failure::{Failure, Problems};
use crate::fetch;
use crate::needs;
use crate::prepare::{data_file, further_splits, read_rows, unknown_task};
use crate::report::Reporter;
use crate::store::Store;
use crate::task::{self, Split, Task};

/// Reads everything and reports the identities that runs are made of. What is to be fetched is there then.
///
/// # Errors
/// All problems at once.
pub fn check(config: &InputsConfig, reporter: &Reporter) -> Result<InputsReport, Failure> {
    match config.problems() {
        problems if problems.is_empty() => {}
        problems => return Err(Failure::new(ExitReason::BadConfig, problems.join("\n"))),
    }
    let store = Store::of(&config.execution)?;
    needs::bring(&needs::of_check(config), &store, reporter)?;
    if let Some(wanted) = &config.fetch {
        fetch::inputs(config, wanted, reporter)?;
    }
    read(config, &store, reporter).map_err(|failure| store.in_its_words(failure))
}

fn read(config: &InputsConfig, store: &Store, reporter: &Reporter) -> Result<InputsReport, Failure> {
    let options =
        Hyperparameters { max_seq_length: config.max_seq_length, debug: config.debug, ..Hyperparameters::default() };
    let mut problems = Problems::default();
    reporter.stage(Stage::Preparing, 0, config.tasks.len() as u64 + 1);
    let model = model(config, &options, store, &mut problems);
    let mut tasks = BTreeMap::new();
    for (done, name) in config.tasks.iter().enumerate() {
        reporter.advance(done as u64 + 1, 0);
        let Some(task) = task::one(name, config.custom.get(name), config.execution.files.get(name)) else {
            problems.push(ExitReason::BadConfig, unknown_task(name));
            continue;
        };
        let targets = config.targets.get(name);
        let check = TaskCheck { store, options: &options, targets };
        if let Some(inputs) = check.task(&task, config.execution.write_test_outputs, &mut problems) {
            tasks.insert(name.clone(), inputs);
        }
    }
    problems.check()?;
    let model = model.expect("without a model there was a problem");
    reporter.advance(config.tasks.len() as u64 + 1, 0);
    Ok(InputsReport { model, tasks })
}

fn model(
    config: &InputsConfig,
    options: &Hyperparameters,
    store: &Store,
    problems: &mut Problems,
) -> Option<ModelIdentity> {
    let folder = store.path(&layout::pretrained(&config.execution.pretrained));
    let Base { pretrained, .. } = Base::open(&folder, options, problems)?;
    Some(ModelIdentity {
        config: problems.take(content(&pretrained.configuration))?,
        vocabulary: problems.take(content(&pretrained.vocabulary))?,
        weights: match &pretrained.weights {
            Some(weights) => Some(problems.take(known(&weights.path(), weights.digest()))?),
            None => None,
        },
    })
}

fn content(path: &Path) -> Result<Digest, Failure> {
    known(path, digest::of_file(path))
}

fn known(path: &Path, content: io::Result<Artifact>) -> Result<Digest, Failure> {
    content.map(|content| content.sha256).map_err(|error| Failure::store("read", path, &error))
}

struct TaskCheck<'a> {
    store: &'a Store,
    options: &'a Hyperparameters,
    targets: Option<&'a Vec<String>>,
}

impl TaskCheck<'_> {
    fn task(&self, task: &Task, with_tests: bool, problems: &mut Problems) -> Option<TaskInputs> {
        let train = self.split(task, Split::Train, problems);
        let dev = self.split(task, Split::Dev, problems);
        for split in further_splits(self.store, task) {
            let _ = problems.take(self.rows(task, split));
        }
        if with_tests {
            task.test_splits().for_each(|split| drop(problems.take(self.rows(task, split))));
        }
        let targets = self
            .targets
            .into_iter()
            .flatten()
            .map(|file| Some((file.clone(), problems.take(self.targets(task, file))?)));
        let targets = targets.collect::<Vec<_>>().into_iter().collect::<Option<BTreeMap<_, _>>>();
        let ((train, train_rows), (dev, dev_rows)) = (train?, dev?);
        Some(TaskInputs { train, train_rows, unordered: task.unordered, dev, dev_rows, targets: targets? })
    }

    /// Digest of a file that the task is to learn from. Its rows are compared when they are learned from.
    fn targets(&self, task: &Task, file: &str) -> Result<Digest, Failure> {
        let path = self.store.path(file);
        let (digest, targets) = Targets::read_file(&path, task)?;
        match targets.task == task.name {
            true => Ok(digest),
            false => {
                let (path, of, name) = (path.display(), &targets.task, &task.name);
                let message = format!("{path}: these are targets of the task {of}, not of {name}");
                Err(Failure::new(ExitReason::BadData, message))
            }
        }
    }

    /// Digest and number of rows.
    fn split(&self, task: &Task, split: Split, problems: &mut Problems) -> Option<(Digest, u32)> {
        let rows = problems.take(self.rows(task, split))?;
        let digest = problems.take(content(&data_file(self.store, task, split)))?;
        Some((digest, rows.len() as u32))
    }

    fn rows(&self, task: &Task, split: Split) -> Result<Vec<Row>, Failure> {
        let options = Hyperparameters { double_unordered: false, ..self.options.clone() };
        read_rows(self.store, task, split, &options)
    }
}
