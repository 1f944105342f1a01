//! YAML as JSON, with the line of every value.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{NonFiniteFloatPolicy, Spanned};

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// Where its values are, by JSON pointer.
    places: BTreeMap<String, Place>,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    line: u64,
    text: String,
}

/// A text that is no YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct NotYaml {
    /// The line, counted from 1.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

impl Document {
    /// The line of the value behind a JSON pointer, or of the nearest value around it that is there.
    pub fn line(&self, pointer: &str) -> Option<u64> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(place.line);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    /// A scalar as it stands in the file.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.places.get(pointer).map(|place| place.text.as_str()).filter(|text| !text.is_empty())
    }
}

/// All documents of a text that are not empty.
pub fn documents(text: &str) -> Result<Vec<Document>, NotYaml> {
    // As kubectl and the API server read it: `yes` and `on` are booleans there too, and 017 is 15.
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    let parsed = serde_saphyr::from_multiple_with_options::<Spanned<Node>>(text, options);
    let nodes = parsed.map_err(|error| NotYaml {
        line: error.location().map(|location| location.line()),
        message: sentence(&error),
    })?;
    let mut documents = Vec::new();
    for node in nodes {
        let mut places = BTreeMap::new();
        let value = convert(node, String::new(), text, &mut places)?;
        if !value.is_null() {
            documents.push(Document { value, places });
        }
    }
    Ok(documents)
}

/// The first line, without the place, which the caller names, and without advice to programmers.
fn sentence(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let end = [" at line ", ", set DuplicateKeyPolicy"].iter().filter_map(|end| first.find(end)).min();
    first[..end.unwrap_or(first.len())].to_owned()
}

fn convert(
    node: Spanned<Node>,
    pointer: String,
    text: &str,
    places: &mut BTreeMap<String, Place>,
) -> Result<Value, NotYaml> {
    let location = node.referenced;
    let span = location.span();
    let raw = span
        .byte_offset()
        .zip(span.byte_len())
        .and_then(|(start, length)| text.get(start as usize..start as usize + length as usize))
        .unwrap_or_default();
    let line = location.line();
    let shown = if matches!(node.value, Node::Scalar(_)) { raw } else { "" };
    places.insert(pointer.clone(), Place { line, text: shown.to_owned() });
    Ok(match node.value {
        Node::Scalar(value) => value,
        // Digits that mean more than a floating-point number holds are a text for kubectl (`1e400` may be a hash).
        Node::NotFinite if raw.starts_with(|sign: char| sign.is_ascii_digit()) => raw.into(),
        Node::NotFinite => {
            let message = format!("{raw} is a number for YAML, but there is none such in JSON, which is what is sent");
            return Err(NotYaml { line: Some(line), message });
        }
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            let items = items.map(|(index, item)| convert(item, format!("{pointer}/{index}"), text, places));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Node::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let below = format!("{pointer}/{}", key.value.replace('~', "~0").replace('/', "~1"));
                let line = key.referenced.line();
                map.insert(key.value, convert(value, below.clone(), text, places)?);
                // A field is where its name is, also if its value begins on a later line.
                if let Some(place) = places.get_mut(&below) {
                    place.line = line;
                }
            }
            Value::Object(map)
        }
    })
}

/// Any YAML value.
#[derive(Debug)]
enum Node {
    Scalar(Value),
    /// `.inf`, `.nan`, or digits that mean more than a floating-point number holds.
    NotFinite,
    List(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    /// A whole one that 64 bits hold is an integer, as it is after kubectl has made JSON of it (`2.0` is sent as `2`).
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        if !value.is_finite() {
            return Ok(Node::NotFinite);
        }
        // Not by a cast: Go writes the shortest digits that mean this number, and zeros behind them, and so does Rust.
        let whole = (value.fract() == 0.0).then(|| value.to_string().parse::<i64>().ok()).flatten();
        let number = whole.map(Number::from).or_else(|| Number::from_f64(value));
        Ok(Node::Scalar(number.map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}
