//! What the trainer knows of a data set: where its texts and labels stand, which labels there are
//! and what is measured on it. Nothing here opens a file; [`crate::data`] does.
//!
//! The eight tasks of GLUE that the paper trains on are built in, one file per kind:
//! [`single`] (one sentence), [`pair`] (two sentences, a class), [`similarity`] (two sentences, a
//! score). A task of one's own is just another [`Task`] value.

mod pair;
mod similarity;
mod single;

use std::fmt;
use std::sync::LazyLock;

/// One data set with its labels, files and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Lower-case name; also the folder below `glue_data/`.
    pub name: String,
    /// What the head predicts.
    pub kind: Kind,
    /// The order of the two texts carries no meaning, so `double_unordered` adds swapped copies
    /// of the training rows (MRPC and STS; the reference leaves QQP alone).
    pub unordered: bool,
    /// What is reported on the dev split, in the reference's order. The first one is the main one.
    pub metrics: Vec<Metric>,
    /// The files of the task, one per split that it has.
    pub layouts: Vec<Layout>,
}

/// What a task's head predicts.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// One logit per label.
    Classification {
        /// Label strings as they stand in the file; the position is the class index.
        labels: Vec<String>,
    },
    /// One unbounded number, trained against [`Task::target`].
    Regression {
        /// Smallest score that a file may hold.
        min: f64,
        /// Largest score that a file may hold.
        max: f64,
    },
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// Rows to learn from.
    Train,
    /// Labelled rows to measure on.
    Dev,
    /// Unlabelled rows.
    Test,
    /// MNLI's unlabelled rows of the training genres.
    TestMatched,
    /// MNLI's unlabelled rows of other genres.
    TestMismatched,
    /// GLUE's diagnostic set (AX), which an MNLI model answers.
    Diagnostic,
}

impl Split {
    /// Name as it stands in the reference's output files (`rte_test_predictions_1.pkl`).
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Dev => "dev",
            Split::Test => "test",
            Split::TestMatched => "test_matched",
            Split::TestMismatched => "test_mismatched",
            Split::Diagnostic => "diagnostic",
        }
    }

    /// Whether the rows carry labels: test splits never do, whatever their files hold.
    pub fn has_labels(self) -> bool {
        matches!(self, Split::Train | Split::Dev)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Position of a field in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Zero-based, from the left.
    Left(usize),
    /// Zero-based from the right: `Right(0)` is the last field.
    Right(usize),
}

impl Column {
    /// Index of this field in a row of `fields` fields, if the row is long enough.
    pub fn index(self, fields: usize) -> Option<usize> {
        match self {
            Column::Left(i) => (i < fields).then_some(i),
            Column::Right(i) => fields.checked_sub(i + 1),
        }
    }

    /// How many fields a row needs at least to have this one.
    pub fn fields_needed(self) -> usize {
        match self {
            Column::Left(i) | Column::Right(i) => i + 1,
        }
    }
}

/// Counts from 1, as editors and spreadsheets do.
impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Column::Left(i) => write!(f, "column {}", i + 1),
            Column::Right(0) => f.write_str("the last column"),
            Column::Right(i) => write!(f, "column {} from the end", i + 1),
        }
    }
}

/// Where the fields of one split's file stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The split that the file holds.
    pub split: Split,
    /// File name inside the task's folder.
    pub file: String,
    /// Whether the first line names the columns.
    pub header: bool,
    /// First (or only) text.
    pub text_a: Column,
    /// Second text of a pair.
    pub text_b: Option<Column>,
    /// Label or score; `None` where the split has none.
    pub label: Option<Column>,
}

/// A score on a split; see [`crate::metrics`] for the formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Share of right answers.
    Accuracy,
    /// F1 of class 1.
    F1,
    /// Matthews correlation.
    Mcc,
    /// Linear correlation.
    Pearson,
    /// Rank correlation.
    Spearman,
    /// Mean squared error on the 0 to 1 scale.
    Mse,
}

impl Metric {
    /// Name in result files.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::Mcc => "mcc",
            Metric::Pearson => "pearson",
            Metric::Spearman => "spearman",
            Metric::Mse => "mse",
        }
    }
}

impl Task {
    /// Label strings in class order; empty for a regression.
    pub fn labels(&self) -> &[String] {
        match &self.kind {
            Kind::Classification { labels } => labels,
            Kind::Regression { .. } => &[],
        }
    }

    /// Width of the head: the number of labels, or 1.
    pub fn outputs(&self) -> usize {
        match &self.kind {
            Kind::Classification { labels } => labels.len(),
            Kind::Regression { .. } => 1,
        }
    }

    /// Whether the head predicts a number.
    pub fn is_regression(&self) -> bool {
        matches!(self.kind, Kind::Regression { .. })
    }

