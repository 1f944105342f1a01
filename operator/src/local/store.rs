//! What the artifact store holds, seen from outside: the trainer writes it and verifies digests, this only looks.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bam_crds::{BamExperimentSpec, Digest, Manifest, RunReport, store};

use super::Error;
use super::files::is_absent;
use crate::plan::run::Stored;

/// What the store holds of a run: a manifest counts if it is of that run and all files that it names are there in
/// their size.
pub fn stored(bam_dir: &Path, science_hash: &Digest) -> Result<Stored, Error> {
    let folder = bam_dir.join(store::run(science_hash));
    let path = folder.join(store::MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return Ok(Stored::Absent),
        Err(error) => return Err(Error::read(&path)(error)),
    };
    let manifest: Option<Manifest> = serde_json::from_slice(&text).ok();
    let is_there = |(name, bytes): (&String, u64)| {
        fs::metadata(folder.join(name)).is_ok_and(|file| file.is_file() && file.len() == bytes)
    };
    let is_whole = manifest.is_some_and(|manifest| {
        manifest.is_of(science_hash)
            && manifest.files.iter().map(|(name, artifact)| (name, artifact.bytes)).all(is_there)
    });
    if !is_whole {
        return Ok(Stored::Absent);
    }
    let report: Option<RunReport> =
        fs::read(folder.join(store::REPORT)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    Ok(Stored::Whole(report.map(Box::new)))
}

/// The state of an experiment's input files without reading them: it changes when one is edited, so that they are
/// checked again. A folder that the check itself fetches is the same before and after: the check compares its files with
/// what was fetched.
pub fn inputs_key(bam_dir: &Path, spec: &BamExperimentSpec) -> Result<String, Error> {
    let fetch = spec.fetch.clone().unwrap_or_default();
    let data = spec.tasks.iter().map(|task| (store::glue_data(&task.name), fetch.glue));
    let model = (store::pretrained(&spec.model.pretrained), fetch.model.is_some());
    let mut files = Vec::new();
    for (folder, fetched) in data.chain([model]) {
        let found = list(bam_dir, &folder)?;
        let record = format!("{folder}/{}", store::FETCHED);
        if !(fetched && found.iter().any(|(name, ..)| *name == record)) {
            files.extend(found);
        }
    }
    files.sort();
    Ok(Digest::of(&files).to_string())
}

/// Path, size and time of last change of every file of a folder.
fn list(bam_dir: &Path, folder: &str) -> Result<Vec<(String, u64, String)>, Error> {
    let path = bam_dir.join(folder);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(&path)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::read(&path))?;
        // Follows links. A file that goes away while it is listed is one that is not there.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            let changed =
                metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((format!("{folder}/{name}"), metadata.len(), changed.as_nanos().to_string()));
        }
    }
    Ok(files)
}
