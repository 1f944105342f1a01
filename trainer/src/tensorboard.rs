//! Event files for TensorBoard: scalars over steps.
//!
//! A file is a sequence of TFRecords (length and content, each with its checksum), each of which is an `Event` in
//! protobuf's wire format (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto). Only what scalars
//! take is written, so it is written by hand.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

/// Whoever looks while it trains sees what is no older than this.
const FRESH: Duration = Duration::from_secs(2);

/// An event file, open for writing.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    records: BufWriter<File>,
    flushed: Instant,
}

impl EventFile {
    /// A new file in a folder, which is made if it is missing, for a training that begins or goes on at `step`: what files
    /// of earlier attempts say of later steps does not count any more.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self, Failure> {
        let path = folder.join(name());
        let created = fs::create_dir_all(folder).and_then(|()| File::create(&path));
        let file = created.map_err(|error| Failure::store("write TensorBoard's events", &path, &error))?;
        let mut events = Self { path, records: BufWriter::new(file), flushed: Instant::now() };
        events.event(0, &field(FILE_VERSION, b"brain.Event:2"))?;
        events.event(step, &field(SESSION_LOG, &number(STATUS, STATUS_START)))?;
        events.save()?;
        Ok(events)
    }

    /// Writes values by tag, for a step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), Failure> {
        let value = |(tag, value): &(String, f64)| {
            field(VALUE, &[field(TAG, tag.as_bytes()), fixed32(SIMPLE_VALUE, *value as f32)].concat())
        };
        let summary: Vec<u8> = values.iter().flat_map(value).collect();
        self.event(step, &field(SUMMARY, &summary))?;
        if self.flushed.elapsed() >= FRESH { self.save() } else { Ok(()) }
    }

    /// Hands everything so far to the system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&mut self) -> Result<(), Failure> {
        self.flushed = Instant::now();
        self.write(BufWriter::flush)
    }

    fn event(&mut self, step: u64, what: &[u8]) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = [&fixed64(WALL_TIME, now)[..], &number(STEP, step), what].concat();
        self.write(|records| records.write_all(&record(&event)))
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
        write(&mut self.records).map_err(|error| Failure::store("write TensorBoard's events", &self.path, &error))
    }
}

/// As TensorFlow names them, and TensorBoard sorts them: by time.
fn name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("events.out.tfevents.{now:020}.{}.{}", host.trim(), std::process::id())
}

// Numbers of the fields of `Event`, …
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
// … of `Summary` and `Summary.Value`, …
const VALUE: u64 = 1;
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;
// … and of `SessionLog`, with its status that a session began.
const STATUS: u64 = 1;
const STATUS_START: u64 = 1;

// Protobuf's wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3 | VARINT), varint(value)].concat()
}

fn fixed32(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | FIXED32), value.to_le_bytes().to_vec()].concat()
}

fn fixed64(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | FIXED64), value.to_le_bytes().to_vec()].concat()
}

fn field(field: u64, content: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | BYTES)[..], &varint(content.len() as u64), content].concat()
}

/// A TFRecord.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), content, &checksum(content)].concat()
}

/// CRC-32C, rotated and shifted, so that the checksum of bytes that hold a checksum is no special one.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

/// Castagnoli's CRC, byte by byte (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4, and the check value of CRC-32C.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn numbers_and_texts_are_written_as_protobuf_does() {
        assert_eq!(number(STEP, 300), [0x10, 0xAC, 0x02]);
        assert_eq!(field(TAG, b"ab"), [0x0A, 2, b'a', b'b']);
        assert_eq!(fixed32(SIMPLE_VALUE, 1.0), [0x15, 0, 0, 0x80, 0x3F]);
        assert_eq!(fixed64(WALL_TIME, 1.0), [0x09, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F]);
    }

    #[test]
    fn a_file_begins_with_its_version_and_the_step_at_which_the_training_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(&folder.path().join("deep"), 3).unwrap();
        events.scalars(3, &[("train/loss".to_owned(), 0.5)]).unwrap();
        events.save().unwrap();
        let bytes = fs::read(&events.path).unwrap();
        // The version stands behind step 0 and a time: tag, length, text.
        assert!(bytes.windows(15).any(|part| part == b"\x1a\x0dbrain.Event:2"));
        assert!(bytes.windows(6).any(|part| part == [0x10, 3, 0x3A, 2, 8, 1]), "step 3, a session began");
        assert!(bytes.windows(21).any(|part| part == b"\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\0\0\0\x3f"));
    }
}
