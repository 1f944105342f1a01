//! The arithmetic of one optimizer step.
//!
//! On a CPU it is a single pass over the memory: value and both moments are read and written once,
//! the gradient is read once, where a formula of tensor operations would move the same data about
//! four times. Other devices use that formula.

use crate::device::{elements_mut, floats};
use crate::parallel;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
/// Added to the root, not under it.
const EPSILON: f64 = 1e-6;

/// Elements of one piece of work: 1 MiB of the four arrays, so that a piece outweighs its hand-over
/// and the pieces of a small model still spread over the threads.
const PIECE: usize = 1 << 16;

/// The scalars of one parameter's update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coefficients {
    scale: f32,
    rate: f32,
    decay: f32,
}

impl Coefficients {
    /// `scale` multiplies the gradient (the clip), `rate` is the parameter's own learning rate.
    pub(super) fn new(scale: f64, rate: f64, decay: f64) -> Self {
        Self { scale: scale as f32, rate: rate as f32, decay: decay as f32 }
    }
}

/// The update of one parameter. No gradient counts as zero; a sparse one must be coalesced.
pub(super) struct Update<'a> {
    pub value: &'a mut Tensor,
    pub gradient: Option<&'a Tensor>,
    pub first: &'a mut Tensor,
    pub second: &'a mut Tensor,
    pub coefficients: Coefficients,
}

/// Updates all parameters and their moments.
pub(super) fn apply(updates: Vec<Update<'_>>) {
    let on_cpu = updates.iter().all(|update| update.value.device() == Device::Cpu);
    if !on_cpu {
        return updates.into_iter().for_each(apply_on_device);
    }
    let gradients: Vec<Gradient> = updates.iter().map(|update| Gradient::new(update.gradient)).collect();
    let mut pieces = Vec::new();
    for (update, gradient) in updates.into_iter().zip(&gradients) {
        // SAFETY: the three tensors are borrowed mutably here, and parameters and moments are never
        // views of one another.
        let values = unsafe { (elements_mut(update.value), elements_mut(update.first), elements_mut(update.second)) };
        cut(values, gradient, update.coefficients, &mut pieces);
    }
    let elements = pieces.iter().map(|piece| piece.value.len()).sum();
    parallel::for_each(pieces, elements, Piece::apply);
}

/// A gradient as plain memory.
enum Gradient {
    Zero,
    Dense(Tensor),
    /// Ascending row numbers; values [rows, width].
    Rows(Vec<i64>, Tensor),
}

impl Gradient {
    fn new(gradient: Option<&Tensor>) -> Self {
        match gradient {
            None => Self::Zero,
            Some(sparse) if sparse.is_sparse() => {
                let rows = sparse.indices().view([-1]);
                let mut numbers = vec![0; rows.numel()];
                rows.copy_data(&mut numbers, rows.numel());
                Self::Rows(numbers, sparse.values().contiguous())
            }
            Some(dense) => Self::Dense(dense.contiguous()),
        }
    }
}

/// Consecutive elements of one parameter.
struct Piece<'a> {
    value: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: Option<&'a [f32]>,
    coefficients: Coefficients,
}

/// Value, first and second moment.
type Three<'a> = (&'a mut [f32], &'a mut [f32], &'a mut [f32]);

/// Cuts a parameter into pieces that either have a gradient or have none.
fn cut<'a>(values: Three<'a>, gradient: &'a Gradient, coefficients: Coefficients, pieces: &mut Vec<Piece<'a>>) {
    let elements = values.0.len();
    let mut cutter = Cutter { rest: values, at: 0, coefficients, pieces };
    match gradient {
        Gradient::Zero => cutter.upto(elements, None),
        // SAFETY: gradients are only read until the step is over.
        Gradient::Dense(gradient) => cutter.upto(elements, Some(unsafe { floats(gradient) })),
        Gradient::Rows(rows, gradient) => {
            // SAFETY: as above.
            let gradient = unsafe { floats(gradient) };
            let width = gradient.len() / rows.len().max(1);
            for (&row, gradient) in rows.iter().zip(gradient.chunks(width.max(1))) {
                let begin = row as usize * width;
                cutter.upto(begin, None);
                cutter.upto(begin + width, Some(gradient));
            }
            cutter.upto(elements, None);
        }
    }
}

/// Takes pieces off the front of a parameter.
struct Cutter<'a, 'p> {
    rest: Three<'a>,
    at: usize,
    coefficients: Coefficients,
    pieces: &'p mut Vec<Piece<'a>>,
}

impl<'a> Cutter<'a, '_> {
    /// Takes everything before element `end`; `gradient` is that of just these elements.
    fn upto(&mut self, end: usize, gradient: Option<&'a [f32]>) {
        let begin = self.at;
        while self.at < end {
            let length = PIECE.min(end - self.at);
            let (value, first, second) = std::mem::take(&mut self.rest);
            let (value, value_rest) = value.split_at_mut(length);
            let (first, first_rest) = first.split_at_mut(length);
            let (second, second_rest) = second.split_at_mut(length);
            self.rest = (value_rest, first_rest, second_rest);
            let own: Range<usize> = self.at - begin..self.at - begin + length;
            let gradient = gradient.map(|gradient| &gradient[own]);
            self.pieces.push(Piece { value, first, second, gradient, coefficients: self.coefficients });
            self.at += length;
        }
    }
}

impl Piece<'_> {
    fn apply(self) {
        let state = self.value.iter_mut().zip(self.first).zip(self.second);
        match self.gradient {
            Some(gradient) => {
                for (((value, first), second), gradient) in state.zip(gradient) {
                    update(value, first, second, gradient * self.coefficients.scale, self.coefficients);
                }
            }
            None => {
                for ((value, first), second) in state {
                    update(value, first, second, 0.0, self.coefficients);
                }
            }
        }
    }
}

