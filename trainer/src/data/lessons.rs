//! What a student learns of a task from all its teachers: row by row the mean of the logits of those that teach the row. A teacher
//! that was trained without a fold of the rows teaches that fold alone.

use std::borrow::Cow;

use bam_crds::config::Fold;

use super::align::{TargetFaults, align};
use super::rows::Row;
use super::targets::Targets;
use crate::task::Task;

/// The teachers' logits over a student's training rows.
pub struct Lessons<'a> {
    task: &'a Task,
    rows: &'a [Row],
    /// [rows, outputs]
    sums: Vec<f32>,
    /// Teachers of each row.
    teachers: Vec<u32>,
}

impl<'a> Lessons<'a> {
    /// Those of nobody yet.
    pub fn new(task: &'a Task, rows: &'a [Row]) -> Self {
        Self { task, rows, sums: vec![0.0; rows.len() * task.outputs()], teachers: vec![0; rows.len()] }
    }

    /// Adds a teacher; `called` is its name for messages.
    ///
    /// # Errors
    /// See [`align`].
    pub fn learn(&mut self, targets: &Targets, fold: Option<Fold>, called: &str) -> Result<(), TargetFaults> {
        let taught = |row: &Row| fold.is_none_or(|fold| fold.has(row.line));
        let places = (0..self.rows.len()).filter(|place| taught(&self.rows[*place]));
        let rows = match fold {
            None => Cow::Borrowed(self.rows),
            Some(_) => self.rows.iter().filter(|row| taught(row)).cloned().collect(),
        };
        let logits = align(targets, self.task, &rows, called)?;
        let width = self.task.outputs();
        for (place, logits) in places.zip(logits.chunks_exact(width)) {
            let sums = &mut self.sums[place * width..][..width];
            match self.teachers[place] {
                0 => sums.copy_from_slice(logits),
                _ => sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit),
            }
            self.teachers[place] += 1;
        }
        Ok(())
    }

    /// The mean of the logits: [rows, outputs].
    ///
    /// # Errors
    /// Rows that no teacher teaches.
    pub fn mean(mut self) -> Result<Vec<f32>, TargetFaults> {
        let mut faults = TargetFaults::default();
        for (row, _) in self.rows.iter().zip(&self.teachers).filter(|(_, teachers)| **teachers == 0) {
            let message = "every teacher has learned from this row, so that there is no target out of fold: name the teachers of \
                           all folds";
            faults.add(self.task, Some(row), message.to_owned());
        }
        if !faults.faults.is_empty() {
            return Err(faults);
        }
        for (sums, teachers) in self.sums.chunks_exact_mut(self.task.outputs()).zip(&self.teachers) {
            sums.iter_mut().for_each(|sum| *sum /= *teachers as f32);
        }
        Ok(self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::{Label, row_hash};
    use crate::task::find;

    fn task() -> &'static Task {
        find("rte").unwrap()
    }

    /// Rows of a file with a header.
    fn rows(count: u32) -> Vec<Row> {
        let row = |eid: u32| Row {
            eid,
            text_a: format!("first {eid}"),
            text_b: Some(format!("second {eid}")),
            label: Label::Class(0),
            line: eid + 2,
        };
        (0..count).map(row).collect()
    }

    /// Targets of these rows: `of` their ids, and its negative.
    fn targets<'a>(rows: impl Iterator<Item = &'a Row> + Clone, of: impl Fn(u32) -> f32) -> Targets {
        Targets {
            task: "rte".to_owned(),
            labels: task().labels().to_vec(),
            eids: rows.clone().map(|row| row.eid).collect(),
            row_hashes: rows.clone().map(row_hash).collect(),
            logits: rows.flat_map(|row| [of(row.eid), -of(row.eid)]).collect(),
        }
    }

    #[test]
    fn the_mean_of_teachers_is_taken_of_their_logits_row_by_row() {
        let rows = rows(2);
        let mut lessons = Lessons::new(task(), &rows);
        lessons.learn(&targets(rows.iter(), |eid| 1.0 + eid as f32), None, "one").unwrap();
        lessons.learn(&targets(rows.iter(), |_| 3.0), None, "two").unwrap();
        assert_eq!(lessons.mean().unwrap(), [2.0, -2.0, 2.5, -2.5]);
    }

    #[test]
    fn one_teacher_alone_is_taken_to_the_bit() {
        let rows = rows(1);
        let mut lessons = Lessons::new(task(), &rows);
        lessons.learn(&targets(rows.iter(), |_| 0.0), None, "one").unwrap();
        assert_eq!(lessons.mean().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0, 0x8000_0000]);
    }

    #[test]
    fn every_fold_is_taught_by_the_teacher_that_has_not_seen_it() {
        let rows = rows(5);
        let mut lessons = Lessons::new(task(), &rows);
        for index in 0..2 {
            let fold = Fold { index, of: 2 };
            let own = rows.iter().filter(|row| fold.has(row.line));
            lessons.learn(&targets(own, |eid| (10 * index + eid) as f32), Some(fold), "t").unwrap();
        }
        let firsts: Vec<f32> = lessons.mean().unwrap().into_iter().step_by(2).collect();
        assert_eq!(firsts, [0.0, 11.0, 2.0, 13.0, 4.0]);
    }

    #[test]
    fn a_fold_without_a_teacher_and_a_teacher_without_a_row_of_its_fold_are_said_row_by_row() {
        let rows = rows(5);
        let fold = Fold { index: 1, of: 2 };
        let mut lessons = Lessons::new(task(), &rows);
        let own = rows.iter().filter(|row| fold.has(row.line));
        lessons.learn(&targets(own, |_| 1.0), Some(fold), "t").unwrap();
        let said = lessons.mean().unwrap_err();
        let lines: Vec<_> = said.faults.iter().map(|fault| fault.row.clone().unwrap()).collect();
        assert_eq!(lines, ["rte/train.tsv:2", "rte/train.tsv:4", "rte/train.tsv:6"]);
        assert!(said.faults[0].message.ends_with("name the teachers of all folds"), "{said}");

        let said = Lessons::new(task(), &rows).learn(&targets(rows[..3].iter(), |_| 1.0), Some(fold), "t").unwrap_err();
        assert_eq!(said.faults[0].row.as_deref(), Some("rte/train.tsv:5"));
    }
}
