//! From texts to the piece ids of a row: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to the
//! longest length that is allowed. Rows are not padded here, for padding is the largest waste.

use super::rows::Row;
use super::tokenize::{Scratch, Tokenizer};
use std::sync::Mutex;

/// Rows that a thread takes at a time.
const CHUNK: usize = 1024;

/// The input of the encoder for one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Piece ids with `[CLS]` and `[SEP]`, without padding; at most `max_seq_length`.
    pub ids: Vec<u32>,
    /// Where segment 1 begins: positions before it have the token type 0, the others 1. Equal to
    /// `ids.len()` for a single text.
    pub second: u16,
}

impl Features {
    /// Token type of each piece: 0 for the first text, 1 for the second.
    pub fn segment_ids(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        (0..self.ids.len()).map(|place| u8::from(place >= usize::from(self.second)))
    }
}

/// Turns rows into features, in their order, on `threads` threads.
pub fn featurise(tokenizer: &Tokenizer, rows: &[Row], max_seq_length: usize, threads: usize) -> Vec<Features> {
    let mut out = vec![Features::default(); rows.len()];
    let work = Mutex::new(rows.chunks(CHUNK).zip(out.chunks_mut(CHUNK)));
    let run = || {
        let mut maker = Maker::new(tokenizer, max_seq_length);
        loop {
            // The lock is held only to take the next chunk; a thread that panicked took its own.
            let next = work.lock().unwrap_or_else(|e| e.into_inner()).next();
            let Some((rows, out)) = next else { break };
            for (row, out) in rows.iter().zip(out) {
                *out = maker.features(&row.text_a, row.text_b.as_deref());
            }
        }
    };
    std::thread::scope(|scope| {
        let helpers = threads.min(rows.len().div_ceil(CHUNK)).saturating_sub(1);
        for _ in 0..helpers {
            scope.spawn(run);
        }
        run();
    });
    out
}

/// Makes features one row at a time, keeping its buffers.
#[derive(Debug)]
pub struct Maker<'a> {
    tokenizer: &'a Tokenizer,
    max_seq_length: usize,
    scratch: Scratch,
    a: Vec<u32>,
    b: Vec<u32>,
}

impl<'a> Maker<'a> {
    /// For rows of at most `max_seq_length` pieces, `[CLS]` and `[SEP]` included.
    pub fn new(tokenizer: &'a Tokenizer, max_seq_length: usize) -> Self {
        Maker { tokenizer, max_seq_length, scratch: Scratch::default(), a: Vec::new(), b: Vec::new() }
    }

    /// The features of a text or a pair. A second text that is empty, or that holds nothing but
    /// what the tokenizer drops, is no second text.
    pub fn features(&mut self, text_a: &str, text_b: Option<&str>) -> Features {
        self.a.clear();
        self.b.clear();
        self.tokenizer.encode_into(text_a, &mut self.scratch, &mut self.a);
        if let Some(text) = text_b {
            self.tokenizer.encode_into(text, &mut self.scratch, &mut self.b);
        }
        layout(&self.a, &self.b, self.tokenizer.cls(), self.tokenizer.sep(), self.max_seq_length)
    }
}

/// Cuts the piece ids of a row and puts `[CLS]` and `[SEP]` round them; an empty `b` means a
/// single text.
pub fn layout(a: &[u32], b: &[u32], cls: u32, sep: u32, max_seq_length: usize) -> Features {
    let (keep_a, keep_b) = match b.len() {
        0 => (a.len().min(max_seq_length.saturating_sub(2)), 0),
        _ => truncate_pair(a.len(), b.len(), max_seq_length.saturating_sub(3)),
    };
    let mut ids = Vec::with_capacity(keep_a + keep_b + 3);
    ids.push(cls);
    ids.extend_from_slice(&a[..keep_a]);
    ids.push(sep);
    let second = ids.len() as u16;
    if keep_b > 0 {
        ids.extend_from_slice(&b[..keep_b]);
        ids.push(sep);
    }
    ids.shrink_to_fit();
    Features { ids, second }
}

/// How much of a pair of lengths stays within `limit` together: the longer text loses its last
/// piece until they fit, and on a tie the second one does.
pub fn truncate_pair(mut a: usize, mut b: usize, limit: usize) -> (usize, usize) {
    while a + b > limit {
        if a > b { a -= 1 } else { b -= 1 }
    }
    (a, b)
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
