//! The gradients of one optimizer step, summed over its micro-batches.

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

    /// Adds those of one micro-batch, as [`Model::gradients`](crate::model::Model::gradients) gives them: to a parameter that its
    /// loss does not depend on, such as the head of a task without a row there, nothing.
    pub fn add(&mut self, new: Vec<Tensor>) {
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
