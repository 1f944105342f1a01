//! The CRD's schema as a JSON schema that gives the verdict of an API server.

use std::sync::OnceLock;

use bam_crds::{nearest, schema};
use jsonschema::{Keyword, ValidationError, Validator};
use serde_json::{Map, Value, json};

/// What a kind's CRD says about its objects.
#[derive(Debug)]
pub struct Schema {
    /// `BamExperiment`, say.
    pub kind: String,
    /// The schema of a whole object, as the API server gets it.
    pub structural: Value,
    /// A validator that also refuses unknown fields, as `kubectl` has the API server do.
    pub validator: Validator,
}

impl Schema {
    /// That of a `BamExperiment`.
    pub fn experiment() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| Self::new(&schema::experiment()))
    }

    /// That of a kind that people write; of any other word, that of the kind which it most likely means.
    pub fn of(kind: &str) -> &'static Self {
        static PROFILES: OnceLock<[Schema; 2]> = OnceLock::new();
        let [profile, cluster] =
            PROFILES.get_or_init(|| [schema::profile(), schema::cluster_profile()].map(|it| Self::new(&it)));
        let kinds = [Self::experiment(), profile, cluster];
        let meant = nearest(kind, kinds.iter().map(|schema| schema.kind.as_str()));
        kinds.into_iter().find(|schema| Some(schema.kind.as_str()) == meant).unwrap_or_else(Self::experiment)
    }

    /// That of the kind that a CRD of ours defines.
    ///
    /// # Panics
    /// If it is no CRD of ours.
    pub fn new(crd: &Value) -> Self {
        let structural = schema::openapi(crd).clone();
        let mut schema = structural.clone();
        strict(&mut schema);
        let properties = schema["properties"].as_object_mut().expect("our kinds are objects");
        // The API server drops the status of an object that is created, but for names that it does not know. `metadata`
        // has rules of its own.
        let status = structural.pointer("/properties/status").map_or(json!(true), names);
        properties.insert("status".to_owned(), status);
        properties.insert("metadata".to_owned(), metadata());
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        let options = jsonschema::options().with_keyword(INT_OR_STRING, |_, _, _| Ok(Box::new(IntOrString)));
        let validator = options.build(&schema).expect("the schema of our own CRD is one");
        let kind = crd.pointer("/spec/names/kind").and_then(Value::as_str).expect("a CRD names its kind");
        Self { kind: kind.to_owned(), structural, validator }
    }

    /// The part behind a JSON pointer into an object.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let mut schema = &self.structural;
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
    pub fn fields(&self, pointer: &str) -> Vec<&str> {
        match pointer {
            "" => return vec!["apiVersion", "kind", "metadata", "spec"],
            "/metadata" => return METADATA.to_vec(),
            _ => {}
        }
        let properties = self.at(pointer).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect()
    }
}

/// Removes nulls that the API server removes: those of fields, and of entries of a map. A default may take their place.
pub fn without_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let below = |key: &str| {
                let known = schema.get("properties").and_then(|properties| properties.get(key));
                known.or_else(|| schema.get("additionalProperties"))
            };
            map.retain(|key, value| !value.is_null() || below(key).is_none());
            for (key, value) in map {
                without_nulls(value, below(key).unwrap_or(&Value::Null));
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| without_nulls(item, schema.get("items").unwrap_or(&Value::Null)));
        }
        _ => {}
    }
}

/// Only the names of a schema.
fn names(schema: &Value) -> Value {
    let mut names = Map::new();
    if let Some(properties) = schema["properties"].as_object() {
        let below: Map<_, _> = properties.iter().map(|(name, schema)| (name.clone(), self::names(schema))).collect();
        names.insert("properties".to_owned(), below.into());
        names.insert("additionalProperties".to_owned(), json!(false));
    }
    for below in ["additionalProperties", "items"] {
        if let Some(schema) = schema.get(below).filter(|schema| schema.is_object()) {
            names.insert(below.to_owned(), self::names(schema));
        }
    }
    names.into()
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

/// No fields but those that have a name.
fn strict_object(schema: &mut Map<String, Value>) {
    if schema.get("properties").is_some_and(Value::is_object) && schema.get("type").is_some() {
        schema.entry("additionalProperties").or_insert_with(|| json!(false));
    }
}

/// Set where a value is a text, or a whole number that 64 bits hold.
pub const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

struct IntOrString;

impl<'i> Keyword<'i> for IntOrString {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(value) { Ok(()) } else { Err(ValidationError::custom(INT_OR_STRING)) }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        value.is_string() || value.is_i64()
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
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let text = json!({"type": "string"});
    let some = json!({"type": "string", "minLength": 1});
    let owner = json!({
        "type": "object",
        "properties": {
            "apiVersion": some, "kind": some, "name": some, "uid": some,
            "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
        },
        "required": ["apiVersion", "kind", "name", "uid"],
        "additionalProperties": false,
    });
    let mut properties: Map<_, _> = METADATA.iter().map(|name| ((*name).to_owned(), json!(true))).collect();
    properties.insert("labels".to_owned(), texts.clone());
    properties.insert("annotations".to_owned(), texts);
    for name in ["name", "generateName", "namespace", "uid", "resourceVersion", "selfLink"] {
        properties.insert(name.to_owned(), text.clone());
    }
    properties.insert("finalizers".to_owned(), json!({"type": "array", "items": text}));
    properties.insert("ownerReferences".to_owned(), json!({"type": "array", "items": owner}));
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}
