//! BERT's optimizer: Adam without bias correction, with decoupled weight decay, after clipping the
//! global norm of the gradients to 1.
//!
//! With g the clipped gradient and p the value before the step:
//! m = 0.9 m + 0.1 g; v = 0.999 v + 0.001 g²; p -= rate (m / (sqrt(v) + 1e-6) + decay p).

use super::gradients::Gradients;
use super::kernel::{self, Coefficients};
use crate::model::Parameter;
use tch::{Device, Kind, Tensor, no_grad};

/// The global norm to which the reference clips gradients. Its loss is a sum over the batch, so this
/// binds at nearly every step: training follows a normalised gradient.
pub const CLIP_NORM: f64 = 1.0;

/// The constants of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Pull of kernels and embedding tables to zero, as a share of the learning rate.
    pub weight_decay_rate: f64,
    /// Factor of the learning rate from one depth to the next, see
    /// [`Depth::multiplier`](super::Depth::multiplier).
    pub lr_decay: f64,
    /// Number of layers from which depths are counted: the encoder's own, but for the reference's
    /// debug run.
    pub layers: usize,
    /// Gradients with a larger global L2 norm are scaled down to it; normally [`CLIP_NORM`].
    pub clip_norm: f64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All parameters and moments are updated.
    Stepped {
        /// Global L2 norm of the gradients before the clip.
        norm: f64,
    },
    /// A gradient is NaN or infinite: nothing was changed.
    NonFinite,
}

/// The optimizer's state and constants.
#[derive(Debug)]
pub struct AdamWeightDecay {
    settings: Settings,
    multipliers: Vec<f64>,
    first_moments: Vec<Tensor>,
    second_moments: Vec<Tensor>,
}

impl AdamWeightDecay {
    /// An optimizer for these parameters, with moments of zero.
    pub fn new(parameters: &[Parameter], settings: Settings) -> Self {
        let Settings { layers, lr_decay, .. } = settings;
        let zeros = || parameters.iter().map(|parameter| parameter.value.detach().zeros_like());
        let share = |parameter: &Parameter| parameter.depth.multiplier(layers, lr_decay);
        Self {
            settings,
            multipliers: parameters.iter().map(share).collect(),
            first_moments: zeros().collect(),
            second_moments: zeros().collect(),
        }
    }

    /// Updates all parameters. `learning_rate` is that of the heads.
    ///
    /// A parameter without a gradient has gradient zero, as in the reference: its moments decay,
    /// and it still moves by momentum and weight decay.
    ///
    /// # Panics
    /// If the parameters are not those that the optimizer was made for.
    pub fn step(&mut self, parameters: &mut [Parameter], gradients: Gradients, learning_rate: f64) -> Outcome {
        assert_eq!(parameters.len(), self.multipliers.len(), "another list of parameters");
        let gradients = gradients.into_tensors();
        no_grad(|| {
            let norm = global_norm(&gradients);
            if !norm.is_finite() {
                return Outcome::NonFinite;
            }
            let scale = (self.settings.clip_norm / norm).min(1.0);
            self.update(parameters, &gradients, scale, learning_rate);
            Outcome::Stepped { norm }
        })
    }

    fn update(&mut self, parameters: &mut [Parameter], gradients: &[Option<Tensor>], scale: f64, learning_rate: f64) {
        let mut all = Vec::with_capacity(parameters.len());
        let moments = self.first_moments.iter_mut().zip(&mut self.second_moments);
        let state = parameters.iter_mut().zip(gradients).zip(moments).zip(&self.multipliers);
        for (((parameter, gradient), (first, second)), multiplier) in state {
            let decay = if parameter.decayed { self.settings.weight_decay_rate } else { 0.0 };
            let coefficients = Coefficients::new(scale, learning_rate * multiplier, decay);
            let value = &mut parameter.value;
            all.push(kernel::Update { value, gradient: gradient.as_ref(), first, second, coefficients });
        }
        kernel::apply(all);
    }

    /// First and second moments, in the parameters' order.
    pub fn moments(&self) -> (&[Tensor], &[Tensor]) {
        (&self.first_moments, &self.second_moments)
    }

    /// The same, to overwrite them from a checkpoint.
    pub fn moments_mut(&mut self) -> (&mut [Tensor], &mut [Tensor]) {
        (&mut self.first_moments, &mut self.second_moments)
    }
}

/// The L2 norm over all gradients; NaN or infinite if one of them is.
fn global_norm(gradients: &[Option<Tensor>]) -> f64 {
    let stored = |gradient: &Tensor| if gradient.is_sparse() { gradient.values() } else { gradient.shallow_clone() };
    let gradients: Vec<Tensor> = gradients.iter().flatten().map(stored).collect();
    match gradients.first().map(Tensor::device) {
        None => 0.0,
        Some(Device::Cpu) => kernel::sum_of_squares(&gradients).sqrt(),
        // One number is read back from the device, whatever the count of tensors.
        Some(_) => {
            let norms: Vec<Tensor> = gradients.iter().map(|gradient| gradient.norm()).collect();
            Tensor::stack(&norms, 0).norm().to_kind(Kind::Double).double_value(&[])
        }
    }
}
