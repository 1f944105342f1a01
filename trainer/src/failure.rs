//! Why a trainer stops short: the exit reason, and a sentence for a person.

use std::io;
use std::path::Path;

use bam_crds::{Digest, ExitReason};

use crate::data::DataError;
use crate::durable::WriteError;

/// An ending other than success. `message` names the field, the file or the row, and says what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code's meaning: decides who pays for another attempt.
    pub reason: ExitReason,
    /// One or more sentences; one line per problem.
    pub message: String,
    /// Teachers without a whole manifest (with [`ExitReason::MissingInput`]).
    pub missing: Vec<Digest>,
    /// Teachers whose artifacts are not what they were (with [`ExitReason::BadData`]).
    pub changed: Vec<Digest>,
}

/// Optimizer steps of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Of the whole run; 0 until that is known.
    pub total: u64,
    /// Safe in a checkpoint.
    pub saved: u64,
    /// Where the attempt began.
    pub resumed_from: u64,
    /// Skipped, of all that are done, because a gradient was not finite.
    pub skipped: u64,
}

impl Failure {
    /// An ending that is about no teacher.
    pub fn new(reason: ExitReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), missing: Vec::new(), changed: Vec::new() }
    }

    /// Something about `path` failed for a reason that may pass.
    pub fn store(doing: &str, path: &Path, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => "give this user the right to do so",
            _ => "check that the store is mounted and writable",
        };
        Self::new(ExitReason::StoreUnavailable, format!("{}: cannot {doing}: {error}; {advice}", path.display()))
    }
}

impl Steps {
    /// An ending because somebody asked for it.
    pub fn stopped(self) -> Failure {
        let Self { total, saved, .. } = self;
        let message = match (total, saved) {
            (0, 0) => "stopped by a signal while it prepared; start again".to_owned(),
            (0, saved) => format!("stopped by a signal while it prepared; start again to go on after step {saved}"),
            (_, 0) => "stopped by a signal before a step was saved; start again".to_owned(),
            _ => format!("stopped by a signal after step {saved} of {total}, which is saved; start again to go on"),
        };
        Failure::new(ExitReason::Checkpointed, message)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::new(ExitReason::StoreUnavailable, error.to_string())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let reason = if error.is_missing_input() {
            ExitReason::MissingInput
        } else if error.may_pass() {
            ExitReason::StoreUnavailable
        } else {
            ExitReason::BadData
        };
        Self::new(reason, error.to_string())
    }
}

/// Gathers problems, so that all of them are said at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<Failure>);

impl Problems {
    /// The value, or `None` and one more problem.
    pub fn take<T>(&mut self, result: Result<T, impl Into<Failure>>) -> Option<T> {
        result.map_err(|failure| self.0.push(failure.into())).ok()
    }

    /// One more problem.
    pub fn push(&mut self, reason: ExitReason, message: impl Into<String>) {
        self.0.push(Failure::new(reason, message));
    }

    /// Is there any?
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// All problems as one failure: a line each. The reason is that of the problem which a retry helps least.
    ///
    /// # Errors
    /// If there is any problem.
    pub fn check(self) -> Result<(), Failure> {
        // What may pass (the store) is only worth a retry if nothing else is wrong.
        let weight = |reason: ExitReason| match reason {
            ExitReason::BadConfig => 0,
            ExitReason::BadData => 1,
            ExitReason::MissingInput => 2,
            _ => 3,
        };
        let Some(reason) = self.0.iter().map(|failure| failure.reason).min_by_key(|reason| weight(*reason)) else {
            return Ok(());
        };
        let lines: Vec<_> = self.0.iter().map(|failure| failure.message.as_str()).collect();
        Err(Failure {
            reason,
            message: lines.join("\n"),
            missing: self.0.iter().flat_map(|failure| failure.missing.clone()).collect(),
            changed: self.0.iter().flat_map(|failure| failure.changed.clone()).collect(),
        })
    }
}
