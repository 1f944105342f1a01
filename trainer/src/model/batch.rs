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

/// Rows of similar length, padded to the longest of them.
#[derive(Debug)]
pub struct MicroBatch {
    /// Word pieces: i64 [rows, length], zeros at the end.
    pub input_ids: Tensor,
    /// Segments: i64 [rows, length], zeros at the end.
    pub segment_ids: Tensor,
    /// Real tokens of each row.
    pub lengths: Vec<i64>,
    /// Each row's number within its optimizer step.
    pub rows: Vec<u64>,
}

impl MicroBatch {
    /// Pads rows to the longest of them and puts them on a device.
    ///
    /// # Panics
    /// If there is no row.
    pub fn pad(rows: &[Row<'_>], device: Device) -> Self {
        let longest = rows.iter().map(|row| row.input_ids.len()).max();
        Self::pad_to(rows, longest.expect("a micro-batch has rows"), device)
    }

    /// Pads rows to a given length, for devices that compile one program per shape.
    ///
    /// # Panics
    /// If a row is longer than `length`.
    pub fn pad_to(rows: &[Row<'_>], length: usize, device: Device) -> Self {
        let mut input_ids = vec![0i64; rows.len() * length];
        let mut segment_ids = vec![0i64; rows.len() * length];
        for (at, row) in rows.iter().enumerate() {
            assert!(row.input_ids.len() <= length, "a row is longer than {length} tokens");
            let own = at * length..at * length + row.input_ids.len();
            for (id, &given) in input_ids[own.clone()].iter_mut().zip(row.input_ids) {
                *id = given.into();
            }
            segment_ids[own][row.second..].fill(1);
        }
        let shape = [rows.len() as i64, length as i64];
        Self {
            input_ids: Tensor::from_slice(&input_ids).view(shape).to_device(device),
            segment_ids: Tensor::from_slice(&segment_ids).view(shape).to_device(device),
            lengths: rows.iter().map(|row| row.input_ids.len() as i64).collect(),
            rows: rows.iter().map(|row| row.number).collect(),
        }
    }

    /// What is added to attention scores: f32 [rows, 1, 1, length], 0 at real tokens and -10000 at
    /// padding. Not minus infinity: the reference's number, which also keeps an empty row finite.
    pub(super) fn mask(&self) -> Tensor {
        let device = self.input_ids.device();
        let length = self.input_ids.size()[1];
        let lengths = Tensor::from_slice(&self.lengths).to_device(device).view([-1, 1, 1, 1]);
        let padding = Tensor::arange(length, (Kind::Int64, device)).ge_tensor(&lengths);
        padding.to_kind(Kind::Float) * -10000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_the_longest() {
        let rows = [
            Row { number: 4, input_ids: &[101, 7, 102], second: 3 },
            Row { number: 2, input_ids: &[101, 7, 102, 8, 102], second: 3 },
        ];
        let batch = MicroBatch::pad(&rows, Device::Cpu);
        let table = |rows: &[[i64; 5]; 2]| Tensor::from_slice(&rows.concat()).view([2, 5]);
        assert_eq!(batch.input_ids, table(&[[101, 7, 102, 0, 0], [101, 7, 102, 8, 102]]));
        assert_eq!(batch.segment_ids, table(&[[0; 5], [0, 0, 0, 1, 1]]));
        assert_eq!((batch.lengths.as_slice(), batch.rows.as_slice()), (&[3, 5][..], &[4, 2][..]));
        let mask = batch.mask().view([2, 5]);
        let expected = Tensor::from_slice(&[[0.0, 0.0, 0.0, -1e4, -1e4], [0.0f32; 5]].concat());
        assert_eq!(mask, expected.view([2, 5]));
        assert_eq!(MicroBatch::pad_to(&rows, 8, Device::Cpu).input_ids.size(), [2, 8]);
    }
}
