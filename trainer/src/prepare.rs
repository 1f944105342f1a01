//! Everything that can be wrong is found here, before the first step: inputs that are not what they were, bad rows,
//! weights that do not fit, teachers that lack a row. All problems come back at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bam_crds::config::{Fold, TaskIdentity};
use bam_crds::shares::shares;
use bam_crds::store::Artifact;
use bam_crds::{Digest, Execution, ExitReason, Hyperparameters, RunConfig, TaskFiles, nearest, store as layout};

use crate::base::Base;
use crate::data::batches::Schedule;
use crate::data::feature_cache::{FeatureCache, FeatureTable};
use crate::data::lessons::Lessons;
use crate::data::rows::{DEBUG_LINES, Row, read_split};
use crate::data::targets::{Targets, TargetsError};
use crate::digest;
use crate::failure::{Failure, Problems};
use crate::store::Store;
use crate::task::{self, Split, Task};

/// Rows with what the encoder gets of them.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The rows in the order of their file, swapped copies after them.
    pub rows: Vec<Row>,
    /// Their word pieces.
    pub features: FeatureTable,
}

/// A task, ready to be trained on.
#[derive(Debug)]
pub struct PreparedTask {
    /// The task.
    pub task: Task,
    /// Factor of its rows' losses.
    pub weight: f64,
    /// Its training rows, without those of the run's fold.
    pub train: Encoded,
    /// The rows of the run's fold, if it has one.
    pub held_out: Option<Encoded>,
    /// Its dev rows.
    pub dev: Encoded,
    /// Further rows to measure on, of splits whose files are there.
    pub further: Vec<(Split, Encoded)>,
    /// Its test splits, if they are to be predicted.
    pub tests: Vec<(Split, Encoded)>,
    /// The teachers' mean logits over `train`: [rows, outputs].
    pub targets: Option<Vec<f32>>,
}

impl PreparedTask {
    /// The rows that the run writes targets of.
    pub fn targeted(&self) -> &Encoded {
        self.held_out.as_ref().unwrap_or(&self.train)
    }

    /// Takes the rows of a fold out of the training rows.
    fn hold_out(&mut self, fold: Fold) {
        let rows = std::mem::take(&mut self.train.rows);
        let (held_out, train) = rows.into_iter().partition(|row| fold.has(row.line));
        self.train.rows = train;
        self.held_out = Some(Encoded { rows: held_out, ..Encoded::default() });
    }
}

/// A run, ready to start.
#[derive(Debug)]
pub struct Prepared {
    /// The tasks in the order of the configuration.
    pub tasks: Vec<PreparedTask>,
    /// The pretrained model.
    pub base: Base,
    /// Which rows each step learns from.
    pub schedule: Schedule,
    /// Digests of the teachers' files that were read: see [`bam_crds::Manifest::used_targets`].
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
    let folder = store.path(&layout::pretrained(&config.execution.pretrained));
    let base = Base::open(&folder, options, &mut problems);
    let base = base.filter(|base| base.is_still(&config.science.model, &mut problems));
    let mut tasks = Vec::new();
    for identity in &config.science.tasks {
        let reader = TaskReader { store, identity, files: config.execution.files.get(&identity.name), options };
        if let Some(mut prepared) = reader.rows(config.execution.write_test_outputs, &mut problems) {
            if let Some(fold) = config.science.fold {
                prepared.hold_out(fold);
                problems.take(enough_rows(&prepared, fold));
            }
            prepared.targets = reader.targets(&prepared, &config.execution, &mut used_targets, &mut problems);
            tasks.push(prepared);
        }
    }
    problems.check()?;
    let base = base.expect("without a model there was a problem");

    let cache = FeatureCache {
        folder: store.path(layout::FEATURES),
        tokenizer: &base.tokenizer,
        vocabulary: &config.science.model.vocabulary,
        max_seq_length: options.max_seq_length as usize,
        threads,
    };
    for prepared in &mut tasks {
        let encode = |encoded: &mut Encoded| encoded.features = cache.features(&encoded.rows);
        encode(&mut prepared.train);
        prepared.held_out.iter_mut().for_each(encode);
        encode(&mut prepared.dev);
        prepared.further.iter_mut().chain(&mut prepared.tests).for_each(|(_, encoded)| encode(encoded));
    }
    let schedule = schedule(&mut tasks, options, config.science.data_seed())?;
    Ok(Prepared { tasks, base, schedule, used_targets })
}

/// Rows of all steps together; their order lies in memory, four bytes each.
const MOST_ROWS: f64 = (1u64 << 30) as f64;

