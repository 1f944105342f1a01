//! The optimizer steps of a run, from the newest checkpoint to the last step.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bam_crds::config::Distillation;
use bam_crds::report::Stage;
use bam_crds::store::CHECKPOINTS;
use bam_crds::{ExitReason, RunConfig};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::checkpoint::{self, CheckpointError};
use crate::data::batches::Example;
use crate::data::micro::cut;
use crate::distill::{Teacher, classification_losses, lambda, regression_losses, weighted_sum};
use crate::evaluate::gold;
use crate::failure::{Failure, Steps};
use crate::interrupt::Interrupt;
use crate::journal::{Journal, Journals, StepRecord};
use crate::losses::{Losses, Part};
use crate::model::{self, Dropout, Head, HeadOutput, MicroBatch, Model};
use crate::optim::{AdamWeightDecay, CLIP_NORM, Gradients, LearningRates, Outcome, Settings};
use crate::prepare::{Prepared, PreparedTask};
use crate::report::Reporter;
use crate::store::RunFolder;
use crate::tensorboard::EventFile;
use crate::trace::{Subject, Trace};

/// Rows of a step that a message names.
const ROWS_SHOWN: usize = 20;
/// A checkpoint may cost this share of the time…
const SHARE: u32 = 50;
/// … and comes no more often than this.
const SELDOM: Duration = Duration::from_secs(20);

/// A run on its way.
#[derive(Debug)]
pub struct Trainer<'a> {
    /// What to learn.
    pub config: &'a RunConfig,
    /// Learned from.
    pub prepared: &'a Prepared,
    /// Where tensors live.
    pub device: Device,
    /// Word pieces of a micro-batch.
    pub limit: usize,
    /// The run's folder, with the checkpoints of all attempts.
    pub folder: &'a RunFolder,
    /// Name of this attempt: its folder in there.
    pub attempt: &'a str,
    /// Hears of progress.
    pub reporter: &'a Reporter,
    /// Looked at between micro-batches.
    pub interrupt: &'a Interrupt,
    /// Where every step is written down.
    pub journals: &'a Journals,
}

/// A trained model.
#[derive(Debug)]
pub struct Trained {
    /// The model after the last step.
    pub model: Model,
    /// All of them are done and safe.
    pub steps: Steps,
    /// The steps are in it.
    pub journal: Journal,
}

struct State {
    model: Model,
    optimizer: AdamWeightDecay,
    step: u64,
    steps: Steps,
}

