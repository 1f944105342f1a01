//! `bam-trainer receive`: takes runs that were trained elsewhere into the store, from whoever is at the other end of the standard
//! streams ([`bam_crds::transfer`] says what is spoken there).
//!
//! A file is compared with what its run's manifest says while it comes, and gets to its place only if it is that. The manifest
//! comes last. So of a stream that breaks off, or is not what it says, nothing counts.

use std::io::{self, BufRead, Read, Write};
use std::path::{Component, Path};

use bam_crds::store::{Artifact, CHECKPOINTS, MANIFEST};
use bam_crds::transfer::{Answer, LONGEST_LINE, Offer};
use bam_crds::{ExitReason, Manifest};
use serde::de::DeserializeOwned;

use crate::digest::Hashing;
use crate::failure::Failure;
use crate::store::{RunFolder, Store};

/// Takes what is offered and is not whole in the store.
///
/// # Errors
/// If the store fails, the stream breaks off, or a run is not what its manifest says; the others are taken all the same.
pub fn receive(store: &Store, mut from: impl BufRead, mut to: impl Write) -> Result<(), Failure> {
    let offer: Offer = line(&mut from)?;
    offer.runs.iter().try_for_each(check)?;
    let mut wanted = Vec::new();
    for manifest in &offer.runs {
        let folder = store.run(&manifest.science_hash);
        if folder.whole()?.is_none() {
            wanted.push((manifest, folder));
        } else {
            folder.forget()?;
        }
    }
    say(&mut to, &Answer::Wants(wanted.iter().map(|(manifest, _)| manifest.science_hash.clone()).collect()))?;
    let mut problems = Vec::new();
    for (manifest, folder) in wanted {
        let run = manifest.science_hash.clone();
        let files = take(&mut from, &folder, manifest)?;
        folder.forget()?;
        if files.is_empty() {
            say(&mut to, &Answer::Placed(run))?;
        } else {
            problems.push(format!("{run}: not what its manifest says: {}", files.join(", ")));
            say(&mut to, &Answer::Damaged { run, files })?;
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(ExitReason::BadData, problems.join("\n"))) }
}

/// Refuses a manifest that is not of its run, or names files that are none of a run's.
fn check(manifest: &Manifest) -> Result<(), Failure> {
    let run = &manifest.science_hash;
    let refused = |problem: String| Err(Failure::new(ExitReason::BadConfig, format!("{run}: {problem}")));
    if !manifest.is_of(run) {
        return refused(
            "its manifest is that of another run: was it trained by a newer version? Then push it with one".into(),
        );
    }
    match manifest.files.keys().find(|name| !is_an_artifact(name)) {
        Some(name) => refused(format!("its manifest names {name:?}, which is no place in a run's folder")),
        None => Ok(()),
    }
}

fn is_an_artifact(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    name != MANIFEST
        && parts.clone().next().is_some_and(|first| first.as_os_str() != CHECKPOINTS)
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Takes the files of a run, and its manifest if they are what that says. Returns the names of those that are not.
fn take(from: &mut impl BufRead, folder: &RunFolder, manifest: &Manifest) -> Result<Vec<String>, Failure> {
    let mut damaged = Vec::new();
    for (name, artifact) in &manifest.files {
        let is_right = match damaged.is_empty() {
            true => place(from, folder, name, artifact)?,
            // The rest is of no use, but belongs to the stream.
            false => copy(from, artifact, &mut io::sink()).map_err(|error| torn(name, &error))? == *artifact,
        };
        if !is_right {
            damaged.push(name.clone());
        }
    }
    if damaged.is_empty() {
        folder.finish(manifest)?;
        folder.clean();
    }
    Ok(damaged)
}

/// Puts the next bytes of the stream into their place, if they are what the manifest says; else it says no.
fn place(from: &mut impl BufRead, folder: &RunFolder, name: &str, expected: &Artifact) -> Result<bool, Failure> {
    let mut read = None;
    let placed = folder.place_with(name, |mut file| {
        let found = copy(from, expected, &mut file)?;
        let is_right = found == *expected;
        read = Some(found);
        if is_right { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    });
    match read {
        Some(found) if found.bytes < expected.bytes => Err(torn(name, &io::ErrorKind::UnexpectedEof.into())),
        Some(found) if found != *expected => Ok(false),
        _ => placed.map(|_| true),
    }
}

/// Copies as many bytes as a file has, and says what they were: fewer, if the stream ends.
fn copy(from: &mut impl BufRead, file: &Artifact, to: &mut impl Write) -> io::Result<Artifact> {
    let mut hashing = Hashing::new(to);
    io::copy(&mut from.take(file.bytes), &mut hashing)?;
    Ok(hashing.finish())
}

fn torn(what: &str, error: &io::Error) -> Failure {
    let message =
        format!("the stream broke off at {what} ({error}): push again; runs that were whole before are there");
    Failure::new(ExitReason::StoreUnavailable, message)
}

fn line<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<T, Failure> {
    let mut text = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(|error| torn("its first line", &error))?;
    if !text.ends_with(b"\n") {
        return Err(torn("its first line", &io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&text).map_err(|error| {
        let message = format!("what was sent is no offer of runs: {error}; use a client of this version");
        Failure::new(ExitReason::BadConfig, message)
    })
}

fn say(to: &mut impl Write, answer: &Answer) -> Result<(), Failure> {
    let text = serde_json::to_string(answer).expect("an answer is plain data") + "\n";
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).map_err(|error| torn("an answer", &error))
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
