//! Which activations a training step drops.
//!
//! On a CPU every decision is a function of (seed, step, place in the model, row, position): cutting a step into other
//! micro-batches, padding it further, or another number of threads drops the same values. It is also faster than
//! libtorch's own CPU dropout, which draws one by one from a sequential generator unless the processor is an Intel: of
//! a step of MiniLM's size on 32 rows of 64 tokens (0.6 s on one core) this takes 2 to 5 %, that about 12 %. Other
//! devices use their own generator, seeded before each layer of each micro-batch.

use crate::device::{Plain, elements_mut};
use crate::parallel;
use crate::random::dropout_seed;
use half::bf16;
use tch::{Device, Kind, Tensor};

/// Where in the model something is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// After the embeddings' layer norm.
    Embeddings,
    /// The attention probabilities of a layer.
    Probabilities(usize),
    /// A layer's attention output.
    Attention(usize),
    /// A layer's feed-forward output.
    FeedForward(usize),
    /// The input of a head.
    Head(usize),
}

impl Place {
    fn code(self) -> u64 {
        let (kind, number) = match self {
            Self::Embeddings => (0, 0),
            Self::Probabilities(layer) => (1, layer),
            Self::Attention(layer) => (2, layer),
            Self::FeedForward(layer) => (3, layer),
            Self::Head(head) => (4, head),
        };
        (number as u64) << 8 | kind
    }
}

/// The dropout of one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Dropout(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    Off,
    Keyed(u64),
    Device(u64),
}

impl Dropout {
    /// Nothing is dropped: evaluation, prediction.
    pub fn off() -> Self {
        Self(Source::Off)
    }

    /// The dropout of training step `step`, counted from 0, for all of its micro-batches.
    pub fn of_step(seed: u64, step: u64, device: Device) -> Self {
        let seed = dropout_seed(seed, step) as u64;
        Self(if device == Device::Cpu { Source::Keyed(seed) } else { Source::Device(seed) })
    }

    /// To be called before a part of the model in which something is dropped, so that computing it once more drops the same:
    /// a device's own generator is seeded by the part and the micro-batch, which its first row tells from the others.
    pub(super) fn begin(&self, part: Place, rows: &[u64]) {
        if let Source::Device(seed) = self.0 {
            let first = rows.first().copied().unwrap_or_default();
            tch::manual_seed(mix(mix(seed ^ mix(part.code())) ^ mix(first)) as i64);
        }
    }

    /// What all decisions follow from, where they are keyed: on a CPU.
    pub fn key(&self) -> Option<u64> {
        match self.0 {
            Source::Keyed(seed) => Some(seed),
            Source::Off | Source::Device(_) => None,
        }
    }

    /// Drops each element of `values` with probability `rate` and scales the others by
    /// 1 / (1 - rate).
    ///
    /// `values` is f32 or bf16 [rows, width], [rows, tokens, width] or [rows, heads, tokens, width]; `rows`
    /// are the rows' numbers in their step. Both formats drop the same elements.
    pub(super) fn apply(&self, values: Tensor, rate: f64, rows: &[u64], place: Place) -> Tensor {
        // A line is numbered by its coordinates and not by its place in memory, which padding moves.
        let (outer, inner) = match *values.size() {
            [_, _] => (1, 1),
            [_, tokens, _] => (1, tokens),
            [_, heads, tokens, _] => (heads, tokens),
            ref shape => unreachable!("activations have two to four axes, these have {shape:?}"),
        };
        let rows = rows.iter().map(|&number| Lines { row: number, outer, inner });
        self.apply_to_lines(values, rate, rows, place)
    }

    /// The same of rows of these `lengths`, end to end: `values` is [tokens, width].
    pub(super) fn apply_to_tokens(
        &self,
        values: Tensor,
        rate: f64,
        rows: &[u64],
        lengths: &[i64],
        place: Place,
    ) -> Tensor {
        let rows = rows.iter().zip(lengths).map(|(&row, &inner)| Lines { row, outer: 1, inner });
        self.apply_to_lines(values, rate, rows, place)
    }

