//! The YAML beside the types is what the types say.
#![cfg(feature = "kube")]

use std::path::Path;

#[test]
fn the_yaml_files_are_the_generated_ones() {
    for (file, yaml) in bam_crds::schema::files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == yaml, "crds/{file} is out of date: run `make gen` and commit it");
    }
}

#[test]
fn no_schema_has_a_format_that_an_api_server_warns_about() {
    for (file, yaml) in bam_crds::schema::files() {
        for format in ["uint8", "uint16", "uint32", "uint64"] {
            assert!(!yaml.contains(&format!("format: {format}")), "{file}: {format}");
        }
    }
}

/// A field that may be null is another thing than an absent one, to rules and to comparisons with the object before.
#[test]
fn no_field_may_be_null() {
    for (file, yaml) in bam_crds::schema::files() {
        assert!(!yaml.contains("nullable:"), "{file}");
    }
}

#[test]
fn every_bound_of_an_integer_fits_into_its_format() {
    fn check(schema: &serde_json::Value) {
        for below in schema.as_object().into_iter().flat_map(|map| map.values()) {
            check(below);
        }
        if schema["format"] == "int64" {
            for bound in ["minimum", "maximum"] {
                assert!(schema.get(bound).is_none_or(serde_json::Value::is_i64), "{schema}");
            }
        }
    }
    for crd in bam_crds::schema::all() {
        check(bam_crds::schema::openapi(&crd));
    }
}

#[test]
fn every_field_of_every_resource_is_described_in_more_than_two_words() {
    fn check(schema: &serde_json::Value, path: &str, silent: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let words = field["description"].as_str().unwrap_or_default().split_whitespace().count();
            if words < 3 {
                silent.push(path.clone());
            }
            check(field, &path, silent);
            check(&field["items"], &format!("{path}[]"), silent);
            check(&field["additionalProperties"], &format!("{path}{{}}"), silent);
        }
    }
    let mut silent = Vec::new();
    for crd in bam_crds::schema::all() {
        let schema = bam_crds::schema::openapi(&crd);
        check(&schema["properties"]["spec"], "spec", &mut silent);
        check(&schema["properties"]["status"], "status", &mut silent);
    }
    assert_eq!(silent, Vec::<String>::new(), "`kubectl explain` has nothing to say about these");
}
