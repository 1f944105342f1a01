//! A checkpoint as named tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::message::{Entry, Header};
use super::table::{self, LARGEST};
use super::wire::masked_crc;
use crate::model::tensor_file::{TensorFileError, unreadable};

/// An open checkpoint whose index has been read and compared with its data file's size.
#[derive(Debug)]
pub struct TensorBundle {
    data: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

impl TensorBundle {
    /// Opens a checkpoint of one data file.
    ///
    /// # Errors
    /// If a file cannot be read, or the two are not a whole checkpoint.
    pub fn open(index: &Path, data: &Path) -> Result<Self, TensorFileError> {
        let bytes = read_index(index)?;
        let entries = entries(&bytes).map_err(|problem| malformed(index, problem))?;
        let file = File::open(data).map_err(|source| unreadable(data, source))?;
        let length = file.metadata().map_err(|source| unreadable(data, source))?.len();
        let ends = entries.values().map(|entry| entry.offset.saturating_add(entry.size));
        let promised = ends.max().unwrap_or(0);
        if promised > length {
            return Err(malformed(data, format!("its index promises {promised} bytes, it has {length}")));
        }
        Ok(Self { data: data.to_owned(), file, entries })
    }

    /// Names of all variables, in order.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The shape of a variable, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.entries.get(name).map(|entry| entry.shape.clone())
    }

    /// Reads one variable onto the CPU, as it is stored.
    ///
    /// # Errors
    /// If it is not there, is not numbers, cannot be read, or is not what its checksum says.
    pub fn read(&mut self, name: &str) -> Result<Tensor, TensorFileError> {
        let malformed = |problem: String| malformed(&self.data, problem);
        let entry = self.entries.get(name).ok_or_else(|| malformed(format!("it has no {name}")))?;
        let kind = kind(entry.data_type)
            .ok_or_else(|| malformed(format!("{name} has the unsupported type number {}", entry.data_type)))?;
        // No more than the file has: `open` looked.
        let mut bytes = vec![0; entry.size as usize];
        self.file
            .seek(SeekFrom::Start(entry.offset))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| unreadable(&self.data, source))?;
        if masked_crc(&bytes) != entry.crc {
            return Err(malformed(format!("the checksum of {name} is not that of its bytes")));
        }
        Tensor::f_from_data_size(&bytes, &entry.shape, kind).map_err(|error| malformed(format!("{name}: {error}")))
    }
}

fn read_index(path: &Path) -> Result<Vec<u8>, TensorFileError> {
    let unreadable = |source| unreadable(path, source);
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() <= LARGEST {
        true => Ok(bytes),
        false => Err(malformed(path, format!("it has more than {} MB", LARGEST >> 20))),
    }
}

/// The variables of an index by name.
fn entries(index: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let mut pairs = table::entries(index)?.into_iter();
    let header = pairs.next().filter(|(key, _)| key.is_empty()).and_then(|(_, value)| Header::parse(&value));
    match header.ok_or("it does not begin with a checkpoint's header")? {
        Header { shards: 1, endianness: 0 } => pairs.map(entry).collect(),
        Header { shards: 1, .. } => Err("its numbers have the highest byte first".to_owned()),
        Header { shards, .. } => Err(format!("it has {shards} data files, only one can be read")),
    }
}

fn entry((key, value): (Vec<u8>, Vec<u8>)) -> Result<(String, Entry), String> {
    let name = String::from_utf8(key).map_err(|_| "a name in it is not UTF-8")?;
    let entry = Entry::parse(&value).ok_or_else(|| format!("what it says of {name} cannot be read"))?;
    if entry.sliced {
        return Err(format!("{name} is stored in slices, only whole variables can be read"));
    }
    if entry.shard != 0 {
        return Err(format!("{name} is in data file number {}, but there is one", entry.shard));
    }
    let width = kind(entry.data_type).map(|kind| kind.elt_size_in_bytes() as u64);
    let needed = entry.values().and_then(|values| values.checked_mul(width.unwrap_or(1)));
    if needed.is_none() || (width.is_some() && needed != Some(entry.size)) {
        return Err(format!("{name} is {:?} in {} bytes, which does not fit", entry.shape, entry.size));
    }
    Ok((name, entry))
}

/// The types of numbers, by their number in TensorFlow's `DataType`.
fn kind(data_type: u64) -> Option<Kind> {
    match data_type {
        1 => Some(Kind::Float),
        2 => Some(Kind::Double),
        3 => Some(Kind::Int),
        9 => Some(Kind::Int64),
        14 => Some(Kind::BFloat16),
        19 => Some(Kind::Half),
        _ => None,
    }
}

fn malformed(path: &Path, problem: String) -> TensorFileError {
    TensorFileError::Malformed { path: path.display().to_string(), format: "TensorFlow checkpoint", problem }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
