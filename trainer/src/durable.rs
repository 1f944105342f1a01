//! Files that are either whole or absent, whenever the machine stops.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk or the quota is full.
    #[error("no space is left to write {path}")]
    DiskFull {
        /// The file.
        path: String,
    },
    /// Anything else that the system says.
    #[error("cannot write {path}: {source}")]
    Failed {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

impl WriteError {
    /// Names the file in a system's error.
    pub fn new(path: &Path, source: io::Error) -> Self {
        let path = path.display().to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Failed { path, source },
        }
    }
}

/// The ending of a file that is being written.
pub(crate) const UNFINISHED: &str = ".partial";

/// Writes a file beside its place, syncs it, and moves it there: a reader sees the old content or
/// the new one, also after a power cut. What a failure leaves is removed.
pub(crate) fn write<T>(path: &Path, content: impl FnOnce(&File) -> io::Result<T>) -> Result<T, WriteError> {
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
    let written = (|| {
        let file = File::create(&unfinished)?;
        let result = content(&file)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        sync_folder(path)?;
        Ok(result)
    })();
    written.map_err(|source| {
        // It may not exist, and the first error is the one to tell.
        let _ = std::fs::remove_file(&unfinished);
        WriteError::new(path, source)
    })
}

/// A rename is on the disk only when its folder is.
fn sync_folder(of: &Path) -> io::Result<()> {
    match of.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