/// One element; `gradient` is clipped.
#[inline(always)]
fn update(value: &mut f32, first: &mut f32, second: &mut f32, gradient: f32, with: Coefficients) {
    *first = BETA1 as f32 * *first + (1.0 - BETA1) as f32 * gradient;
    *second = BETA2 as f32 * *second + (1.0 - BETA2) as f32 * gradient * gradient;
    let direction = *first / (second.sqrt() + EPSILON as f32) + with.decay * *value;
    *value -= with.rate * direction;
}

/// The same as tensor operations, for devices whose memory cannot be touched from here.
fn apply_on_device(update: Update<'_>) {
    let Update { value, gradient, first, second, coefficients } = update;
    let (scale, rate, decay) = (coefficients.scale as f64, coefficients.rate as f64, coefficients.decay as f64);
    let _ = first.g_mul_scalar_(BETA1);
    let _ = second.g_mul_scalar_(BETA2);
    if let Some(gradient) = gradient {
        let gradient = if gradient.is_sparse() { gradient.to_dense(None, false) } else { gradient.shallow_clone() };
        let gradient = gradient * scale;
        let _ = first.g_add_(&(&gradient * (1.0 - BETA1)));
        let _ = second.g_add_(&(gradient.square() * (1.0 - BETA2)));
    }
    let mut direction = &*first / (second.sqrt() + EPSILON);
    if decay > 0.0 {
        direction += &*value * decay;
    }
    let _ = value.g_sub_(&(direction * rate));
}

/// The sum of squares over CPU tensors, in f64.
///
/// Pieces have a fixed size and are added in order, so the result does not depend on the threads.
pub(super) fn sum_of_squares(tensors: &[Tensor]) -> f64 {
    let tensors: Vec<Tensor> = tensors.iter().map(|tensor| tensor.to_kind(Kind::Float).contiguous()).collect();
    // SAFETY: gradients are only read until the step is over.
    let pieces = tensors.iter().flat_map(|tensor| unsafe { floats(tensor) }.chunks(PIECE));
    let pieces: Vec<&[f32]> = pieces.collect();
    let mut sums = vec![0.0; pieces.len()];
    let elements = pieces.iter().map(|piece| piece.len()).sum();
    parallel::for_each(sums.iter_mut().zip(pieces).collect(), elements, |(sum, piece)| *sum = squares(piece));
    sums.iter().sum()
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (whole, rest) = values.as_chunks::<8>();
    for eight in whole {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let rest = rest.iter().map(|&value| f64::from(value) * f64::from(value));
    lanes.iter().copied().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, CPU)
    }

    /// Value, first and second moment after a step by either way.
    fn both_ways(start: &[Tensor; 3], gradient: Option<&Tensor>) -> [[Tensor; 3]; 2] {
        let ways: [fn(Update<'_>); 2] = [|update| apply(vec![update]), apply_on_device];
        ways.map(|way| {
            let [mut value, mut first, mut second] = start.each_ref().map(Tensor::copy);
            let coefficients = Coefficients::new(0.3, 0.02, 0.01);
            way(Update { value: &mut value, gradient, first: &mut first, second: &mut second, coefficients });
            [value, first, second]
        })
    }

    #[test]
    fn the_single_pass_and_the_tensor_formula_agree() {
        let shape = [300, 700]; // several pieces, the last one short
        // Second moments away from zero, where the step is huge and so is its rounding.
        let start = [random(&shape), random(&shape), random(&shape).square() + 0.01];
        let few_rows = {
            let dense = random(&shape);
            let _ = dense.narrow(0, 3, 200).zero_();
            dense.to_sparse_sparse_dim(1)
        };
        let dense = random(&shape);
        for gradient in [None, Some(&dense), Some(&few_rows)] {
            let [pass, formula] = both_ways(&start, gradient);
            for (pass, formula) in pass.iter().zip(&formula) {
                let difference = (pass - formula).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{difference}");
            }
        }
    }

    #[test]
    fn a_sparse_gradient_acts_like_the_dense_one_of_the_same_values() {
        let shape = [50, 24];
        let start = [random(&shape), random(&shape), random(&shape).square()];
        let dense = random(&shape);
        for empty in [&[0i64, 1, 30][..], &[49], &[]] {
            for &row in empty {
                let _ = dense.get(row).zero_();
            }
            let sparse = dense.to_sparse_sparse_dim(1);
            let [[value, ..], _] = both_ways(&start, Some(&dense));
            let [[other, ..], _] = both_ways(&start, Some(&sparse));
            assert_eq!(value, other);
        }
        let nothing = Tensor::zeros(shape, CPU).to_sparse_sparse_dim(1);
        assert_eq!(both_ways(&start, Some(&nothing))[0][0], both_ways(&start, None)[0][0]);
    }

    #[test]
    fn the_norm_is_that_of_all_tensors_together() {
        let tensors = [random(&[300, 700]), random(&[5]), Tensor::zeros([0], CPU)];
        let expected: f64 = tensors.iter().map(|t| t.to_kind(Kind::Double).square().sum(None).double_value(&[])).sum();
        assert!((sum_of_squares(&tensors) - expected).abs() < 1e-9 * expected);
        assert!(sum_of_squares(&[Tensor::from_slice(&[1.0f32, f32::NAN])]).is_nan());
        // In f32 these squares would overflow, and a step that can be taken would not be.
        assert!(sum_of_squares(&[Tensor::from_slice(&[1e30f32])]).is_finite());
    }
}
