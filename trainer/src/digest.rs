//! What a file is, by content.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bam_crds::Digest;
use bam_crds::store::Artifact;
use sha2::{Digest as _, Sha256};

/// Size and SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub fn of_file(path: &Path) -> io::Result<Artifact> {
    of_files(&[path])
}

/// Size and SHA-256 of files one after the other, as of one: what `cat FILE… | sha256sum` says.
///
/// # Errors
/// If one cannot be read.
pub fn of_files(paths: &[&Path]) -> io::Result<Artifact> {
    let mut hashing = Hashing::new(io::sink());
    for path in paths {
        io::copy(&mut File::open(path)?, &mut hashing)?;
    }
    Ok(hashing.finish())
}

/// Counts and hashes what is written through it.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// What was written.
    pub(crate) fn finish(self) -> Artifact {
        Artifact { sha256: Digest::from_hash(self.hash.finalize().into()), bytes: self.bytes }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
