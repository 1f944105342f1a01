//! What is wrong with a manifest, as sentences.

use std::fmt;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::metadata::{QUALIFIED, WORD};
use super::schema::{INT_OR_STRING, Schema};
use super::yaml::Document;
use bam_crds::experiment::IMAGE_PATTERN;
use bam_crds::hyperparameters::DECIMAL_PATTERN;
use bam_crds::names::{LABEL_VALUE_PATTERN, OBJECT_NAME_PATTERN};
use bam_crds::nearest;
use bam_crds::placement::{LABEL_KEY_PATTERN, TOPOLOGY_PATTERN};
use bam_crds::quantity::QUANTITY_PATTERN;
use bam_crds::task::{BOUND_PATTERN, FILE_PATTERN, GLUE_TASKS, IS_NO_PATH, IS_NO_TASK_NAME, TASK_NAME_PATTERN};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: Option<u64>,
    /// The field: `spec.tasks[0].name`. Empty: the document.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl Fault {
    /// A fault of the field behind a JSON pointer.
    pub fn at(document: &Document, pointer: &str, message: impl Into<String>) -> Self {
        Self { line: document.line(pointer), path: dotted(pointer), message: message.into() }
    }
}

/// `/spec/tasks/0/name` -> `spec.tasks[0].name`.
pub fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{step}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&step);
        }
    }
    path
}

/// `spec.tasks[0].name` -> `/spec/tasks/0/name`.
pub fn pointer(dotted: &str) -> String {
    let steps = dotted.split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The faults behind one error of the schema: several if several fields are unknown.
pub fn from_schema(document: &Document, schema: &Schema, error: &ValidationError<'_>) -> Vec<Fault> {
    let pointer = error.instance_path().as_str();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|field| Fault::at(document, &format!("{pointer}/{}", escape(field)), unknown(schema, pointer, field)))
            .collect(),
        Kind::Required { property } => {
            let field = property.as_str().unwrap_or_default();
            let below = format!("{pointer}/{field}");
            let about = schema.at(&below).and_then(|schema| schema["description"].as_str()).unwrap_or_default();
            // The description of the specification is that of the whole object.
            let about = if below == "/spec" { "what to train" } else { about };
            let about = about.split(". ").next().unwrap_or_default().trim_end_matches('.').replace('\n', " ");
            let about = if about.is_empty() { String::new() } else { format!(" ({})", lower(&about)) };
            vec![Fault::at(document, &below, format!("is missing{about}"))]
        }
        kind => vec![Fault::at(document, pointer, sentence(document, schema, pointer, kind, error.instance()))],
    }
}

/// A field's name as a step of a JSON pointer.
pub fn escape(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}

fn unknown(schema: &Schema, parent: &str, field: &str) -> String {
    let known = schema.fields(parent);
    match nearest(field, known.iter().copied()) {
        Some(meant) => format!("there is no such field; did you mean {meant}?"),
        None => format!("there is no such field; there are {}", known.join(", ")),
    }
}

