//! One trainable tensor and what the optimizer must know of it.

use crate::optim::Depth;
use tch::Tensor;

/// A trainable tensor.
#[derive(Debug)]
pub struct Parameter {
    /// Hugging Face's name without `bert.`; heads are `heads.<task>.weight` and `heads.<task>.bias`.
    pub name: String,
    /// The value: an f32 leaf that requires gradients. Linear weights are [out, in].
    pub value: Tensor,
    /// Where it stands, which decides its learning rate.
    pub depth: Depth,
    /// Whether weight decay pulls on it: everything but biases and layer norms.
    pub decayed: bool,
}

impl Parameter {
    /// A parameter with this value; depth and decay follow from the name, as in the reference.
    ///
    /// # Panics
    /// If the name is not that of an encoder or head parameter.
    pub fn new(name: impl Into<String>, value: Tensor) -> Self {
        let name = name.into();
        let depth = Depth::of(&name).unwrap_or_else(|| panic!("{name} is no parameter of a BERT"));
        let decayed = !(name.contains("LayerNorm") || name.ends_with("bias"));
        Self { value: value.set_requires_grad(true), name, depth, decayed }
    }

    /// Overwrites the value in place.
    pub fn set(&mut self, value: &Tensor) {
        tch::no_grad(|| self.value.copy_(value));
    }
}
