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
use bam_crds::config::Precision;
use tch::{Device, Kind, Tensor};

impl Model {
    /// A model with random weights: truncated normal tables and kernels, zero biases, layer norms
    /// that change nothing, Glorot-uniform heads. `config` must be valid.
    pub fn random(config: BertConfig, heads: Vec<Head>, seed: u64, device: Device) -> Self {
        let deviation = config.initializer_range;
        Self::build(config, heads, device, |name, shape| initial_value(name, shape, deviation, seed))
    }

    /// The same where weights will be loaded: what they may lack (heads, pooler) is random, the rest zero. Random numbers
    /// for a whole encoder, thrown away at once, would cost seconds.
    pub(super) fn unloaded(config: BertConfig, heads: Vec<Head>, seed: u64, device: Device) -> Self {
        let deviation = config.initializer_range;
        Self::build(config, heads, device, |name, shape| {
            match name.starts_with("heads.") || name.starts_with("pooler.") {
                true => initial_value(name, shape, deviation, seed),
                false => Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
            }
        })
    }

    fn build(config: BertConfig, heads: Vec<Head>, device: Device, initial: impl Fn(&str, &[i64]) -> Tensor) -> Self {
        let head_shapes = heads.iter().flat_map(|head| head.shapes(config.hidden_size));
        let parameters = bert::shapes(&config)
            .into_iter()
            .chain(head_shapes)
            .map(|(name, shape)| {
                let value = initial(&name, &shape).to_device(device);
                Parameter::new(name, value)
            })
            .collect();
        Self { config, heads, parameters, precision: Precision::Fp32, activation_checkpointing: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn model(tasks: &[(&str, i64)], seed: u64) -> Model {
        let config = serde_json::from_str(r#"{"vocab_size": 200, "hidden_size": 24, "num_hidden_layers": 2}"#).unwrap();
        let heads = tasks.iter().map(|&(task, outputs)| Head { task: task.into(), outputs }).collect();
        Model::random(config, heads, seed, Device::Cpu)
    }

    fn value<'a>(model: &'a Model, name: &str) -> &'a Tensor {
        &model.parameters().iter().find(|parameter| parameter.name == name).unwrap().value
    }

    #[test]
    fn the_list_is_embeddings_layers_pooler_heads() {
        let model = model(&[("rte", 2), ("sts", 1)], 1);
        let names: Vec<&str> = model.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names.len(), 5 + 2 * 16 + 2 + 2 * 2);
        assert_eq!(names[0], "embeddings.word_embeddings.weight");
        assert_eq!(names[5], "encoder.layer.0.attention.self.query.weight");
        assert_eq!(names[36], "encoder.layer.1.output.LayerNorm.bias");
        let heads = ["heads.rte.weight", "heads.rte.bias", "heads.sts.weight", "heads.sts.bias"];
        assert_eq!(names[37..], [&["pooler.dense.weight", "pooler.dense.bias"][..], &heads[..]].concat());
        assert!(model.parameters().iter().all(|parameter| parameter.value.requires_grad()));
    }

    #[test]
    fn a_head_starts_within_glorots_limit_and_with_a_bias_of_zero() {
        let model = model(&[("rte", 2)], 1);
        let kernel = value(&model, "heads.rte.weight").abs().max().double_value(&[]);
        let limit = (6.0f64 / 26.0).sqrt();
        assert!(kernel <= limit && kernel > 0.8 * limit, "{kernel}, limit {limit}");
        assert_eq!(value(&model, "heads.rte.bias").abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_head_starts_alike_whatever_the_other_tasks_are_and_otherwise_with_another_seed() {
        let name = "heads.rte.weight";
        let alone = model(&[("rte", 2)], 1);
        assert_eq!(value(&alone, name), value(&model(&[("cola", 2), ("rte", 2)], 1), name));
        assert_ne!(value(&alone, name), value(&model(&[("rte", 2)], 2), name));
    }
}