fn sentence(document: &Document, schema: &Schema, pointer: &str, kind: &Kind, value: &Value) -> String {
    let shown = shortened(&document.text(pointer).map_or_else(|| value.to_string(), str::to_owned));
    let quoted = shortened(&value.to_string());
    match kind {
        Kind::Enum { options } => {
            let options: Vec<_> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let typed = value.as_str().unwrap_or_default();
            let hint = nearest(typed, options.iter().copied()).map(|meant| format!("; did you mean {meant}?"));
            format!("{quoted} is not one of {}{}", options.join(", "), hint.unwrap_or_default())
        }
        Kind::Type { .. } => wrong_type(schema, pointer, value, &shown),
        // The only one is that of the type `INT_OR_STRING`, and it does not keep the value.
        Kind::Custom { .. } => wrong_type(schema, pointer, document.value.pointer(pointer).unwrap_or(value), &shown),
        Kind::Minimum { limit } => format!("must be at least {limit}, but is {shown}"),
        Kind::Maximum { limit } => format!("must be at most {limit}, but is {shown}"),
        Kind::MinItems { limit } => format!("must have at least {}", items(*limit)),
        Kind::MaxItems { limit } => format!("must have at most {}", items(*limit)),
        Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::Pattern { pattern } if pattern == DECIMAL_PATTERN => {
            format!("{quoted} is not a decimal number: write it like \"0.1\" or \"5e-5\"")
        }
        Kind::Pattern { pattern } if pattern == QUANTITY_PATTERN => {
            format!("{quoted} is not an amount: write it like 2, \"500m\" or \"4Gi\"")
        }
        Kind::Pattern { pattern } if pattern == OBJECT_NAME_PATTERN => no_name(&quoted),
        Kind::Pattern { pattern } if pattern == LABEL_VALUE_PATTERN => {
            format!("{quoted} is no value of a label: {WORD}")
        }
        Kind::Pattern { pattern } if pattern == LABEL_KEY_PATTERN => {
            format!("{quoted} is no name of a label: {QUALIFIED}")
        }
        Kind::Pattern { pattern } if pattern == TOPOLOGY_PATTERN => {
            format!("{quoted} is no topology: write it like 2x4 or 2x2x1")
        }
        Kind::Pattern { pattern } if pattern == IMAGE_PATTERN => {
            format!("{quoted} is no image: letters, digits and signs of ASCII, no blanks")
        }
        Kind::Pattern { pattern } if pattern == TASK_NAME_PATTERN => {
            format!("{quoted} {IS_NO_TASK_NAME}{}", meant_task(value).unwrap_or_default())
        }
        Kind::Pattern { pattern } if pattern == FILE_PATTERN => format!("{quoted} {IS_NO_PATH}"),
        Kind::Pattern { pattern } if pattern == BOUND_PATTERN => {
            format!("{quoted} is no bound of scores: write it like 5 or \"0.5\"")
        }
        Kind::Pattern { pattern } => format!("{quoted} must match {pattern}"),
        _ => format!("{quoted} is refused by the schema ({})", kind.keyword()),
    }
}

/// The end of a sentence about a task that is not there: which of GLUE's was most likely meant.
pub fn meant_task(name: &Value) -> Option<String> {
    nearest(name.as_str()?.trim(), GLUE_TASKS).map(|meant| format!("; did you mean {meant}?"))
}

/// Why this, in quotes, is not the name of an object.
pub fn no_name(quoted: &str) -> String {
    format!(
        "{quoted} is no name for a Kubernetes object: at most 253 lower-case letters, digits, `-` and `.`, a letter or digit \
         at both ends and beside every `.`"
    )
}

/// Enough of a text to know it by.
pub fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let end = if text.ends_with('"') { "…\"" } else { "…" };
    text.chars().take(LONGEST).chain(end.chars()).collect()
}

fn items(count: u64) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

fn is_int_or_string(schema: &Schema, pointer: &str) -> bool {
    schema.at(pointer).is_some_and(|schema| schema[INT_OR_STRING] == true)
}

fn wrong_type(schema: &Schema, pointer: &str, value: &Value, shown: &str) -> String {
    if is_int_or_string(schema, pointer) && value.is_f64() {
        return format!("quote it, as Kubernetes keeps no floating-point numbers: \"{shown}\"");
    }
    let wanted = schema.at(pointer).and_then(|schema| schema["type"].as_str()).unwrap_or("string");
    let wanted = match wanted {
        _ if is_int_or_string(schema, pointer) => "a number in quotes",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "string" if value.is_number() || value.is_boolean() => return format!("must be text: quote it, \"{shown}\""),
        "string" => "text",
        "array" => "a list (lines that begin with `- `)",
        "object" => "fields with values, not a single value",
        other => other,
    };
    match value {
        Value::Null => format!("must be {wanted}, but is empty"),
        Value::Object(_) | Value::Array(_) => format!("must be {wanted}"),
        _ => format!("must be {wanted}, but is {shown}"),
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
