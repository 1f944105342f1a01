//! JSON lines: an object on every line, whose fields have names.

use serde_json::{Map, Value};

use super::fault::FaultKind;
use super::reader::{Fields, Flaw, Record};
use super::tsv::{lines, text};

/// The lines of a file with their fields.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Flaw>> {
    lines(bytes).map(|(line, bytes)| {
        let flaw = |kind, message| Flaw { line, kind, message };
        let text = text(line, bytes)?;
        if text.trim().is_empty() {
            let message = "the line is blank; remove it, or restore the row that stood here";
            return Err(flaw(FaultKind::BlankLine, message.into()));
        }
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            // It speaks of a line, which is always the first one here.
            let error = error.to_string().replace(" at line 1 column ", " at character ");
            flaw(FaultKind::BadRecord, format!("the line is no JSON object: {error}; correct it"))
        })?;
        Ok(Record { line, fields: Fields::Named(object) })
    })
}