impl Trainer<'_> {
    /// Trains to the last step.
    ///
    /// # Errors
    /// `Checkpointed` after a signal, `Diverged` if too many gradients are not finite, `StoreUnavailable`, or bad weights.
    pub fn train(&self) -> Result<Trained, Failure> {
        let mut state = self.resume()?;
        self.reporter.steps(state.steps);
        let mut journal = self.journal(&state)?;
        let heeding = self.interrupt.heed();
        self.train_from(&mut state, &mut journal)?;
        drop(heeding);
        Ok(Trained { model: state.model, steps: state.steps, journal })
    }

    fn train_from(&self, state: &mut State, journal: &mut Journal) -> Result<(), Failure> {
        let rates = self.rates();
        let mut cadence = Cadence::new(self.config.execution.save_checkpoints_steps);
        self.reporter.stage(Stage::Training, state.step, self.total());
        while state.step < self.total() {
            let Some(record) = self.step(state, rates.at(state.step))? else {
                self.save(state, journal)?;
                return Err(state.steps.stopped());
            };
            state.step += 1;
            self.reporter.stepped(&record);
            journal.step(&record)?;
            if record.is_skipped() {
                self.skipped(state, &record)?;
            }
            if cadence.is_due(state.step) || state.step == self.total() {
                cadence.measure(|| self.save(state, journal))?;
            }
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.prepared.schedule.steps() as u64
    }

    fn rates(&self) -> LearningRates {
        let options = &self.config.science.hyperparameters;
        LearningRates::new(self.total(), options.warmup_proportion, options.learning_rate)
    }

    /// The state of the newest checkpoint that was trained on the same targets, or a fresh one.
    fn resume(&self) -> Result<State, Failure> {
        let mut state = self.fresh()?;
        let search = self.folder.latest_checkpoint(&self.basis())?;
        for warning in &search.warnings {
            self.reporter.note(&format!("warning: {warning}"));
        }
        if let Some(found) = search.found {
            found.restore(&mut state.model, &mut state.optimizer)?;
            state.step = found.step;
            let skipped = state.optimizer.skipped().total;
            state.steps = Steps { saved: found.step, resumed_from: found.step, skipped, ..state.steps };
        }
        Ok(state)
    }

    /// The journals that are wanted, for the steps that are to be done.
    fn journal(&self, state: &State) -> Result<Journal, Failure> {
        let subject = Subject { config: self.config, prepared: self.prepared, model: &state.model };
        let trace = |path: &PathBuf| match state.step {
            0 => Trace::begin(path, subject),
            step => Trace::resume(path, step, subject),
        };
        let events = |folder: &PathBuf| EventFile::create(folder, state.step);
        Ok(Journal {
            trace: self.journals.trace.as_ref().map(trace).transpose()?,
            events: self.journals.tensorboard.as_ref().map(events).transpose()?,
        })
    }

    fn fresh(&self) -> Result<State, Failure> {
        let options = &self.config.science.hyperparameters;
        let seed = self.config.science.init_seed().into();
        let from = (seed, self.prepared.base.tokenizer.vocab_size());
        let (model, loaded) =
            Model::pretrained(&self.prepared.base.pretrained, heads(self.prepared), from, self.device)?;
        for warning in loaded.warnings {
            self.reporter.note(&format!("warning: {warning}"));
        }
        let settings = Settings {
            weight_decay_rate: options.weight_decay_rate,
            lr_decay: options.lr_decay,
            layers: self.prepared.base.layers,
            clip_norm: CLIP_NORM,
        };
        let model = model.with_precision(self.config.science.precision);
        let model = model.with_activation_checkpointing(self.config.execution.activation_checkpointing);
        let optimizer = AdamWeightDecay::new(model.parameters(), settings);
        Ok(State { model, optimizer, step: 0, steps: Steps { total: self.total(), ..Steps::default() } })
    }

    /// What a checkpoint must have been trained on to be of use.
    fn basis(&self) -> Value {
        json!({ "scienceHash": self.config.science_hash, "usedTargets": self.prepared.used_targets })
    }

    fn save(&self, state: &mut State, journal: &mut Journal) -> Result<(), Failure> {
        let folder = self.folder.path(CHECKPOINTS).join(self.attempt);
        if state.steps.saved == state.step {
            return Ok(());
        }
        journal.save()?;
        let begin = Instant::now();
        checkpoint::save(&folder, state.step, &state.model, &state.optimizer, &self.basis())?;
        self.folder.keep_checkpoint(self.attempt, state.step)?;
        self.reporter.checkpoint(begin.elapsed());
        state.steps.saved = state.step;
        self.reporter.steps(state.steps);
        // The new one is safe, and old ones are no reason to stop.
        if let Err(error) = self.folder.prune_checkpoints(self.attempt, state.step) {
            self.reporter.note(&format!("warning: {error}"));
        }
        Ok(())
    }

    /// One optimizer step. Returns what it was, or nothing if the process was asked to end: a step of a large batch takes
    /// longer than anybody waits, and one that is given up changes nothing.
    fn step(&self, state: &mut State, learning_rate: f64) -> Result<Option<StepRecord<'_>>, Failure> {
        let begin = Instant::now();
        let examples: Vec<Example> = self.prepared.schedule.step(state.step as usize).collect();
        let lambda = self.lambda(state.step);
        let step = Step {
            tasks: &self.prepared.tasks,
            examples: &examples,
            lambda,
            temperature: self.config.science.distillation.temperature,
            dropout: Dropout::of_step(self.config.science.dropout_seed().into(), state.step, self.device),
            device: self.device,
            waited: Cell::default(),
        };
        let lengths = step.lengths();
        let cut = cut(&lengths, self.limit);
        step.waited.set(begin.elapsed());
        let mut gradients = Gradients::new(state.model.parameters().len());
        let mut losses = Losses::default();
        for rows in cut {
            if self.interrupt.is_set() {
                return Ok(None);
            }
            let (new, part) = step.learn(&state.model, &rows);
            gradients.add(new);
            losses.add(&part);
        }
        let (waited, dropout_seed) = (step.waited.get(), step.dropout.key());
        let norm = match state.optimizer.step(state.model.parameters_mut(), gradients, learning_rate) {
            Outcome::Stepped { norm } => norm,
            Outcome::NonFinite => f64::NAN,
        };
        let losses = losses.read(self.prepared.tasks.len());
        Ok(Some(StepRecord {
            step: state.step,
            examples,
            loss: losses.sum,
            task_losses: losses.means(&self.prepared.tasks),
            norm,
            learning_rate,
            lambda,
            dropout_seed,
            tokens: lengths.into_iter().flatten().sum::<usize>() as u64,
            took: begin.elapsed(),
            waited,
        }))
    }

    fn lambda(&self, step: u64) -> f64 {
        let Distillation { annealing, weight, .. } = self.config.science.distillation;
        lambda(step, self.total(), annealing, weight)
    }

    /// Tells of a step that was skipped, with all its rows: who looks for the one that is to blame needs them.
    ///
    /// # Errors
    /// If there were too many such steps.
    fn skipped(&self, state: &mut State, record: &StepRecord<'_>) -> Result<(), Failure> {
        let skipped = state.optimizer.skipped();
        state.steps.skipped = skipped.total;
        self.reporter.steps(state.steps);
        let rows: Vec<String> = record.examples.iter().filter_map(|example| self.name(example)).collect();
        let losses =
            record.task_losses.iter().map(|(task, loss)| format!("{task} {loss}")).collect::<Vec<_>>().join(", ");
        let what = format!("a gradient of step {} is not finite (mean losses: {losses})", record.step);
        let all = rows.join(" ");
        self.reporter.note(&format!("warning: {what}, so the step is skipped. Its rows (task/eid): {all}"));
        if !skipped.is_too_much() {
            return Ok(());
        }
        let shown = rows[..rows.len().min(ROWS_SHOWN)].join(" ");
        let more = match rows.len().saturating_sub(ROWS_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more, which the log has"),
        };
        let message = format!(
            "{what}. It was not applied, like those of {} steps before it, and that is too much. Try a lower learningRate. \
             Rows of the step (task/eid): {shown}{more}",
            skipped.total - 1
        );
        Err(Failure::new(ExitReason::Diverged, message))
    }

    /// Task and example id.
    fn name(&self, example: &Example) -> Option<String> {
        match example {
            Example::Row { task, row } => {
                let task = &self.prepared.tasks[usize::from(*task)];
                Some(format!("{}/{}", task.task.name, task.train.rows[*row as usize].eid))
            }
            Example::Padding => None,
        }
    }
}

