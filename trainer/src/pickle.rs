//! Writes the three pickles that the reference leaves behind, so that scripts made for its output
//! folders go on working: predictions of a classification (`dict[int, float32 vector]`), of a
//! regression (`dict[int, float32]`), and `results.pkl` (`list` of `dict[task, dict[metric,
//! float]]`).
//!
//! Protocol 4, little more than it takes: see Python's `pickletools` for the opcodes. NumPy's
//! objects are named as NumPy 1 has them (`numpy.core`), which NumPy 2 still loads.

use crate::task::Task;

/// Scores of one trial: tasks in order, each with its metrics in order.
pub type TrialScores = Vec<(String, Vec<(String, f64)>)>;

/// A prediction pickle: a model's raw logits by example id. `logits` is [rows, outputs], row by
/// row.
///
/// # Panics
/// If there are not as many rows of logits as ids.
pub fn predictions(task: &Task, eids: &[u32], logits: &[f32]) -> Vec<u8> {
    let width = task.outputs();
    assert_eq!(logits.len(), eids.len() * width, "a row of logits for every id");
    let mut pickle = Pickle::new();
    let regression = task.is_regression();
    pickle.define_numpy(regression, width);
    let rows: Vec<(&u32, &[f32])> = eids.iter().zip(logits.chunks_exact(width)).collect();
    pickle.dict(&rows, |pickle, (eid, row)| {
        pickle.int(**eid);
        if regression { pickle.scalar(row[0]) } else { pickle.vector(row) }
    });
    pickle.finish()
}

/// `results.pkl`: the scores of all finished trials.
pub fn results(trials: &[TrialScores]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.op(b"](");
    for trial in trials {
        pickle.dict(trial, |pickle, (task, metrics)| {
            pickle.text(task);
            pickle.dict(metrics, |pickle, (metric, value)| {
                pickle.text(metric);
                pickle.op(b"G");
                pickle.op(&value.to_be_bytes());
            });
        });
    }
    pickle.op(b"e");
    pickle.finish()
}

/// Entries that go onto the unpickler's stack at a time; CPython's own batch.
const BATCH: usize = 1000;

/// Memo slots of what every row refers to.
const DTYPE: u8 = 0;
const MAKE: u8 = 1;
const NDARRAY: u8 = 2;
const EMPTY_SHAPE: u8 = 3;
const EMPTY_BYTES: u8 = 4;
const SHAPE: u8 = 5;

