//! Which object a file of the working copy is: so that nothing is fetched twice.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::store::write_json;

/// Folder of the records, in the working copy.
const FOLDER: &str = ".objects";

/// What is known of a file. Edited, it is another one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    e_tag: String,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

impl Seen {
    fn of(e_tag: &str, found: &Metadata) -> Option<Self> {
        let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self { e_tag: e_tag.to_owned(), bytes: found.len(), modified: modified.as_nanos() as u64 })
    }
}

fn record(copy: &Path, name: &str) -> PathBuf {
    copy.join(FOLDER).join(format!("{name}.json"))
}

/// The ETag of the object that a file is, if it is one, untouched.
pub(super) fn e_tag(copy: &Path, name: &str) -> Option<String> {
    let seen: Seen = serde_json::from_slice(&fs::read(record(copy, name)).ok()?).ok()?;
    let now = Seen::of(&seen.e_tag, &fs::metadata(copy.join(name)).ok()?)?;
    (seen == now).then_some(seen.e_tag)
}

/// Notes which object a file is. A weak ETag does not stand for every byte.
pub(super) fn note(copy: &Path, name: &str, e_tag: Option<&str>) -> Result<(), Failure> {
    let strong = e_tag.filter(|e_tag| !e_tag.is_empty() && !e_tag.starts_with("W/"));
    let found = fs::metadata(copy.join(name)).ok();
    match strong.zip(found).and_then(|(e_tag, found)| Seen::of(e_tag, &found)) {
        Some(seen) => write_json(&record(copy, name), &seen),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_an_object_until_it_is_touched() {
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("glue_data/rte/train.tsv");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "rows").unwrap();
        let known = || e_tag(copy.path(), "glue_data/rte/train.tsv");
        assert_eq!(known(), None);
        for weak in [None, Some(""), Some("W/\"1\"")] {
            note(copy.path(), "glue_data/rte/train.tsv", weak).unwrap();
            assert_eq!(known(), None);
        }
        note(copy.path(), "glue_data/rte/train.tsv", Some("\"1\"")).unwrap();
        assert_eq!(known().as_deref(), Some("\"1\""));
        fs::write(&file, "others").unwrap();
        assert_eq!(known(), None);
    }
}
