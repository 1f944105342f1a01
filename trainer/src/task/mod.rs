//! What the trainer knows of a data set: where its texts and labels stand, which labels there are
//! and what is measured on it. Nothing here opens a file; [`crate::data`] does.
//!
//! The tasks of GLUE, the paper's eight and WNLI, are built in, one file per kind:
//! [`single`] (one sentence), [`pair`] (two sentences, a class), [`similarity`] (two sentences, a
//! score). A task of one's own is just another [`Task`] value, made by [`custom`] of what its
//! owner says.

mod custom;
mod pair;
mod similarity;
mod single;

use std::fmt;
use std::sync::LazyLock;

use bam_crds::config::TaskIdentity;
use bam_crds::store::glue_data;
use bam_crds::task::DataFormat;
use bam_crds::{CustomTask, TaskFiles};

/// One data set with its labels, files and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Lower-case name.
    pub name: String,
    /// Folder of its files in the store; empty: the store itself.
    pub folder: String,
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
    /// MNLI's labelled rows of other genres: measured on beside [`Split::Dev`] where the file is there.
    DevMismatched,
    /// GLUE's diagnostic set with its gold labels, in the same way.
    DiagnosticGold,
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
            Split::DevMismatched => "dev_mismatched",
            Split::DiagnosticGold => "diagnostic_gold",
            Split::Test => "test",
            Split::TestMatched => "test_matched",
            Split::TestMismatched => "test_mismatched",
            Split::Diagnostic => "diagnostic",
        }
    }

    /// Whether the rows carry labels: test splits never do, whatever their files hold.
    pub fn has_labels(self) -> bool {
        matches!(self, Split::Train | Split::Dev) || self.prefix().is_some()
    }

    /// Of a split that is measured on where its file is there, and not missed where it is not: what its metrics begin with.
    pub fn prefix(self) -> Option<&'static str> {
        match self {
            Split::DevMismatched => Some("mismatched"),
            Split::DiagnosticGold => Some("diagnostic"),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a field stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// Zero-based, from the left.
    Left(usize),
    /// Zero-based from the right: `Right(0)` is the last field.
    Right(usize),
    /// By the name that the header gives it, or JSON.
    Named {
        /// The name.
        name: String,
        /// Zero-based, from the left, as soon as the header was read.
        index: Option<usize>,
    },
}

impl Column {
    /// Index of this field in a row of `fields` fields, if the row is long enough.
    pub fn index(&self, fields: usize) -> Option<usize> {
        match self {
            Column::Left(i) => (*i < fields).then_some(*i),
            Column::Right(i) => fields.checked_sub(i + 1),
            Column::Named { index, .. } => index.filter(|i| *i < fields),
        }
    }

    /// How many fields a row needs at least to have this one.
    pub fn fields_needed(&self) -> usize {
        match self {
            Column::Left(i) | Column::Right(i) => i + 1,
            Column::Named { index, .. } => index.unwrap_or(0) + 1,
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
            Column::Named { name, .. } => write!(f, "column {name:?}"),
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
    /// How it is written.
    pub format: DataFormat,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Whether every row must have as many fields as the first line. GLUE's files are not so.
    pub even: bool,
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

    /// The file of a split, as messages name it: `rte/train.tsv`.
    pub fn file(&self, split: Split) -> String {
        let file = self.layout(split).map_or("", |layout| &layout.file);
        if self.folder.is_empty() { file.to_owned() } else { format!("{}/{file}", self.name) }
    }

    /// The file of a split, from the root of the store.
    pub fn path(&self, split: Split) -> String {
        let file = self.layout(split).map_or("", |layout| &layout.file);
        if self.folder.is_empty() { file.to_owned() } else { format!("{}/{file}", self.folder) }
    }

    /// The splits whose logits are written for a submission, in the reference's order.
    pub fn test_splits(&self) -> impl Iterator<Item = Split> + '_ {
        self.layouts.iter().map(|l| l.split).filter(|s| !s.has_labels())
    }

    /// The splits that are measured on where their files are there, beside the dev split.
    pub fn further_splits(&self) -> impl Iterator<Item = Split> + '_ {
        self.layouts.iter().map(|l| l.split).filter(|s| s.prefix().is_some())
    }

    /// What is reported on a split.
    pub fn metrics_of(&self, split: Split) -> &[Metric] {
        // GLUE measures its diagnostic set so, for its labels are far from equally frequent.
        if split == Split::DiagnosticGold { &[Metric::Mcc] } else { &self.metrics }
    }

    /// The metric that stands for the task where one number is wanted.
    pub fn main_metric(&self) -> Metric {
        self.metrics.first().copied().unwrap_or(Metric::Accuracy)
    }

    /// What a regression head is trained against: where the score stands between `min` and `max`,
    /// from 0 to 1. (The reference divides by `max` alone; for STS both mean a fifth of the score.)
    /// `None` where the score is outside `min..=max` (or not a number), and for a classification.
    pub fn target(&self, score: f64) -> Option<f32> {
        match self.kind {
            Kind::Regression { min, max } if (min..=max).contains(&score) => Some(((score - min) / (max - min)) as f32),
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

/// The task that a run's configuration means; none if there is no such task.
pub fn of(identity: &TaskIdentity, files: Option<&TaskFiles>) -> Option<Task> {
    one(&identity.name, identity.custom.as_ref(), files)
}

/// The task of this name: what its owner says that it is, else a built-in one.
pub fn one(name: &str, custom: Option<&CustomTask>, files: Option<&TaskFiles>) -> Option<Task> {
    match custom {
        Some(custom) => files.map(|files| custom::task(name, custom, files)),
        None => find(name).cloned(),
    }
}

/// A classification with the given labels; shared by the files of this folder.
fn classification(labels: &[&str]) -> Kind {
    Kind::Classification { labels: labels.iter().map(|l| l.to_string()).collect() }
}

/// A file of two texts a row, with a header; shared in the same way.
fn pair_layout(split: Split, file: &str, [text_a, text_b]: [Column; 2], label: Option<Column>) -> Layout {
    Layout { text_b: Some(text_b), ..glue_layout(split, file, text_a, label) }
}

/// A file of one text a row, with a header; shared in the same way.
fn glue_layout(split: Split, file: &str, text_a: Column, label: Option<Column>) -> Layout {
    let format = DataFormat::Tsv;
    Layout { split, file: file.into(), format, header: true, even: false, text_a, text_b: None, label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_tasks_match_the_reference_table_and_wnli_is_like_rte() {
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
            ("wnli", 2, Metric::Accuracy, false, 1),
        ];
        assert_eq!(names(), table.map(|row| row.0));
        assert_eq!(names(), bam_crds::task::GLUE_TASKS);
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
        assert_eq!(find("squad"), None);
    }

    #[test]
    fn what_is_measured_besides_the_dev_split_is_mnli_s_alone() {
        let further =
            |name: &&str| find(name).unwrap().further_splits().map(move |split| (name.to_string(), split)).collect();
        let further: Vec<Vec<_>> = names().iter().map(further).collect();
        let mnli = |split| ("mnli".to_owned(), split);
        assert_eq!(further.concat(), [mnli(Split::DevMismatched), mnli(Split::DiagnosticGold)]);
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
    fn columns_count_from_either_end_or_have_names() {
        let named = |index| Column::Named { name: "label".into(), index };
        for (column, fields, index, text) in [
            (named(Some(1)), 2, Some(1), "column \"label\""),
            (named(Some(1)), 1, None, "column \"label\""),
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
