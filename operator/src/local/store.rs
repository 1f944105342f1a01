//! What the artifact store holds, seen from outside: the trainer writes it and verifies digests, this only looks.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bam_crds::{BamExperimentSpec, Digest, Manifest, RunReport, TaskFiles, store};

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
    let data = spec.tasks.iter().filter(|task| task.files.is_none());
    let data = data.map(|task| (store::glue_data(&task.name), fetch.glue));
    let model = (store::pretrained(&spec.model.pretrained), fetch.model.is_some());
    let mut files = Vec::new();
    for (folder, fetched) in data.chain([model]) {
        let found = list(bam_dir, &folder)?;
        let record = format!("{folder}/{}", store::FETCHED);
        if !(fetched && found.iter().any(|(name, ..)| *name == record)) {
            files.extend(found);
        }
    }
    let own = spec.tasks.iter().filter_map(|task| task.files.as_ref());
    let own = own.flat_map(TaskFiles::paths).map(|(_, path)| path.to_owned());
    let targets =
        spec.distill.iter().flat_map(|distill| spec.tasks.iter().flat_map(|task| distill.target_files(&task.name)));
    for path in own.chain(targets) {
        files.extend(state(&bam_dir.join(&path), path));
    }
    files.sort();
    Ok(Digest::of(&files).to_string())
}

/// A file's path in the store, its size, and the time of its last change.
type State = (String, u64, String);

/// The state of every file of a folder.
fn list(bam_dir: &Path, folder: &str) -> Result<Vec<State>, Error> {
    let path = bam_dir.join(folder);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(&path)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::read(&path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.extend(state(&entry.path(), format!("{folder}/{name}")));
    }
    Ok(files)
}

/// The state of what is a file; links are followed. One that goes away while it is looked at is one that is not there.
fn state(path: &Path, name: String) -> Option<State> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Some((name, metadata.len(), changed.as_nanos().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_of_all_input_files_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let spec: BamExperimentSpec = serde_json::from_value(serde_json::json!({
            "tasks": [{"name": "rte"}, {
                "name": "own",
                "files": {"train": "own/train.csv", "dev": "own/dev.csv"},
                "custom": {"format": "CSV", "textA": "a", "label": "b", "labels": ["x", "y"]},
            }],
            "model": {"pretrained": "tiny"},
            "storage": {"persistentVolumeClaim": {"claimName": "bam-dir"}},
        }))
        .unwrap();
        let key = || inputs_key(folder.path(), &spec).unwrap();
        let mut before = key();
        for (path, counts) in [
            ("glue_data/rte/train.tsv", true),
            ("own/train.csv", true),
            ("own/dev.csv", true),
            ("pretrained_models/tiny/vocab.txt", true),
            ("own/notes.txt", false),
            ("glue_data/own/train.tsv", false),
            ("glue_data/mrpc/train.tsv", false),
        ] {
            write(path, path);
            assert_eq!(key() != before, counts, "{path}");
            before = key();
        }
    }
}
