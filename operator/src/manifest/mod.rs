//! Manifests as people write them: read, and refused where an API server would refuse them, with every fault at once.

mod fault;
mod metadata;
mod schema;
mod yaml;

use std::collections::BTreeSet;

use bam_crds::experiment::NO_SUCH_TASK;
use bam_crds::profile::ProfileRef;
use bam_crds::{BamExperiment, BamProfile, BamProfileSpec, ClusterBamProfile, GROUP, VERSION};
use kube::ResourceExt as _;
use kube_cel::{ErrorKind, Validator};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use fault::Fault;
use schema::Schema;
use yaml::Document;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The experiments in it, in order. Empty if there is a fault.
    pub experiments: Vec<BamExperiment>,
    /// The profiles in it, in order. Empty if there is a fault.
    pub profiles: Vec<Profile>,
    /// Everything that is wrong, by line.
    pub faults: Vec<Fault>,
    /// What is accepted and most likely not what was meant, or is left out.
    pub notes: Vec<Fault>,
}

/// A profile as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its kind and name.
    pub named: ProfileRef,
    /// Its namespace, if that is said.
    pub namespace: Option<String>,
    /// What it says.
    pub spec: BamProfileSpec,
}

impl Profile {
    fn of<K: bam_crds::profile::Profile>(profile: &K) -> Self {
        let named = ProfileRef { kind: K::KIND, name: profile.name_any() };
        Self { named, namespace: profile.namespace(), spec: profile.says().clone() }
    }
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
    if manifest.experiments.is_empty() && manifest.profiles.is_empty() && manifest.faults.is_empty() {
        let message = format!("{NO_EXPERIMENT} (apiVersion: {GROUP}/{VERSION})");
        manifest.faults.push(Fault { line: None, path: String::new(), message });
    }
    if !manifest.faults.is_empty() {
        manifest.experiments.clear();
        manifest.profiles.clear();
    }
    manifest.faults.sort();
    manifest.faults.dedup();
    manifest
}

/// What is said of a file that has nothing to run.
pub const NO_EXPERIMENT: &str = "there is no BamExperiment in it";

fn add(manifest: &mut Manifest, document: &Document) {
    if let Some(other) = other_object(&document.value) {
        manifest.notes.push(Fault::at(document, "", format!("{other} is left out: this program runs experiments")));
        return;
    }
    let schema = Schema::of(document.value["kind"].as_str().unwrap_or_default());
    let faults = faults(document, schema, None);
    if !faults.is_empty() {
        manifest.faults.extend(faults);
        return;
    }
    manifest.notes.extend(notes(document, schema));
    let mut value = admitted(document, schema);
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    let taken = match schema.kind.as_str() {
        "BamProfile" => {
            object(manifest, document, value).map(|it: BamProfile| manifest.profiles.push(Profile::of(&it)))
        }
        "ClusterBamProfile" => {
            object(manifest, document, value).map(|it: ClusterBamProfile| manifest.profiles.push(Profile::of(&it)))
        }
        _ => object(manifest, document, value).map(|it| manifest.experiments.push(it)),
    };
    // The schema is made of the same types; if they should disagree, the types win.
    manifest.faults.extend(taken.err().map(|error| Fault::at(document, "", error.to_string())));
}

fn object<K>(manifest: &mut Manifest, document: &Document, value: Value) -> serde_json::Result<K>
where
    K: DeserializeOwned + kube::Resource,
{
    let mut object: K = serde_json::from_value(value)?;
    manifest.notes.extend(metadata::complete(document, object.meta_mut()));
    Ok(object)
}

/// What is wrong with one object of the kind that a CRD of ours defines, or with its change from what it was `before`:
/// the judgement behind [`read`], for what `bam` has no command for.
pub fn judge(crd: &Value, text: &str, before: Option<&str>) -> Vec<Fault> {
    let schema = Schema::new(crd);
    let only = |text: &str| yaml::documents(text).ok()?.pop();
    let Some(document) = only(text) else {
        return vec![Fault { line: None, path: String::new(), message: "is no YAML".to_owned() }];
    };
    let before = before.and_then(only).map(|before| admitted(&before, &schema));
    faults(&document, &schema, before.as_ref())
}

/// What the API server makes of it before it looks at it: nothing of most nulls.
fn admitted(document: &Document, schema: &Schema) -> Value {
    let mut value = document.value.clone();
    schema::without_nulls(&mut value, &schema.structural);
    if let Some(object) = value.as_object_mut() {
        object.retain(|field, value| !(value.is_null() && schema.fields("").contains(&field.as_str())));
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, value| !(value.is_null() && schema.fields("/metadata").contains(&field.as_str())));
        for texts in ["labels", "annotations"] {
            let texts = metadata.get_mut(texts).and_then(Value::as_object_mut).into_iter().flatten();
            texts.filter(|(_, text)| text.is_null()).for_each(|(_, text)| *text = "".into());
        }
    }
    value
}

