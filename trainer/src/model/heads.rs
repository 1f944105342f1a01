//! One linear head per task on the pooled first token.

use super::Model;
use super::dropout::{Dropout, Place};
use tch::{Device, Tensor};

/// Parameters of one head: weight [outputs, hidden] and bias [outputs].
pub(super) const PARAMETERS_OF_HEAD: usize = 2;

/// Name of a head's file in its task's folder.
pub const HEAD_FILE: &str = "head.safetensors";

/// A head: one per task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The task's name, which is in the names of the parameters.
    pub task: String,
    /// Number of labels, or 1 for a regression.
    pub outputs: i64,
}

impl Head {
    /// The file of a head in the folder of a trained model.
    pub fn file(&self) -> String {
        format!("{}/{HEAD_FILE}", self.task)
    }

    /// Names and shapes of the head's parameters.
    pub(super) fn shapes(&self, hidden: i64) -> [(String, Vec<i64>); PARAMETERS_OF_HEAD] {
        let task = &self.task;
        [
            (format!("heads.{task}.weight"), vec![self.outputs, hidden]),
            (format!("heads.{task}.bias"), vec![self.outputs]),
        ]
    }
}

/// What a head says of its own rows of a micro-batch.
#[derive(Debug)]
pub struct HeadOutput {
    /// The head.
    pub head: usize,
    /// Positions of its rows in the micro-batch, ascending.
    pub positions: Vec<usize>,
    /// f32 [positions, outputs].
    pub logits: Tensor,
}

impl Model {
    /// What one head says of rows: logits f32 [rows, outputs].
    ///
    /// `pooled` f32 [rows, hidden]; `rows` are those rows' numbers in their step (see [`Row`](super::Row)).
    pub fn logits(&self, head: usize, pooled: &Tensor, rows: &[u64], dropout: &Dropout) -> Tensor {
        // The heads' parameters are the last of the list.
        let first = self.parameters.len() - PARAMETERS_OF_HEAD * (self.heads.len() - head);
        let [weight, bias] = [&self.parameters[first], &self.parameters[first + 1]];
        let rate = self.config.head_dropout_prob;
        let kept = dropout.apply(pooled.shallow_clone(), rate, rows, Place::Head(head));
        kept.linear(&weight.value, Some(&bias.value))
    }
}

/// The positions of each head's rows; heads without a row are left out.
pub(super) fn of_rows(head_of_row: &[usize], heads: usize) -> Vec<(usize, Vec<usize>)> {
    let mut positions = vec![Vec::new(); heads];
    for (position, &head) in head_of_row.iter().enumerate() {
        positions[head].push(position);
    }
    positions.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).collect()
}

/// Positions as an index tensor: i64 [positions].
pub(super) fn index(positions: &[usize], device: Device) -> Tensor {
    let positions: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
    Tensor::from_slice(&positions).to_device(device)
}
