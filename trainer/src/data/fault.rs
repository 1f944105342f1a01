//! What can be wrong with a data file, said so that its owner can mend it: all of it, not just
//! the first problem.

use crate::task::Column;
use std::fmt;
use std::path::PathBuf;

/// How many faults of one file are spelled out; the rest is counted.
pub(super) const SHOWN: usize = 20;

/// One problem of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of problem.
    pub kind: FaultKind,
    /// The file as it was opened.
    pub file: PathBuf,
    /// Line in the file, from 1; `None` where the problem is the file's as a whole.
    pub line: Option<usize>,
    /// The field, where the problem is one field's.
    pub column: Option<Column>,
    /// What was found, what was expected and what to do.
    pub message: String,
}

/// Kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// There is no such file.
    MissingFile,
    /// The file is there but could not be read (permissions, an I/O error).
    Unreadable,
    /// The file holds no rows.
    NoRows,
    /// A line without anything on it.
    BlankLine,
    /// A row with too few fields.
    MissingColumn,
    /// A column that the header does not name, or twice.
    NoSuchColumn,
    /// A row that has not as many fields as the first line.
    UnevenRow,
    /// A row that its format cannot hold: no JSON object, a quote that is never closed.
    BadRecord,
    /// A field that is no text.
    WrongType,
    /// A label that the task does not have.
    UnknownLabel,
    /// A score that is no number or out of range.
    BadScore,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A carriage return inside a line.
    LoneCarriageReturn,
    /// The task has no such split.
    NoSuchSplit,
}

/// `file:line, column: message`, which editors and terminals make a link of.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", {column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that is wrong with the files that were read: at most 20 faults spelled out, the rest
/// counted. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct DataError {
    /// The first faults, in the order of the file.
    pub faults: Vec<Fault>,
    /// How many more there are.
    pub more: usize,
}

impl DataError {
    /// Whether something to read was not there at all (exit code 66), rather than wrong (65).
    pub fn is_missing_input(&self) -> bool {
        self.faults.iter().any(|f| f.kind == FaultKind::MissingFile)
    }

    /// Whether reading itself failed, so that another attempt may fare better (exit code 75).
    pub fn may_pass(&self) -> bool {
        self.faults.iter().any(|f| f.kind == FaultKind::Unreadable)
    }

    /// Adds the faults of another file, so that one message can name those of all files.
    pub fn merge(&mut self, other: DataError) {
        self.more += other.more;
        for fault in other.faults {
            self.push(fault);
        }
    }

    pub(super) fn push(&mut self, fault: Fault) {
        if self.faults.len() < SHOWN {
            self.faults.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// `value`, if nothing was wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, DataError> {
        if self.faults.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for DataError {
    fn from(fault: Fault) -> Self {
        DataError { faults: vec![fault], more: 0 }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if i > 0 { "\n" } else { "" })?;
        }
        match self.more {
            0 => Ok(()),
            1 => f.write_str("\n... and 1 more problem"),
            n => write!(f, "\n... and {n} more problems"),
        }
    }
}
