//! The learning rate of each step.

/// Linear warm-up from 0, then linear decay to 0.
///
/// As in BERT's own code, the decay runs over ALL steps and not from the end of the warm-up, so the rate drops by the warm-up's share
/// (a tenth by default) when the warm-up ends; and the first step has rate 0, though it moves Adam's moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRates {
    total_steps: u64,
    warmup_steps: u64,
    learning_rate: f64,
}

impl LearningRates {
    /// The rates of `total_steps` steps whose first `warmup_proportion` (rounded down) warm up to `learning_rate`.
    pub fn new(total_steps: u64, warmup_proportion: f64, learning_rate: f64) -> Self {
        let warmup_steps = (total_steps as f64 * warmup_proportion) as u64;
        Self { total_steps, warmup_steps, learning_rate }
    }

    /// The number of steps that warm up.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    /// The learning rate of the heads at `step`, counted from 0 before the update.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            self.learning_rate * step as f64 / self.warmup_steps as f64
        } else {
            self.learning_rate * (1.0 - step as f64 / self.total_steps as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_rates(rates: LearningRates, expected: &[(u64, f64)]) {
        for &(step, rate) in expected {
            let got = rates.at(step);
            assert!((got - rate).abs() <= 1e-6 * rate, "step {step}: {got} instead of {rate}");
        }
    }

    #[test]
    fn the_reference_run_on_rte_has_these_rates() {
        let rates = LearningRates::new(234, 0.1, 5e-5);
        assert_eq!(rates.warmup_steps(), 23);
        assert_rates(
            rates,
            &[(0, 0.0), (1, 2.173913e-6), (22, 4.782609e-5), (23, 4.508547e-5), (117, 2.5e-5), (233, 2.136752e-7)],
        );
    }

    #[test]
    fn the_debug_run_has_these_rates() {
        let rates = LearningRates::new(15, 0.1, 1e-4);
        assert_eq!(rates.warmup_steps(), 1);
        assert_rates(rates, &[(0, 0.0), (1, 9.333333e-5), (7, 5.333333e-5), (14, 6.666667e-6)]);
    }

    #[test]
    fn fewer_than_ten_steps_have_no_warm_up() {
        let rates = LearningRates::new(9, 0.1, 1e-4);
        assert_eq!(rates.warmup_steps(), 0);
        assert_eq!(rates.at(0), 1e-4);
    }

    #[test]
    fn warm_ups_are_rounded_down() {
        let runs = [(690, 69), (804, 80), (1080, 108), (36816, 3681), (1500, 150), (50646, 5064)];
        for (steps, warmup) in runs {
            assert_eq!(LearningRates::new(steps, 0.1, 1.0).warmup_steps(), warmup, "{steps} steps");
        }
    }
}
