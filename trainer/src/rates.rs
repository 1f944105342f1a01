//! How fast training and prediction go, over the last seconds.

use std::time::{Duration, Instant};

/// Rates are known after this time…
const LEAST: Duration = Duration::from_millis(500);
/// … and are over about this time.
const WINDOW: Duration = Duration::from_secs(5);

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Rows.
    pub rows: u64,
    /// Real word pieces of those.
    pub tokens: u64,
    /// Time in optimizer steps, checkpoints not counted.
    pub steps: Duration,
    /// The part of that in which a step waited for its rows.
    pub waited: Duration,
}

/// Counts over a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// Rows per second.
    pub rows: f64,
    /// Real word pieces per second.
    pub tokens: f64,
    /// Share of the steps' time that they waited for their rows; nothing if there was no step.
    pub data_wait: Option<f64>,
}

/// Counts since a moment that moves on.
#[derive(Debug)]
pub(crate) struct Window {
    since: Instant,
    counts: Counts,
}

impl Window {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), counts: Counts::default() }
    }

    /// Adds what went through since the last call. Says the rates if enough time has gone by to know.
    pub(crate) fn add(&mut self, counts: Counts) -> Option<Rates> {
        self.add_at(Instant::now(), counts)
    }

    fn add_at(&mut self, now: Instant, new: Counts) -> Option<Rates> {
        let counts = &mut self.counts;
        *counts = Counts {
            rows: counts.rows + new.rows,
            tokens: counts.tokens + new.tokens,
            steps: counts.steps + new.steps,
            waited: counts.waited + new.waited,
        };
        let elapsed = now.duration_since(self.since);
        let seconds = elapsed.as_secs_f64();
        let rates = (elapsed >= LEAST).then(|| Rates {
            rows: counts.rows as f64 / seconds,
            tokens: counts.tokens as f64 / seconds,
            data_wait: (!counts.steps.is_zero()).then(|| counts.waited.as_secs_f64() / counts.steps.as_secs_f64()),
        });
        if elapsed >= WINDOW {
            *self = Self { since: now, counts: Counts::default() };
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(millis: u64) -> Counts {
        let steps = Duration::from_millis(millis);
        Counts { rows: 8, tokens: 100, steps, waited: steps / 4 }
    }

    #[test]
    fn rates_are_known_after_half_a_second_and_are_those_of_the_last_seconds() {
        let begin = Instant::now();
        let mut window = Window { since: begin, counts: Counts::default() };
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(window.add_at(at(400), step(400)), None);
        // Two steps in a second, the rest of which was a checkpoint.
        let expected = Rates { rows: 16.0, tokens: 200.0, data_wait: Some(0.25) };
        assert_eq!(window.add_at(at(1000), step(400)), Some(expected));
        window.add_at(at(5000), step(400));
        assert_eq!(window.add_at(at(5400), step(400)), None, "a new window has begun");
        let expected = Rates { rows: 16.0, tokens: 200.0, data_wait: Some(0.25) };
        assert_eq!(window.add_at(at(6000), step(600)), Some(expected));
    }

    #[test]
    fn without_steps_nothing_waits() {
        let begin = Instant::now();
        let mut window = Window { since: begin, counts: Counts::default() };
        let rows = Counts { rows: 4, ..Counts::default() };
        let rates = window.add_at(begin + Duration::from_secs(1), rows);
        assert_eq!(rates, Some(Rates { rows: 4.0, tokens: 0.0, data_wait: None }));
    }
}
