//! Amounts as Kubernetes writes them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// An amount: `2`, `500m`, `4Gi`. Whole numbers may stand without quotes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity(pub String);

/// What a [`Quantity`] may look like: what a pod may ask for, but not less than nothing.
pub const QUANTITY_PATTERN: &str = r"^([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]{1,2})?$";

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        int_or_string(deserializer).map(Self)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": 32,
            "pattern": QUANTITY_PATTERN,
        })
    }
}

/// The text of what Kubernetes calls an IntOrString.
pub(crate) fn int_or_string<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum IntOrString {
        Int(i64),
        String(String),
    }
    Ok(match IntOrString::deserialize(deserializer)? {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text,
    })
}