    /// The file of a split, if the task has that split.
    pub fn layout(&self, split: Split) -> Option<&Layout> {
        self.layouts.iter().find(|l| l.split == split)
    }

    /// The splits whose logits are written for a submission, in the reference's order.
    pub fn test_splits(&self) -> impl Iterator<Item = Split> + '_ {
        self.layouts.iter().map(|l| l.split).filter(|s| !s.has_labels())
    }

    /// The metric that stands for the task where one number is wanted.
    pub fn main_metric(&self) -> Metric {
        self.metrics.first().copied().unwrap_or(Metric::Accuracy)
    }

    /// What a regression head is trained against: `(score - min) / max`. The reference divides by
    /// `max`, not by `max - min`; for STS both mean a fifth of the score. `None` where the score
    /// is outside `min..=max` (or not a number), and for a classification.
    pub fn target(&self, score: f64) -> Option<f32> {
        match self.kind {
            Kind::Regression { min, max } if (min..=max).contains(&score) => Some(((score - min) / max) as f32),
            _ => None,
        }
    }
}

static BUILT_IN: LazyLock<Vec<Task>> = LazyLock::new(|| {
    let mut tasks = single::tasks();
    tasks.extend(pair::tasks());
    tasks.push(similarity::sts());
    tasks.sort_by(|a, b| a.name.cmp(&b.name));
    tasks
});

/// A built-in task by its exact name.
pub fn find(name: &str) -> Option<&'static Task> {
    BUILT_IN.iter().find(|task| task.name == name)
}

/// The built-in tasks, by name.
pub fn names() -> Vec<&'static str> {
    BUILT_IN.iter().map(|task| task.name.as_str()).collect()
}

/// A classification with the given labels; shared by the files of this folder.
fn classification(labels: &[&str]) -> Kind {
    Kind::Classification { labels: labels.iter().map(|l| l.to_string()).collect() }
}

/// A file of two texts a row, with a header; shared in the same way.
fn pair_layout(split: Split, file: &str, [text_a, text_b]: [Column; 2], label: Option<Column>) -> Layout {
    Layout { split, file: file.into(), header: true, text_a, text_b: Some(text_b), label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_tasks_match_the_reference_table() {
        // (name, outputs, main metric, unordered, test splits)
        let table = [
            ("cola", 2, Metric::Mcc, false, 1),
            ("mnli", 3, Metric::Accuracy, false, 3),
            ("mrpc", 2, Metric::Accuracy, true, 1),
            ("qnli", 2, Metric::Accuracy, false, 1),
            ("qqp", 2, Metric::Accuracy, false, 1),
            ("rte", 2, Metric::Accuracy, false, 1),
            ("sst", 2, Metric::Accuracy, false, 1),
            ("sts", 1, Metric::Pearson, true, 1),
        ];
        assert_eq!(names(), table.map(|row| row.0));
        for (name, outputs, metric, unordered, tests) in table {
            let task = find(name).unwrap();
            assert_eq!(task.outputs(), outputs, "{name}");
            assert_eq!(task.main_metric(), metric, "{name}");
            assert_eq!(task.unordered, unordered, "{name}");
            assert_eq!(task.test_splits().count(), tests, "{name}");
            for layout in &task.layouts {
                assert_eq!(layout.label.is_some(), layout.split.has_labels(), "{name} {}", layout.split);
            }
        }
        assert_eq!(find("wnli"), None);
    }

    #[test]
    fn only_colas_labelled_files_have_no_header() {
        for name in names() {
            for layout in &find(name).unwrap().layouts {
                assert_eq!(layout.header, name != "cola" || !layout.split.has_labels(), "{name} {}", layout.split);
            }
        }
    }

    #[test]
    fn a_score_becomes_a_fifth_of_itself_and_outside_the_range_nothing() {
        let sts = find("sts").unwrap();
        for (score, target) in [(0.0, Some(0.0)), (5.0, Some(1.0)), (3.8, Some(0.76)), (5.001, None), (-0.1, None)] {
            assert_eq!(sts.target(score), target, "{score}");
        }
        assert_eq!(sts.target(f64::NAN), None);
        assert_eq!(find("rte").unwrap().target(1.0), None);
    }

    #[test]
    fn columns_count_from_either_end() {
        for (column, fields, index, text) in [
            (Column::Left(2), 3, Some(2), "column 3"),
            (Column::Left(3), 3, None, "column 4"),
            (Column::Right(0), 3, Some(2), "the last column"),
            (Column::Right(2), 3, Some(0), "column 3 from the end"),
            (Column::Right(2), 2, None, "column 3 from the end"),
        ] {
            assert_eq!(column.index(fields), index);
            assert_eq!(column.to_string(), text);
            assert_eq!(column.fields_needed() <= fields, index.is_some());
        }
    }
}
