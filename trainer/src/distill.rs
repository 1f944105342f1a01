//! The loss: gold labels and a teacher's predictions, mixed into one target BEFORE the loss is
//! taken ("BAM! Born-Again Multi-Task Networks", section 3; teacher annealing).

use tch::{Kind, Reduction, Tensor};

/// The weight of gold against teacher at a step: 1 is gold alone.
///
/// With annealing it grows linearly from 0; `step` counts from 0 before the update, so 1 is never
/// reached. Without, `distill_weight` is the teacher's constant share.
pub fn lambda(step: u64, total_steps: u64, annealing: bool, distill_weight: f64) -> f64 {
    if annealing { step as f64 / total_steps as f64 } else { 1.0 - distill_weight }
}

/// A task's teacher for some rows, and how much gold weighs against it.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// Classification: logits f32 [rows, labels]. Regression: predictions f32 [rows].
    pub predictions: &'a Tensor,
    /// The weight of gold, see [`lambda`].
    pub lambda: f64,
    /// What a classification's logits are divided by; 1 in the reference.
    pub temperature: f64,
}

/// Cross-entropy of each row against its target: f32 [rows].
///
/// `logits` f32 [rows, labels]; `gold` i64 [rows]. The target is the gold label's one-hot vector,
/// or lambda times that plus (1 - lambda) times the teacher's softmax. It is cross-entropy and not
/// the Kullback-Leibler divergence: the teacher's entropy stays in.
///
/// At a temperature T other than 1 the two meet as losses instead: lambda times the cross-entropy
/// against gold, plus (1 - lambda) T^2 times that of the softmaxes of teacher and student, both of
/// logits / T. The factor keeps the teacher's share of the gradient what it is at T = 1 ("Distilling
/// the Knowledge in a Neural Network", Hinton, Vinyals and Dean, 2015, section 2).
pub fn classification_losses(logits: &Tensor, gold: &Tensor, teacher: Option<Teacher<'_>>) -> Tensor {
    let gold = gold.one_hot(logits.size()[1]).to_kind(Kind::Float);
    match teacher {
        None => cross_entropies(&gold, logits),
        // The same number as below, in the reference's order: one sum for both.
        Some(Teacher { predictions, lambda, temperature: 1.0 }) => {
            let target = gold * lambda + predictions.softmax(-1, Kind::Float) * (1.0 - lambda);
            cross_entropies(&target, logits)
        }
        Some(Teacher { predictions, lambda, temperature }) => {
            let soft = (predictions / temperature).softmax(-1, Kind::Float);
            let softly = cross_entropies(&soft, &(logits / temperature)) * temperature.powi(2);
            cross_entropies(&gold, logits) * lambda + softly * (1.0 - lambda)
        }
    }
}

/// f32 [rows] of distributions `target` f32 [rows, labels] and logits of the same shape.
fn cross_entropies(target: &Tensor, logits: &Tensor) -> Tensor {
    -(target * logits.log_softmax(-1, Kind::Float)).sum_dim_intlist(-1, false, Kind::Float)
}

/// Squared error of each row against its target: f32 [rows].
///
/// All three are on the task's 0 to 1 scale: `predictions` f32 [rows], `gold` f32 [rows]. The target
/// is gold, or lambda times gold plus (1 - lambda) times the teacher's prediction. There are no
/// probabilities that a temperature could soften.
pub fn regression_losses(predictions: &Tensor, gold: &Tensor, teacher: Option<Teacher<'_>>) -> Tensor {
    match teacher {
        None => predictions.mse_loss(gold, Reduction::None),
        Some(Teacher { predictions: teacher, lambda, .. }) => {
            let target = gold * lambda + teacher * (1.0 - lambda);
            predictions.mse_loss(&target, Reduction::None)
        }
    }
}

/// The loss of rows of one task: their sum, times the task's weight. A scalar.
///
/// It is a sum over rows, never a mean: with the optimizer's clip the two train differently.
pub fn weighted_sum(losses: &Tensor, task_weight: f64) -> Tensor {
    losses.sum(Kind::Float) * task_weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &Tensor, expected: f64) {
        let got = got.double_value(&[0]);
        assert!((got - expected).abs() <= 1e-6 * expected.abs(), "{got} instead of {expected}");
    }

    #[test]
    fn a_classification_loss_goes_from_teacher_to_gold() {
        let teacher = Tensor::from_slice(&[2.0f32, 0.0, -1.0]).view([1, 3]);
        let student = Tensor::from_slice(&[0.5f32, 0.2, -0.3]).view([1, 3]);
        let gold = Tensor::from_slice(&[2i64]);
        let without_annealing = lambda(0, 1, false, 0.3);
        let table = [
            (0.0, 0.8518353619634549),
            (0.25, 1.0348687087827972),
            (0.5, 1.2179020556021394),
            (1.0, 1.5839687492408239),
            (without_annealing, 1.3643287330576133),
        ];
        for (lambda, expected) in table {
            let teacher = Teacher { predictions: &teacher, lambda, temperature: 1.0 };
            close(&classification_losses(&student, &gold, Some(teacher)), expected);
        }
        close(&classification_losses(&student, &gold, None), 1.5839687492408239);
    }

    #[test]
    fn a_regression_loss_goes_from_teacher_to_gold() {
        let (teacher, student) = (Tensor::from_slice(&[0.7f32]), Tensor::from_slice(&[0.9f32]));
        let gold = Tensor::from_slice(&[3.8f32 / 5.0]);
        for (lambda, expected) in [(0.0, 0.04), (0.25, 0.034225), (1.0, 0.0196)] {
            let teacher = Teacher { predictions: &teacher, lambda, temperature: 2.0 };
            let losses = regression_losses(&student, &gold, Some(teacher));
            assert!((losses.double_value(&[0]) - expected).abs() < 1e-7);
        }
        assert!((regression_losses(&student, &gold, None).double_value(&[0]) - 0.0196).abs() < 1e-7);
    }

    #[test]
    fn annealing_starts_at_the_teacher_and_ends_one_step_before_gold() {
        assert_eq!(lambda(0, 15, true, 0.5), 0.0);
        assert_eq!(lambda(14, 15, true, 0.5), 14.0 / 15.0);
        assert_eq!(lambda(14, 15, false, 0.3), 0.7);
    }

    #[test]
    fn the_total_is_a_weighted_sum_and_not_a_mean() {
        let losses = Tensor::from_slice(&[1.0f32, 2.0, 3.0]);
        assert_eq!(weighted_sum(&losses, 0.5).double_value(&[]), 3.0);
    }
}
