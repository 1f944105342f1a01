//! Initial weights.
//!
//! They come from a stream of their own for each parameter (named after it), so neither the device
//! nor the other tasks of a model change a head's start.

use super::Model;
use super::bert;
use super::config::BertConfig;
use super::heads::Head;
use super::parameter::Parameter;
use crate::random::Stream;
use tch::{Device, Tensor};

impl Model {
    /// A model with random weights: truncated normal tables and kernels, zero biases, layer norms
    /// that change nothing, Glorot-uniform heads. `config` must be valid.
    pub fn random(config: BertConfig, heads: Vec<Head>, seed: u64, device: Device) -> Self {
        let deviation = config.initializer_range;
        let head_shapes = heads.iter().flat_map(|head| head.shapes(config.hidden_size));
        let parameters = bert::shapes(&config)
            .into_iter()
            .chain(head_shapes)
            .map(|(name, shape)| {
                let value = initial_value(&name, &shape, deviation, seed).to_device(device);
                Parameter::new(name, value)
            })
            .collect();
        Self { config, heads, parameters }
    }
}

/// The initial value of a parameter, which its name and shape decide: f32 on the CPU.
///
/// Heads have a Glorot-uniform kernel, TensorFlow's default, and not the truncated normal of
/// BERT's own fine-tuning code: that is what the reference does.
fn initial_value(name: &str, shape: &[i64], deviation: f64, seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, &format!("weights/{name}"));
    if name.ends_with("bias") {
        return fill(shape, || 0.0);
    }
    if name.contains("LayerNorm") {
        return fill(shape, || 1.0);
    }
    if name.starts_with("heads.") {
        // sqrt(6 / (fan in + fan out))
        let limit = (6.0 / shape.iter().sum::<i64>() as f64).sqrt();
        return fill(shape, || (2.0 * stream.uniform() - 1.0) * limit);
    }
    fill(shape, || stream.truncated_normal(deviation))
}

/// A tensor filled in memory order.
fn fill(shape: &[i64], mut next: impl FnMut() -> f64) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next() as f32).collect();
    Tensor::from_slice(&values).view(shape)
}
