//! The artifact store as a folder: what a run reads and writes, and the manifest that makes it whole. Of an object store the
//! folder is a working copy, and [`crate::remote`] keeps the two together.
//!
//! A file comes to its place complete (written beside it, synced, renamed), and the manifest comes last and only if there
//! is none: so two attempts that live at once waste time, but what a manifest names is what it says. What a manifest names
//! is never overwritten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bam_crds::store::{Artifact, CHECKPOINTS, MANIFEST};
use bam_crds::{Digest, Execution, ExitReason, Manifest, store as layout};
use serde_json::Value;

use crate::checkpoint::{self, Search};
use crate::failure::Failure;
use crate::remote::{Remote, RemoteRun};
use crate::{digest, durable, log};

/// Checkpoints of an attempt that stay: the newest, and one before it should that be damaged.
const KEEP: usize = 2;

/// A folder with the layout of [`bam_crds::store`].
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// The object store that `root` is a working copy of.
    remote: Option<Arc<Remote>>,
}

impl Store {
    /// The store that a configuration names.
    ///
    /// # Errors
    /// If there is no such folder, or no such kind of object store.
    pub fn of(execution: &Execution) -> Result<Self, Failure> {
        let Some(uri) = &execution.object_store else { return Self::open(&execution.store) };
        let root = PathBuf::from(&execution.store);
        fs::create_dir_all(&root).map_err(|error| Failure::store("make the working copy", &root, &error))?;
        Ok(Self { remote: Some(Arc::new(Remote::open(uri, root.clone())?)), root })
    }

    /// The store in the folder `root`.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Failure> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(found) if found.is_dir() => Ok(Self { root, remote: None }),
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

    /// Must files be brought before they can be read?
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Makes sure that these files can be read if they are in the store. `brought` hears how many bytes came for that so far.
    ///
    /// # Errors
    /// If an object store fails.
    pub fn bring(&self, names: &[String], mut brought: impl FnMut(u64)) -> Result<(), Failure> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let mut bytes = 0;
        for name in names {
            bytes += remote.bring(name)?.unwrap_or(0);
            brought(bytes);
        }
        Ok(())
    }

    /// What is wrong with the store's content, as whoever keeps it knows the place: not a path in a working copy.
    pub fn in_its_words(&self, failure: Failure) -> Failure {
        let contents = [ExitReason::BadConfig, ExitReason::BadData, ExitReason::MissingInput];
        match &self.remote {
            Some(remote) if contents.contains(&failure.reason) => {
                let message = failure.message.replace(&self.root.display().to_string(), &remote.uri(""));
                Failure { message, ..failure }
            }
            _ => failure,
        }
    }

    /// The folder of a run.
    pub fn run(&self, science_hash: &Digest) -> RunFolder {
        let folder = layout::run(science_hash);
        let path = self.path(&folder);
        let remote = self.remote.clone().map(|remote| RemoteRun::new(remote, folder));
        RunFolder { path, science_hash: science_hash.clone(), remote }
    }
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    science_hash: Digest,
    /// The folder in an object store that this one is a working copy of.
    remote: Option<RemoteRun>,
}

impl RunFolder {
    /// A path in the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// What people call a file of the folder.
    fn name(&self, relative: &str) -> String {
        match &self.remote {
            Some(remote) => remote.uri(relative),
            None => self.path(relative).display().to_string(),
        }
    }

