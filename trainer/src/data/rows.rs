//! The rows of a task's files, whatever their format.
//!
//! Nothing is repaired and no row is skipped in silence: a file with a fault is refused with all
//! its faults, because a lost row shifts every later example id, and with it a student's targets.

use super::fault::{DataError, Fault, FaultKind};
use super::reader::Reader;
use crate::task::{Layout, Split, Task};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Lines that debug mode reads of every file, the header included.
pub const DEBUG_LINES: usize = 50;

/// One example: one row of a file, or the swapped copy of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Example id: the number of the row in its file, from 0, the header not counted. The swapped
    /// copy of row `i` of `n` has the id `n + i`.
    pub eid: u32,
    /// First (or only) text, as it stands in the file.
    pub text_a: String,
    /// Second text of a pair; may be empty.
    pub text_b: Option<String>,
    /// What to predict.
    pub label: Label,
    /// Line in the file, from 1, for messages.
    pub line: u32,
}

/// What a row is labelled with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// Index into [`Task::labels`].
    Class(u16),
    /// [`Task::target`] of the row's score: 0 to 1.
    Score(f32),
    /// The split has no labels.
    None,
}

/// Reads one split of `task` from the folder `dir` that holds the task's files.
///
/// With `double_unordered`, the training rows of a task whose texts have no order are followed by
/// copies with the texts swapped. `debug_lines` reads only so many first lines of the file, the
/// header included ([`DEBUG_LINES`] in debug mode).
///
/// # Errors
/// All faults of the file: see [`FaultKind`].
pub fn read_split(
    task: &Task,
    dir: &Path,
    split: Split,
    double_unordered: bool,
    debug_lines: Option<usize>,
) -> Result<Vec<Row>, DataError> {
    let Some(layout) = task.layout(split) else {
        return Err(whole(dir, FaultKind::NoSuchSplit, format!("the task {} has no {split} split", task.name)).into());
    };
    let file = dir.join(&layout.file);
    let bytes = std::fs::read(&file).map_err(|error| unreadable(task, split, &file, &error))?;
    let mut rows = parse(task, layout, &file, &bytes, debug_lines)?;
    if double_unordered && task.unordered && split == Split::Train {
        append_swapped(&mut rows);
    }
    Ok(rows)
}

/// [`read_split`] of bytes that are already at hand, without the swapped copies. `file` is for
/// messages only.
///
/// # Errors
/// All faults of the bytes.
pub fn parse(
    task: &Task,
    layout: &Layout,
    file: &Path,
    bytes: &[u8],
    debug_lines: Option<usize>,
) -> Result<Vec<Row>, DataError> {
    // Some editors, and GLUE's own MRPC files, put a byte order mark first. It is no text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (rows, mut error) = Reader::new(task, layout, file).read(bytes, debug_lines);
    if rows.is_empty() && error.faults.is_empty() {
        let but = if layout.header { ", only its header or nothing" } else { "" };
        error.push(whole(file, FaultKind::NoRows, format!("the file holds no rows{but}; replace it")));
    }
    error.or(rows)
}

/// First 8 bytes of the SHA-256 of a row's texts: equal texts, equal hash. A student compares it
/// with what its teacher saw under the same example id.
///
/// Each text is framed by its length in bytes (64 bits, little endian), and an absent second text
/// differs from an empty one.
pub fn row_hash(row: &Row) -> u64 {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(&row.text_a);
    if let Some(b) = &row.text_b {
        add(b);
    }
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// Copies of all rows with their texts swapped, under the ids that follow.
fn append_swapped(rows: &mut Vec<Row>) {
    let n = rows.len();
    rows.reserve(n);
    for i in 0..n {
        let mut row = rows[i].clone();
        row.eid += n as u32;
        if let Some(b) = &mut row.text_b {
            std::mem::swap(&mut row.text_a, b);
        }
        rows.push(row);
    }
}

fn whole(file: &Path, kind: FaultKind, message: String) -> Fault {
    Fault { kind, file: PathBuf::from(file), line: None, column: None, message }
}

fn unreadable(task: &Task, split: Split, file: &Path, error: &std::io::Error) -> Fault {
    if error.kind() == std::io::ErrorKind::NotFound {
        let message = format!("the file of {}'s {split} split is missing; put it there", task.name);
        return whole(file, FaultKind::MissingFile, message);
    }
    whole(file, FaultKind::Unreadable, format!("cannot be read: {error}; check the volume and the file's permissions"))
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
