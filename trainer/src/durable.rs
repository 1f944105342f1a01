//! Files that are either whole or absent, whenever the machine stops.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk or the quota is full.
    #[error("no space is left to write {path}; free some, and start again: what was written before is whole")]
    DiskFull {
        /// The file.
        path: String,
    },
    /// Anything else that the system says.
    #[error("cannot write {path}: {source}; check that the store is mounted and writable")]
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

/// Writes a file, in place of the one that is there: a reader sees the old content or the new one, also after a power
/// cut. What a failure leaves is removed. The folder is made if it is missing.
pub(crate) fn write<T>(path: &Path, content: impl FnOnce(&File) -> io::Result<T>) -> Result<T, WriteError> {
    bring(path, content, |unfinished| fs::rename(unfinished, path))
}

/// [`write`], unless `guard` is there by then: what is there stays, and what was written is dropped.
pub(crate) fn write_unless<T>(
    path: &Path,
    guard: &Path,
    content: impl FnOnce(&File) -> io::Result<T>,
) -> Result<T, WriteError> {
    bring(path, content, |unfinished| if guard.exists() { Ok(()) } else { fs::rename(unfinished, path) })
}

/// Writes a file unless there is one: of several writers the first one wins, and nobody sees half of it.
pub(crate) fn place<T>(path: &Path, content: impl FnOnce(&File) -> io::Result<T>) -> Result<T, WriteError> {
    bring(path, content, |unfinished| match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some network file systems have no hard links. Between the look and the rename another writer may come, and its
        // file be replaced; torn it is never.
        Err(error) if no_links(&error) && !path.exists() => fs::rename(unfinished, path),
        placed => placed,
    })
}

fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// Where a file is written until it is whole: a name that no other process has, on this machine or another one that
/// mounts the same store. (Pods are all process 1, but of different hosts.)
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    PathBuf::from(format!("{}.{}-{}{UNFINISHED}", path.display(), host.trim(), std::process::id()))
}

/// Removes, in a folder and in those below it, what writers left that were killed. Files that begin with `spared` stay. Whoever
/// still writes there finds its file gone.
pub(crate) fn sweep(folder: &Path, spared: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            sweep(&entry.path(), spared)?;
        } else if name.ends_with(UNFINISHED) && !name.starts_with(spared) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn bring<T>(
    path: &Path,
    content: impl FnOnce(&File) -> io::Result<T>,
    to_its_place: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<T, WriteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished = unfinished(path);
    let written = (|| {
        fs::create_dir_all(folder)?;
        let file = File::create(&unfinished)?;
        let result = content(&file)?;
        file.sync_all()?;
        to_its_place(&unfinished)?;
        // A new name is on the disk only when its folder is.
        File::open(folder)?.sync_all()?;
        Ok(result)
    })();
    // It is gone if it was renamed, and the first error is the one to tell.
    let _ = fs::remove_file(&unfinished);
    written.map_err(|source| WriteError::new(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text(content: &'static str) -> impl FnOnce(&File) -> io::Result<()> {
        move |mut file| file.write_all(content.as_bytes())
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn writing_replaces_and_placing_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file");
        place(&path, text("first")).unwrap();
        place(&path, text("second")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        write(&path, text("third")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        assert_eq!(names(path.parent().unwrap()), ["file"], "nothing is left behind");
    }

    #[test]
    fn what_killed_writers_left_is_swept_at_every_depth_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["whole", "deep/whole", "deep/deeper/whole"] {
            write(&path(name), text("whole")).unwrap();
            fs::write(unfinished(&path(name)), "half").unwrap();
        }
        fs::write(unfinished(&path("spared")), "half").unwrap();
        sweep(folder.path(), "spared").unwrap();
        let spared = unfinished(Path::new("spared")).display().to_string();
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, ["deep".to_owned(), spared, "whole".to_owned()]);
        assert_eq!(names(&path("deep/deeper")), ["whole"]);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, text("whole")).unwrap();
        let full = |_: &File| -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
        let error = write(&path, full).unwrap_err();
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(names(folder.path()), ["file"]);
    }
}
