//! Everything that can be wrong is found here, before the first step: inputs that are not what they were, bad rows,
//! weights that do not fit, teachers that lack a row. All problems come back at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bam_crds::config::TaskIdentity;
use bam_crds::shares::shares;
use bam_crds::{Digest, ExitReason, Hyperparameters, RunConfig, nearest, store as layout};

use crate::data::align::align;
use crate::data::batches::Schedule;
use crate::data::features::{Features, featurise};
use crate::data::targets::{Targets, TargetsError};
use crate::data::tokenize::{Tokenizer, VocabError};
use crate::data::tsv::{DEBUG_LINES, Row, read_split};
use crate::digest;
use crate::failure::{Failure, Problems};
use crate::model::{Pretrained, WeightsError};
use crate::store::Store;
use crate::task::{self, Split, Task};

/// Rows with what the encoder gets of them.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The rows in the order of their file, swapped copies after them.
    pub rows: Vec<Row>,
    /// Their word pieces.
    pub features: Vec<Features>,
}

/// A task, ready to be trained on.
#[derive(Debug)]
pub struct PreparedTask {
    /// The task.
    pub task: &'static Task,
    /// Factor of its rows' losses.
    pub weight: f64,
    /// Its training rows.
    pub train: Encoded,
    /// Its dev rows.
    pub dev: Encoded,
    /// Its test splits, if they are to be predicted.
    pub tests: Vec<(Split, Encoded)>,
    /// The teachers' mean logits over `train`: [rows, outputs].
    pub targets: Option<Vec<f32>>,
}

/// A run, ready to start.
#[derive(Debug)]
pub struct Prepared {
    /// The tasks in the order of the configuration.
    pub tasks: Vec<PreparedTask>,
    /// Where the pretrained model is; its configuration is that of the model to train (smaller in debug mode).
    pub pretrained: Pretrained,
    /// Layers that the learning rate's decay counts: those of the configuration file, also in debug mode.
    pub layers: usize,
    /// Word pieces in the vocabulary.
    pub vocabulary: usize,
    /// Which rows each step learns from.
    pub schedule: Schedule,
    /// Digests of the teachers' files that were read, by `<science hash>/<task>`.
    pub used_targets: BTreeMap<String, Digest>,
}

/// Reads and checks all that a run learns from. `threads` turn text into word pieces.
///
/// # Errors
/// All problems at once.
pub fn prepare(config: &RunConfig, store: &Store, threads: usize) -> Result<Prepared, Failure> {
    let mut problems = Problems::default();
    let mut used_targets = BTreeMap::new();
    let options = &config.science.hyperparameters;
    let model = model(config, store, &mut problems);
    let mut tasks = Vec::new();
    for identity in &config.science.tasks {
        let reader = TaskReader { store, identity, options };
        if let Some(mut prepared) = reader.rows(config.execution.write_test_outputs, &mut problems) {
            prepared.targets = reader.targets(&prepared, &mut used_targets, &mut problems);
            tasks.push(prepared);
        }
    }
    problems.check()?;
    let (pretrained, layers, tokenizer) = model.expect("without a model there was a problem");

    for prepared in &mut tasks {
        let length = options.max_seq_length as usize;
        let encode = |encoded: &mut Encoded| {
            encoded.features = featurise(&tokenizer, &encoded.rows, length, threads, None);
        };
        encode(&mut prepared.train);
        encode(&mut prepared.dev);
        prepared.tests.iter_mut().for_each(|(_, encoded)| encode(encoded));
    }
    let schedule = schedule(&mut tasks, options, config.science.seed);
    Ok(Prepared { tasks, pretrained, layers, vocabulary: tokenizer.vocab_size(), schedule, used_targets })
}

fn schedule(tasks: &mut [PreparedTask], options: &Hyperparameters, seed: u32) -> Schedule {
    let sizes: Vec<_> = tasks.iter().map(|task| (task.task.name.as_str(), task.train.rows.len())).collect();
    let shares = shares(&sizes, options.task_weight_exponent, options.dataset_multiples);
    let repeats: Vec<_> = sizes.iter().zip(&shares).map(|((_, rows), share)| (*rows, share.multiple)).collect();
    for (task, share) in tasks.iter_mut().zip(&shares) {
        task.weight = share.weight;
    }
    Schedule::new(&repeats, options.train_batch_size as usize, options.num_train_epochs, seed.into())
}

