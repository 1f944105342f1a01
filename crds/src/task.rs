//! Tasks: the names of those that are built in, and what a person says of one of their own.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::is_default;

/// The tasks of GLUE: files, labels and metrics of these are known.
pub const GLUE_TASKS: [&str; 9] = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst", "sts", "wnli"];

/// What the name of a task may look like: it is part of the names of files and of parameters.
pub const TASK_NAME_PATTERN: &str = "^[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// What a path in the store may look like: no way leads out of it, and no part begins with a dot.
pub const FILE_PATTERN: &str = "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$";

/// What a bound of scores may look like.
pub const BOUND_PATTERN: &str = r"^-?[0-9]{1,9}(\.[0-9]{1,6})?$";

/// The most labels that a task may have.
const MOST_LABELS: usize = 500;

/// Where the rows of a task of one's own are: paths in the store, like `tweets/train.csv`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskFiles {
    /// Rows to learn from: a path in the store, such as `tweets/train.csv`.
    #[schemars(length(min = 1, max = 253), regex(pattern = FILE_PATTERN))]
    pub train: String,
    /// Labelled rows to measure on.
    #[schemars(length(min = 1, max = 253), regex(pattern = FILE_PATTERN))]
    pub dev: String,
    /// Rows to predict, if there are any; their labels are not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = FILE_PATTERN))]
    pub test: Option<String>,
}

/// What the rows of a task of one's own mean. All its files are of one format and have their columns in the same places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.labels) != has(self.range)", "message": "say exactly one of `labels` (a class) and `range` (a score)"},
    {"rule": "!has(self.metric) || has(self.range) == (self.metric in ['Pearson', 'Spearman'])",
     "message": "labels are measured by Accuracy, F1 or Matthews, scores by Pearson or Spearman", "fieldPath": ".metric"},
    {"rule": "!has(self.metric) || self.metric != 'F1' || !has(self.labels) || self.labels.size() == 2",
     "message": "F1 is that of the second of two labels: with more of them, take Accuracy or Matthews", "fieldPath": ".metric"},
    {"rule": "!has(self.unordered) || !self.unordered || has(self.textB)", "message": "only two texts can be in another order: add textB", "fieldPath": ".unordered"},
]))]
pub struct CustomTask {
    /// `TSV`: TABs between fields, no quotes, as GLUE's files. `CSV`: commas and quotes (RFC 4180). `JSONL`: a JSON object on
    /// every line.
    pub format: DataFormat,
    /// The first line of a TSV or CSV file names the columns. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub header: bool,
    /// Column of the text, or of the first one of two: by name, or by position from 0 (-1 is the last one).
    pub text_a: Column,
    /// Column of the second text; absent: there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_b: Option<Column>,
    /// Column of the label or score in the files for training and dev.
    pub label: Column,
    /// The labels as they stand in the files; their order is that of the model's outputs.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(min = 2, max = MOST_LABELS), inner(length(min = 1, max = 100)), extend("x-kubernetes-list-type" = "set"))]
    pub labels: Vec<String>,
    /// Instead of labels: a score between these is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ScoreRange>,
    /// The metric that the task is judged by. Default: Accuracy, of scores Pearson.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<TaskMetric>,
    /// The order of the two texts means nothing, so `doubleUnordered` adds a swapped copy of every training row. Default
    /// false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unordered: bool,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Formats of data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataFormat {
    /// Fields between TABs, without quotes.
    #[serde(rename = "TSV")]
    Tsv,
    /// Fields between commas, in quotes where they need it.
    #[serde(rename = "CSV")]
    Csv,
    /// A JSON object on every line.
    #[serde(rename = "JSONL")]
    Jsonl,
}

/// What a task is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaskMetric {
    /// Share of right answers.
    Accuracy,
    /// F1 of the second of two labels.
    F1,
    /// Matthews correlation.
    Matthews,
    /// Linear correlation.
    Pearson,
    /// Rank correlation.
    Spearman,
}

/// The scores that there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self.min)) < double(string(self.max))", "message": "min must be below max"}]))]
pub struct ScoreRange {
    /// The smallest score that a row can have.
    pub min: Bound,
    /// The largest score that a row can have.
    pub max: Bound,
}

/// A bound of scores: `5`, `"0.5"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound(pub f64);

/// A column: a name, or the text of a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column(pub String);

impl TaskFiles {
    /// The paths by the names of their fields.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let test = self.test.iter().map(|test| ("test", test.as_str()));
        [("train", self.train.as_str()), ("dev", self.dev.as_str())].into_iter().chain(test)
    }

    /// What is wrong with the paths: the field, and the sentence that follows it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let bad = self.paths().filter(|(_, path)| !is_path(path));
        bad.map(|(field, path)| (field, format!("is {path:?}, which {IS_NO_PATH}"))).collect()
    }
}

/// What is said of a path that leads elsewhere.
pub const IS_NO_PATH: &str = "is no path in the store: letters, digits, `_`, `-` and `.` between slashes, like \
                              tweets/train.csv, and no part begins with a dot";

