//! What a folder has of the runs that an experiment needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bam_crds::config::InputsReport;
use bam_crds::{BamExperiment, Digest, Manifest, names, store};

use super::super::super::explain::look;
use super::super::super::{Exit, input};
use crate::local;
use crate::plan::run::Stored;
use crate::plan::why::and;

/// A run that an experiment needs.
pub struct Needed {
    /// What to call it.
    pub title: String,
    /// Its name.
    pub name: String,
    /// Its key in the store.
    pub hash: Digest,
    /// Its manifest, if it is whole in the folder.
    pub manifest: Option<Manifest>,
}

impl Needed {
    /// Its folder.
    pub fn folder(&self, bam_dir: &Path) -> PathBuf {
        bam_dir.join(store::run(&self.hash))
    }

    /// Bytes of all its files, if it is whole.
    pub fn bytes(&self) -> u64 {
        self.manifest.iter().flat_map(|manifest| manifest.files.values()).map(|file| file.bytes).sum()
    }
}

/// The runs of an experiment that was run in this folder, teachers before those who learn from them, also teachers that the
/// manifest names; and what it was trained on.
pub fn needed(experiment: &BamExperiment, bam_dir: &Path) -> Result<(Vec<Needed>, InputsReport), Exit> {
    let name = experiment.metadata.name.as_deref().unwrap_or_default();
    let (graph, _) = look(experiment.clone(), bam_dir)?.experiment()?;
    let Some(pinned) = &graph.pinned else {
        return Err(Exit::failed(format!(
            "{} has no experiment {name} of this manifest and these data: `bam run -f` trains it there (what is trained already \
             is only looked at), or name another folder with --bam-dir",
            bam_dir.display()
        )));
    };
    let identity = experiment.spec.storage.identity();
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    for node in &graph.trainings {
        if let Some(hash) = node.science_hash() {
            add(bam_dir, hash, Some(&node.title), &identity, &mut known, &mut found)?;
        }
    }
    if found.iter().all(|run| run.manifest.is_none()) {
        return Err(Exit::failed(format!(
            "nothing of {name} is whole in {}: `bam run -f` goes on with it there",
            bam_dir.display()
        )));
    }
    Ok((found, pinned.report.clone()))
}

/// A run, after those that it learned from.
fn add(
    bam_dir: &Path,
    hash: &Digest,
    title: Option<&str>,
    storage: &bam_crds::experiment::StorageSpec,
    known: &mut BTreeSet<Digest>,
    found: &mut Vec<Needed>,
) -> Result<(), Exit> {
    if !known.insert(hash.clone()) {
        return Ok(());
    }
    let manifest = whole(bam_dir, hash)?;
    for teacher in manifest.iter().flat_map(|manifest| manifest.science.teachers()) {
        add(bam_dir, teacher, None, storage, known, found)?;
    }
    let title = title.map(str::to_owned).unwrap_or_else(|| {
        let tasks = manifest.iter().flat_map(|it| &it.science.tasks).map(|task| task.name.as_str());
        format!("teacher {}", and(&tasks.collect::<Vec<_>>())).trim_end().to_owned()
    });
    found.push(Needed { title, name: names::run(hash, storage), hash: hash.clone(), manifest });
    Ok(())
}

fn whole(bam_dir: &Path, hash: &Digest) -> Result<Option<Manifest>, Exit> {
    if local::store::stored(bam_dir, hash)? == Stored::Absent {
        return Ok(None);
    }
    let text = input::text(&bam_dir.join(store::manifest(hash)))?;
    Ok(serde_json::from_str(&text).ok())
}
