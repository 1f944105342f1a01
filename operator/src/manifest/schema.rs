//! The CRD's schema as a JSON schema that gives the verdict of an API server.

use std::sync::OnceLock;

use bam_crds::schema;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The schema of a whole `BamExperiment`, as the API server gets it.
pub fn structural() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| schema::openapi(&schema::experiment()).clone())
}

/// A validator that also refuses unknown fields, as `kubectl` has the API server do.
pub fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let mut schema = structural().clone();
        strict(&mut schema);
        let properties = schema["properties"].as_object_mut();
        let properties = properties.expect("an experiment is an object");
        // The API server ignores the status of an object that is created, and `metadata` has its own rules.
        properties.insert("status".to_owned(), json!(true));
        properties.insert("metadata".to_owned(), metadata());
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        jsonschema::validator_for(&schema).expect("the schema of our own CRD is one")
    })
}

/// The part of the schema behind a JSON pointer into an object.
pub fn at(pointer: &str) -> Option<&'static Value> {
    let mut schema = structural();
    for step in pointer.split('/').skip(1) {
        schema = match schema.get("properties").and_then(|properties| properties.get(step)) {
            Some(below) => below,
            None if step.bytes().all(|byte| byte.is_ascii_digit()) => schema.get("items")?,
            None => schema.get("additionalProperties")?,
        };
    }
    Some(schema)
}

/// The names of an object's fields.
pub fn fields(pointer: &str) -> Vec<&'static str> {
    match pointer {
        "" => return vec!["apiVersion", "kind", "metadata", "spec"],
        "/metadata" => return METADATA.to_vec(),
        _ => {}
    }
    let properties = at(pointer).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect()
}

/// Removes nulls that the API server removes: those of fields that cannot be null. A default may take their place.
pub fn without_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let Some(properties) = schema.get("properties") else { return };
            let nullable = |key: &str| properties.get(key).is_none_or(|it| it["nullable"] == true);
            map.retain(|key, value| !value.is_null() || nullable(key));
            for (key, value) in map {
                if let Some(schema) = properties.get(key) {
                    without_nulls(value, schema);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| without_nulls(item, schema.get("items").unwrap_or(&Value::Null)));
        }
        _ => {}
    }
}

fn strict(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(strict);
            strict_object(map);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

/// From the dialect of Kubernetes to that of JSON schema.
fn strict_object(schema: &mut Map<String, Value>) {
    let nullable = schema.get("nullable") == Some(&json!(true));
    if schema.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
        let mut types = vec!["integer", "string"];
        if nullable {
            types.push("null");
        }
        schema.insert("type".to_owned(), json!(types));
    } else if let (true, Some(Value::String(kind))) = (nullable, schema.get("type")) {
        let kinds = json!([kind, "null"]);
        schema.insert("type".to_owned(), kinds);
    }
    if schema.get("properties").is_some_and(Value::is_object) && schema.get("type").is_some() {
        schema.entry("additionalProperties").or_insert_with(|| json!(false));
    }
}

const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn metadata() -> Value {
    let texts = json!({"type": ["object", "null"], "additionalProperties": {"type": "string"}});
    let mut properties: Map<_, _> = METADATA.iter().map(|name| ((*name).to_owned(), json!(true))).collect();
    properties.insert("labels".to_owned(), texts.clone());
    properties.insert("annotations".to_owned(), texts);
    properties.insert("name".to_owned(), json!({"type": "string"}));
    properties.insert("namespace".to_owned(), json!({"type": "string"}));
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}
