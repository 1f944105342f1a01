//! The gradients of one optimizer step, summed over its micro-batches.

use crate::model::Parameter;
use tch::{Tensor, no_grad};

/// One gradient per parameter, in the parameters' order.
///
/// They are kept here and not in the tensors' `grad`, so that a step begins with nothing to set to
/// zero, and the first micro-batch's gradients are taken over instead of added to zeros. The word
/// embeddings' gradient is sparse.
#[derive(Debug)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// No gradient yet for any of `parameters` parameters.
    pub fn new(parameters: usize) -> Self {
        Self((0..parameters).map(|_| None).collect())
    }

    /// Given gradients; `None` counts as zero.
    pub fn from_tensors(tensors: Vec<Option<Tensor>>) -> Self {
        Self(tensors)
    }

    /// Adds the gradients of a loss (a scalar), whose graph is then freed.
    ///
    /// A parameter that the loss does not depend on, such as the head of a task without a row here,
    /// gets nothing added.
    pub fn add(&mut self, loss: &Tensor, parameters: &[Parameter]) {
        let values: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.value).collect();
        let new = Tensor::run_backward(&[loss], &values, false, false);
        no_grad(|| {
            for (sum, new) in self.0.iter_mut().zip(new) {
                match sum {
                    _ if !new.defined() => {}
                    None => *sum = Some(new),
                    Some(sum) => drop(sum.g_add_(&new)),
                }
            }
        });
    }

    /// The gradient of each parameter, sparse ones with every row once; `None` is zero.
    pub fn into_tensors(self) -> Vec<Option<Tensor>> {
        let merge = |tensor: Tensor| if tensor.is_sparse() { tensor.coalesce() } else { tensor };
        self.0.into_iter().map(|tensor| tensor.map(merge)).collect()
    }
}