/// A whole object of another kind, which may stand in the same file.
fn other_object(value: &Value) -> Option<String> {
    let (group, kind) = (value["apiVersion"].as_str()?, value["kind"].as_str()?);
    let is_ours = group.starts_with(GROUP) || kind.to_lowercase().starts_with("bam");
    (!is_ours).then(|| format!("the {kind}"))
}

fn faults(document: &Document, schema: &Schema, before: Option<&Value>) -> Vec<Fault> {
    let value = admitted(document, schema);
    if !value.is_object() {
        return vec![Fault::at(document, "", "must be a Kubernetes object: apiVersion, kind, metadata, spec")];
    }
    let mut faults = envelope(document, schema, &value);
    let errors: Vec<_> = schema.validator.iter_errors(&value).collect();
    faults.extend(errors.iter().flat_map(|error| fault::from_schema(document, schema, error)));
    faults.extend(metadata::faults(document, &value));
    faults.extend(list_keys(document, "", &value, &schema.structural));
    let broken = rules(document, schema, &value, before, faults.is_empty());
    // A field that is wrong by itself has its sentence already.
    let is_new = |rule: &Fault| faults.iter().all(|fault| fault.path.is_empty() || fault.path != rule.path);
    let broken: Vec<_> = broken.into_iter().filter(is_new).collect();
    faults.extend(broken);
    faults
}

/// What every Kubernetes object has.
fn envelope(document: &Document, schema: &Schema, value: &Value) -> Vec<Fault> {
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
    must_be("kind", &schema.kind);
    faults
}

/// Items of a list that stand twice in it although they, or their keys, must be unique.
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
            let is_set = schema["x-kubernetes-list-type"] == "set";
            // One fault is enough for a list that is too long.
            let too_long = schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most);
            let mut seen = BTreeSet::new();
            let mut faults = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let key: Vec<_> = keys.iter().map(|key| item[*key].to_string()).collect();
                let below = format!("{pointer}/{index}");
                let unique = if is_set { vec![item.to_string()] } else { key };
                if !unique.is_empty() && !too_long && !seen.insert(unique.clone()) {
                    let what = format!("{} {}", keys.join(", "), unique.join(", "));
                    faults.push(Fault::at(
                        document,
                        &below,
                        format!("{} stands twice in this list", what.trim_start()),
                    ));
                }
                faults.extend(list_keys(document, &below, item, &schema["items"]));
            }
            faults
        }
        _ => Vec::new(),
    }
}

/// The CEL rules. Among other faults a rule may fail to be evaluated at all: that alone says nothing then.
fn rules(document: &Document, schema: &Schema, value: &Value, before: Option<&Value>, is_sound: bool) -> Vec<Fault> {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    let Err(errors) = Validator::new().validate(&schema.structural, &value, before) else { return Vec::new() };
    let errors = errors.into_vec().into_iter();
    errors
        .filter(|error| is_sound || error.kind == ErrorKind::ValidationFailure)
        .filter(|error| has_place(&value, &fault::pointer(&error.field_path)))
        .map(|error| {
            let pointer = fault::pointer(&error.field_path);
            let shown = document.text(&pointer).filter(|_| error.message.starts_with("must be"));
            let shown = shown.map(|text| format!(", but is {text}")).unwrap_or_default();
            let given = value.pointer(&pointer).unwrap_or(&Value::Null);
            let whose = if error.message.starts_with("is ") { format!("{given} ") } else { String::new() };
            let meant = fault::meant_task(given).filter(|_| error.message == NO_SUCH_TASK);
            Fault::at(document, &pointer, whose + &error.message + &shown + &meant.unwrap_or_default())
        })
        .collect()
}

/// Whether there can be such a field: a rule may blame a field of what should be an object and is none. (Behind a key with a
/// dot, the pointer leads nowhere.)
fn has_place(value: &Value, pointer: &str) -> bool {
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    value.pointer(parent).is_none_or(|parent| parent.is_object() || parent.is_array())
}

/// What an API server accepts, and what is most likely a slip.
fn notes(document: &Document, schema: &Schema) -> Vec<Fault> {
    let mut notes = Vec::new();
    empty_entries(document, "", &document.value, &schema.structural, &mut notes);
    if document.value.pointer("/spec/distill").is_some_and(Value::is_null) {
        let message =
            "is empty, which means that nothing is distilled; write `distill: {}` for distillation with all defaults";
        notes.push(Fault::at(document, "/spec/distill", message));
    }
    notes
}

/// Entries of maps without a value: as if they were not there.
fn empty_entries(document: &Document, pointer: &str, value: &Value, schema: &Value, notes: &mut Vec<Fault>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let below = format!("{pointer}/{}", fault::escape(key));
        if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(key)) {
            empty_entries(document, &below, value, schema, notes);
        } else if value.is_null() && schema.get("additionalProperties").is_some() {
            notes.push(Fault::at(document, &below, "is empty, and left out therefore"));
        }
    }
}
