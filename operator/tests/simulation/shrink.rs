//! Makes a schedule smaller, as long as the same property does not hold.

use crate::life::live;
use crate::properties::{Violation, violation};
use crate::schedule::{Act, Schedule};

/// The smallest schedule that can be had by leaving out acts, one at a time.
pub fn shrink(schedule: Schedule, of: &Violation) -> (Schedule, Violation) {
    let (mut smallest, mut last) = (schedule, of.clone());
    while let Some((smaller, violation)) = smaller(&smallest).into_iter().find_map(|candidate| {
        let violation = violation(&live(&candidate)).filter(|it| it.property == of.property)?;
        Some((candidate, violation))
    }) {
        (smallest, last) = (smaller, violation);
    }
    (smallest, last)
}

fn smaller(schedule: &Schedule) -> Vec<Schedule> {
    let removable = (0..schedule.acts.len()).filter(|index| schedule.acts[*index].1 != Act::Submit(0));
    let without = removable.map(|index| {
        let mut smaller = schedule.clone();
        smaller.acts.remove(index);
        smaller
    });
    without.collect()
}
