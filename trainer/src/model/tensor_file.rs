//! safetensors files, written and read one tensor at a time, so that a file never lies in memory
//! as a whole.

use crate::digest::Hashing;
use bam_crds::store::Artifact;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// The longest header that is read: what the safetensors library allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// Why a file of tensors cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The system refuses.
    #[error("cannot read {path}: {source}; check that the store is mounted and readable")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The content is not of that format, or not whole.
    #[error("{path} is no whole {format}: {problem}; download it again")]
    Malformed {
        /// The file.
        path: String,
        /// What it ought to be.
        format: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Writes f32 tensors in the given order into an open file, and returns what a reader must find.
///
/// Equal tensors and metadata give equal bytes. Nothing is synced or renamed here.
pub fn write_tensors<'a>(
    file: &File,
    tensors: impl Iterator<Item = (String, &'a Tensor)> + Clone,
    metadata: &[(&str, &str)],
) -> io::Result<Artifact> {
    let mut to = Hashing::new(BufWriter::new(file));
    let mut header = header(tensors.clone(), metadata).to_string().into_bytes();
    // The data begins at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(&header)?;
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        let values = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        bytes.resize(values.numel() * size_of::<f32>(), 0);
        values.copy_data_u8(&mut bytes, values.numel());
        to.write_all(&bytes)?;
    }
    to.flush()?;
    Ok(to.finish())
}

fn header<'a>(tensors: impl Iterator<Item = (String, &'a Tensor)>, metadata: &[(&str, &str)]) -> Value {
    let mut entries = Map::new();
    let metadata: Map<_, _> = metadata.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
    entries.insert("__metadata__".into(), metadata.into());
    let mut begin = 0;
    for (name, tensor) in tensors {
        let end = begin + tensor.numel() * size_of::<f32>();
        let entry = json!({ "dtype": "F32", "shape": tensor.size(), "data_offsets": [begin, end] });
        entries.insert(name, entry);
        begin = end;
    }
    Value::Object(entries)
}

/// An open safetensors file whose header has been read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    data_begins: u64,
    header: Metadata,
}

impl TensorFile {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let unreadable = |source| unreadable(path, source);
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut length = [0; 8];
        let malformed = |problem: String| malformed(path, problem);
        file.read_exact(&mut length).map_err(|_| malformed(format!("it has {size} bytes")))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER.min(size.saturating_sub(8)) {
            return Err(malformed(format!("a header of {length} bytes in a file of {size} bytes")));
        }
        let mut header = length.to_le_bytes().to_vec();
        header.resize(8 + length as usize, 0);
        file.read_exact(&mut header[8..]).map_err(unreadable)?;
        // `read_metadata` wants the whole file only to compare its size, which is done here.
        let text = &header[8..];
        let header: Metadata = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        let expected = 8 + length + header.data_len() as u64;
        if expected != size {
            return Err(malformed(format!("its header promises {expected} bytes, it has {size}")));
        }
        Ok(Self { path: path.to_owned(), file, data_begins: 8 + length, header })
    }

    /// The file's path as text, for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Names of all tensors, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let info = self.header.info(name)?;
        Some(info.shape.iter().map(|&size| size as i64).collect())
    }

    /// The value of a metadata key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let entries: &HashMap<String, String> = self.header.metadata().as_ref()?;
        entries.get(key).map(String::as_str)
    }

    /// Reads one tensor onto the CPU, as it is stored.
    pub fn read(&mut self, name: &str) -> Result<Tensor, TensorFileError> {
        let info = self.header.info(name);
        let info = info.ok_or_else(|| malformed(&self.path, format!("it has no {name}")))?;
        let kind = kind(info.dtype)
            .ok_or_else(|| malformed(&self.path, format!("{name} has the unsupported type {:?}", info.dtype)))?;
        let (begin, end) = info.data_offsets;
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        let mut bytes = vec![0; end - begin];
        self.file
            .seek(SeekFrom::Start(self.data_begins + begin as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| unreadable(&self.path, source))?;
        Tensor::f_from_data_size(&bytes, &shape, kind)
            .map_err(|error| malformed(&self.path, format!("{name}: {error}")))
    }
}

fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::I32 => Some(Kind::Int),
        _ => None,
    }
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> TensorFileError {
    TensorFileError::Unreadable { path: path.display().to_string(), source }
}

fn malformed(path: &Path, problem: String) -> TensorFileError {
    TensorFileError::Malformed { path: path.display().to_string(), format: "safetensors file", problem }
}
