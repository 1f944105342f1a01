//! Reads a task's TSV files: fields between TABs, no quotes, no escapes, one row per line.
//!
//! Nothing is repaired and no row is skipped in silence: a file with a fault is refused with all
//! its faults, because a lost row shifts every later example id, and with it a student's targets.

use super::fault::{DataError, Fault, FaultKind};
use crate::task::{Column, Kind, Layout, Split, Task};
use bam_crds::nearest;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Lines that debug mode reads of every file, the header included.
pub const DEBUG_LINES: usize = 50;

/// One example: one line of a file, or the swapped copy of one.
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
    let mut error = DataError::default();
    let mut rows = Vec::new();
    let header = usize::from(layout.header);
    for (index, line) in lines(bytes).take(debug_lines.unwrap_or(usize::MAX)).enumerate() {
        let mut at = Place { task, layout, file, line: index + 1, error: &mut error };
        // The header's words are nobody's business, but broken bytes there mean a broken file.
        let Some(text) = at.text(line) else { continue };
        if index >= header
            && let Some(row) = at.row(text, index - header)
        {
            rows.push(row);
        }
    }
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

/// The lines of a file; a last one without a newline counts, an empty last one does not.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    // An empty file has no line, but "\n" has a blank one.
    let any = !bytes.is_empty();
    body.split(|b| *b == b'\n').filter(move |_| any)
}

/// A line being read, and where its faults go.
struct Place<'a> {
    task: &'a Task,
    layout: &'a Layout,
    file: &'a Path,
    line: usize,
    error: &'a mut DataError,
}

impl Place<'_> {
    /// The line as text, without its carriage returns at the end.
    fn text<'b>(&mut self, line: &'b [u8]) -> Option<&'b str> {
        let line = line.trim_suffix_cr();
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(e) => {
                let byte = e.valid_up_to() + 1;
                self.fault(
                    FaultKind::NotUtf8,
                    None,
                    format!("byte {byte} of the line is not UTF-8; convert the file to UTF-8"),
                );
                return None;
            }
        };
        if text.contains('\r') {
            let message = "a carriage return stands inside the line; remove it \
                           (lines end with LF or CR LF)";
            self.fault(FaultKind::LoneCarriageReturn, None, message.into());
            return None;
        }
        Some(text)
    }

    /// The row of a line; `None` if a fault was noted.
    fn row(&mut self, text: &str, number: usize) -> Option<Row> {
        if text.is_empty() {
            self.fault(
                FaultKind::BlankLine,
                None,
                "the line is blank; remove it, or restore the row that stood here".into(),
            );
            return None;
        }
        let fields: Vec<&str> = text.split('\t').collect();
        let layout = self.layout;
        let a = self.field(&fields, layout.text_a, "text");
        let b = layout.text_b.map(|column| self.field(&fields, column, "second text"));
        let label = match layout.label {
            Some(column) => self.field(&fields, column, "label").and_then(|value| self.label(value, column)),
            None => Some(Label::None),
        };
        let text_b = match b {
            Some(b) => Some(b?.to_string()),
            None => None,
        };
        Some(Row { eid: number as u32, text_a: a?.to_string(), text_b, label: label?, line: self.line as u32 })
    }

    /// A field, or a fault that says which one is missing.
    fn field<'b>(&mut self, fields: &[&'b str], column: Column, what: &str) -> Option<&'b str> {
        let found = column.index(fields.len()).map(|i| fields[i]);
        if found.is_none() {
            let (has, needs) = (fields.len(), column.fields_needed());
            let s = if has == 1 { "" } else { "s" };
            let message = format!(
                "the {what} is missing: the row has {has} field{s} between TABs and needs at \
                 least {needs}; restore the row (often a line break or a lost TAB inside it)"
            );
            self.fault(FaultKind::MissingColumn, Some(column), message);
        }
        found
    }

    /// What a label field means for this task.
    fn label(&mut self, value: &str, column: Column) -> Option<Label> {
        let found = match &self.task.kind {
            Kind::Classification { labels } => class(&self.task.name, labels, value),
            Kind::Regression { min, max } => {
                let score = value.trim().parse().ok().and_then(|s| self.task.target(s));
                score.map(Label::Score).ok_or_else(|| {
                    let value = short(value);
                    let message = format!("{value:?} is no score from {min:?} to {max:?}; correct it");
                    (FaultKind::BadScore, message)
                })
            }
        };
        found.map_err(|(kind, message)| self.fault(kind, Some(column), message)).ok()
    }

    fn fault(&mut self, kind: FaultKind, column: Option<Column>, message: String) {
        self.error.push(Fault { kind, file: self.file.into(), line: Some(self.line), column, message });
    }
}

/// The index of a label, or a message with those that there are.
fn class(task: &str, labels: &[String], value: &str) -> Result<Label, (FaultKind, String)> {
    if let Some(i) = labels.iter().position(|label| label == value) {
        return Ok(Label::Class(i as u16));
    }
    let known: Vec<String> = labels.iter().map(|label| format!("{label:?}")).collect();
    let hint = match nearest(value, labels.iter().map(String::as_str)) {
        Some(label) => format!(" (did you mean {label:?}?)"),
        None => String::new(),
    };
    let (value, known) = (short(value), known.join(" or "));
    let message = format!("{value:?} is no label of {task}; write {known}{hint}");
    Err((FaultKind::UnknownLabel, message))
}

/// Removes line-ending carriage returns, as Python's csv does.
trait TrimCr {
    fn trim_suffix_cr(&self) -> &Self;
}

impl TrimCr for [u8] {
    fn trim_suffix_cr(&self) -> &[u8] {
        let end = self.iter().rposition(|b| *b != b'\r').map_or(0, |i| i + 1);
        &self[..end]
    }
}

/// A value for a message: long ones (a text where a label should be) are cut.
fn short(value: &str) -> String {
    let mut chars = value.chars();
    let head: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { head + "..." } else { head }
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
#[path = "tsv_tests.rs"]
mod tests;
