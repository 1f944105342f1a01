//! What can go wrong on a single machine. None of it loses anything: `bam run` goes on where it was.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong on a single machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the quota is full.
    #[error("no space is left to write {path}: make room and run the same command again, it goes on where it was")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}; `--bam-dir` must be a folder that you may write")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The trainer is nowhere.
    #[error(
        "there is no bam-trainer {looked}: build it (`cargo build --release -p bam-trainer`), or say where it is with \
         --trainer PATH or BAM_TRAINER"
    )]
    NoTrainer {
        /// Where it was looked for.
        looked: String,
    },
    /// The trainer cannot be started.
    #[error("cannot start {trainer}: {source}; is it a program for this machine?")]
    Spawn {
        /// The program.
        trainer: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

impl Error {
    /// The stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::DiskFull { .. } => "DiskFull",
            Self::Write { .. } => "WriteFailed",
            Self::Read { .. } => "ReadFailed",
            Self::NoTrainer { .. } => "NoTrainer",
            Self::Spawn { .. } => "SpawnFailed",
            Self::Signals(_) => "NoSignals",
        }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Write { path, source },
        }
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}
