//! Features that are kept: turning the texts of a large task into word pieces takes longer than everything else before
//! the first step, and gives the same again.
//!
//! A file is named by a hash of everything that its content follows from, texts included, so a stale one cannot be used;
//! one that is damaged is made again. It is mapped into memory, and so shared by all processes that train on it. The
//! folder can be removed at any time.
//!
//! Numbers are little-endian: `bamfeat1`, the key [32 bytes], the numbers of rows and ids [u64], then the three columns
//! of a [`Table`] (ends, ids, seconds), and a CRC-32C of all that.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use bam_crds::Digest;
use memmap2::Mmap;
use sha2::{Digest as _, Sha256};
use zerocopy::{FromBytes, IntoBytes};

use super::features::{Features, Table, featurise};
use super::rows::Row;
use super::tokenize::Tokenizer;
use crate::{durable, log};

/// Fewer rows take less than half a second, and are not worth a file.
const WORTH_A_FILE: usize = 10_000;

const MAGIC: &[u8; 8] = b"bamfeat1";
const HEADER: usize = 56;
const CHECKSUM: usize = 4;

/// Makes features, or finds them.
#[derive(Debug)]
pub struct FeatureCache<'a> {
    /// Where files are kept.
    pub folder: PathBuf,
    /// What texts are cut with.
    pub tokenizer: &'a Tokenizer,
    /// Its vocabulary, by content.
    pub vocabulary: &'a Digest,
    /// Longest row.
    pub max_seq_length: usize,
    /// Threads to cut on.
    pub threads: usize,
}

impl FeatureCache<'_> {
    /// The features of rows, in their order. Where a file cannot be used or written, there is a warning and no error.
    pub fn features(&self, rows: &[Row]) -> FeatureTable {
        if rows.len() < WORTH_A_FILE {
            return FeatureTable::Made(self.make(rows));
        }
        let key = self.key(rows);
        let path = self.folder.join(hex(&key));
        match Mapped::open(&path, &key, rows.len()) {
            Ok(found) => return FeatureTable::Mapped(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::line(&format!("warning: {}: {error}; it is made again", path.display())),
        }
        let table = self.make(rows);
        if let Err(error) = durable::write(&path, |file| write(file, &key, &table)) {
            log::line(&format!("warning: word pieces are not kept for the next start: {error}"));
        }
        FeatureTable::Made(table)
    }

    fn make(&self, rows: &[Row]) -> Table {
        featurise(self.tokenizer, rows, self.max_seq_length, self.threads)
    }

    /// A hash of all that features follow from.
    fn key(&self, rows: &[Row]) -> [u8; 32] {
        let mut hash = Sha256::new();
        // Another version may cut in another way.
        hash.update(concat!(env!("CARGO_PKG_VERSION"), "\n"));
        hash.update(self.vocabulary.as_str());
        hash.update([u8::from(self.tokenizer.lower_cases())]);
        hash.update(self.max_seq_length.to_le_bytes());
        for row in rows {
            let second = row.text_b.as_deref();
            // No text is of the length that stands for none.
            hash.update(row.text_a.len().to_le_bytes());
            hash.update(second.map_or(usize::MAX, str::len).to_le_bytes());
            hash.update(&row.text_a);
            hash.update(second.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

fn hex(key: &[u8; 32]) -> String {
    Digest::from_hash(*key).to_string()
}

/// The features of rows, wherever they lie.
#[derive(Debug)]
pub enum FeatureTable {
    /// In memory.
    Made(Table),
    /// In a file.
    Mapped(Mapped),
}

impl Default for FeatureTable {
    fn default() -> Self {
        Self::Made(Table::default())
    }
}

impl FeatureTable {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.columns().1.len()
    }

    /// Is there no row?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The features of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Features<'_> {
        let (ids, ends, seconds) = self.columns();
        let begin = row.checked_sub(1).map_or(0, |before| ends[before]);
        Features { ids: &ids[begin as usize..ends[row] as usize], second: seconds[row] }
    }

    /// Word pieces of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn length(&self, row: usize) -> usize {
        self.row(row).ids.len()
    }

    fn columns(&self) -> (&[u32], &[u64], &[u16]) {
        match self {
            Self::Made(table) => (&table.ids, &table.ends, &table.seconds),
            Self::Mapped(mapped) => mapped.columns(),
        }
    }
}

/// A file of features, mapped into memory.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
    rows: usize,
    ids: usize,
}

impl Mapped {
    /// # Errors
    /// If there is no such file, or it is not whole.
    fn open(path: &std::path::Path, key: &[u8; 32], rows: usize) -> io::Result<Self> {
        // SAFETY: a file comes to its name whole and is never written to afterwards; that nobody else does is the
        // condition under which a store is one.
        let map = unsafe { Mmap::map(&File::open(path)?)? };
        let ids =
            check(&map, key, rows).ok_or_else(|| io::Error::other("not a whole file of these rows' word pieces"))?;
        Ok(Self { map, rows, ids })
    }

    fn columns(&self) -> (&[u32], &[u64], &[u16]) {
        let (ends, rest) = self.map[HEADER..].split_at(self.rows * size_of::<u64>());
        let (ids, rest) = rest.split_at(self.ids * size_of::<u32>());
        let seconds = &rest[..self.rows * size_of::<u16>()];
        (column(ids), column(ends), column(seconds))
    }
}

fn column<T: FromBytes + zerocopy::Immutable>(bytes: &[u8]) -> &[T] {
    // A map begins at a page, and each column is of numbers no longer than those before it.
    <[T]>::ref_from_bytes(bytes).expect("columns begin at multiples of their numbers' size")
}

/// The number of ids, if these are the bytes of a whole file.
fn check(bytes: &[u8], key: &[u8; 32], rows: usize) -> Option<usize> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let number = |at: usize| Some(u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?));
    let (found, ids) = (number(40)?, usize::try_from(number(48)?).ok()?);
    let length = rows.checked_mul(10)?.checked_add(ids.checked_mul(4)?)?.checked_add(HEADER)?;
    let whole = content.starts_with(MAGIC)
        && content[8..40] == *key
        && found == rows as u64
        && content.len() == length
        && checksum == crc32c::crc32c(content).to_le_bytes();
    whole.then_some(ids)
}

/// The content of a file.
fn write(file: &File, key: &[u8; 32], table: &Table) -> io::Result<()> {
    let mut checksum = 0;
    let mut to = io::BufWriter::new(file);
    let counts = [table.ends.len() as u64, table.ids.len() as u64];
    let columns = [table.ends.as_bytes(), table.ids.as_bytes(), table.seconds.as_bytes()];
    for part in [MAGIC.as_slice(), key, counts.as_bytes()].into_iter().chain(columns) {
        checksum = crc32c::crc32c_append(checksum, part);
        to.write_all(part)?;
    }
    to.write_all(&checksum.to_le_bytes())?;
    to.flush()
}

/// Columns are written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"));

#[cfg(test)]
#[path = "feature_cache_tests.rs"]
mod tests;
