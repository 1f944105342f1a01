//! The gradients of a micro-batch: of all activations kept, or with activation checkpointing (Chen et al. 2016, "Training deep
//! nets with sublinear memory cost"): only the input of each layer is kept, and the rest is computed again on the way back.
//!
//! Dropout is a function of step, row and place, so what is computed again is what it was before, and the gradients are the same
//! to the bit. The memory of one layer's activations instead of all layers' costs one more forward pass.

use super::batch::MicroBatch;
use super::bert::{PARAMETERS_OF_EMBEDDINGS, PARAMETERS_OF_LAYER, Pass};
use super::{Dropout, HeadOutput, Model, Parameter};
use tch::{Kind, Tensor, no_grad};

impl Model {
    /// The gradient of each parameter, in their order; undefined where the loss does not depend on one. The word embeddings' is
    /// sparse.
    ///
    /// `loss` makes a scalar of what the heads say (as [`Model::forward`] does), and whatever else its caller wants to know.
    pub fn gradients<T>(
        &self,
        batch: &MicroBatch,
        head_of_row: &[usize],
        dropout: &Dropout,
        loss: impl FnOnce(Vec<HeadOutput>) -> (Tensor, T),
    ) -> (Vec<Tensor>, T) {
        let encoder = self.bert();
        let pass = encoder.pass(batch, dropout);
        let loss = |pooled: &Tensor| loss(self.outputs(pooled, batch, head_of_row, dropout));
        if self.activation_checkpointing {
            return self.recomputing(&pass, loss);
        }
        let (loss, told) = loss(&pass.pooled());
        (backward(&loss, &self.parameters, None), told)
    }

    /// From the loss down, a layer at a time: each is computed once more from its input, and gives the gradients of its own
    /// parameters, and that of its input to the layer below.
    fn recomputing<T>(&self, pass: &Pass<'_>, loss: impl FnOnce(&Tensor) -> (Tensor, T)) -> (Vec<Tensor>, T) {
        let (embeddings, rest) = self.parameters.split_at(PARAMETERS_OF_EMBEDDINGS);
        let (layers, top) = rest.split_at(PARAMETERS_OF_LAYER * self.config.num_hidden_layers);
        let layers = layers.chunks_exact(PARAMETERS_OF_LAYER).enumerate();
        let mut hidden = no_grad(|| pass.embed());
        let mut inputs = Vec::with_capacity(layers.len());
        for (number, _) in layers.clone() {
            let output = no_grad(|| pass.layer(number, &hidden));
            inputs.push(std::mem::replace(&mut hidden, output));
        }

        let firsts = hidden.set_requires_grad(true);
        let (loss, told) = loss(&pass.pool(&firsts));
        let mut gradients = vec![backward(&loss, top, Some(&firsts))];
        for ((number, parameters), input) in layers.zip(inputs).rev() {
            let above = gradients.last_mut().and_then(Vec::pop).expect("the last one is that of the input");
            let input = input.set_requires_grad(true);
            let output = pass.layer(number, &input);
            gradients.push(backward(&along(&output, &above), parameters, Some(&input)));
        }
        let above = gradients.last_mut().and_then(Vec::pop).expect("the last one is that of the input");
        gradients.push(backward(&along(&pass.embed(), &above), embeddings, None));
        (gradients.into_iter().rev().flatten().collect(), told)
    }
}

/// The gradients of a scalar by these parameters, and behind them by this input. The graph is freed.
fn backward(scalar: &Tensor, parameters: &[Parameter], input: Option<&Tensor>) -> Vec<Tensor> {
    let values = parameters.iter().map(|parameter| &parameter.value).chain(input);
    Tensor::run_backward(&[scalar], &values.collect::<Vec<_>>(), false, false)
}

/// A scalar whose gradient by the output is exactly this one: 1 times it.
fn along(output: &Tensor, gradient: &Tensor) -> Tensor {
    (output * gradient).sum(Kind::Float)
}
