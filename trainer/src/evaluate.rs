//! What a trained model says of rows, and how good that is.

use bam_crds::report::TaskResult;
use tch::{Device, Kind, Tensor, no_grad};

use crate::data::feature_cache::FeatureTable;
use crate::data::micro::cut;
use crate::data::rows::{Label, Row};
use crate::distill::{classification_losses, regression_losses};
use crate::metrics;
use crate::model::{self, Dropout, MicroBatch, Model};
use crate::prepare::PreparedTask;
use crate::task::{Split, Task};

/// Predicts rows without dropout. Every row, in any order: none is dropped to fill a batch.
#[derive(Debug)]
pub struct Predictor<'a> {
    /// The model.
    pub model: &'a Model,
    /// Where it is.
    pub device: Device,
    /// Word pieces of a micro-batch.
    pub limit: usize,
}

impl Predictor<'_> {
    /// Raw logits of one head: [rows, outputs], in the order of `features`. `tick` hears how many rows each micro-batch
    /// had.
    pub fn logits(&self, head: usize, features: &FeatureTable, tick: &mut dyn FnMut(u64)) -> Vec<f32> {
        let lengths: Vec<_> = (0..features.len()).map(|row| Some(features.length(row))).collect();
        let outputs = self.model.heads()[head].outputs as usize;
        let mut logits = vec![0.0; features.len() * outputs];
        for rows in cut(&lengths, self.limit) {
            let batch = batch(features, &rows, self.device);
            let said = no_grad(|| {
                let pooled = self.model.pooled(&batch, &Dropout::off());
                self.model.logits(head, &pooled, &batch.rows, &Dropout::off())
            });
            let said: Vec<f32> =
                Vec::try_from(said.to_device(Device::Cpu).reshape([-1])).expect("logits are a flat tensor of f32");
            for (row, said) in rows.iter().zip(said.chunks_exact(outputs)) {
                logits[row * outputs..][..outputs].copy_from_slice(said);
            }
            tick(rows.len() as u64);
        }
        logits
    }
}

/// The chosen rows, end to end.
pub(crate) fn batch(features: &FeatureTable, rows: &[usize], device: Device) -> MicroBatch {
    let row = |&row: &usize| {
        let features = features.row(row);
        model::Row { number: row as u64, input_ids: features.ids, second: features.second.into() }
    };
    MicroBatch::pack(&rows.iter().map(row).collect::<Vec<_>>(), device)
}

/// Scores of a task's dev set.
///
/// `logits` [rows, outputs] of its dev rows.
pub fn score(prepared: &PreparedTask, logits: &[f32]) -> TaskResult {
    let task = &prepared.task;
    let golds: Vec<Label> = prepared.dev.rows.iter().map(|row| row.label).collect();
    let trained: Vec<Label> = prepared.train.rows.iter().map(|row| row.label).collect();
    let scores = metrics::evaluate(task, logits, &golds);
    let defined = scores.into_iter().filter_map(|(name, score)| Some((name.to_owned(), score?)));
    let loss = ("loss".to_owned(), mean_loss(task, logits, &prepared.dev.rows));
    TaskResult {
        task: task.name.clone(),
        main_metric: task.main_metric().name().to_owned(),
        metrics: defined.chain([loss]).collect(),
        majority: metrics::majority_baseline(task, &golds, &trained),
        rows: golds.len() as u32,
    }
}

/// Scores of a task on a further split, under names that tell it from the dev split: `mismatched_accuracy`.
///
/// `logits` [rows, outputs] of its `rows`.
pub fn score_further(task: &Task, split: Split, rows: &[Row], logits: &[f32]) -> Vec<(String, f64)> {
    let golds: Vec<Label> = rows.iter().map(|row| row.label).collect();
    let scores = metrics::evaluate_by(task, task.metrics_of(split), logits, &golds).into_iter();
    let prefix = split.prefix().unwrap_or_else(|| split.name());
    scores.filter_map(|(name, score)| Some((format!("{prefix}_{name}"), score?))).collect()
}

/// The mean of the unweighted losses against gold, as the reference reports it.
fn mean_loss(task: &Task, logits: &[f32], rows: &[Row]) -> f64 {
    let logits = Tensor::from_slice(logits).view([-1, task.outputs() as i64]);
    let gold = gold(task, &rows.iter().collect::<Vec<_>>(), Device::Cpu);
    let losses = match task.is_regression() {
        true => regression_losses(&logits.view([-1]), &gold, None),
        false => classification_losses(&logits, &gold, None),
    };
    losses.mean(Kind::Double).double_value(&[])
}

/// Gold labels of rows: class numbers i64 [rows], or scores f32 [rows] on the 0 to 1 scale.
///
/// # Panics
/// If a row has no label of the task's kind; the reader gives every training and dev row one.
pub(crate) fn gold(task: &Task, rows: &[&Row], device: Device) -> Tensor {
    let class = |row: &&Row| match row.label {
        Label::Class(class) => i64::from(class),
        other => panic!("row {} of {} has the label {other:?}", row.eid, task.name),
    };
    let score = |row: &&Row| match row.label {
        Label::Score(score) => score,
        other => panic!("row {} of {} has the label {other:?}", row.eid, task.name),
    };
    match task.is_regression() {
        true => Tensor::from_slice(&rows.iter().map(score).collect::<Vec<_>>()),
        false => Tensor::from_slice(&rows.iter().map(class).collect::<Vec<_>>()),
    }
    .to_device(device)
}
