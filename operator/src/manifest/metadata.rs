//! `metadata`: the rules that hold for every Kubernetes object, which no CRD states.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::Fault;
use super::fault::{no_name, shortened};
use super::yaml::Document;

/// Bytes of all annotations, names and values.
const ANNOTATIONS: usize = 256 * 1024;

/// What is wrong with it. Wrong types are the schema's matter.
pub fn faults(document: &Document, value: &Value) -> Vec<Fault> {
    let none = Map::new();
    let metadata = match value.get("metadata") {
        None => &none,
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return Vec::new(),
    };
    let mut faults = Vec::new();
    let mut fault = |pointer: &str, message: String| faults.push(Fault::at(document, pointer, message));
    let text = |field: &str| metadata.get(field).and_then(Value::as_str);

    let prefix = text("generateName").unwrap_or_default();
    match text("name").unwrap_or_default() {
        "" if metadata.get("name").is_some_and(|name| !name.is_string()) => {}
        "" if prefix.is_empty() => {
            let what = if value["kind"].as_str().is_some_and(|kind| kind.ends_with("Profile")) {
                "profile"
            } else {
                "experiment"
            };
            fault("/metadata/name", format!("is missing: every {what} has a name"));
        }
        // The server appends five letters and digits.
        "" if !is_subdomain(&format!("{prefix}aaaaa")) => fault("/metadata/generateName", no_name(&quoted(prefix))),
        // It does not count beside a name, and yet it has to be the beginning of one, more or less.
        name => {
            if !name.is_empty() && !is_subdomain(name) {
                fault("/metadata/name", no_name(&quoted(name)));
            }
            let begun = prefix.strip_suffix('-').and_then(|begun| begun.get(..begun.len().checked_sub(1)?));
            let whole = begun.map_or_else(|| prefix.to_owned(), |begun| format!("{begun}a"));
            if !prefix.is_empty() && !is_subdomain(&whole) {
                fault("/metadata/generateName", no_name(&quoted(prefix)));
            }
        }
    }
    if let Some(namespace) = text("namespace").filter(|namespace| !is_dns_label(namespace)) {
        let rule = "at most 63 lower-case letters, digits and `-`, a letter or digit at both ends";
        fault("/metadata/namespace", format!("{} is no name for a namespace: {rule}", quoted(namespace)));
    }

    let entries = |field: &str| metadata.get(field).and_then(Value::as_object).into_iter().flatten();
    let below = |field: &str, key: &str| format!("/metadata/{field}/{}", key.replace('~', "~0").replace('/', "~1"));
    for (key, value) in entries("labels") {
        if !is_qualified(key) {
            fault(&below("labels", key), format!("{} is no name for a label: {QUALIFIED}", quoted(key)));
        }
        if value.as_str().is_some_and(|value| !value.is_empty() && !is_word(value)) {
            fault(&below("labels", key), format!("{} is no label: empty, or {WORD}", shortened(&value.to_string())));
        }
    }
    let mut size = 0;
    for (key, value) in entries("annotations") {
        if !is_qualified(&key.to_lowercase()) {
            fault(&below("annotations", key), format!("{} is no name for an annotation: {QUALIFIED}", quoted(key)));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        fault("/metadata/annotations", format!("must have at most {ANNOTATIONS} bytes in all, but have {size}"));
    }
    faults
}

/// Where the API server would make up the end of a name, the name is its beginning.
pub fn complete(document: &Document, metadata: &mut ObjectMeta) -> Option<Fault> {
    if metadata.name.as_ref().is_some_and(|name| !name.is_empty()) {
        return None;
    }
    let name = metadata.generate_name.as_ref()?.trim_end_matches(['-', '.']).to_owned();
    let message = format!("a cluster completes this to a new name each time; here it is {name}");
    metadata.name = Some(name);
    Some(Fault::at(document, "/metadata/generateName", message))
}

/// In quotes, and not too long.
fn quoted(text: &str) -> String {
    shortened(&format!("{text:?}"))
}

/// An RFC 1123 subdomain.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_part)
}

/// An RFC 1123 label.
fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && is_part(name)
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [part.bytes().next(), part.bytes().last()];
    ends.into_iter().all(|end| end.is_some_and(plain)) && part.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// What a label's value is.
pub const WORD: &str = "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends";
/// What a label's name is.
pub const QUALIFIED: &str =
    "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends, after a domain and `/` if you like";

/// A label's value, or its name without a domain.
fn is_word(word: &str) -> bool {
    let ends = [word.bytes().next(), word.bytes().last()];
    word.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The name of a label or an annotation.
fn is_qualified(name: &str) -> bool {
    match name.split_once('/') {
        Some((domain, word)) => is_subdomain(domain) && is_word(word),
        None => is_word(name),
    }
}
