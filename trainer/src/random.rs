//! Random numbers that are the same on every machine, for ever.
//!
//! The hash of a run promises one result, so nothing here may change: neither the generator (ChaCha8) nor the way numbers
//! are made of its words. The sampling algorithms are therefore written out below instead of taken from a library, which may improve
//! its own between versions, and golden values in the tests pin them. Nothing here depends on the device.
//!
//! A stream is named by the run's seed and a purpose, and streams share nothing: drawing more from one moves no other.
//! Purposes in use: `weights/<parameter>` (initial values), `dropout/<step>`, and those of the data (its order).

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// Separates these streams from every other use of the same hash function.
const DOMAIN: &[u8] = b"bam-trainer random 1\0";

/// A stream of random numbers for one purpose of one run.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `purpose` in a run with this seed. The key is SHA-256(domain, seed as 8 little-endian bytes, purpose).
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(seed.to_le_bytes());
        hash.update(purpose.as_bytes());
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in [0, 1): the upper 53 bits, so every value is a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An integer in 0..bound, without bias: a draw at or above the largest multiple of `bound` is thrown away.
    ///
    /// # Panics
    /// If `bound` is 0: there is nothing to choose from.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an integer below 0 was asked for");
        let usable = u64::MAX - u64::MAX % bound;
        loop {
            let bits = self.bits();
            if bits < usable {
                return bits % bound;
            }
        }
    }

    /// The numbers 0..length in random order: Fisher and Yates, from the last place to the first.
    pub fn permutation(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        for place in (1..length).rev() {
            let other = self.below(place as u64 + 1) as usize;
            order.swap(place, other);
        }
        order
    }

    /// A normal number with mean 0 and the given standard deviation, cut at two standard deviations like TensorFlow's
    /// `truncated_normal`: values beyond are drawn again.
    ///
    /// Drawn by rejection from the uniform distribution over [-2, 2), so that the value itself comes from exact arithmetic;
    /// the platform's `exp` only says yes or no.
    pub fn truncated_normal(&mut self, standard_deviation: f64) -> f64 {
        loop {
            let candidate = 4.0 * self.uniform() - 2.0;
            let density = (-0.5 * candidate * candidate).exp();
            if self.uniform() < density {
                return candidate * standard_deviation;
            }
        }
    }
}

/// The seed of everything that step number `step` (from 0) drops out. It depends on nothing that came before, so a resumed
/// run draws what the uninterrupted one would have drawn.
pub fn dropout_seed(seed: u64, step: u64) -> i64 {
    Stream::new(seed, &format!("dropout/{step}")).bits() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_numbers_of_a_stream_never_change() {
        // Made by an independent implementation of the description above, in Python.
        let stream = || Stream::new(7, "a test");
        let mut first = stream();
        assert_eq!([first.bits(), first.bits()], [8366932130720817708, 246215114966473674]);
        assert_eq!(stream().permutation(10), [5, 9, 1, 3, 7, 4, 0, 2, 6, 8]);
        assert_eq!(stream().truncated_normal(0.02), -0.003714216027334878);
        assert_eq!(dropout_seed(7, 3), -6363665852087475159);
    }

    #[test]
    fn another_seed_or_purpose_gives_another_stream() {
        let first = Stream::new(1, "data").bits();
        assert_ne!(first, Stream::new(2, "data").bits());
        assert_ne!(first, Stream::new(1, "weights").bits());
        assert_ne!(dropout_seed(1, 0), dropout_seed(1, 1));
    }

    #[test]
    fn a_truncated_normal_has_the_moments_of_one_and_stays_within_two_deviations() {
        let mut stream = Stream::new(0, "moments");
        let draws: Vec<f64> = (0..200_000).map(|_| stream.truncated_normal(0.02)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let deviation = (draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64).sqrt();
        assert!(draws.iter().all(|x| x.abs() <= 0.04));
        assert!(mean.abs() < 2e-4, "{mean}");
        // The standard deviation of a normal distribution that is cut at two deviations is 0.8796 of the uncut one's.
        assert!((deviation / 0.02 - 0.8796).abs() < 5e-3, "{deviation}");
    }

    #[test]
    fn every_place_of_a_short_permutation_is_equally_likely() {
        let mut stream = Stream::new(0, "places");
        let mut counts = [[0u32; 4]; 4];
        for _ in 0..24_000 {
            for (place, value) in stream.permutation(4).into_iter().enumerate() {
                counts[place][value] += 1;
            }
        }
        assert!(counts.iter().flatten().all(|count| count.abs_diff(6_000) < 400), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_permutation_holds_every_number_once(seed: u64, length in 0usize..300) {
            let mut order = Stream::new(seed, "order").permutation(length);
            order.sort_unstable();
            prop_assert_eq!(order, (0..length).collect::<Vec<_>>());
        }

        #[test]
        fn the_same_seed_gives_the_same_permutation(seed: u64, length in 0usize..300) {
            prop_assert_eq!(Stream::new(seed, "order").permutation(length), Stream::new(seed, "order").permutation(length));
        }

        #[test]
        fn an_integer_stays_below_its_bound_and_a_uniform_number_below_one(seed: u64, bound in 1u64..) {
            let mut stream = Stream::new(seed, "bounds");
            prop_assert!(stream.below(bound) < bound);
            prop_assert!((0.0..1.0).contains(&stream.uniform()));
        }
    }
}
