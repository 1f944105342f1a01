//! From the bytes of a file to rows with texts and labels: what [`tsv`], [`csv`] and [`jsonl`] have in common.

use super::fault::{DataError, Fault, FaultKind};
use super::rows::{Label, Row};
use super::{csv, jsonl, tsv};
use crate::task::{Column, Kind, Layout, Task};
use bam_crds::nearest;
use bam_crds::task::DataFormat;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::path::Path;
use std::rc::Rc;

/// A row as its format has it.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// Line in the file at which it begins, from 1.
    pub line: usize,
    /// What stands in it.
    pub fields: Fields<'a>,
}

/// The fields of a row.
#[derive(Debug)]
pub(super) enum Fields<'a> {
    /// From the left.
    Listed(Vec<Cow<'a, str>>),
    /// By name.
    Named(Map<String, Value>),
}

/// Why there is no record.
#[derive(Debug)]
pub(super) struct Flaw {
    /// Line in the file, from 1.
    pub line: usize,
    /// What kind of problem.
    pub kind: FaultKind,
    /// What was found and what to do.
    pub message: String,
}

fn records(format: DataFormat, bytes: &[u8]) -> Box<dyn Iterator<Item = Result<Record<'_>, Flaw>> + '_> {
    match format {
        DataFormat::Tsv => Box::new(tsv::records(bytes)),
        DataFormat::Csv => Box::new(csv::records(bytes)),
        DataFormat::Jsonl => Box::new(jsonl::records(bytes)),
    }
}

/// A file being read, record by record, and its faults.
pub(super) struct Reader<'a> {
    task: &'a Task,
    /// Its columns know their places once the header was read.
    layout: Rc<Layout>,
    file: &'a Path,
    line: usize,
    /// Fields of the first line, where all rows must have as many.
    width: Option<usize>,
    error: DataError,
}

impl<'a> Reader<'a> {
    pub fn new(task: &'a Task, layout: &Layout, file: &'a Path) -> Self {
        Self { task, layout: Rc::new(layout.clone()), file, line: 0, width: None, error: DataError::default() }
    }

    /// All rows, and all faults. `debug_lines` as in [`read_split`](super::rows::read_split).
    pub fn read(mut self, bytes: &[u8], debug_lines: Option<usize>) -> (Vec<Row>, DataError) {
        let mut rows = Vec::new();
        let header = usize::from(self.layout.header);
        for (index, record) in records(self.layout.format, bytes).take(debug_lines.unwrap_or(usize::MAX)).enumerate() {
            let fields = self.record(record);
            if index >= header {
                rows.extend(fields.and_then(|fields| self.row(&fields, index - header)));
            } else if !self.header(fields.as_ref()) {
                // Without its names no field of a row can be found.
                break;
            }
        }
        (rows, self.error)
    }

