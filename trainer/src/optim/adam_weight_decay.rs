//! BERT's optimizer: Adam without bias correction, with decoupled weight decay, after clipping the
//! global norm of the gradients to 1.
//!
//! With g the clipped gradient and p the value before the step:
//! m = 0.9 m + 0.1 g; v = 0.999 v + 0.001 g²; p -= rate (m / (sqrt(v) + 1e-6) + decay p).

use super::gradients::Gradients;
use super::kernel::{self, Coefficients};
use super::skipped::Skipped;
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
    /// A gradient is NaN or infinite: no parameter and no moment was changed.
    NonFinite,
}

/// The optimizer's state and constants.
#[derive(Debug)]
pub struct AdamWeightDecay {
    settings: Settings,
    multipliers: Vec<f64>,
    first_moments: Vec<Tensor>,
    second_moments: Vec<Tensor>,
    skipped: Skipped,
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
            skipped: Skipped::default(),
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
                self.skipped.skip();
                return Outcome::NonFinite;
            }
            self.skipped.take();
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

    /// The steps with a gradient that was not finite.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The same, to overwrite them from a checkpoint.
    pub fn skipped_mut(&mut self) -> &mut Skipped {
        &mut self.skipped
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A head's kernel of one number, under an optimizer that does not clip.
    fn one_number(weight_decay_rate: f64) -> ([Parameter; 1], AdamWeightDecay) {
        let parameters = [Parameter::new("heads.rte.weight", Tensor::from_slice(&[1.0f32]))];
        let settings = Settings { weight_decay_rate, lr_decay: 0.9, layers: 12, clip_norm: f64::INFINITY };
        let optimizer = AdamWeightDecay::new(&parameters, settings);
        (parameters, optimizer)
    }

    fn gradient(value: f32) -> Gradients {
        Gradients::from_tensors(vec![Some(Tensor::from_slice(&[value]))])
    }

    #[test]
    fn three_steps_of_one_number_go_where_the_reference_goes() {
        let table = [(0.0, [0.683792233, 0.570616270, 0.468706940]), (0.01, [0.682792233, 0.568933478, 0.466455214])];
        for (weight_decay_rate, expected) in table {
            let (mut parameters, mut optimizer) = one_number(weight_decay_rate);
            for (value, expected) in [0.5, -0.25, 0.0].into_iter().zip(expected) {
                optimizer.step(&mut parameters, gradient(value), 0.1);
                let got = parameters[0].value.double_value(&[0]);
                assert!((got - expected).abs() < 1e-7, "{got} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_head_without_a_row_in_the_batch_still_moves_and_its_moments_decay() {
        let (mut parameters, mut optimizer) = one_number(0.01);
        optimizer.step(&mut parameters, gradient(0.5), 0.1);
        let before = parameters[0].value.double_value(&[0]);
        let outcome = optimizer.step(&mut parameters, Gradients::new(1), 0.1);
        assert_eq!(outcome, Outcome::Stepped { norm: 0.0 });
        assert!(parameters[0].value.double_value(&[0]) < before);
        assert!((optimizer.moments().0[0].double_value(&[0]) - 0.9 * 0.05).abs() < 1e-8);
    }

    #[test]
    fn a_long_gradient_is_cut_to_norm_one_and_a_short_one_is_left_alone() {
        for (given, moment) in [(30.0, 0.1), (1.0, 0.1), (0.25, 0.025)] {
            let (mut parameters, _) = one_number(0.0);
            let settings = Settings { weight_decay_rate: 0.0, lr_decay: 0.9, layers: 12, clip_norm: CLIP_NORM };
            let mut optimizer = AdamWeightDecay::new(&parameters, settings);
            assert_eq!(optimizer.step(&mut parameters, gradient(given), 0.0), Outcome::Stepped { norm: given.into() });
            assert!((optimizer.moments().0[0].double_value(&[0]) - moment).abs() < 1e-8);
        }
    }
}