fn schedule(tasks: &mut [PreparedTask], options: &Hyperparameters, seed: u32) -> Result<Schedule, Failure> {
    let sizes: Vec<_> = tasks.iter().map(|task| (task.task.name.as_str(), task.train.rows.len())).collect();
    let shares = shares(&sizes, options.task_weight_exponent, options.dataset_multiples);
    let repeats: Vec<_> = sizes.iter().zip(&shares).map(|((_, rows), share)| (*rows, share.multiple)).collect();
    for (task, share) in tasks.iter_mut().zip(&shares) {
        task.weight = share.weight;
    }
    let batch = options.train_batch_size as usize;
    let places: f64 = repeats.iter().map(|(rows, multiple)| *rows as f64 * *multiple as f64).sum();
    let all = places.max(batch as f64) * options.num_train_epochs.max(1.0);
    if all > MOST_ROWS {
        let message =
            format!("{all:.0} rows are too many to train on: lower numTrainEpochs, or raise taskWeightExponent");
        return Err(Failure::new(ExitReason::BadConfig, message));
    }
    let schedule = Schedule::new(&repeats, batch, options.num_train_epochs, seed.into());
    if schedule.steps() == 0 {
        let message = format!(
            "numTrainEpochs is {}, which is less than one step of {batch} rows: raise it, or lower trainBatchSize",
            options.num_train_epochs
        );
        return Err(Failure::new(ExitReason::BadConfig, message));
    }
    Ok(schedule)
}

/// Is the file still what the inputs' check saw?
pub(crate) fn same(path: &Path, expected: Option<&Digest>) -> Result<(), Failure> {
    unchanged(path, digest::of_file(path), expected)
}

/// Is what was found at `path` still what the inputs' check saw?
pub(crate) fn unchanged(path: &Path, found: io::Result<Artifact>, expected: Option<&Digest>) -> Result<(), Failure> {
    let found = found.map_err(|error| missing_or_store(path, &error))?.sha256;
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

fn missing_or_store(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(ExitReason::MissingInput, format!("{}: the file is missing; put it there", path.display()))
        }
        _ => Failure::store("read", path, error),
    }
}

struct TaskReader<'a> {
    store: &'a Store,
    identity: &'a TaskIdentity,
    files: Option<&'a TaskFiles>,
    options: &'a Hyperparameters,
}

impl TaskReader<'_> {
    fn rows(&self, with_tests: bool, problems: &mut Problems) -> Option<PreparedTask> {
        let Some(task) = task::of(self.identity, self.files) else {
            problems.push(ExitReason::BadConfig, unknown_task(&self.identity.name));
            return None;
        };
        let train = self.unchanged(&task, Split::Train, problems);
        let dev = self.unchanged(&task, Split::Dev, problems);
        let further = further_splits(self.store, &task);
        let further: Vec<_> = further.into_iter().map(|split| (split, self.read(&task, split, problems))).collect();
        let further: Option<Vec<_>> = further.into_iter().map(|(split, encoded)| Some((split, encoded?))).collect();
        let tests: Vec<_> = if with_tests { task.test_splits().collect() } else { Vec::new() };
        let tests: Vec<_> = tests.into_iter().map(|split| (split, self.read(&task, split, problems))).collect();
        let tests: Option<Vec<_>> = tests.into_iter().map(|(split, encoded)| Some((split, encoded?))).collect();
        Some(PreparedTask {
            task,
            weight: 1.0,
            train: train?,
            held_out: None,
            dev: dev?,
            further: further?,
            tests: tests?,
            targets: None,
        })
    }

    fn unchanged(&self, task: &Task, split: Split, problems: &mut Problems) -> Option<Encoded> {
        let encoded = self.read(task, split, problems)?;
        let expected = if split == Split::Train { &self.identity.train } else { &self.identity.dev };
        problems.take(same(&data_file(self.store, task, split), Some(expected)))?;
        Some(encoded)
    }

    fn read(&self, task: &Task, split: Split, problems: &mut Problems) -> Option<Encoded> {
        let rows = read_rows(self.store, task, split, self.options);
        problems.take(rows).map(|rows| Encoded { rows, ..Encoded::default() })
    }

    /// The mean of the teachers' logits, row by row, of those that have the row.
    fn targets(
        &self,
        prepared: &PreparedTask,
        execution: &Execution,
        used: &mut BTreeMap<String, Digest>,
        problems: &mut Problems,
    ) -> Option<Vec<f32>> {
        let name = &self.identity.name;
        let runs = self.identity.teachers.iter().map(|run| {
            let teacher = teacher_targets(self.store, run, name)?;
            Ok((format!("{run}/{name}"), format!("run {}", run.short()), teacher))
        });
        let files = self.identity.target_files.iter().map(|expected| {
            let place = &execution.target_files[expected.as_str()];
            let teacher = filed_targets(&self.store.path(place), expected, &prepared.task)?;
            Ok((place.clone(), place.clone(), teacher))
        });
        let mut lessons = Lessons::new(&prepared.task, &prepared.train.rows);
        let mut learned = Vec::new();
        for teacher in runs.chain(files) {
            let lesson = teacher.and_then(|(key, called, Teacher { digest, targets, fold })| {
                used.insert(key, digest);
                // Not `changed`: it is whole, and training it again would give the same.
                let lesson = lessons.learn(&targets, fold, &called);
                lesson.map_err(|faults| Failure::new(ExitReason::BadData, faults.to_string()))
            });
            learned.push(problems.take(lesson).is_some());
        }
        // Whoever cannot be learned from may have had the rows that nobody has.
        if learned.is_empty() || learned.contains(&false) {
            return None;
        }
        let mean = lessons.mean().map_err(|faults| Failure::new(ExitReason::BadConfig, faults.to_string()));
        problems.take(mean)
    }
}