impl CustomTask {
    /// The same task, said in one way only: what is at its default is left out.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self { metric: self.metric.filter(|metric| *metric != self.default_metric()), ..self.clone() }
    }

    /// The metric that the task is judged by.
    pub fn main_metric(&self) -> TaskMetric {
        self.metric.unwrap_or_else(|| self.default_metric())
    }

    fn default_metric(&self) -> TaskMetric {
        if self.range.is_some() { TaskMetric::Pearson } else { TaskMetric::Accuracy }
    }

    /// What is wrong with it: the field, and the sentence that follows it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = self.problems_of_answers();
        let mut problem = |field, message: String| problems.push((field, message));
        if self.unordered && self.text_b.is_none() {
            problem("unordered", "is true, but only two texts can be in another order: add textB".to_owned());
        }
        if !self.header && self.format != DataFormat::Jsonl {
            let columns =
                [("textA", Some(&self.text_a)), ("textB", self.text_b.as_ref()), ("label", Some(&self.label))];
            for (field, column) in columns {
                if let Some(column) = column.filter(|column| column.position().is_none()) {
                    let advice = "is a name, but without a header columns have positions, from 0";
                    problem(field, format!("{:?} {advice}", column.0));
                }
            }
        }
        problems
    }

    /// Labels, range and metric.
    fn problems_of_answers(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut problem = |field, message: &str| problems.push((field, message.to_owned()));
        match (&self.range, self.labels.len()) {
            (None, 0) | (Some(_), 1..) => problem("labels", "or range: exactly one of them says what is predicted"),
            (None, 2..=MOST_LABELS) | (Some(_), 0) => {}
            (None, _) => problem("labels", &format!("must be 2 to {MOST_LABELS}")),
        }
        if self.labels.iter().any(|label| label.is_empty() || label.chars().count() > 100) {
            problem("labels", "must have 1 to 100 characters each");
        }
        if let Some((_, twice)) = self.labels.iter().enumerate().find(|(at, label)| self.labels[..*at].contains(label))
        {
            problem("labels", &format!("has {twice:?} twice"));
        }
        // Not `>=`: a bound may be no number.
        if self
            .range
            .as_ref()
            .is_some_and(|range| !(range.min.0 < range.max.0 && (range.max.0 - range.min.0).is_finite()))
        {
            problem("range", "min must be below max");
        }
        let of_scores = self.metric.map(|metric| matches!(metric, TaskMetric::Pearson | TaskMetric::Spearman));
        if of_scores.is_some_and(|of_scores| of_scores != self.range.is_some()) {
            problem("metric", "labels are measured by Accuracy, F1 or Matthews, scores by Pearson or Spearman");
        }
        if self.metric == Some(TaskMetric::F1) && self.labels.len() > 2 {
            problem("metric", "F1 is that of the second of two labels: with more of them, take Accuracy or Matthews");
        }
        problems
    }
}

/// What is wrong with the name of a task of one's own, as the end of a sentence.
pub fn name_problem(name: &str) -> Option<&'static str> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    let is_name = name.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(letter))
        && name.bytes().all(|byte| letter(byte) || byte == b'-' || byte == b'_');
    match (is_name, GLUE_TASKS.contains(&name)) {
        (false, _) => Some(IS_NO_TASK_NAME),
        (true, true) => Some("is a task of GLUE, whose rows are known: take another name"),
        (true, false) => None,
    }
}

/// What is said of a task's name that cannot be one.
pub const IS_NO_TASK_NAME: &str =
    "is no name for a task: at most 63 lower-case letters, digits, `-` and `_`, a letter or digit at both ends";

fn is_path(path: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        part.bytes().next().is_some_and(plain) && part.bytes().all(|byte| plain(byte) || byte == b'.' || byte == b'-')
    };
    path.len() <= 253 && path.split('/').all(is_part)
}

impl Column {
    /// The position that the text says, from 0, or from the end if below 0; none: it is a name.
    pub fn position(&self) -> Option<i32> {
        let position = self.0.parse::<i32>().ok()?;
        // A position is written in one way only: `+1` and `01` are names.
        (position.abs() < 10_000 && position.to_string() == self.0).then_some(position)
    }
}

impl From<&str> for Column {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::quantity::int_or_string(deserializer).map(Self)
    }
}

impl JsonSchema for Column {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Column".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": -9999,
            "maximum": 9999,
            "minLength": 1,
            "maxLength": 100,
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As text, since Kubernetes keeps floating point out of its APIs, and always as the same one: `5`, not `5.0`.
impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A command line may also say a number with a fraction.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Number(f64),
            Text(String),
        }
        let said = Said::deserialize(deserializer)?;
        let value = match &said {
            Said::Number(number) => Some(*number),
            Said::Text(text) => text.parse().ok(),
        };
        let value = value.filter(|value| value.is_finite());
        // There is no -0 among scores.
        value
            .map(|value| Self(value + 0.0))
            .ok_or_else(|| serde::de::Error::custom("a bound is a number, like 5 or \"0.5\""))
    }
}

impl JsonSchema for Bound {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bound".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": BOUND_PATTERN,
            "minimum": -999_999_999,
            "maximum": 999_999_999,
            "maxLength": 17,
        })
    }
}
