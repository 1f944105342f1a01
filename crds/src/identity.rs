//! Identity: what a thing is called follows from what it is.
//!
//! A hash is SHA-256 over canonical JSON (keys sorted, no white space, defaults left out), so a field that is added
//! later with a default renames nothing. Golden hashes in `tests/identity.rs` never change.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Changes only when the same [`Science`](crate::Science) would learn something else.
pub const SEMANTICS_VERSION: u32 = 1;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Digest(#[schemars(length(equal = 64), regex(pattern = "^[0-9a-f]{64}$"))] String);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a SHA-256 digest (64 lower-case hexadecimal digits)")]
pub struct NotADigest(String);

impl Digest {
    /// Digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::digest(bytes).into())
    }

    /// Digest of a value's [canonical] JSON.
    ///
    /// # Panics
    /// If the value does not serialise to JSON (a map with keys that are no strings): a mistake in a type of this
    /// crate, found by its tests.
    pub fn of(value: &impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("types of this crate serialise to JSON");
        Self::of_bytes(canonical(&value).as_bytes())
    }

    /// Digest from the 32 bytes that a hasher returned.
    pub fn from_hash(hash: [u8; 32]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Self(digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 16 digits: enough for a name.
    pub fn short(&self) -> &str {
        &self.0[..16]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(hexadecimal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotADigest(text.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// JSON with sorted keys and no white space: one text for one value, whatever wrote it.
///
/// A number that is a whole one is written without a fraction, since an API server gives `6.0` back as `6`.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(key, text);
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Number(number) => match number.as_f64() {
            // Rust's own formatting: the shortest digits that read back the same, and no exponent. A JSON library's may
            // change from one version to the next.
            Some(float) if number.is_f64() => text.push_str(&float.to_string()),
            _ => text.push_str(&number.to_string()),
        },
        Value::String(string) => write_string(string, text),
        other => text.push_str(&other.to_string()),
    }
}

/// Most strings are names and digests: planning is mostly hashing, and this half of that.
fn write_string(string: &str, text: &mut String) {
    if string.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        text.extend(["\"", string, "\""]);
    } else {
        text.push_str(&Value::from(string).to_string());
    }
}

/// For `skip_serializing_if`: a field at its default is not written, so it does not count in a hash.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
