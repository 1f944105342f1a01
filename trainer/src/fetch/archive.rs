//! Some files of a zip archive. An archive's names are compared with those that are wanted and never used as paths, and
//! what comes out is counted: so nothing in it can lead anywhere else, or fill a disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::durable::{self, WriteError};

/// The largest file of GLUE (MNLI's training rows) has 80 MB, or 400 MB with its parse trees.
const LARGEST: u64 = 2 << 30;
/// Files that an archive may list.
const MOST_ENTRIES: usize = 10_000;

/// Why an archive does not give what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no archive, or a damaged one.
    #[error("{archive}: not a zip archive that can be read: {problem}")]
    Broken {
        /// The archive.
        archive: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Files that it should hold: all problems.
    #[error("{archive}: {}", problems.join("; "))]
    Unfit {
        /// The archive.
        archive: String,
        /// One sentence each.
        problems: Vec<String>,
    },
    /// The disk.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes the wanted files of an archive into a folder. They lie in one folder of it, or in none; other files and deeper
/// folders are left alone.
///
/// # Errors
/// If one of them is missing, there twice, too large or damaged.
pub fn unpack(path: &Path, wanted: &[&str], into: &Path) -> Result<(), ArchiveError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let broken = |problem: String| ArchiveError::Broken { archive: name.clone(), problem };
    let file = File::open(path).map_err(|error| broken(error.to_string()))?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    let entries = find(&mut archive, wanted).map_err(|error| broken(error.to_string()))?;
    let mut problems = Vec::new();
    let mut chosen = Vec::new();
    for (&file, found) in wanted.iter().zip(&entries) {
        match found[..] {
            [] => problems.push(format!("it holds no {file}")),
            [Entry { size, .. }] if size > LARGEST => {
                problems.push(format!("{file} would have {size} bytes, more than {LARGEST}"));
            }
            [Entry { index, size }] => chosen.push((file, index, size)),
            _ => problems.push(format!("it holds {} files {file}", found.len())),
        }
    }
    if !problems.is_empty() {
        return Err(ArchiveError::Unfit { archive: name, problems });
    }
    for (file, index, size) in chosen {
        let mut damage = None;
        let written = durable::write(&into.join(file), |to| {
            let entry = archive.by_index(index).map_err(io::Error::from);
            let result = entry.map_err(Copy::Read).and_then(|entry| copy(entry, size, to));
            result.map_err(|error| match error {
                Copy::Write(error) => error,
                Copy::Read(error) => {
                    damage = Some(error.to_string());
                    error
                }
            })
        });
        match damage {
            Some(damage) => return Err(broken(format!("{file}: {damage}"))),
            None => written?,
        }
    }
    Ok(())
}

struct Entry {
    index: usize,
    size: u64,
}

/// Where each of the wanted files is. More than one place is a problem of the caller's.
fn find(archive: &mut ZipArchive<File>, wanted: &[&str]) -> Result<Vec<Vec<Entry>>, ZipError> {
    let mut found: Vec<Vec<Entry>> = wanted.iter().map(|_| Vec::new()).collect();
    for index in 0..archive.len().min(MOST_ENTRIES) {
        let entry = archive.by_index_raw(index)?;
        let name = entry.name()?;
        let file = match *name.split('/').collect::<Vec<_>>() {
            [file] => file,
            // What macOS adds has the names of the files that it describes.
            [folder, file] if folder != "__MACOSX" => file,
            _ => continue,
        };
        if let Some(position) = wanted.iter().position(|wanted| *wanted == file) {
            found[position].push(Entry { index, size: entry.size() });
        }
    }
    Ok(found)
}

enum Copy {
    Read(io::Error),
    Write(io::Error),
}

/// Copies exactly `size` bytes.
fn copy(mut from: impl Read, size: u64, mut to: &File) -> Result<(), Copy> {
    let mut piece = vec![0; 128 * 1024];
    let mut left = size;
    loop {
        let read = from.read(&mut piece).map_err(Copy::Read)?;
        if read == 0 && left == 0 {
            return Ok(());
        }
        let other = || io::Error::other(format!("it is not the {size} bytes long that the archive says"));
        left = left.checked_sub(read as u64).filter(|_| read > 0).ok_or_else(|| Copy::Read(other()))?;
        to.write_all(&piece[..read]).map_err(Copy::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    const WANTED: [&str; 2] = ["train.tsv", "dev.tsv"];

    fn archive(folder: &TempDir, files: &[(&str, &[u8])]) -> std::path::PathBuf {
        let path = folder.path().join("RTE.zip");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    #[test]
    fn wanted_files_come_out_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 7] = [
            ("RTE/train.tsv", b"train"),
            ("RTE/dev.tsv", b""),
            ("RTE/original/train.tsv", b"another"),
            ("__MACOSX/train.tsv", b"attributes"),
            ("RTE/._train.tsv", b"attributes"),
            ("../../outside.tsv", b"evil"),
            ("/etc/train.tsv", b"evil"),
        ];
        let into = folder.path().join("into");
        unpack(&archive(&folder, &files), &WANTED, &into).unwrap();
        let mut names: Vec<_> = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["dev.tsv", "train.tsv"]);
        assert_eq!(fs::read(into.join("train.tsv")).unwrap(), b"train");
    }

    #[test]
    fn all_files_that_are_missing_or_there_twice_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(&folder, &[("RTE/train.tsv", b"1"), ("../train.tsv", b"2")]);
        let error = unpack(&path, &WANTED, folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "RTE.zip: it holds 2 files train.tsv; it holds no dev.tsv");
        assert!(!folder.path().join("train.tsv").exists());
    }

    #[test]
    fn damage_is_noticed_wherever_it_is_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<u8> =
            (0..20_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let path = archive(&folder, &[("RTE/train.tsv", &rows), ("RTE/dev.tsv", b"dev")]);
        let whole = fs::read(&path).unwrap();
        let into = folder.path().join("into");
        for (sentence, bytes) in [
            ("a bit flipped", whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 5000)).collect()),
            ("its end missing", whole[..whole.len() - 30].to_vec()),
            ("a page that says no", b"<html>not today</html>".to_vec()),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = unpack(&path, &WANTED, &into).unwrap_err();
            assert!(matches!(error, ArchiveError::Broken { .. }), "{sentence}: {error}");
            assert!(!into.join("train.tsv").exists(), "{sentence}");
        }
    }

    #[test]
    fn what_claims_to_be_small_and_is_not_is_stopped() {
        let rows = b"0".repeat(1 << 20);
        assert!(copy(&rows[..], rows.len() as u64, &tempfile::tempfile().unwrap()).is_ok());
        for claimed in [0, 1000, 2 << 20] {
            let to = tempfile::tempfile().unwrap();
            assert!(matches!(copy(&rows[..], claimed, &to), Err(Copy::Read(_))), "{claimed}");
            assert!(to.metadata().unwrap().len() <= claimed);
        }
    }
}