/// The pretrained model's files, its layers, and its tokenizer.
fn model(config: &RunConfig, store: &Store, problems: &mut Problems) -> Option<(Pretrained, usize, Tokenizer)> {
    let folder = store.path(&layout::pretrained(&config.execution.pretrained));
    let options = &config.science.hyperparameters;
    let (pretrained, tokenizer) = open_model(&folder, options, problems)?;
    let expected = &config.science.model;
    let unchanged = [
        same(&pretrained.configuration, Some(&expected.config)),
        same(&pretrained.vocabulary, Some(&expected.vocabulary)),
        pretrained.weights.as_ref().map_or(Ok(()), |weights| same(weights, expected.weights.as_ref())),
    ];
    let unchanged = unchanged.map(|result| problems.take(result).is_some());
    if unchanged.contains(&false) {
        return None;
    }
    let layers = pretrained.config.num_hidden_layers;
    let pretrained = match options.debug {
        true => Pretrained { config: pretrained.config.debug(), ..pretrained },
        false => pretrained,
    };
    Some((pretrained, layers, tokenizer))
}

/// Finds a pretrained model and checks what can be checked without reading its weights.
pub(crate) fn open_model(
    folder: &Path,
    options: &Hyperparameters,
    problems: &mut Problems,
) -> Option<(Pretrained, Tokenizer)> {
    let pretrained = problems.take(Pretrained::find(folder, !options.debug))?;
    for problem in pretrained.config.validate() {
        problems.push(ExitReason::BadData, format!("{}: {problem}", pretrained.configuration.display()));
    }
    if let Some(problem) = pretrained.config.length_problem(options.max_seq_length.into()) {
        problems.push(ExitReason::BadConfig, problem);
    }
    let tokenizer = problems.take(Tokenizer::from_vocab(&pretrained.vocabulary, options.do_lower_case))?;
    if (pretrained.config.vocab_size as usize) < tokenizer.vocab_size() {
        problems.push(
            ExitReason::BadData,
            format!(
                "{}: the vocabulary has {} word pieces, but the model embeds {}: take the vocab.txt that belongs to these \
                 weights",
                pretrained.vocabulary.display(),
                tokenizer.vocab_size(),
                pretrained.config.vocab_size
            ),
        );
    }
    Some((pretrained, tokenizer))
}

/// Is the file still what the inputs' check saw?
fn same(path: &Path, expected: Option<&Digest>) -> Result<(), Failure> {
    let found = digest::of_file(path).map_err(|error| missing_or_store(path, &error))?.sha256;
    match expected {
        Some(expected) if found == *expected => Ok(()),
        _ => Err(Failure::new(
            ExitReason::BadData,
            format!(
                "{}: the file changed since the inputs were checked (SHA-256 is {found}, expected {}); put it back, or \
                 start the experiment again so that it is checked anew",
                path.display(),
                expected.map_or("none", Digest::as_str)
            ),
        )),
    }
}

fn missing_or_store(path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(ExitReason::MissingInput, format!("{}: the file is missing; put it there", path.display()))
        }
        _ => Failure::store("read", path, error),
    }
}

struct TaskReader<'a> {
    store: &'a Store,
    identity: &'a TaskIdentity,
    options: &'a Hyperparameters,
}

impl TaskReader<'_> {
    fn rows(&self, with_tests: bool, problems: &mut Problems) -> Option<PreparedTask> {
        let name = &self.identity.name;
        let Some(task) = task::find(name) else {
            problems.push(ExitReason::BadConfig, unknown_task(name));
            return None;
        };
        let train = self.unchanged(task, Split::Train, problems);
        let dev = self.unchanged(task, Split::Dev, problems);
        let tests: Vec<_> = if with_tests { task.test_splits().collect() } else { Vec::new() };
        let tests: Vec<_> = tests.into_iter().map(|split| (split, self.read(task, split, problems))).collect();
        let tests: Option<Vec<_>> = tests.into_iter().map(|(split, encoded)| Some((split, encoded?))).collect();
        Some(PreparedTask { task, weight: 1.0, train: train?, dev: dev?, tests: tests?, targets: None })
    }

    fn unchanged(&self, task: &Task, split: Split, problems: &mut Problems) -> Option<Encoded> {
        let encoded = self.read(task, split, problems)?;
        let expected = if split == Split::Train { &self.identity.train } else { &self.identity.dev };
        problems.take(same(&data_file(self.store, task, split)?, Some(expected)))?;
        Some(encoded)
    }

    fn read(&self, task: &Task, split: Split, problems: &mut Problems) -> Option<Encoded> {
        let rows = read_rows(self.store, task, split, self.options);
        problems.take(rows).map(|rows| Encoded { rows, features: Vec::new() })
    }

    /// The mean of the teachers' logits, row by row.
    fn targets(
        &self,
        prepared: &PreparedTask,
        used: &mut BTreeMap<String, Digest>,
        problems: &mut Problems,
    ) -> Option<Vec<f32>> {
        let name = &self.identity.name;
        let mut sum: Option<Vec<f32>> = None;
        for teacher in &self.identity.teachers {
            let (digest, targets) = problems.take(teacher_targets(self.store, teacher, name))?;
            used.insert(format!("{teacher}/{name}"), digest);
            let aligned = align(&targets, prepared.task, &prepared.train.rows, &format!("run {}", teacher.short()));
            // Not `changed`: it is whole, and training it again would give the same.
            let aligned = aligned.map_err(|faults| Failure::new(ExitReason::BadData, faults.to_string()));
            let aligned = problems.take(aligned)?;
            match &mut sum {
                None => sum = Some(aligned),
                Some(sum) => sum.iter_mut().zip(aligned).for_each(|(sum, logit)| *sum += logit),
            }
        }
        let mut mean = sum?;
        let teachers = self.identity.teachers.len() as f32;
        mean.iter_mut().for_each(|logit| *logit /= teachers);
        Some(mean)
    }
}

