//! Steps that are not taken, because a gradient is not finite.
//!
//! A row may be to blame (a teacher's score beyond all measure, a text that drives an activation out of range), and the
//! training is better off without that step. Or the weights are, and then no step is of any use.

use serde::{Deserialize, Serialize};

/// Skipped one after the other: the steps have different rows and the same weights, so it is the weights.
pub const MOST_IN_A_ROW: u64 = 3;
/// Skipped in all: what is learned is no longer what the schedule says.
pub const MOST: u64 = 10;

/// How many steps were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Skipped {
    /// Of all so far.
    pub total: u64,
    /// Since the last one that was taken.
    pub in_a_row: u64,
}

impl Skipped {
    /// A step was skipped.
    pub fn skip(&mut self) {
        self.total += 1;
        self.in_a_row += 1;
    }

    /// A step was taken.
    pub fn take(&mut self) {
        self.in_a_row = 0;
    }

    /// Is it time to give up?
    pub fn is_too_much(self) -> bool {
        self.in_a_row >= MOST_IN_A_ROW || self.total >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many steps it gives up; a step is skipped where there is an `x`.
    fn gives_up(steps: &str) -> Option<usize> {
        let mut skipped = Skipped::default();
        let mut too_much = |step| {
            if step == 'x' {
                skipped.skip()
            } else {
                skipped.take()
            }
            skipped.is_too_much()
        };
        steps.chars().position(&mut too_much)
    }

    #[test]
    fn three_in_a_row_or_ten_in_all_are_too_much() {
        assert_eq!(gives_up("....x.x..xx.x...xx.x"), None);
        assert_eq!(gives_up("....x.xxx"), Some(8));
        assert_eq!(gives_up(&"x.".repeat(20)), Some(18));
    }
}
