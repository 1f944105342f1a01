//! A folder that a fetch fills: it is there whole, with a record of what it is, or not at all.
//!
//! ```text
//! <parent>/<name>/           the files, and fetched.json
//!          .fetch/<name>/    what is on the way: downloads, unfinished ones, and `files`, which becomes the folder
//!          .fetch/lock       held by whoever fetches
//! ```
//!
//! A folder that is there is never written to: it may be somebody's own work.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bam_crds::store::{Artifact, FETCHED as RECORD};
use bam_crds::{Digest, ExitReason};
use serde::{Deserialize, Serialize};

use super::lock::Lock;
use crate::digest;
use crate::durable::{self, WriteError};
use crate::failure::Failure;
use crate::report::Reporter;

/// What a folder holds and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// A task of GLUE, or a model's name in its repository.
    pub name: String,
    /// The model's revision that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that this was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What was downloaded, by name.
    pub sources: BTreeMap<String, Source>,
    /// The folder's files.
    pub files: BTreeMap<String, Artifact>,
}

impl Record {
    /// Its name, with the revision if there is one.
    pub fn title(&self) -> String {
        let revision = self.revision.as_ref().map(|revision| format!(" at {revision}"));
        format!("{}{}", self.name, revision.unwrap_or_default())
    }
}

/// Something that was downloaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Where from.
    pub url: String,
    /// What it was.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
}

/// A folder to fill.
#[derive(Clone, Debug)]
pub struct Place {
    parent: PathBuf,
    name: String,
}

/// What is in a place.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// What a fetch put there. The files were not looked at.
    Fetched(Box<Record>),
    /// Something else, which lacks these files.
    Foreign(Vec<String>),
}

impl Place {
    /// The folder `name` in `parent`.
    pub fn new(parent: PathBuf, name: &str) -> Self {
        Self { parent, name: name.to_owned() }
    }

    /// Where the files are in the end.
    pub fn folder(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Where they are on the way.
    pub fn staging(&self) -> PathBuf {
        self.parent.join(".fetch").join(&self.name)
    }

    /// Looks what is there. `needed` are the files that it cannot do without.
    ///
    /// # Errors
    /// If the folder or its record cannot be read.
    pub fn look(&self, needed: &[&str]) -> Result<Found, Failure> {
        let folder = self.folder();
        let record = folder.join(RECORD);
        match fs::read(&record) {
            Ok(bytes) => {
                return match serde_json::from_slice(&bytes) {
                    Ok(record) => Ok(Found::Fetched(record)),
                    Err(error) => {
                        let message = format!("{}: {error}; {}", record.display(), self.move_away());
                        Err(Failure::new(ExitReason::BadData, message))
                    }
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::store("read", &record, &error)),
        }
        match fs::read_dir(&folder).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(Found::Nothing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(Failure::store("read", &folder, &error)),
            Ok(false) => {
                let missing = needed.iter().filter(|name| !folder.join(name).is_file());
                Ok(Found::Foreign(missing.map(|name| (*name).to_owned()).collect()))
            }
        }
    }

    /// Are the files still those of the record, and are they what a lock file wants?
    ///
    /// # Errors
    /// All that is otherwise.
    pub fn check(&self, record: &Record, lock: Option<&Lock>) -> Result<(), Failure> {
        let folder = self.folder();
        let mut problems = Vec::new();
        for (name, expected) in &record.files {
            let path = folder.join(name);
            match digest::of_file(&path) {
                Ok(found) if found == *expected => {}
                Ok(_) => problems.push(format!("{}: not what was fetched", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    problems.push(format!("{}: it is gone", path.display()));
                }
                Err(error) => return Err(Failure::store("read", &path, &error)),
            }
        }
        for (name, source) in &record.sources {
            if lock.is_some_and(|lock| lock.get(name) != Some(&source.sha256)) {
                let found = &source.sha256;
                problems.push(format!(
                    "{}: made of {name} with SHA-256 {found}, which the lock file does not list",
                    folder.display()
                ));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let advice = self.move_away();
        problems.iter_mut().for_each(|problem| *problem = format!("{problem}; {advice}"));
        Err(Failure::new(ExitReason::BadData, problems.join("\n")))
    }

    /// What to do about a folder that is not as it should be.
    pub fn move_away(&self) -> String {
        format!("move {} away to have it fetched again", self.folder().display())
    }

    /// Waits until nobody else fetches into the same parent, and keeps others out for as long as the file lives.
    ///
    /// # Errors
    /// If the file system has no locks: two that write to one file would ruin it.
    pub fn keep_out_others(&self, reporter: &Reporter) -> Result<File, Failure> {
        let path = self.parent.join(".fetch").join("lock");
        let locked = (|| {
            fs::create_dir_all(path.parent().expect("it is in a folder"))?;
            let file = File::create(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(fs::TryLockError::WouldBlock) => {
                    reporter.note("another process is fetching; waiting for it to finish");
                    file.lock().map(|()| file)
                }
                Err(fs::TryLockError::Error(error)) => Err(error),
            }
        })();
        locked.map_err(|error| Failure::store("lock", &path, &error))
    }

    /// A folder in the staging folder, empty.
    ///
    /// # Errors
    /// If it cannot be made so.
    pub fn fresh(&self, name: &str) -> Result<PathBuf, WriteError> {
        let folder = self.staging().join(name);
        let made = match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&folder),
        };
        made.map_err(|error| WriteError::new(&folder, error))?;
        Ok(folder)
    }

    /// Puts a finished folder in its place: these files of it, and their record.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn settle(&self, files: &Path, names: &[&str], mut record: Record) -> Result<(), WriteError> {
        let failed = |error| WriteError::new(files, error);
        for entry in fs::read_dir(files).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match entry.file_name().to_str().filter(|name| names.contains(name)) {
                Some(name) => {
                    let artifact = digest::of_file(&entry.path()).map_err(failed)?;
                    record.files.insert(name.to_owned(), artifact);
                }
                // Of an earlier try that ended right here.
                None => fs::remove_file(entry.path()).map_err(failed)?,
            }
        }
        let json = serde_json::to_string_pretty(&record).expect("a record is plain data") + "\n";
        durable::write(&files.join(RECORD), |mut file| file.write_all(json.as_bytes()))?;
        let folder = self.folder();
        let placed = fs::rename(files, &folder).and_then(|()| File::open(&self.parent)?.sync_all());
        placed.map_err(|error| WriteError::new(&folder, error))?;
        // What is left is of no use to anybody, and in nobody's way.
        let _ = fs::remove_dir_all(self.staging());
        Ok(())
    }
}