    /// The fields of a record; `None` if a fault was noted.
    fn record<'b>(&mut self, record: Result<Record<'b>, Flaw>) -> Option<Fields<'b>> {
        match record {
            Ok(record) => {
                self.line = record.line;
                if let Fields::Listed(fields) = &record.fields
                    && self.layout.even
                {
                    self.width.get_or_insert(fields.len());
                }
                Some(record.fields)
            }
            Err(flaw) => {
                self.line = flaw.line;
                self.fault(flaw.kind, None, flaw.message);
                None
            }
        }
    }

    /// Finds the columns that have names. Otherwise the header's words are nobody's business, but broken bytes there mean
    /// a broken file. `false` if one is not found.
    fn header(&mut self, fields: Option<&Fields>) -> bool {
        let Layout { text_a, text_b, label, .. } = Rc::make_mut(&mut self.layout);
        let columns = [Some(text_a), text_b.as_mut(), label.as_mut()].into_iter().flatten();
        let Some(Fields::Listed(names)) = fields else {
            return !columns.into_iter().any(|column| matches!(column, Column::Named { .. }));
        };
        let mut missing = Vec::new();
        for column in columns {
            let Column::Named { name, index } = column else { continue };
            let mut found = names.iter().enumerate().filter(|(_, known)| *known == name).map(|(index, _)| index);
            *index = found.next();
            let wrong = match (*index, found.next()) {
                (Some(_), None) => continue,
                (Some(_), Some(_)) => "stands twice in the header; rename one".to_owned(),
                (None, _) => format!("is not in the header{}", among(name, names)),
            };
            missing.push((column.clone(), wrong));
        }
        let all = missing.is_empty();
        missing.into_iter().for_each(|(column, message)| self.fault(FaultKind::NoSuchColumn, Some(column), message));
        all
    }

    /// The row of a record; `None` if a fault was noted.
    fn row(&mut self, fields: &Fields, number: usize) -> Option<Row> {
        if self.layout.format == DataFormat::Tsv && matches!(fields, Fields::Listed(fields) if *fields == [""]) {
            self.fault(
                FaultKind::BlankLine,
                None,
                "the line is blank; remove it, or restore the row that stood here".into(),
            );
            return None;
        }
        if let (Fields::Listed(fields), Some(width)) = (fields, self.width)
            && fields.len() != width
        {
            let message = format!(
                "the row has {} and the first line {width}; {}",
                count(fields.len()),
                match self.layout.format {
                    DataFormat::Csv => "put a text with a comma, a quote or a line end into quotes",
                    _ => "take a TAB or a line end out of its texts",
                }
            );
            self.fault(FaultKind::UnevenRow, None, message);
            return None;
        }
        let layout = Rc::clone(&self.layout);
        let a = self.text(fields, &layout.text_a, "text");
        let b = layout.text_b.as_ref().map(|column| self.text(fields, column, "second text"));
        let label = match &layout.label {
            Some(column) => self.answer(fields, column).and_then(|value| self.label(&value, column)),
            None => Some(Label::None),
        };
        let text_b = match b {
            Some(b) => Some(b?),
            None => None,
        };
        Some(Row { eid: number as u32, text_a: a?, text_b, label: label?, line: self.line as u32 })
    }

    /// A text, or a fault.
    fn text(&mut self, fields: &Fields, column: &Column, what: &str) -> Option<String> {
        match self.field(fields, column, what)? {
            Found::Text(text) => Some(text.to_owned()),
            Found::Value(Value::String(text)) => Some(text.clone()),
            Found::Value(value) => {
                let message = format!("{} is no text; put it into quotes", short(&value.to_string()));
                self.fault(FaultKind::WrongType, Some(column.clone()), message);
                None
            }
        }
    }

    /// A label or a score as text, or a fault. JSON may have it as a number, or as true and false.
    fn answer<'b>(&mut self, fields: &'b Fields, column: &Column) -> Option<Cow<'b, str>> {
        match self.field(fields, column, "label")? {
            Found::Text(text) => Some(text.into()),
            Found::Value(Value::String(text)) => Some(text.into()),
            Found::Value(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string().into()),
            Found::Value(value) => {
                let message = format!("{} is no label; write a text or a number", short(&value.to_string()));
                self.fault(FaultKind::WrongType, Some(column.clone()), message);
                None
            }
        }
    }

    /// A field, or a fault that says which one is missing.
    fn field<'b>(&mut self, fields: &'b Fields, column: &Column, what: &str) -> Option<Found<'b>> {
        let message = match (fields, column) {
            (Fields::Listed(fields), _) => match column.index(fields.len()) {
                Some(index) => return Some(Found::Text(&fields[index])),
                None => {
                    let between = if self.layout.format == DataFormat::Csv { "commas" } else { "TABs" };
                    format!(
                        "the {what} is missing: the row has {} between {between} and needs at \
                         least {}; restore the row (often a line break or a lost {} inside it)",
                        count(fields.len()),
                        column.fields_needed(),
                        &between[..between.len() - 1]
                    )
                }
            },
            (Fields::Named(object), Column::Named { name, .. }) => match object.get(name) {
                Some(value) => return Some(Found::Value(value)),
                None => format!("the {what} is missing in the object{}", among(name, object.keys())),
            },
            (Fields::Named(_), _) => format!("the {what} has a position, but the fields of JSON have names"),
        };
        self.fault(FaultKind::MissingColumn, Some(column.clone()), message);
        None
    }

    /// What a label field means for this task.
    fn label(&mut self, value: &str, column: &Column) -> Option<Label> {
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
        found.map_err(|(kind, message)| self.fault(kind, Some(column.clone()), message)).ok()
    }

    fn fault(&mut self, kind: FaultKind, column: Option<Column>, message: String) {
        self.error.push(Fault { kind, file: self.file.into(), line: Some(self.line), column, message });
    }
}

/// A field of a record.
enum Found<'a> {
    /// Of a list.
    Text(&'a str),
    /// Of an object.
    Value(&'a Value),
}

/// The end of a sentence about a name that is not among these.
fn among<'a, T: AsRef<str> + 'a>(name: &str, names: impl IntoIterator<Item = &'a T>) -> String {
    let names: Vec<&str> = names.into_iter().map(AsRef::as_ref).collect();
    let hint = nearest(name, names.iter().copied()).map(|meant| format!(" (did you mean {meant:?}?)"));
    let known: Vec<String> = names.iter().map(|name| format!("{:?}", short(name))).collect();
    // A header that is a row of data instead may be very long.
    format!(", which has {}{}", short_list(&known), hint.unwrap_or_default())
}

/// At most ten of them.
fn short_list(items: &[String]) -> String {
    match items.len() {
        0 => "nothing".to_owned(),
        1..=10 => items.join(", "),
        more => format!("{} and {} more", items[..10].join(", "), more - 10),
    }
}

fn count(fields: usize) -> String {
    if fields == 1 { "1 field".to_owned() } else { format!("{fields} fields") }
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
    let known = if known.len() > 10 { format!("one of {}", short_list(&known)) } else { known.join(" or ") };
    let message = format!("{:?} is no label of {task}; write {known}{hint}", short(value));
    Err((FaultKind::UnknownLabel, message))
}

/// A value for a message: long ones (a text where a label should be) are cut.
fn short(value: &str) -> String {
    let mut chars = value.chars();
    let head: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { head + "..." } else { head }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