/// A fold without rows, or with all of them, makes no teacher.
fn enough_rows(prepared: &PreparedTask, fold: Fold) -> Result<(), Failure> {
    match prepared.train.rows.is_empty() || prepared.targeted().rows.is_empty() {
        false => Ok(()),
        true => {
            let rows = prepared.train.rows.len() + prepared.targeted().rows.len();
            let name = &prepared.task.name;
            let message = format!("{name} has {rows} training rows, too few for {} folds: lower outOfFold", fold.of);
            Err(Failure::new(ExitReason::BadConfig, message))
        }
    }
}

/// What a teacher left.
struct Teacher {
    digest: Digest,
    targets: Targets,
    /// The rows that they are about, if not all.
    fold: Option<Fold>,
}

/// The targets in a file that was named, if it is still what it was.
fn filed_targets(path: &Path, expected: &Digest, task: &Task) -> Result<Teacher, Failure> {
    let (digest, targets) = Targets::read_file(path, task)?;
    match digest == *expected {
        true => Ok(Teacher { digest, targets, fold: None }),
        false => {
            let message =
                format!("{}: the file changed since it was looked at; start again with it as it is", path.display());
            Err(Failure::new(ExitReason::BadData, message))
        }
    }
}

/// The targets of a teacher, if its manifest is there and they are what it says.
fn teacher_targets(store: &Store, teacher: &Digest, task: &str) -> Result<Teacher, Failure> {
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
        let advice = "name a teacher that learned this task";
        let message = format!("{}: the teacher was not trained on {task}; {advice}", path.display());
        return Err(Failure::new(ExitReason::BadConfig, message));
    };
    folder.bring(&name)?;
    match digest::of_file(&path) {
        Ok(found) if found == *expected => {}
        Ok(_) => {
            return Err(changed(format!("{}: not what the teacher's manifest says; train it again", path.display())));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(missing(format!("{}: the teacher's targets are gone; train it again", path.display())));
        }
        Err(error) => return Err(Failure::store("read the targets", &path, &error)),
    }
    let targets = Targets::read(&path).map_err(|error| match error.may_pass() {
        true => Failure::from(error),
        false => changed(error.to_string()),
    })?;
    Ok(Teacher { digest: expected.sha256.clone(), targets, fold: manifest.science.fold })
}

/// Rows of a split, as the options want them.
pub(crate) fn read_rows(
    store: &Store,
    task: &Task,
    split: Split,
    options: &Hyperparameters,
) -> Result<Vec<Row>, Failure> {
    let folder = store.path(&task.folder);
    let lines = options.debug.then_some(DEBUG_LINES);
    Ok(read_split(task, &folder, split, options.double_unordered, lines)?)
}

/// The splits that are measured on beside the dev split, as far as their files are there. They are not part of what a run
/// is: nothing that it learns depends on them.
pub(crate) fn further_splits(store: &Store, task: &Task) -> Vec<Split> {
    task.further_splits().filter(|split| data_file(store, task, *split).exists()).collect()
}

/// The file of a split.
pub(crate) fn data_file(store: &Store, task: &Task, split: Split) -> PathBuf {
    store.path(&task.path(split))
}

pub(crate) fn unknown_task(name: &str) -> String {
    let nearest = nearest(name, task::names()).map(|nearest| format!("; did you mean {nearest}?"));
    format!("there is no task {name:?}{} The tasks are {}", nearest.unwrap_or(".".into()), task::names().join(", "))
}

impl From<TargetsError> for Failure {
    fn from(error: TargetsError) -> Self {
        let reason = match (error.is_missing_input(), error.may_pass()) {
            (true, _) => ExitReason::MissingInput,
            (_, true) => ExitReason::StoreUnavailable,
            _ => ExitReason::BadData,
        };
        Self::new(reason, error.to_string())
    }
}