    /// Makes sure that a file can be read if it is in the store.
    ///
    /// # Errors
    /// If an object store fails.
    pub fn bring(&self, relative: &str) -> Result<(), Failure> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.bring(relative))
    }

    /// The manifest, if there is one of this run. Its files are not looked at.
    ///
    /// # Errors
    /// If it is there and cannot be read, or is not a manifest of this run.
    pub fn manifest(&self) -> Result<Option<Manifest>, Failure> {
        self.bring(MANIFEST)?;
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
        Failure::new(ExitReason::BadData, format!("{}: not a manifest of this run: {why}", self.name(MANIFEST)))
    }

    /// Every file of a manifest that is missing or not what the manifest says, as sentences.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn damage(&self, manifest: &Manifest) -> Result<Vec<String>, Failure> {
        let mut damage = Vec::new();
        for (name, artifact) in &manifest.files {
            self.bring(name)?;
            let path = self.path(name);
            match digest::of_file(&path) {
                Ok(found) if found == *artifact => {}
                Ok(_) => damage.push(format!("{}: its content is not what the manifest says", self.name(name))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    damage.push(format!("{}: the file is gone", self.name(name)));
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
            log::line(&format!("warning: {problem}; the run was set aside as {aside} and does not count"));
        }
        Ok(None)
    }

    fn set_aside(&self) -> Result<String, Failure> {
        if let Some(remote) = &self.remote {
            return match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Failure::store("remove the copy of the damaged run", &self.path, &error))
                }
                _ => remote.set_aside(),
            };
        }
        for number in 1.. {
            let aside = self.path.with_extension(format!("damaged-{number}"));
            if aside.exists() {
                continue;
            }
            // The whole folder: a checkpoint of a damaged run is as suspect as its targets.
            return match fs::rename(&self.path, &aside) {
                Ok(()) => Ok(aside.display().to_string()),
                Err(error) => Err(Failure::store("set the damaged run aside", &self.path, &error)),
            };
        }
        unreachable!("there is always a next number")
    }

    /// Writes an artifact and returns its entry for the manifest. What an attempt left that never got to its manifest is
    /// replaced: it may come from another machine, or from other targets. What a manifest names stays.
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
        durable::write_unless(&path, &self.path(MANIFEST), content)?;
        let artifact = digest::of_file(&path).map_err(|error| Failure::store("read back", &path, &error))?;
        if let Some(remote) = &self.remote {
            remote.send(name, &artifact)?;
        }
        Ok(artifact)
    }

    /// Writes the manifest, unless another attempt was first. From here on the run is done.
    ///
    /// # Errors
    /// If the store cannot be written, or another attempt has replaced a file meanwhile.
    pub fn finish(&self, manifest: &Manifest) -> Result<(), Failure> {
        if let Some(remote) = &self.remote {
            remote.finish(pretty(manifest))?;
            return self.bring(MANIFEST);
        }
        if self.path(MANIFEST).exists() {
            return Ok(());
        }
        if let Some(damage) = self.damage(manifest)?.into_iter().next() {
            let message =
                format!("{damage}: another attempt seems to write the same run; start again, and one of them wins");
            return Err(Failure::new(ExitReason::StoreUnavailable, message));
        }
        Ok(durable::place(&self.path(MANIFEST), |mut file| file.write_all(&pretty(manifest)))?)
    }

    /// The content of a file of a whole run.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, relative: &str) -> Result<Vec<u8>, Failure> {
        self.bring(relative)?;
        let path = self.path(relative);
        fs::read(&path).map_err(|error| Failure::store("read", &path, &error))
    }

    /// The newest step of which there seems to be a checkpoint, and 0 if there is none: a guess, to report before anything
    /// is read.
    ///
    /// # Errors
    /// If an object store fails.
    pub fn saved(&self) -> Result<u64, Failure> {
        let here = checkpoint::newest(&self.path(CHECKPOINTS));
        let Some(remote) = &self.remote else { return Ok(here) };
        Ok(remote.whole_checkpoints()?.first().map_or(here, |(step, _)| here.max(*step)))
    }

    /// The newest whole checkpoint of all attempts: see [`checkpoint::latest_valid`]. From an object store come only those
    /// that are newer than what is here, until one is whole.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn latest_checkpoint(&self, basis: &Value) -> Result<Search, Failure> {
        let mut search = checkpoint::latest_valid(&self.path(CHECKPOINTS), basis)?;
        let Some(remote) = &self.remote else { return Ok(search) };
        for (step, attempt) in remote.whole_checkpoints()? {
            if search.found.as_ref().is_some_and(|found| found.step >= step) {
                break;
            }
            remote.bring_checkpoint(&attempt, step)?;
            search = checkpoint::latest_valid(&self.path(CHECKPOINTS), basis)?;
        }
        Ok(search)
    }

    /// Puts the checkpoint of a step that an attempt has just written where it is safe.
    ///
    /// # Errors
    /// If an object store fails.
    pub fn keep_checkpoint(&self, attempt: &str, step: u64) -> Result<(), Failure> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.send_checkpoint(attempt, step))
    }

    /// Removes the checkpoints that nobody needs when that of `step` is safe: see [`checkpoint::prune`] and
    /// [`checkpoint::prune_others`].
    ///
    /// # Errors
    /// If the store cannot be changed.
    pub fn prune_checkpoints(&self, attempt: &str, step: u64) -> Result<(), Failure> {
        let folder = self.path(CHECKPOINTS).join(attempt);
        checkpoint::prune(&folder, KEEP).and_then(|()| checkpoint::prune_others(&folder, step))?;
        self.remote.as_ref().map_or(Ok(()), |remote| remote.prune_checkpoints(attempt, step, KEEP))
    }

    /// Removes the working copy of a run in an object store, to make room for the next one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self) -> Result<(), Failure> {
        match self.remote.as_ref().map(|_| fs::remove_dir_all(&self.path)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::store("remove the working copy", &self.path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what a whole run does not need: checkpoints, and files that attempts were writing when they were killed. (An
    /// attempt that still writes one drops it anyway: [`durable::write_unless`]. But a manifest that it writes would be missed.)
    pub fn clean(&self) {
        if let Some(Err(failure)) = self.remote.as_ref().map(RemoteRun::remove_checkpoints) {
            log::line(&format!("warning: {failure}"));
        }
        let checkpoints = self.path(CHECKPOINTS);
        if let Err(error) = fs::remove_dir_all(&checkpoints)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::line(&format!("warning: {}: cannot remove the checkpoints: {error}", checkpoints.display()));
        }
        if let Err(error) = durable::sweep(&self.path, MANIFEST)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::line(&format!("warning: {}: cannot remove what was left unfinished: {error}", self.path.display()));
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

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
