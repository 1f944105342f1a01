//! The CRDs as the API server gets them, made from the types.

use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::{BamExperiment, BamProfile, BamRun, ClusterBamProfile};

const HEADER: &str = "# Generated from the types in crds/src by `make gen`. Do not edit.\n";

/// The CRD of `BamExperiment`.
pub fn experiment() -> Value {
    printable(&BamExperiment::crd())
}

/// The CRD of `BamRun`.
pub fn run() -> Value {
    printable(&BamRun::crd())
}

/// The CRD of `BamProfile`.
pub fn profile() -> Value {
    without_profile(printable(&BamProfile::crd()))
}

/// The CRD of `ClusterBamProfile`.
pub fn cluster_profile() -> Value {
    without_profile(printable(&ClusterBamProfile::crd()))
}

/// All of them.
pub fn all() -> [Value; 4] {
    [experiment(), run(), profile(), cluster_profile()]
}

/// What a profile says of runs is what an experiment says of them, but for the profile that it names.
fn without_profile(mut crd: Value) -> Value {
    let compute = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/compute/properties";
    let compute = crd.pointer_mut(compute).and_then(Value::as_object_mut).expect("a profile has `compute`");
    compute.remove("profile").expect("an experiment can name a profile");
    crd
}

/// The generated files: name and content.
///
/// # Panics
/// If a CRD cannot be written as YAML, which would be a mistake in this crate.
pub fn files() -> [(String, String); 4] {
    all().map(|crd| {
        let name = crd.pointer("/metadata/name").and_then(Value::as_str).expect("a CRD has a name");
        let yaml = serde_saphyr::to_string(&crd).expect("a CRD is plain JSON, which is YAML");
        (format!("{name}.yaml"), HEADER.to_owned() + &yaml)
    })
}

/// A CRD's schema of the whole object (`openAPIV3Schema`).
///
/// # Panics
/// If `crd` has no version with a schema.
pub fn openapi(crd: &Value) -> &Value {
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("our CRDs have one version with a schema")
}

fn printable(crd: &impl serde::Serialize) -> Value {
    let mut crd = serde_json::to_value(crd).expect("a CRD serialises");
    rewrite(&mut crd);
    crd
}

/// Three things that schemars writes and that an API server should not get: `uint32` formats (a warning at every apply),
/// floating-point bounds of integers, and `nullable`. Without it the server drops a null, so that it means the same as an
/// absent field to everyone: to rules with `has()`, to defaults, and to comparisons with the object before.
fn rewrite(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("nullable");
            rewrite_format(map);
            map.values_mut().for_each(rewrite);
        }
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        _ => {}
    }
}

fn rewrite_format(schema: &mut Map<String, Value>) {
    let (signed, largest) = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => ("int64", u64::from(u32::MAX)),
        // An API server reads bounds as floating point: above this they are no whole numbers any more.
        Some("uint64") => ("int64", 1 << 53),
        Some("uint16" | "uint8") => ("int32", 65_535),
        _ => return,
    };
    schema.insert("format".to_owned(), signed.into());
    schema.entry("minimum").or_insert_with(|| 0.into());
    schema.entry("maximum").or_insert_with(|| largest.into());
    for bound in ["minimum", "maximum"] {
        // What is a whole number already may be too large for a float to hold it.
        if let Some(whole) = schema[bound].as_f64().filter(|_| schema[bound].is_f64()) {
            schema.insert(bound.to_owned(), (whole as u64).into());
        }
    }
}
