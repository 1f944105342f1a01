//! From texts to the piece ids of a row: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to the
//! longest length that is allowed. Rows are not padded here, for padding is the largest waste.

use super::rows::Row;
use super::tokenize::{Scratch, Tokenizer};
use std::sync::Mutex;

/// Rows that a thread takes at a time.
const CHUNK: usize = 1024;

/// The input of the encoder for one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features<'a> {
    /// Piece ids with `[CLS]` and `[SEP]`, without padding; at most `max_seq_length`.
    pub ids: &'a [u32],
    /// Where segment 1 begins: positions before it have the token type 0, the others 1. Equal to
    /// `ids.len()` for a single text.
    pub second: u16,
}

impl Features<'_> {
    /// Token type of each piece: 0 for the first text, 1 for the second.
    pub fn segment_ids(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        (0..self.ids.len()).map(|place| u8::from(place >= usize::from(self.second)))
    }
}

/// The features of rows, end to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Piece ids of all rows.
    pub ids: Vec<u32>,
    /// Where each row's ids end.
    pub ends: Vec<u64>,
    /// [`Features::second`] of each row.
    pub seconds: Vec<u16>,
}

impl Table {
    fn push(&mut self, (ids, second): (&[u32], u16)) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len() as u64);
        self.seconds.push(second);
    }

    fn append(&mut self, other: &Self) {
        let before = self.ids.len() as u64;
        self.ids.extend_from_slice(&other.ids);
        self.ends.extend(other.ends.iter().map(|end| before + end));
        self.seconds.extend_from_slice(&other.seconds);
    }
}

/// Turns rows into features, in their order, on `threads` threads.
pub fn featurise(tokenizer: &Tokenizer, rows: &[Row], max_seq_length: usize, threads: usize) -> Table {
    let mut parts = vec![Table::default(); rows.len().div_ceil(CHUNK)];
    let work = Mutex::new(rows.chunks(CHUNK).zip(&mut parts));
    let run = || {
        let mut maker = Maker::new(tokenizer, max_seq_length);
        loop {
            // The lock is held only to take the next chunk; a thread that panicked took its own.
            let next = work.lock().unwrap_or_else(|e| e.into_inner()).next();
            let Some((rows, part)) = next else { break };
            for row in rows {
                part.push(maker.features(&row.text_a, row.text_b.as_deref()));
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
    let mut table = Table::default();
    parts.iter().for_each(|part| table.append(part));
    table
}

/// Makes features one row at a time, keeping its buffers.
#[derive(Debug)]
pub struct Maker<'a> {
    tokenizer: &'a Tokenizer,
    max_seq_length: usize,
    scratch: Scratch,
    a: Vec<u32>,
    b: Vec<u32>,
    ids: Vec<u32>,
}

impl<'a> Maker<'a> {
    /// For rows of at most `max_seq_length` pieces, `[CLS]` and `[SEP]` included.
    pub fn new(tokenizer: &'a Tokenizer, max_seq_length: usize) -> Self {
        Maker { tokenizer, max_seq_length, scratch: Scratch::default(), a: Vec::new(), b: Vec::new(), ids: Vec::new() }
    }

    /// The features of a text or a pair: ids, and where segment 1 begins. A second text that is empty, or that holds
    /// nothing but what the tokenizer drops, is no second text.
    pub fn features(&mut self, text_a: &str, text_b: Option<&str>) -> (&[u32], u16) {
        self.a.clear();
        self.b.clear();
        self.tokenizer.encode_into(text_a, &mut self.scratch, &mut self.a);
        if let Some(text) = text_b {
            self.tokenizer.encode_into(text, &mut self.scratch, &mut self.b);
        }
        let ends = (self.tokenizer.cls(), self.tokenizer.sep());
        let second = layout(&self.a, &self.b, ends, self.max_seq_length, &mut self.ids);
        (&self.ids, second)
    }
}

/// Cuts the piece ids of a row and puts `[CLS]` and `[SEP]` round them, into `ids`; an empty `b` means a
/// single text. Returns where segment 1 begins.
pub fn layout(a: &[u32], b: &[u32], (cls, sep): (u32, u32), max_seq_length: usize, ids: &mut Vec<u32>) -> u16 {
    let (keep_a, keep_b) = match b.len() {
        0 => (a.len().min(max_seq_length.saturating_sub(2)), 0),
        _ => truncate_pair(a.len(), b.len(), max_seq_length.saturating_sub(3)),
    };
    ids.clear();
    ids.push(cls);
    ids.extend_from_slice(&a[..keep_a]);
    ids.push(sep);
    let second = ids.len() as u16;
    if keep_b > 0 {
        ids.extend_from_slice(&b[..keep_b]);
        ids.push(sep);
    }
    second
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
