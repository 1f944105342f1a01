//! The rows that go through the encoder together.

use tch::{Device, Kind, Tensor};

/// One row to encode, without padding.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The row's number within its optimizer step. Dropout depends on it, so that cutting a step
    /// into micro-batches in another way drops the same values.
    pub number: u64,
    /// Word pieces, `[CLS]` first.
    pub input_ids: &'a [u32],
    /// Where segment 1 begins: the length if there is no second text.
    pub second: usize,
}

/// Rows end to end, without padding.
#[derive(Debug)]
pub struct MicroBatch {
    /// Word pieces: i64 [tokens].
    pub input_ids: Tensor,
    /// Segments: i64 [tokens].
    pub segment_ids: Tensor,
    /// Tokens of each row.
    pub lengths: Vec<i64>,
    /// Each row's number within its optimizer step.
    pub rows: Vec<u64>,
}

impl MicroBatch {
    /// Lays rows end to end and puts them on a device.
    ///
    /// # Panics
    /// If there is no row.
    pub fn pack(rows: &[Row<'_>], device: Device) -> Self {
        assert!(!rows.is_empty(), "a micro-batch has rows");
        let input_ids: Vec<i64> = rows.iter().flat_map(|row| row.input_ids).map(|&id| id.into()).collect();
        let segments = rows.iter().flat_map(|row| (0..row.input_ids.len()).map(|at| i64::from(at >= row.second)));
        let segment_ids: Vec<i64> = segments.collect();
        Self {
            input_ids: Tensor::from_slice(&input_ids).to_device(device),
            segment_ids: Tensor::from_slice(&segment_ids).to_device(device),
            lengths: rows.iter().map(|row| row.input_ids.len() as i64).collect(),
            rows: rows.iter().map(|row| row.number).collect(),
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::new(&self.lengths, self.input_ids.device())
    }
}

/// Where the tokens of a micro-batch stand. What looks at each token alone (dense layers, layer norms, dropout: nearly all of
/// the work) has them end to end, [tokens, width]; attention alone looks at rows padded to the longest of them,
/// [rows, longest, width].
///
/// An epoch of CoLA (11 tokens a row) takes 32 s so and 39 s if everything is padded to the longest of a micro-batch, one of SST-2 (13)
/// 36 and 58 (MiniLM, 2 cores).
#[derive(Debug)]
pub(super) struct Layout {
    rows: i64,
    longest: i64,
    /// For each place of [rows * longest] its token, and for each token its place; none if all rows are equally long. At the end of
    /// a shorter row stands the first token of all: attention does not look there.
    places: Option<(Tensor, Tensor)>,
    /// Each token's position in its row: i64 [tokens].
    pub positions: Tensor,
    /// Each row's first token: i64 [rows].
    pub firsts: Tensor,
    /// What is added to attention scores: f32 [rows, 1, 1, longest], 0 at tokens and -10000 elsewhere. Not minus infinity: the
    /// reference's number, which also keeps an empty row finite.
    pub mask: Tensor,
}

impl Layout {
    fn new(lengths: &[i64], device: Device) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let rows = lengths.len() as i64;
        let tensor = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(device);
        let first = |row: usize| lengths[..row].iter().sum::<i64>();
        let firsts: Vec<i64> = (0..lengths.len()).map(first).collect();
        let positions: Vec<i64> = lengths.iter().flat_map(|&length| 0..length).collect();
        let places = (rows * longest > positions.len() as i64).then(|| {
            let place = |(row, at): (i64, i64)| row * longest + at;
            let of_tokens = (0..rows).zip(lengths).flat_map(|(row, &length)| (0..length).map(move |at| (row, at)));
            let places: Vec<i64> = of_tokens.map(place).collect();
            let mut tokens = vec![0; (rows * longest) as usize];
            (0..).zip(&places).for_each(|(token, &place)| tokens[place as usize] = token);
            (tensor(&tokens), tensor(&places))
        });
        let ends = tensor(lengths).view([-1, 1, 1, 1]);
        let outside = Tensor::arange(longest, (Kind::Int64, device)).ge_tensor(&ends);
        Self {
            rows,
            longest,
            places,
            positions: tensor(&positions),
            firsts: tensor(&firsts),
            mask: outside.to_kind(Kind::Float) * -10000.0,
        }
    }

    /// [tokens, width] to [rows, longest, width].
    pub fn pad(&self, tokens: &Tensor) -> Tensor {
        let padded = match &self.places {
            Some((tokens_of_places, _)) => tokens.index_select(0, tokens_of_places),
            None => tokens.shallow_clone(),
        };
        padded.view([self.rows, self.longest, -1])
    }

    /// [rows, longest, width] to [tokens, width].
    pub fn unpad(&self, padded: &Tensor) -> Tensor {
        let flat = padded.reshape([self.rows * self.longest, -1]);
        match &self.places {
            Some((_, places_of_tokens)) => flat.index_select(0, places_of_tokens),
            None => flat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: &[&[u32]]) -> MicroBatch {
        let row = |(number, ids): (u64, &&'static [u32])| Row { number, input_ids: ids, second: 3 };
        let rows: Vec<&'static [u32]> = rows.iter().map(|ids| &*Vec::leak(ids.to_vec())).collect();
        MicroBatch::pack(&(4..).zip(&rows).map(row).collect::<Vec<_>>(), Device::Cpu)
    }

    fn numbers(tensor: &Tensor) -> Vec<i64> {
        tensor.to_kind(Kind::Int64).reshape([-1]).try_into().unwrap()
    }

    #[test]
    fn rows_lie_end_to_end_and_attention_sees_them_padded() {
        let batch = batch(&[&[101, 7, 102], &[101, 7, 102, 8, 102]]);
        assert_eq!(numbers(&batch.input_ids), [101, 7, 102, 101, 7, 102, 8, 102]);
        assert_eq!(numbers(&batch.segment_ids), [0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((batch.lengths.as_slice(), batch.rows.as_slice()), (&[3, 5][..], &[4, 5][..]));
        let layout = batch.layout();
        assert_eq!(numbers(&layout.positions), [0, 1, 2, 0, 1, 2, 3, 4]);
        assert_eq!(numbers(&layout.firsts), [0, 3]);
        assert_eq!(numbers(&layout.mask), [0, 0, 0, -10000, -10000, 0, 0, 0, 0, 0]);
        let tokens = batch.input_ids.view([-1, 1]);
        let padded = layout.pad(&tokens);
        assert_eq!(padded.size(), [2, 5, 1]);
        assert_eq!(numbers(&padded), [101, 7, 102, 101, 101, 101, 7, 102, 8, 102]);
        assert_eq!(layout.unpad(&padded), tokens);
    }

    #[test]
    fn rows_of_one_length_are_padded_as_they_lie() {
        let batch = batch(&[&[101, 7], &[101, 8]]);
        let layout = batch.layout();
        let tokens = batch.input_ids.view([-1, 1]);
        assert!(layout.places.is_none());
        assert_eq!(layout.unpad(&layout.pad(&tokens)), tokens);
    }
}
