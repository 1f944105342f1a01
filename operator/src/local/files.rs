//! JSON files that are either whole or absent, whenever the machine stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// Whether a look may change what it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It may.
    ReadWrite,
    /// It leaves everything as it is.
    ReadOnly,
}

/// Replaces a file: readers see the old content or the new one, also after a power cut.
pub fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let partial = write_beside(path, value)?;
    fs::rename(&partial, path).and_then(|()| sync_folder(path)).map_err(|source| give_up(&partial, path, source))
}

/// Creates a file, whole, and says whether it did: false if there is one. Of two that create it at once, one does.
pub fn create(path: &Path, value: &impl Serialize) -> Result<bool, Error> {
    let partial = write_beside(path, value)?;
    let linked = match fs::hard_link(&partial, path) {
        Err(error) if has_no_links(&error) => create_in_place(path, value),
        linked => linked,
    };
    match linked.and_then(|()| sync_folder(path)) {
        Ok(()) => {
            // A second name of the same file; one that stays does no harm.
            let _ = fs::remove_file(&partial);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let _ = fs::remove_file(&partial);
            Ok(false)
        }
        Err(source) => Err(give_up(&partial, path, source)),
    }
}

/// Reads a file. None if there is none, or if it makes no sense: then it is set aside, since this program writes only
/// whole files, and what it said follows from the rest.
pub fn read<T: DeserializeOwned>(path: &Path, mode: Mode) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(Error::read(path)(error)),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            set_aside(path, &error, mode)?;
            Ok(None)
        }
    }
}

/// Creates a folder and all above it.
pub fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::write(path))
}

fn set_aside(path: &Path, error: &serde_json::Error, mode: Mode) -> Result<(), Error> {
    let shown = path.display();
    if mode == Mode::ReadOnly {
        tracing::warn!("{shown} makes no sense ({error}) and is ignored");
        return Ok(());
    }
    let broken = PathBuf::from(format!("{shown}.broken"));
    tracing::warn!(
        "{shown} makes no sense ({error}): it is now {}, and what it said is worked out anew",
        broken.display()
    );
    fs::rename(path, &broken).map_err(Error::write(&broken))
}

/// Writes and syncs the content under a name of its own beside `path`.
fn write_beside(path: &Path, value: &impl Serialize) -> Result<PathBuf, Error> {
    // Unique among the processes of this machine and within this one.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}.{count}.partial", std::process::id()));
    let written = File::create(&partial).and_then(|file| write_content(file, value));
    written.map_err(|source| give_up(&partial, path, source))?;
    Ok(partial)
}

fn write_content(mut file: File, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()
}

/// For file systems without hard links (FAT, some network shares): exclusive, if not whole after a power cut.
fn create_in_place(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_content(OpenOptions::new().write(true).create_new(true).open(path)?, value)
}

fn has_no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// Is there no such file?
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn give_up(partial: &Path, path: &Path, source: io::Error) -> Error {
    // It may not exist, and the first error is the one to tell.
    let _ = fs::remove_file(partial);
    Error::write(path)(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_create_a_file_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        assert!(create(&path, &1).unwrap());
        assert!(!create(&path, &2).unwrap());
        assert_eq!(read::<i32>(&path, Mode::ReadOnly).unwrap(), Some(1));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        fs::write(&path, "{ edited by hand").unwrap();
        assert_eq!(read::<i32>(&path, Mode::ReadOnly).unwrap(), None);
        assert!(path.exists(), "a look that may not change anything leaves it");
        assert_eq!(read::<i32>(&path, Mode::ReadWrite).unwrap(), None);
        assert!(!path.exists() && folder.path().join("status.json.broken").exists());
    }
}
