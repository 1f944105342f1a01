//! BERT with one linear head per task, on plain tensors.
//!
//! The parameters are one list in a fixed order, which the optimizer and the checkpoints follow.
//! The forward pass reads them; nothing here changes them.

mod batch;
mod bert;
mod config;
mod dropout;
mod gradients;
mod heads;
mod init;
mod names;
mod parameter;
mod pretrained;
mod stored;
mod tensor_file;
mod tensorflow;
mod weights;

pub use batch::{MicroBatch, Row};
pub use config::{Activation, BertConfig, ConfigError};
pub use dropout::Dropout;
pub use heads::{HEAD_FILE, Head, HeadOutput};
pub use parameter::Parameter;
pub use pretrained::{Pretrained, WeightsFiles, files};
pub use tensor_file::{TensorFile, TensorFileError, write_tensors};
pub use tensorflow::TensorBundle;
pub use weights::{LoadReport, WeightsError};

use bam_crds::config::Precision;
use bert::Encoder;
use tch::Tensor;

/// An encoder with its heads: the configuration, and every parameter in a fixed order.
#[derive(Debug)]
pub struct Model {
    config: BertConfig,
    heads: Vec<Head>,
    parameters: Vec<Parameter>,
    precision: Precision,
    activation_checkpointing: bool,
}

impl Model {
    /// The same model, computing in another number format. A new one computes in f32; parameters always stay in it.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same model, whose [`gradients`](Model::gradients) keep activations or compute them again.
    #[must_use]
    pub fn with_activation_checkpointing(self, activation_checkpointing: bool) -> Self {
        Self { activation_checkpointing, ..self }
    }

    /// The shape of the encoder.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The heads, in the order in which [`Model::forward`] numbers them.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// All parameters: embeddings, layers from the bottom, pooler, heads (weight, then bias).
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same, for the optimizer and the checkpoints.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// The pooled first token of each row: f32 [rows, hidden].
    pub fn pooled(&self, batch: &MicroBatch, dropout: &Dropout) -> Tensor {
        self.bert().pass(batch, dropout).pooled()
    }

    fn bert(&self) -> Encoder<'_> {
        Encoder::new(&self.config, &self.parameters, self.precision)
    }

    /// Encodes a micro-batch and applies to each row the head of its own task.
    ///
    /// `head_of_row[i]` is the head of row i. The reference runs every head on every row and masks
    /// the others out of the loss, which gives the same numbers for more work.
    pub fn forward(&self, batch: &MicroBatch, head_of_row: &[usize], dropout: &Dropout) -> Vec<HeadOutput> {
        self.outputs(&self.pooled(batch, dropout), batch, head_of_row, dropout)
    }

    /// What the heads say of the pooled tokens: f32 [rows, hidden].
    fn outputs(
        &self,
        pooled: &Tensor,
        batch: &MicroBatch,
        head_of_row: &[usize],
        dropout: &Dropout,
    ) -> Vec<HeadOutput> {
        heads::of_rows(head_of_row, self.heads.len())
            .into_iter()
            .map(|(head, positions)| {
                let own = pooled.index_select(0, &heads::index(&positions, pooled.device()));
                let rows: Vec<u64> = positions.iter().map(|&at| batch.rows[at]).collect();
                let logits = self.logits(head, &own, &rows, dropout);
                HeadOutput { head, positions, logits }
            })
            .collect()
    }
}
