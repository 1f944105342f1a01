//! What several trials say together.

use serde::{Deserialize, Serialize};

/// Centre and spread of a score over trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Trials that have the score.
    pub trials: u32,
    /// Median; of an even count the mean of the two in the middle.
    pub median: f64,
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; absent for one trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_deviation: Option<f64>,
}

impl Statistics {
    /// Of finite scores in any order; nothing of none.
    pub fn of(scores: &[f64]) -> Option<Self> {
        let mut scores = scores.to_vec();
        scores.sort_by(f64::total_cmp);
        let count = scores.len();
        let middle = count / 2;
        let upper = *scores.get(middle)?;
        let mean = scores.iter().sum::<f64>() / count as f64;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        Some(Self {
            trials: count as u32,
            median: if count % 2 == 1 { upper } else { (scores[middle - 1] + upper) / 2.0 },
            mean,
            standard_deviation: (count > 1).then(|| (squares / (count as f64 - 1.0)).sqrt()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_have_a_centre_and_from_two_on_a_spread() {
        let of = |scores: &[f64]| {
            let said = Statistics::of(scores).unwrap();
            (said.trials, said.median, said.mean, said.standard_deviation)
        };
        assert_eq!(Statistics::of(&[]), None);
        assert_eq!(of(&[70.0]), (1, 70.0, 70.0, None));
        assert_eq!(of(&[72.0, 70.0]), (2, 71.0, 71.0, Some(2f64.sqrt())));
        assert_eq!(of(&[9.0, 1.0, 2.0]), (3, 2.0, 4.0, Some(19f64.sqrt())));
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]).1, 2.5);
    }
}
