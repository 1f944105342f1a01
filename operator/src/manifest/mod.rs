//! Manifests as people write them: read, and refused where an API server would refuse them, with every fault at once.

mod fault;
mod schema;
mod yaml;

use std::collections::BTreeSet;

use bam_crds::{BamExperiment, GROUP, VERSION};
use kube_cel::{ErrorKind, Validator};
use serde_json::Value;

pub use fault::Fault;
use yaml::Document;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The experiments in it, in order. Empty if there is a fault.
    pub experiments: Vec<BamExperiment>,
    /// Everything that is wrong, by line.
    pub faults: Vec<Fault>,
    /// What is accepted and most likely not what was meant, or is left out.
    pub notes: Vec<Fault>,
}

/// Reads a file of one or several YAML documents.
pub fn read(text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(yaml::NotYaml { line, message }) => {
            manifest.faults.push(Fault { line, path: String::new(), message: format!("is no YAML: {message}") });
            return manifest;
        }
    };
    for document in &documents {
        add(&mut manifest, document);
    }
    if manifest.experiments.is_empty() && manifest.faults.is_empty() {
        let message = format!("there is no BamExperiment in it (apiVersion: {GROUP}/{VERSION})");
        manifest.faults.push(Fault { line: None, path: String::new(), message });
    }
    if !manifest.faults.is_empty() {
        manifest.experiments.clear();
    }
    manifest.faults.sort();
    manifest.faults.dedup();
    manifest
}

fn add(manifest: &mut Manifest, document: &Document) {
    if let Some(other) = other_object(&document.value) {
        manifest.notes.push(Fault::at(document, "", format!("{other} is left out: this program runs experiments")));
        return;
    }
    let faults = faults(document);
    if !faults.is_empty() {
        manifest.faults.extend(faults);
        return;
    }
    manifest.notes.extend(notes(document));
    let mut value = document.value.clone();
    schema::without_nulls(&mut value, schema::structural());
    match serde_json::from_value(value) {
        Ok(experiment) => manifest.experiments.push(experiment),
        // The schema is made of the same types; if they should disagree, the types win.
        Err(error) => manifest.faults.push(Fault::at(document, "", error.to_string())),
    }
}

/// A whole object of another kind, which may stand in the same file.
fn other_object(value: &Value) -> Option<String> {
    let (group, kind) = (value["apiVersion"].as_str()?, value["kind"].as_str()?);
    let is_ours = group.starts_with(GROUP) || kind.to_lowercase().starts_with("bam");
    (!is_ours).then(|| format!("the {kind}"))
}

fn faults(document: &Document) -> Vec<Fault> {
    let mut value = document.value.clone();
    if !value.is_object() {
        return vec![Fault::at(document, "", "must be a Kubernetes object: apiVersion, kind, metadata, spec")];
    }
    schema::without_nulls(&mut value, schema::structural());
    let mut faults = envelope(document, &value);
    let errors: Vec<_> = schema::validator().iter_errors(&value).collect();
    faults.extend(errors.iter().flat_map(|error| fault::from_schema(document, error)));
    faults.extend(list_keys(document, "", &value, schema::structural()));
    faults.extend(rules(document, &value, faults.is_empty()));
    faults
}

/// What every Kubernetes object has.
fn envelope(document: &Document, value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut must_be = |field: &str, wanted: &str| {
        let pointer = format!("/{field}");
        match value.get(field).map(Value::as_str) {
            Some(Some(given)) if given == wanted => {}
            Some(_) => faults.push(Fault::at(document, &pointer, format!("must be {wanted}"))),
            None => faults.push(Fault::at(document, &pointer, format!("is missing: {field}: {wanted}"))),
        }
    };
    must_be("apiVersion", &format!("{GROUP}/{VERSION}"));
    must_be("kind", "BamExperiment");
    match value.pointer("/metadata/name") {
        None => faults.push(Fault::at(document, "/metadata/name", "is missing: every experiment has a name")),
        Some(Value::String(name)) if !is_dns_name(name) => faults.push(Fault::at(
            document,
            "/metadata/name",
            format!(
                "{name:?} is no name for a Kubernetes object: at most 253 lower-case letters, digits, `-` and `.`, \
                 a letter or digit at both ends"
            ),
        )),
        Some(_) => {}
    }
    faults
}

/// An RFC 1123 subdomain.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(plain)) && label.bytes().all(|byte| plain(byte) || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Items of a list that stand twice in it although their key must be unique.
fn list_keys(document: &Document, pointer: &str, value: &Value, schema: &Value) -> Vec<Fault> {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| !(pointer.is_empty() && *key == "status"))
            .filter_map(|(key, value)| Some((key, value, schema.get("properties")?.get(key)?)))
            .flat_map(|(key, value, schema)| list_keys(document, &format!("{pointer}/{key}"), value, schema))
            .collect(),
        Value::Array(items) => {
            let keys: Vec<_> = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut seen = BTreeSet::new();
            let mut faults = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let key: Vec<_> = keys.iter().map(|key| item[*key].to_string()).collect();
                let below = format!("{pointer}/{index}");
                if !keys.is_empty() && !seen.insert(key.clone()) {
                    let message = format!("{} {} stands twice in this list", keys.join(", "), key.join(", "));
                    faults.push(Fault::at(document, &below, message));
                }
                faults.extend(list_keys(document, &below, item, &schema["items"]));
            }
            faults
        }
        _ => Vec::new(),
    }
}

/// The CEL rules. Among other faults a rule may fail to be evaluated at all: that alone says nothing then.
fn rules(document: &Document, value: &Value, is_sound: bool) -> Vec<Fault> {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    let Err(errors) = Validator::new().validate(schema::structural(), &value, None) else { return Vec::new() };
    let errors = errors.into_vec().into_iter();
    errors
        .filter(|error| is_sound || error.kind == ErrorKind::ValidationFailure)
        .map(|error| {
            let pointer = fault::pointer(&error.field_path);
            let shown = document.text(&pointer).filter(|_| error.message.starts_with("must be"));
            let shown = shown.map(|text| format!(", but is {text}")).unwrap_or_default();
            Fault::at(document, &pointer, error.message + &shown)
        })
        .collect()
}

/// What an API server accepts, and what is most likely a slip.
fn notes(document: &Document) -> Vec<Fault> {
    let mut notes = Vec::new();
    if document.value.pointer("/spec/distill").is_some_and(Value::is_null) {
        let message =
            "is empty, which means that nothing is distilled; write `distill: {}` for distillation with all defaults";
        notes.push(Fault::at(document, "/spec/distill", message));
    }
    notes
}
