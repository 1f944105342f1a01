//! How long a stage of a training still takes, if it goes on as it went so far.

use std::time::Instant;

use bam_crds::report::Stage;

/// How fast a stage goes, from where it was first seen.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    began: Option<(Stage, u64, Instant)>,
}

impl Pace {
    /// Seconds until a stage is over of which so many units are done, of so many; none: nobody can tell (yet).
    pub fn seconds_left(&mut self, stage: Stage, done: u64, total: u64) -> Option<f64> {
        let (first, from, since) = *self.began.get_or_insert((stage, done, Instant::now()));
        if first != stage || from > done {
            self.began = Some((stage, done, Instant::now()));
            return None;
        }
        let (new, seconds) = (done - from, since.elapsed().as_secs_f64());
        let left = total.saturating_sub(done);
        (new > 0 && left > 0).then(|| seconds / new as f64 * left as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds_left(Stage::Training, 10, 100), None, "it was seen once");
        pace.began = pace.began.map(|(stage, done, since)| (stage, done, since - Duration::from_secs(20)));
        let left = pace.seconds_left(Stage::Training, 30, 100).unwrap();
        assert!((left - 70.0).abs() < 1.0, "{left}");
        assert_eq!(pace.seconds_left(Stage::Training, 100, 100), None, "it is over");
        assert_eq!(pace.seconds_left(Stage::Training, 20, 0), None, "nobody knows how much there is");
        assert_eq!(pace.seconds_left(Stage::Evaluating, 5, 100), None, "another stage goes at another pace");
        assert_eq!(pace.seconds_left(Stage::Training, 5, 100), None, "it began anew");
    }
}
