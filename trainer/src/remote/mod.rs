//! The artifact store as an object store (S3, Google Cloud Storage, Azure Blob Storage), and the one place that knows of such.
//!
//! The trainer works on a folder. Of an object store that folder is a *working copy*: [`Remote`] brings an object into it
//! before it is read, and sends a file out of it after it was written; [`crate::store`] says when. [`RemoteRun`] is what a
//! run's folder does there. Credentials come from the environment, as the stores' own tools take them (`AWS_*`, `GOOGLE_*`,
//! `AZURE_*`), and are never written anywhere.

mod address;
mod checkpoints;
mod fault;
mod run;
mod seen;
mod upload;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bam_crds::store::Artifact;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error as ObjectError, GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use tokio::runtime::Runtime;

use crate::durable;
use crate::failure::Failure;
use address::Address;
use fault::Doing;

pub use run::RemoteRun;

/// For how long a request is tried again, by default. `BAM_STORE_RETRY_SECONDS` says something else.
const PATIENCE: Duration = Duration::from_secs(180);

/// An object store, and the folder that is a working copy of it.
#[derive(Debug)]
pub struct Remote {
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    address: Address,
    copy: PathBuf,
}

/// An object, as a list tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// From the root of the artifact store.
    pub name: String,
    /// Stands for its content, if the store says so.
    pub e_tag: Option<String>,
}

impl Remote {
    /// The store at `uri` (`s3://bucket/prefix`, `gs://…`, `az://…`), with its working copy in the folder `copy`. Nothing is
    /// asked of the store yet.
    ///
    /// # Errors
    /// If the URI or what the environment says makes no sense.
    pub fn open(uri: &str, copy: PathBuf) -> Result<Self, Failure> {
        // The operator's provider: with two of them rustls would not know which one is meant.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let patience = std::env::var("BAM_STORE_RETRY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        let address = Address::parse(uri)?;
        let store = address.connect(patience.map_or(PATIENCE, Duration::from_secs))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::store("open the object store for", &copy, &error))?;
        Ok(Self { runtime, store, address, copy })
    }

    /// What people call an object.
    pub fn uri(&self, name: &str) -> String {
        self.address.of(name)
    }

    fn key(&self, name: &str) -> Result<Key, Failure> {
        self.address.key(name)
    }

    fn fault(&self, doing: Doing, name: &str, error: &ObjectError) -> Failure {
        self.address.fault(doing, name, error)
    }

    fn local(&self, name: &str) -> PathBuf {
        self.copy.join(name)
    }

    /// Makes the working copy of an object the same as the object, and says how many bytes came for that; none: there is no
    /// such object, and no copy either.
    ///
    /// # Errors
    /// If the store or the working copy fails.
    pub fn bring(&self, name: &str) -> Result<Option<u64>, Failure> {
        let local = self.local(name);
        let options = GetOptions { if_none_match: seen::e_tag(&self.copy, name), ..GetOptions::default() };
        let key = self.key(name)?;
        let result = match self.runtime.block_on(self.store.get_opts(&key, options)) {
            Ok(result) => result,
            Err(ObjectError::NotModified { .. }) => return Ok(Some(0)),
            Err(error) if fault::is_no_such_object(&error) => {
                return match fs::remove_file(&local) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Failure::store("remove the working copy", &local, &error))
                    }
                    _ => Ok(None),
                };
            }
            Err(error) => return Err(self.fault(Doing::Read, name, &error)),
        };
        let e_tag = result.meta.e_tag.clone();
        let mut broken = None;
        let written = durable::write(&local, |file| self.drain(result, file, &mut broken));
        if let Some(error) = broken {
            return Err(self.fault(Doing::Read, name, &error));
        }
        seen::note(&self.copy, name, e_tag.as_deref())?;
        Ok(Some(written?))
    }

    /// Writes the content of an object, and returns its size. What the store did wrong is left in `broken`.
    fn drain(&self, object: GetResult, mut to: impl Write, broken: &mut Option<ObjectError>) -> io::Result<u64> {
        let mut parts = object.into_stream();
        let mut bytes = 0;
        while let Some(part) = self.runtime.block_on(parts.next()) {
            let part = part.map_err(|error| {
                *broken = Some(error);
                io::Error::other("the store broke off")
            })?;
            to.write_all(&part)?;
            bytes += part.len() as u64;
        }
        Ok(bytes)
    }

    /// Is there such an object?
    ///
    /// # Errors
    /// If the store fails.
    pub fn has(&self, name: &str) -> Result<bool, Failure> {
        match self.runtime.block_on(self.store.head(&self.key(name)?)) {
            Ok(_) => Ok(true),
            Err(error) if fault::is_no_such_object(&error) => Ok(false),
            Err(error) => Err(self.fault(Doing::Read, name, &error)),
        }
    }

    /// The objects in a folder and in those below it, by name.
    ///
    /// # Errors
    /// If the store fails.
    pub fn list(&self, folder: &str) -> Result<Vec<Object>, Failure> {
        let prefix = self.key(folder)?;
        let found = self.runtime.block_on(self.store.list(Some(&prefix)).try_collect::<Vec<_>>());
        let found = found.map_err(|error| self.fault(Doing::List, folder, &error))?;
        let object = |meta: object_store::ObjectMeta| {
            let name = self.address.name(&meta.location)?;
            Some(Object { name, e_tag: meta.e_tag })
        };
        let mut objects: Vec<_> = found.into_iter().filter_map(object).collect();
        objects.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(objects)
    }

    /// Sends a file of the working copy, in place of the object that is there, and returns what was sent, with the ETag that
    /// the store gave it.
    ///
    /// # Errors
    /// If the store or the working copy fails.
    pub fn send(&self, name: &str) -> Result<(Artifact, Option<String>), Failure> {
        let (local, key) = (self.local(name), self.key(name)?);
        let sent = self.runtime.block_on(upload::send(self.store.as_ref(), &key, &local));
        sent.map_err(|error| match error {
            upload::Error::File(error) => Failure::store("read", &local, &error),
            upload::Error::Store(error) => self.fault(Doing::Write, name, &error),
        })
    }

    /// Makes an object unless there is one of that name, and says whether it did: of several writers one wins.
    ///
    /// # Errors
    /// If the store fails.
    pub fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, Failure> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.runtime.block_on(self.store.put_opts(&self.key(name)?, PutPayload::from(bytes), options)) {
            Ok(_) => Ok(true),
            Err(ObjectError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.fault(Doing::Write, name, &error)),
        }
    }

    /// Gives an object another name. (Stores copy it.)
    ///
    /// # Errors
    /// If the store fails.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let (old, new) = (self.key(from)?, self.key(to)?);
        let copied = self.runtime.block_on(self.store.copy_opts(&old, &new, CopyOptions::new()));
        copied.map_err(|error| self.fault(Doing::Write, to, &error))?;
        self.remove(&[from.to_owned()])
    }

    /// Removes objects; what is gone is gone.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove(&self, names: &[String]) -> Result<(), Failure> {
        let Some(first) = names.first() else { return Ok(()) };
        let keys = names.iter().map(|name| self.key(name)).collect::<Result<Vec<_>, _>>()?;
        let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
        let removed = async {
            let mut said = self.store.delete_stream(keys);
            while let Some(answer) = said.next().await {
                match answer {
                    Err(error) if fault::is_no_such_object(&error) => {}
                    answer => drop(answer?),
                }
            }
            Ok(())
        };
        self.runtime.block_on(removed).map_err(|error| self.fault(Doing::Remove, first, &error))
    }
}
