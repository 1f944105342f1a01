//! CSV (RFC 4180): fields between commas, in quotes where they hold commas, quotes or line ends. Blank lines are no rows, as
//! for every reader of CSV.

use std::borrow::Cow;
use std::io::Read;

use super::fault::FaultKind;
use super::reader::{Fields, Flaw, Record};

/// A row behind the end of the file, of a byte that is in no text. Where it is not read as a row, a quote was never closed, and
/// all that follows that quote is one long field.
const END: &[u8] = b"\n\xff\n";

/// The records of a file with their fields.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Flaw>> {
    let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes.chain(END));
    let mut place = Place { bytes, line: 1, at: 0 };
    let mut is_over = false;
    reader.into_byte_records().map_while(move |record| {
        if is_over {
            return None;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                is_over = true;
                let message = format!("is no CSV: {error}; write the file anew");
                return Some(Err(Flaw { line: place.line, kind: FaultKind::BadRecord, message }));
            }
        };
        // The position is that of the line end before the record, if a CR LF stands there.
        let start = record.position().map_or(0, |position| position.byte() as usize);
        let line = place.line_of(start)?;
        if record.iter().next_back().is_some_and(|last| last.ends_with(END)) {
            is_over = true;
            let message =
                "a quote is opened in this row and never closed; close it (a quote in a text is written \"\")";
            return Some(Err(Flaw { line, kind: FaultKind::BadRecord, message: message.into() }));
        }
        Some(fields(line, &record))
    })
}

fn fields(line: usize, record: &csv::ByteRecord) -> Result<Record<'static>, Flaw> {
    let text = |(index, field): (usize, &[u8])| {
        std::str::from_utf8(field).map(|text| Cow::Owned(text.to_owned())).map_err(|_| {
            let message = format!("field {} of the row is not UTF-8; convert the file to UTF-8", index + 1);
            Flaw { line, kind: FaultKind::NotUtf8, message }
        })
    };
    let fields = record.iter().enumerate().map(text).collect::<Result<_, _>>()?;
    Ok(Record { line, fields: Fields::Listed(fields) })
}

/// Counts lines on the way through the file.
struct Place<'a> {
    bytes: &'a [u8],
    line: usize,
    at: usize,
}

impl Place<'_> {
    /// The line, from 1, of the record that begins at this byte or behind the line ends there; none behind the end.
    fn line_of(&mut self, start: usize) -> Option<usize> {
        let rest = self.bytes.get(start..)?;
        let start = start + rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
        self.line += self.bytes[self.at..start].iter().filter(|byte| **byte == b'\n').count();
        self.at = start;
        Some(self.line)
    }
}