/// One head per task, in the order of the tasks.
pub(crate) fn heads(prepared: &Prepared) -> Vec<Head> {
    let head = |task: &PreparedTask| Head { task: task.task.name.clone(), outputs: task.task.outputs() as i64 };
    prepared.tasks.iter().map(head).collect()
}

/// The rows of one optimizer step.
struct Step<'a> {
    tasks: &'a [PreparedTask],
    examples: &'a [Example],
    lambda: f64,
    temperature: f64,
    dropout: Dropout,
    device: Device,
    /// Time that went into the rows.
    waited: Cell<Duration>,
}

impl Step<'_> {
    fn at(&self, position: usize) -> Option<(usize, usize)> {
        match self.examples[position] {
            Example::Row { task, row } => Some((usize::from(task), row as usize)),
            Example::Padding => None,
        }
    }

    /// Word pieces of each example; none for padding, which contributes nothing.
    fn lengths(&self) -> Vec<Option<usize>> {
        let length = |position| self.at(position).map(|(task, row)| self.tasks[task].train.features.length(row));
        (0..self.examples.len()).map(length).collect()
    }

    /// The gradients and the losses of the rows at these positions.
    fn learn(&self, model: &Model, positions: &[usize]) -> (Vec<Tensor>, Part) {
        let begin = Instant::now();
        let places: Vec<(usize, usize)> = positions.iter().filter_map(|&position| self.at(position)).collect();
        let row = |(&position, &(task, row)): (&usize, &(usize, usize))| {
            let features = self.tasks[task].train.features.row(row);
            // Dropout is keyed by the position in the step, which no cut into micro-batches changes.
            model::Row { number: position as u64, input_ids: features.ids, second: features.second.into() }
        };
        let rows: Vec<_> = positions.iter().zip(&places).map(row).collect();
        let batch = MicroBatch::pack(&rows, self.device);
        self.waited.set(self.waited.get() + begin.elapsed());
        let head_of_row: Vec<usize> = places.iter().map(|(task, _)| *task).collect();
        model.gradients(&batch, &head_of_row, &self.dropout, |said| {
            let losses = said.into_iter().map(|said| {
                let rows: Vec<usize> = said.positions.iter().map(|&position| places[position].1).collect();
                (said.head, rows.len(), self.task_loss(&said, &rows))
            });
            let tasks: Vec<_> = losses.collect();
            let sums = tasks.iter().map(|(_, _, sum)| sum.shallow_clone());
            let sum = sums.reduce(|sum, loss| sum + loss).expect("a micro-batch has rows");
            (sum.shallow_clone(), Part { sum, tasks })
        })
    }

    /// Weighted sum of the losses of one task's rows.
    fn task_loss(&self, said: &HeadOutput, rows: &[usize]) -> Tensor {
        let prepared = &self.tasks[said.head];
        let task = &prepared.task;
        let gold = gold(task, &rows.iter().map(|&row| &prepared.train.rows[row]).collect::<Vec<_>>(), self.device);
        let targets = prepared.targets.as_ref().map(|targets| self.targets(targets, rows, task.outputs()));
        let losses = if task.is_regression() {
            let targets = targets.map(|targets| targets.view([-1]));
            regression_losses(&said.logits.view([-1]), &gold, targets.as_ref().map(|targets| self.teacher(targets)))
        } else {
            classification_losses(&said.logits, &gold, targets.as_ref().map(|targets| self.teacher(targets)))
        };
        weighted_sum(&losses, prepared.weight)
    }

    fn teacher<'a>(&self, predictions: &'a Tensor) -> Teacher<'a> {
        Teacher { predictions, lambda: self.lambda, temperature: self.temperature }
    }

    /// f32 [rows, outputs].
    fn targets(&self, targets: &[f32], rows: &[usize], outputs: usize) -> Tensor {
        let chosen: Vec<f32> = rows.iter().flat_map(|row| &targets[row * outputs..][..outputs]).copied().collect();
        Tensor::from_slice(&chosen).view([-1, outputs as i64]).to_device(self.device)
    }
}

/// When a checkpoint is due: often enough that little is lost, seldom enough that it costs little.
struct Cadence {
    every: Option<u64>,
    last: Instant,
    cost: Duration,
}

impl Cadence {
    fn new(every: Option<u32>) -> Self {
        Self { every: every.map(u64::from), last: Instant::now(), cost: Duration::ZERO }
    }

    fn is_due(&self, step: u64) -> bool {
        let by_step = self.every.is_some_and(|every| step.is_multiple_of(every));
        by_step || self.last.elapsed() >= SELDOM.max(self.cost * SHARE)
    }

    fn measure<T>(&mut self, save: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = save();
        self.last = Instant::now();
        self.cost = self.last - begin;
        result
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        let reason = match error {
            CheckpointError::Mismatch { .. } => ExitReason::BadData,
            _ => ExitReason::StoreUnavailable,
        };
        Self::new(reason, error.to_string())
    }
}
