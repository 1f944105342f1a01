//! A run's folder in an object store.
//!
//! The manifest is made only if there is none, and comes last. What a manifest names is not written any more: an attempt that
//! comes late sends nothing. Between that look and the write another attempt may finish; who finishes looks once more whether
//! every object is still the one that it sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bam_crds::ExitReason;
use bam_crds::store::{Artifact, MANIFEST};

use super::{Object, Remote, checkpoints};
use crate::failure::Failure;

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RemoteRun {
    remote: Arc<Remote>,
    /// From the root of the artifact store.
    folder: String,
    /// What this attempt sent, with the ETag that it got.
    sent: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl RemoteRun {
    /// The folder `folder`, from the root of the artifact store.
    pub fn new(remote: Arc<Remote>, folder: String) -> Self {
        Self { remote, folder, sent: Arc::default() }
    }

    fn name(&self, relative: &str) -> String {
        format!("{}/{relative}", self.folder)
    }

    /// What people call one of its objects.
    pub fn uri(&self, relative: &str) -> String {
        self.remote.uri(&self.name(relative))
    }

    /// See [`Remote::bring`].
    ///
    /// # Errors
    /// If the store or the working copy fails.
    pub fn bring(&self, relative: &str) -> Result<(), Failure> {
        self.remote.bring(&self.name(relative)).map(drop)
    }

    /// Gives all its objects other names, the manifest's first, and returns what people call the folder now.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_aside(&self) -> Result<String, Failure> {
        let mut objects = self.remote.list(&self.folder)?;
        let manifest = self.name(MANIFEST);
        objects.sort_by_key(|object| object.name != manifest);
        let mut number = 1;
        while !self.remote.list(&self.aside(number))?.is_empty() {
            number += 1;
        }
        let aside = self.aside(number);
        for Object { name, .. } in objects {
            let relative = name.strip_prefix(&self.folder).unwrap_or(&name);
            self.remote.rename(&name, &format!("{aside}{relative}"))?;
        }
        Ok(self.remote.uri(&aside))
    }

    fn aside(&self, number: u32) -> String {
        format!("{}.damaged-{number}", self.folder)
    }

    /// Sends an artifact out of the working copy, unless the run is whole already.
    ///
    /// # Errors
    /// If the store fails, or the file is no longer what it was when it was written.
    pub fn send(&self, relative: &str, written: &Artifact) -> Result<(), Failure> {
        if self.remote.has(&self.name(MANIFEST))? {
            return Ok(());
        }
        let (sent, e_tag) = self.remote.send(&self.name(relative))?;
        if sent != *written {
            return Err(self.not_alone(&format!("{}: the file changed while it was sent", self.uri(relative))));
        }
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name(relative), e_tag);
        Ok(())
    }

    /// Makes the manifest, unless another attempt was first.
    ///
    /// # Errors
    /// If the store fails, or another attempt has replaced an object meanwhile.
    pub fn finish(&self, manifest: Vec<u8>) -> Result<(), Failure> {
        let name = self.name(MANIFEST);
        if self.remote.has(&name)? {
            return Ok(());
        }
        let found: BTreeMap<_, _> =
            self.remote.list(&self.folder)?.into_iter().map(|object| (object.name, object.e_tag)).collect();
        for (name, e_tag) in &*self.sent.lock().unwrap_or_else(PoisonError::into_inner) {
            let same = match (e_tag, found.get(name)) {
                (_, None) => false,
                (Some(sent), Some(Some(found))) => plain(sent) == plain(found),
                (_, Some(_)) => true,
            };
            if !same {
                return Err(self.not_alone(&format!("{}: it is not what this attempt sent", self.remote.uri(name))));
            }
        }
        self.remote.create(&name, manifest).map(drop)
    }

    fn not_alone(&self, what: &str) -> Failure {
        let message = format!("{what}: another attempt seems to write the same run; start again, and one of them wins");
        Failure::new(ExitReason::StoreUnavailable, message)
    }

    /// The checkpoints of all attempts, as the store lists them.
    fn checkpoints(&self) -> Result<Vec<checkpoints::Part>, Failure> {
        let objects = self.remote.list(&self.name(bam_crds::store::CHECKPOINTS))?;
        Ok(objects.into_iter().filter_map(|object| checkpoints::Part::of(object.name)).collect())
    }

    /// Steps of the checkpoints that were sent whole, each with the name of its attempt, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn whole_checkpoints(&self) -> Result<Vec<(u64, String)>, Failure> {
        Ok(checkpoints::whole(&self.checkpoints()?))
    }

    /// Brings a checkpoint into the working copy.
    ///
    /// # Errors
    /// If the store or the working copy fails.
    pub fn bring_checkpoint(&self, attempt: &str, step: u64) -> Result<(), Failure> {
        checkpoints::names(attempt, step).iter().try_for_each(|name| self.bring(name))
    }

    /// Sends a checkpoint out of the working copy; what makes it count comes last.
    ///
    /// # Errors
    /// If the store fails.
    pub fn send_checkpoint(&self, attempt: &str, step: u64) -> Result<(), Failure> {
        checkpoints::names(attempt, step).iter().try_for_each(|name| self.remote.send(&self.name(name)).map(drop))
    }

    /// Removes what an attempt that has just sent the checkpoint of `step` has no more use for: see
    /// [`checkpoints::surplus`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn prune_checkpoints(&self, attempt: &str, step: u64, keep: usize) -> Result<(), Failure> {
        let [seals, tensors] = checkpoints::surplus(&self.checkpoints()?, attempt, step, keep);
        self.remote.remove(&seals)?;
        self.remote.remove(&tensors)
    }

    /// Removes all checkpoints.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_checkpoints(&self) -> Result<(), Failure> {
        let names: Vec<_> = self.checkpoints()?.into_iter().map(|part| part.name).collect();
        self.remote.remove(&names)
    }
}

/// An ETag without the quotes that some stores leave out in lists.
fn plain(e_tag: &str) -> &str {
    e_tag.trim_matches('"')
}
