//! Whether a teacher's targets are about the very rows that a student is going to learn from, and
//! if so, in the student's order. Checked before the first step, because the reference dies in the
//! middle of it with a bare `KeyError`, or learns from another row's logits.

use super::rows::{Row, row_hash};
use super::targets::Targets;
use crate::task::{Split, Task};
use std::collections::HashMap;
use std::fmt;

/// How many faults are spelled out; the rest is counted.
const SHOWN: usize = 20;

/// One reason why a student cannot learn from a teacher's targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFault {
    /// The training row, as `<file>:<line>`; `None` where all rows are meant.
    pub row: Option<String>,
    /// Example id of that row.
    pub eid: Option<u32>,
    /// What is wrong and what to do.
    pub message: String,
}

/// `rte/train.tsv:14 (eid 12): message`.
impl fmt::Display for TargetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.row, self.eid) {
            (Some(row), Some(eid)) => write!(f, "{row} (eid {eid}): {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

/// All that keeps a student from a teacher's targets: at most 20 faults spelled out, the rest
/// counted. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct TargetFaults {
    /// The first faults, in the order of the rows.
    pub faults: Vec<TargetFault>,
    /// How many more there are.
    pub more: usize,
}

impl fmt::Display for TargetFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if i > 0 { "\n" } else { "" })?;
        }
        match self.more {
            0 => Ok(()),
            n => write!(f, "\n... and {n} more rows"),
        }
    }
}

/// The targets in the order of the student's training rows and of its labels: [rows, outputs].
/// Rows are found by example id and must have the texts that the teacher saw, as far as the targets
/// tell (a pickle of the reference does not); columns are matched by label name. Targets of rows
/// that the student does not have are left out.
///
/// # Errors
/// Every row without usable targets, and labels that differ. `teacher` is its name for messages.
pub fn align(targets: &Targets, task: &Task, rows: &[Row], teacher: &str) -> Result<Vec<f32>, TargetFaults> {
    let mut found = Aligner { targets, task, rows, teacher, faults: TargetFaults::default() };
    let columns = found.columns();
    if !found.faults.faults.is_empty() {
        return Err(found.faults);
    }
    let logits = found.logits(&columns);
    if found.faults.faults.is_empty() { Ok(logits) } else { Err(found.faults) }
}

impl TargetFaults {
    /// One more, of a training row or of all of them.
    pub(super) fn add(&mut self, task: &Task, row: Option<&Row>, message: String) {
        if self.faults.len() == SHOWN {
            self.more += 1;
            return;
        }
        let file = task.layout(Split::Train).map_or("train.tsv", |layout| &layout.file);
        self.faults.push(TargetFault {
            row: row.map(|row| format!("{}/{file}:{}", task.name, row.line)),
            eid: row.map(|row| row.eid),
            message,
        });
    }
}

struct Aligner<'a> {
    targets: &'a Targets,
    task: &'a Task,
    rows: &'a [Row],
    teacher: &'a str,
    faults: TargetFaults,
}

impl Aligner<'_> {
    /// The teacher's column for each of the student's labels.
    fn columns(&mut self) -> Vec<usize> {
        let (theirs, ours, teacher) = (&self.targets.labels, self.task.labels(), self.teacher);
        if self.targets.task != self.task.name {
            let message = format!(
                "the teacher {teacher} has targets of the task {}, not of {}; \
                 name a teacher that learned {1}",
                self.targets.task, self.task.name
            );
            self.fault(None, message);
        } else if theirs.len() != ours.len() || ours.iter().any(|label| !theirs.contains(label)) {
            let message = format!(
                "the teacher {teacher} knows the labels {theirs:?} of {}, the student {ours:?}; \
                 train the teacher with the student's labels",
                self.task.name
            );
            self.fault(None, message);
        }
        if ours.is_empty() {
            return vec![0];
        }
        ours.iter().filter_map(|label| theirs.iter().position(|l| l == label)).collect()
    }

    fn logits(&mut self, columns: &[usize]) -> Vec<f32> {
        let places: HashMap<u32, usize> = self.targets.eids.iter().enumerate().map(|(i, eid)| (*eid, i)).collect();
        let mut logits = Vec::with_capacity(self.rows.len() * columns.len());
        let end = self.end_of_known_rows(&places);
        for row in &self.rows[..end] {
            match self.row(row, &places) {
                Ok(theirs) => logits.extend(columns.iter().map(|column| theirs[*column])),
                Err(message) => self.fault(Some(row), message),
            }
        }
        logits
    }

    /// The teacher's outputs for a row, or why there are none.
    fn row(&self, row: &Row, places: &HashMap<u32, usize>) -> Result<&[f32], String> {
        let teacher = self.teacher;
        let Some(place) = places.get(&row.eid).copied() else {
            let known = self.targets.eids.len();
            return Err(format!(
                "the teacher {teacher} has no targets for this row (it has {known} rows); \
                 train it on this very file"
            ));
        };
        if self.targets.row_hashes.get(place).is_some_and(|seen| *seen != row_hash(row)) {
            return Err(format!("the teacher {teacher} saw other texts in this row; train it on this very file"));
        }
        let width = self.targets.outputs();
        let theirs = &self.targets.logits[place * width..][..width];
        if theirs.iter().any(|x| !x.is_finite()) {
            return Err(format!("the teacher {teacher} has a target here that is not finite; train it again"));
        }
        Ok(theirs)
    }

    /// Notes it once if the teacher lacks just the swapped copies, and says where they begin.
    fn end_of_known_rows(&mut self, places: &HashMap<u32, usize>) -> usize {
        let (half, odd) = (self.rows.len() / 2, self.rows.len() % 2);
        let (rows, copies) = self.rows.split_at(half);
        let doubled = half > 0 && odd == 0 && rows.iter().zip(copies).all(|(row, copy)| row.line == copy.line);
        let known = |row: &Row| places.contains_key(&row.eid);
        if !doubled || !rows.iter().all(known) || copies.iter().any(known) {
            return self.rows.len();
        }
        let message = format!(
            "the teacher {} has no targets for the {half} swapped copies of {} (eids {} to {}): \
             it was trained with double_unordered=false; train it with true, or set false for \
             the student too",
            self.teacher,
            self.task.name,
            copies[0].eid,
            copies[half - 1].eid
        );
        self.fault(None, message);
        half
    }

    fn fault(&mut self, row: Option<&Row>, message: String) {
        self.faults.add(self.task, row, message);
    }
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