    fn apply_to_lines(&self, values: Tensor, rate: f64, rows: impl Iterator<Item = Lines>, place: Place) -> Tensor {
        if rate == 0.0 {
            return values;
        }
        match self.0 {
            Source::Off => values,
            Source::Device(_) => values.dropout(rate, true),
            Source::Keyed(seed) => {
                let key = mix(seed ^ mix(place.code()));
                let mask = match values.kind() {
                    Kind::BFloat16 => mask::<bf16>(&values.size(), rate, rows, key),
                    _ => mask::<f32>(&values.size(), rate, rows, key),
                };
                values * mask
            }
        }
    }
}

/// The lines of one row: `outer` times `inner` of them.
struct Lines {
    row: u64,
    outer: i64,
    inner: i64,
}

/// The factors of dropout: 0 or 1 / (1 - rate), of the given shape, whose last axis is a line.
fn mask<T: Factor>(shape: &[i64], rate: f64, rows: impl Iterator<Item = Lines>, key: u64) -> Tensor {
    let width = shape.last().copied().unwrap_or_default() as usize;
    let threshold = Threshold::<T>::new(rate);
    let mut factors = Tensor::empty(shape, (T::KIND, Device::Cpu));
    // SAFETY: the tensor was made just now, nothing else refers to it.
    let mut values = unsafe { elements_mut::<T>(&mut factors) };
    let elements = values.len();
    let of_rows = rows.map(|lines| {
        let its = values.split_off_mut(..(lines.outer * lines.inner) as usize * width);
        (its.expect("the rows' lines make up the values"), lines)
    });
    let of_rows = of_rows.collect();
    parallel::for_each(of_rows, elements, |(values, Lines { row, inner, .. })| {
        let key = mix(key ^ mix(row));
        for (line, values) in values.chunks_mut(width).enumerate() {
            let (outer, inner) = (line as u64 / inner as u64, line as u64 % inner as u64);
            threshold.fill(values, mix(key ^ (outer << 32 | inner)));
        }
    });
    factors
}

/// A number format of the factors.
trait Factor: Plain {
    const ZERO: Self;
    fn nearest(value: f64) -> Self;
}

impl Factor for f32 {
    const ZERO: Self = 0.0;

    fn nearest(value: f64) -> Self {
        value as f32
    }
}

impl Factor for bf16 {
    const ZERO: Self = Self::ZERO;

    fn nearest(value: f64) -> Self {
        Self::from_f64(value)
    }
}

/// A rate in 1/65536ths, so that one 64-bit word decides on four elements.
struct Threshold<T> {
    dropped: u16,
    kept: T,
}

impl<T: Factor> Threshold<T> {
    fn new(rate: f64) -> Self {
        let dropped = (rate * 65536.0).round().min(65535.0);
        // The scale belongs to the rounded rate, so that the expectation is exact.
        Self { dropped: dropped as u16, kept: T::nearest(65536.0 / (65536.0 - dropped)) }
    }

    /// Fills a line from the SplitMix64 sequence that starts at `key`: four elements a word, the
    /// lowest 16 bits first.
    fn fill(&self, line: &mut [T], key: u64) {
        let mut state = key;
        let mut next = || {
            state = state.wrapping_add(GOLDEN_RATIO);
            let bits = finish(state);
            [bits, bits >> 16, bits >> 32, bits >> 48].map(|bits| self.factor(bits as u16))
        };
        let (whole, rest) = line.as_chunks_mut::<4>();
        whole.iter_mut().for_each(|four| *four = next());
        if !rest.is_empty() {
            rest.copy_from_slice(&next()[..rest.len()]);
        }
    }

    fn factor(&self, bits: u16) -> T {
        if bits < self.dropped { T::ZERO } else { self.kept }
    }
}

/// 2^64 divided by the golden ratio: SplitMix64's increment.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// One step of SplitMix64: spreads the bits of a key.
fn mix(key: u64) -> u64 {
    finish(key.wrapping_add(GOLDEN_RATIO))
}

