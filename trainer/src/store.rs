//! The artifact store as a folder: what a run reads and writes, and the manifest that makes it whole.
//!
//! A file comes to its place complete (written beside it, synced, renamed), and the manifest comes last and only if there
//! is none: so two attempts that live at once waste time, but what a manifest names is what it says. What a manifest names
//! is never overwritten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bam_crds::store::{Artifact, MANIFEST};
use bam_crds::{Digest, ExitReason, Manifest, store as layout};

use crate::failure::Failure;
use crate::{digest, durable};

/// A folder with the layout of [`bam_crds::store`].
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in `root`.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Failure> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(found) if found.is_dir() => Ok(Self { root }),
            Ok(_) => {
                Err(Failure::new(ExitReason::BadConfig, format!("{}: the store must be a folder", root.display())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::new(
                ExitReason::MissingInput,
                format!(
                    "{}: there is no such folder; create it, with glue_data and pretrained_models in it",
                    root.display()
                ),
            )),
            Err(error) => Err(Failure::store("open the store", &root, &error)),
        }
    }

    /// A path in the store.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The folder of a run.
    pub fn run(&self, science_hash: &Digest) -> RunFolder {
        RunFolder { path: self.path(&layout::run(science_hash)), science_hash: science_hash.clone() }
    }
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    science_hash: Digest,
}

impl RunFolder {
    /// A path in the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// The manifest, if there is one of this run. Its files are not looked at.
    ///
    /// # Errors
    /// If it is there and cannot be read, or is not a manifest of this run.
    pub fn manifest(&self) -> Result<Option<Manifest>, Failure> {
        let path = self.path(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::store("read the manifest", &path, &error)),
        };
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(manifest) if manifest.is_of(&self.science_hash) => Ok(Some(manifest)),
            Ok(_) => Err(self.not_a_manifest("it is the manifest of another run")),
            Err(error) => Err(self.not_a_manifest(&error.to_string())),
        }
    }

    fn not_a_manifest(&self, why: &str) -> Failure {
        let path = self.path(MANIFEST);
        Failure::new(ExitReason::BadData, format!("{}: not a manifest of this run: {why}", path.display()))
    }

    /// Every file of a manifest that is missing or not what the manifest says, as sentences.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn damage(&self, manifest: &Manifest) -> Result<Vec<String>, Failure> {
        let mut damage = Vec::new();
        for (name, artifact) in &manifest.files {
            let path = self.path(name);
            match digest::of_file(&path) {
                Ok(found) if found == *artifact => {}
                Ok(_) => damage.push(format!("{}: its content is not what the manifest says", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    damage.push(format!("{}: the file is gone", path.display()));
                }
                Err(error) => return Err(Failure::store("read", &path, &error)),
            }
        }
        Ok(damage)
    }

    /// The manifest, if this run is whole. A damaged one is set aside under another name, with a warning, so that the
    /// run is trained again and nothing is lost.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn whole(&self) -> Result<Option<Manifest>, Failure> {
        let damage = match self.manifest() {
            Ok(None) => return Ok(None),
            Ok(Some(manifest)) => {
                let damage = self.damage(&manifest)?;
                if damage.is_empty() {
                    return Ok(Some(manifest));
                }
                damage
            }
            Err(failure) if failure.reason == ExitReason::BadData => vec![failure.message],
            Err(failure) => return Err(failure),
        };
        let aside = self.set_aside()?;
        for problem in damage {
            eprintln!("warning: {problem}; the run was set aside as {} and is trained again", aside.display());
        }
        Ok(None)
    }

    fn set_aside(&self) -> Result<PathBuf, Failure> {
        for number in 1.. {
            let aside = self.path.with_extension(format!("damaged-{number}"));
            if aside.exists() {
                continue;
            }
            // The whole folder: a checkpoint of a damaged run is as suspect as its targets.
            return match fs::rename(&self.path, &aside) {
                Ok(()) => Ok(aside),
                Err(error) => Err(Failure::store("set the damaged run aside", &self.path, &error)),
            };
        }
        unreachable!("there is always a next number")
    }

    /// Writes an artifact and returns its entry for the manifest. What an attempt left that never got to its manifest is
    /// replaced: it may come from another machine, or from other targets.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn place(&self, name: &str, bytes: &[u8]) -> Result<Artifact, Failure> {
        self.place_with(name, |mut file| file.write_all(bytes))
    }

    /// [`place`](Self::place) of what `content` writes.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn place_with<T>(&self, name: &str, content: impl FnOnce(&File) -> io::Result<T>) -> Result<Artifact, Failure> {
        let path = self.path(name);
        durable::write(&path, content)?;
        digest::of_file(&path).map_err(|error| Failure::store("read back", &path, &error))
    }

    /// Writes the manifest, unless another attempt was first. From here on the run is done.
    ///
    /// # Errors
    /// If the store cannot be written, or another attempt has replaced a file meanwhile.
    pub fn finish(&self, manifest: &Manifest) -> Result<(), Failure> {
        if let Some(damage) = self.damage(manifest)?.into_iter().next() {
            let message =
                format!("{damage}: another attempt seems to write the same run; start again, and one of them wins");
            return Err(Failure::new(ExitReason::StoreUnavailable, message));
        }
        Ok(durable::place(&self.path(MANIFEST), |mut file| file.write_all(&pretty(manifest)))?)
    }

    /// Removes checkpoints, which a whole run does not need.
    pub fn clean(&self) {
        let checkpoints = self.path(layout::CHECKPOINTS);
        if let Err(error) = fs::remove_dir_all(&checkpoints)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("warning: {}: cannot remove the checkpoints: {error}", checkpoints.display());
        }
    }
}

/// The files of a manifest, as they are placed.
pub type Files = BTreeMap<String, Artifact>;

/// Writes a small JSON file in place of the one that is there.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Failure> {
    replace(path, &pretty(value))
}

/// Writes a small file in place of the one that is there.
///
/// # Errors
/// If it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    Ok(durable::write(path, |mut file| file.write_all(bytes))?)
}

/// JSON for people to read.
pub(crate) fn pretty(value: &(impl serde::Serialize + ?Sized)) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("what is written is plain data");
    text.push(b'\n');
    text
}