/// The targets of a teacher, if its manifest is there and they are what it says.
fn teacher_targets(store: &Store, teacher: &Digest, task: &str) -> Result<(Digest, Targets), Failure> {
    let folder = store.run(teacher);
    let missing =
        |what: String| Failure { missing: vec![teacher.clone()], ..Failure::new(ExitReason::MissingInput, what) };
    let changed = |what: String| Failure { changed: vec![teacher.clone()], ..Failure::new(ExitReason::BadData, what) };
    let manifest = match folder.manifest() {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let path = store.path(&layout::manifest(teacher));
            return Err(missing(format!(
                "{}: the teacher of {task} is not in the store; train it first",
                path.display()
            )));
        }
        Err(failure) if failure.reason == ExitReason::BadData => return Err(changed(failure.message)),
        Err(failure) => return Err(failure),
    };
    let name = layout::targets(task);
    let path = folder.path(&name);
    let Some(expected) = manifest.files.get(&name) else {
        return Err(changed(format!("{}: the teacher was not trained on {task}", path.display())));
    };
    match digest::of_file(&path) {
        Ok(found) if found == *expected => {}
        Ok(_) => {
            return Err(changed(format!("{}: not what the teacher's manifest says; train it again", path.display())));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(missing(format!("{}: the teacher's targets are gone; train it again", path.display())));
        }
        Err(error) => return Err(Failure::store("read the targets", &path, &error)),
    }
    let targets = Targets::read(&path).map_err(|error| changed(error.to_string()))?;
    Ok((expected.sha256.clone(), targets))
}

/// Rows of a split, as the options want them.
pub(crate) fn read_rows(
    store: &Store,
    task: &Task,
    split: Split,
    options: &Hyperparameters,
) -> Result<Vec<Row>, Failure> {
    let folder = store.path(&layout::glue_data(&task.name));
    let lines = options.debug.then_some(DEBUG_LINES);
    Ok(read_split(task, &folder, split, options.double_unordered, lines)?)
}

/// The file of a split, if the task has that split.
pub(crate) fn data_file(store: &Store, task: &Task, split: Split) -> Option<PathBuf> {
    let folder = store.path(&layout::glue_data(&task.name));
    task.layout(split).map(|layout| folder.join(&layout.file))
}

pub(crate) fn unknown_task(name: &str) -> String {
    let nearest = nearest(name, task::names()).map(|nearest| format!("; did you mean {nearest}?"));
    format!("there is no task {name:?}{} The tasks are {}", nearest.unwrap_or(".".into()), task::names().join(", "))
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        let reason = match error {
            WeightsError::Incomplete { .. } => ExitReason::MissingInput,
            WeightsError::Write(_) => ExitReason::StoreUnavailable,
            _ => ExitReason::BadData,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<VocabError> for Failure {
    fn from(error: VocabError) -> Self {
        let reason = if error.is_missing_input() { ExitReason::MissingInput } else { ExitReason::BadData };
        Self::new(reason, error.to_string())
    }
}

impl From<TargetsError> for Failure {
    fn from(error: TargetsError) -> Self {
        let reason = if error.is_missing_input() { ExitReason::MissingInput } else { ExitReason::BadData };
        Self::new(reason, error.to_string())
    }
}
