//! TSV as GLUE has it: fields between TABs, no quotes, no escapes, one row per line.

use std::borrow::Cow;

use super::fault::FaultKind;
use super::reader::{Fields, Flaw, Record};

/// The lines of a file with their fields. A blank one has one empty field.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Flaw>> {
    lines(bytes).map(|(line, bytes)| {
        let text = text(line, bytes)?;
        if text.contains('\r') {
            let message = "a carriage return stands inside the line; remove it \
                           (lines end with LF or CR LF)";
            return Err(Flaw { line, kind: FaultKind::LoneCarriageReturn, message: message.into() });
        }
        Ok(Record { line, fields: Fields::Listed(text.split('\t').map(Cow::Borrowed).collect()) })
    })
}

/// The lines of a file and their numbers from 1, without carriage returns at their ends, as Python's csv reads them; a last
/// one without a newline counts, an empty last one does not.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    // An empty file has no line, but "\n" has a blank one.
    let any = !bytes.is_empty();
    let lines = body.split(|b| *b == b'\n').filter(move |_| any);
    lines.enumerate().map(|(index, line)| {
        let end = line.iter().rposition(|b| *b != b'\r').map_or(0, |i| i + 1);
        (index + 1, &line[..end])
    })
}

/// A line as text.
pub(super) fn text(line: usize, bytes: &[u8]) -> Result<&str, Flaw> {
    std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to() + 1;
        let message = format!("byte {byte} of the line is not UTF-8; convert the file to UTF-8");
        Flaw { line, kind: FaultKind::NotUtf8, message }
    })
}