/// The pickle so far. Letters are opcodes, named in the comments beside them.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Pickle(vec![0x80, 4]) // PROTO 4
    }

    fn finish(mut self) -> Vec<u8> {
        self.op(b"."); // STOP
        self.0
    }

    fn op(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Puts into the memo what all rows share, and leaves the stack as it was: each value is
    /// memoized (the next slot) and popped.
    fn define_numpy(&mut self, scalars: bool, width: usize) {
        self.dtype();
        self.op(b"\x940"); // MEMOIZE, POP
        self.global("numpy.core.multiarray", if scalars { "scalar" } else { "_reconstruct" });
        self.op(b"\x940");
        if scalars {
            return;
        }
        self.global("numpy", "ndarray");
        self.op(b"\x940");
        self.int(0);
        self.op(b"\x85\x940"); // TUPLE1
        self.op(b"C\x01b\x940"); // SHORT_BINBYTES b"b"
        self.int(width as u32);
        self.op(b"\x85\x940");
    }

    /// `numpy.dtype("f4", False, True)` with the state of a little-endian one.
    fn dtype(&mut self) {
        self.global("numpy", "dtype");
        self.text("f4");
        self.op(b"\x89\x88\x87R"); // NEWFALSE, NEWTRUE, TUPLE3, REDUCE
        self.op(b"("); // MARK
        self.int(3); // version of the state
        self.text("<");
        self.op(b"NNN"); // NONE: no subtype, names, fields
        for _ in 0..2 {
            self.op(b"J\xff\xff\xff\xff"); // BININT -1: size and alignment are the type's own
        }
        self.int(0);
        self.op(b"tb"); // TUPLE, BUILD
    }

    /// One array: `_reconstruct(ndarray, (0,), b"b")` with its state.
    fn vector(&mut self, values: &[f32]) {
        for slot in [MAKE, NDARRAY, EMPTY_SHAPE, EMPTY_BYTES] {
            self.get(slot);
        }
        self.op(b"\x87R("); // TUPLE3, REDUCE, MARK
        self.int(1); // version of the state
        self.get(SHAPE);
        self.get(DTYPE);
        self.op(b"\x89"); // NEWFALSE: rows first
        self.floats(values);
        self.op(b"tb"); // TUPLE, BUILD
    }

    /// One number: `scalar(dtype, bytes)`.
    fn scalar(&mut self, value: f32) {
        self.get(MAKE);
        self.get(DTYPE);
        self.floats(&[value]);
        self.op(b"\x86R"); // TUPLE2, REDUCE
    }

    fn floats(&mut self, values: &[f32]) {
        let length = values.len() * 4;
        match u8::try_from(length) {
            Ok(short) => self.op(&[b'C', short]), // SHORT_BINBYTES
            Err(_) => {
                self.op(b"B"); // BINBYTES
                self.op(&(length as u32).to_le_bytes());
            }
        }
        values.iter().for_each(|value| self.op(&value.to_le_bytes()));
    }

    fn dict<T>(&mut self, entries: &[T], mut entry: impl FnMut(&mut Self, &T)) {
        self.op(b"}"); // EMPTY_DICT
        for batch in entries.chunks(BATCH) {
            self.op(b"("); // MARK
            batch.iter().for_each(|e| entry(self, e));
            self.op(b"u"); // SETITEMS
        }
    }

    fn int(&mut self, value: u32) {
        match (u8::try_from(value), u16::try_from(value), i32::try_from(value)) {
            (Ok(byte), _, _) => self.op(&[b'K', byte]), // BININT1
            (_, Ok(short), _) => {
                self.op(b"M"); // BININT2
                self.op(&short.to_le_bytes());
            }
            (_, _, Ok(signed)) => {
                self.op(b"J"); // BININT
                self.op(&signed.to_le_bytes());
            }
            _ => {
                self.op(b"\x8a\x05"); // LONG1 of five bytes, the last one for the sign
                self.op(&value.to_le_bytes());
                self.op(&[0]);
            }
        }
    }

    fn text(&mut self, text: &str) {
        match u8::try_from(text.len()) {
            Ok(short) => self.op(&[0x8c, short]), // SHORT_BINUNICODE
            Err(_) => {
                self.op(b"X"); // BINUNICODE
                self.op(&(text.len() as u32).to_le_bytes());
            }
        }
        self.op(text.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.text(module);
        self.text(name);
        self.op(b"\x93"); // STACK_GLOBAL
    }

    fn get(&mut self, slot: u8) {
        self.op(&[b'h', slot]); // BINGET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::find;

    // The bytes at the end were loaded by CPython 3.11 with NumPy 1.26.4 and with 2.4.6, warnings
    // being errors, and gave back the values that stand in the tests. Other bytes need that check
    // again.

    #[test]
    fn predictions_of_a_classification_are_the_bytes_that_numpy_loaded() {
        let bytes = predictions(find("rte").unwrap(), &[0, 300, 70_000], &[1.5, -2.0, 0.25, 3.0, -0.5, 8.0]);
        assert_eq!(escaped(&bytes), CLASSIFICATION);
    }

    #[test]
    fn predictions_of_a_regression_are_the_bytes_that_numpy_loaded() {
        let bytes = predictions(find("sts").unwrap(), &[0, 4_000_000_000], &[0.75, -0.125]);
        assert_eq!(escaped(&bytes), REGRESSION);
    }

    #[test]
    fn results_are_the_bytes_that_python_loaded() {
        let trial = |accuracy| vec![("rte".to_string(), vec![("accuracy".to_string(), accuracy)])];
        assert_eq!(escaped(&results(&[trial(66.5), trial(f64::NAN)])), RESULTS);
    }

    #[test]
    fn long_rows_names_and_dicts_take_the_wider_opcodes() {
        let mut wide = find("rte").unwrap().clone();
        wide.kind = crate::task::Kind::Classification { labels: vec![String::new(); 100] };
        let bytes = predictions(&wide, &[1], &[0.0; 100]);
        assert!(escaped(&bytes).contains("B\\x90\\x01\\x00\\x00"));
        let many: Vec<u32> = (0..2001).collect();
        let bytes = predictions(find("sts").unwrap(), &many, &[0.5; 2001]);
        assert_eq!(bytes.iter().rev().take(2).collect::<Vec<_>>(), [&b'.', &b'u']);
        let long = vec![("x".repeat(300), vec![])];
        assert!(escaped(&results(&[long])).contains("X,\\x01\\x00\\x00xxx"));
    }

    fn escaped(bytes: &[u8]) -> String {
        bytes.escape_ascii().to_string()
    }

    const CLASSIFICATION: &str = concat!(
        r"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f4\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff",
        r"\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x940\x8c\x15numpy.core.multiarray\x8c\x0c_recon",
        r"struct\x93\x940\x8c\x05numpy\x8c\x07ndarray\x93\x940K\x00\x85\x940C\x01b\x940K\x02",
        r"\x85\x940}(K\x00h\x01h\x02h\x03h\x04\x87R(K\x01h\x05h\x00\x89C\x08\x00\x00\xc0?\x00",
        r"\x00\x00\xc0tbM,\x01h\x01h\x02h\x03h\x04\x87R(K\x01h\x05h\x00\x89C\x08\x00\x00\x80>",
        r"\x00\x00@@tbJp\x11\x01\x00h\x01h\x02h\x03h\x04\x87R(K\x01h\x05h\x00\x89C\x08\x00\x00",
        r"\x00\xbf\x00\x00\x00Atbu.",
    );
    const REGRESSION: &str = concat!(
        r"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f4\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff",
        r"\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x940\x8c\x15numpy.core.multiarray\x8c\x06scalar",
        r"\x93\x940}(K\x00h\x01h\x00C\x04\x00\x00@?\x86R\x8a\x05\x00(k\xee\x00h\x01h\x00C\x04",
        r"\x00\x00\x00\xbe\x86Ru.",
    );
    const RESULTS: &str = concat!(
        r"\x80\x04](}(\x8c\x03rte}(\x8c\x08accuracyG@P\xa0\x00\x00\x00\x00\x00uu}(\x8c\x03rte}",
        r"(\x8c\x08accuracyG\x7f\xf8\x00\x00\x00\x00\x00\x00uue.",
    );
}
