//! What is written down of a training beside its artifacts: every optimizer step, as a [`Trace`] and as scalars for
//! TensorBoard. Nothing here changes what is learned.

use std::path::PathBuf;
use std::time::Duration;

use bam_crds::report::TaskResult;
use clap::Args;

use crate::data::batches::Example;
use crate::failure::Failure;
use crate::tensorboard::EventFile;
use crate::trace::Trace;

/// Which journals are wanted.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Journals {
    /// File for a trace: per step rows, loss, gradient norm, learning rate and lambda, one line of JSON each; the initial
    /// weights go beside it.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Folder for TensorBoard's event files.
    #[arg(long, value_name = "FOLDER")]
    pub tensorboard: Option<PathBuf>,
}

/// One optimizer step that was done.
#[derive(Clone, Debug)]
pub struct StepRecord<'a> {
    /// Its number, counted from 0.
    pub step: u64,
    /// Its examples in order.
    pub examples: Vec<Example>,
    /// Weighted sum of the losses of its rows.
    pub loss: f64,
    /// The unweighted mean loss of the rows of each task that has some in this step, by the task's name.
    pub task_losses: Vec<(&'a str, f64)>,
    /// Global L2 norm of the gradients before the clip; not a number if one of them was not finite, and the step was skipped.
    pub norm: f64,
    /// Learning rate of the heads.
    pub learning_rate: f64,
    /// The weight of gold against teachers.
    pub lambda: f64,
    /// Seed of its dropout, where that is keyed (see `model::Dropout`): on a CPU.
    pub dropout_seed: Option<u64>,
    /// Real word pieces of its rows: padding is not counted.
    pub tokens: u64,
    /// How long it took.
    pub took: Duration,
    /// The part of that which went into its rows: choosing, cutting, padding them.
    pub waited: Duration,
}

impl StepRecord<'_> {
    /// Did it change nothing, because a gradient was not finite?
    pub fn is_skipped(&self) -> bool {
        self.norm.is_nan()
    }

    /// Rows that were learned from: padding is not counted.
    pub fn rows(&self) -> u64 {
        self.examples.iter().filter(|example| **example != Example::Padding).count() as u64
    }
}

/// The journals of one run, open for writing.
#[derive(Debug, Default)]
pub struct Journal {
    pub(crate) trace: Option<Trace>,
    pub(crate) events: Option<EventFile>,
}

impl Journal {
    /// Writes down a step.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn step(&mut self, record: &StepRecord<'_>) -> Result<(), Failure> {
        if let Some(trace) = &mut self.trace {
            trace.step(record)?;
        }
        if let Some(events) = &mut self.events {
            let mut scalars = vec![
                ("train/loss".to_owned(), record.loss),
                ("train/gradient_norm".to_owned(), record.norm),
                ("train/learning_rate".to_owned(), record.learning_rate),
                ("train/lambda".to_owned(), record.lambda),
            ];
            scalars.extend(record.task_losses.iter().map(|(task, loss)| (format!("train/loss/{task}"), *loss)));
            events.scalars(record.step, &scalars)?;
        }
        Ok(())
    }

    /// Brings everything so far to the disk. Call it before a checkpoint: whoever resumes from that finds all steps before
    /// it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&mut self) -> Result<(), Failure> {
        self.trace.as_mut().map_or(Ok(()), Trace::save)?;
        self.events.as_mut().map_or(Ok(()), EventFile::save)
    }

    /// Writes down the dev scores after the last of `steps` steps.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn scores(&mut self, steps: u64, results: &[TaskResult]) -> Result<(), Failure> {
        let Some(events) = &mut self.events else { return Ok(()) };
        let of_task = |result: &TaskResult| {
            let tag = |metric: &str| format!("dev/{}/{metric}", result.task);
            result.metrics.iter().map(|(metric, value)| (tag(metric), *value)).collect::<Vec<_>>()
        };
        events.scalars(steps, &results.iter().flat_map(of_task).collect::<Vec<_>>())?;
        events.save()
    }
}