/// SplitMix64's output function (Steele, Lea and Flood, 2014; Stafford's variant 13).
fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(shape: &[i64], rows: &[u64], place: Place) -> Tensor {
        let ones = Tensor::ones(shape, (Kind::Float, Device::Cpu));
        Dropout::of_step(5, 3, Device::Cpu).apply(ones, 0.1, rows, place)
    }

    #[test]
    fn a_tenth_is_dropped_and_the_mean_stays_one() {
        let values = dropped(&[64, 100, 100], &(0..64).collect::<Vec<_>>(), Place::Embeddings);
        let zeros = 1.0 - values.count_nonzero(None).double_value(&[]) / 640_000.0;
        assert!((zeros - 0.1).abs() < 2e-3, "{zeros}");
        assert!((values.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 2e-3);
    }

    #[test]
    fn a_row_drops_the_same_values_alone_and_in_company_padded_or_not() {
        let place = Place::Attention(1);
        let company = dropped(&[3, 20, 8], &[4, 5, 6], place);
        let alone = dropped(&[1, 12, 8], &[5], place);
        assert_eq!(company.narrow(0, 1, 1).narrow(1, 0, 12), alone);

        let place = Place::Probabilities(1);
        let company = dropped(&[3, 2, 20, 20], &[4, 5, 6], place);
        let alone = dropped(&[1, 2, 12, 12], &[5], place);
        assert_eq!(company.narrow(0, 1, 1).narrow(2, 0, 12).narrow(3, 0, 12), alone);
    }

    #[test]
    fn rows_end_to_end_drop_what_they_drop_when_padded() {
        let (dropout, place) = (Dropout::of_step(5, 3, Device::Cpu), Place::FeedForward(2));
        let padded = dropped(&[3, 20, 8], &[4, 5, 6], place);
        let ones = Tensor::ones([12 + 20 + 1, 8], (Kind::Float, Device::Cpu));
        let packed = dropout.apply_to_tokens(ones, 0.1, &[4, 5, 6], &[12, 20, 1], place);
        for (row, first, length) in [(0, 0, 12), (1, 12, 20), (2, 32, 1)] {
            assert_eq!(padded.select(0, row).narrow(0, 0, length), packed.narrow(0, first, length));
        }
    }

    #[test]
    fn rows_places_and_steps_drop_different_values() {
        let first = dropped(&[1, 40, 40], &[0], Place::Attention(0));
        assert_ne!(first, dropped(&[1, 40, 40], &[1], Place::Attention(0)));
        assert_ne!(first, dropped(&[1, 40, 40], &[0], Place::Attention(1)));
        assert_ne!(first, dropped(&[1, 40, 40], &[0], Place::FeedForward(0)));
        let ones = Tensor::ones([1, 40, 40], (Kind::Float, Device::Cpu));
        let next = Dropout::of_step(5, 4, Device::Cpu);
        assert_ne!(first, next.apply(ones, 0.1, &[0], Place::Attention(0)));
    }

    #[test]
    fn neighbouring_values_are_dropped_independently() {
        let values = dropped(&[1, 1000, 1000], &[0], Place::Embeddings).view([1000, 1000]);
        let kept = values.clamp_max(1.0) - 0.9;
        for (axis, lag) in [(0, 1), (1, 1), (1, 2), (1, 4), (0, 16)] {
            let left = kept.narrow(axis, 0, 1000 - lag);
            let right = kept.narrow(axis, lag, 1000 - lag);
            let covariance = (left * right).mean(Kind::Double).double_value(&[]);
            assert!(covariance.abs() < 5e-4, "axis {axis}, lag {lag}: {covariance}");
        }
    }

    #[test]
    fn both_number_formats_drop_the_same_values() {
        let dropout = Dropout::of_step(5, 3, Device::Cpu);
        let [single, half] = [Kind::Float, Kind::BFloat16].map(|kind| {
            let ones = Tensor::ones([2, 30, 50], (kind, Device::Cpu));
            dropout.apply(ones, 0.1, &[0, 1], Place::Embeddings)
        });
        assert_eq!(half.kind(), Kind::BFloat16);
        // 1 / 0.9 in bf16 is 1.109375.
        assert_eq!(single.to_kind(Kind::BFloat16).to_kind(Kind::Float), half.to_kind(Kind::Float));
        assert_eq!(half.max().double_value(&[]), 1.109375);
    }

    #[test]
    fn nothing_is_dropped_when_it_is_off() {
        let ones = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        assert_eq!(Dropout::off().apply(ones.copy(), 0.5, &[0, 1], Place::Head(0)), ones);
    }
}
