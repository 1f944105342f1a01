//! The last progress line of a log file that may still be written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use bam_crds::Progress;

/// More than the longest progress line, several times.
const TAIL: u64 = 8 * 1024;

/// The last whole progress line. None if there is none: a log is never worth an error.
pub fn last(path: &Path) -> Option<Progress> {
    let text = tail(path, TAIL)?;
    let whole = &text[..=text.rfind('\n')?];
    whole.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// The end of a log: empty if there is none.
pub fn end_of(path: &Path) -> String {
    tail(path, TAIL).unwrap_or_default()
}

fn tail(path: &Path, bytes: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes))).ok()?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail).ok()?;
    Some(String::from_utf8_lossy(&tail).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_still_being_written_does_not_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "{\"stage\":\"Training\",\"done\":3,\"total\":9}\nnoise\n{\"stage\":\"Training\",\"done\":4,\"to";
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(last(file.path()).unwrap().done, 3);
        assert_eq!(end_of(file.path()), text);
        assert_eq!(last(Path::new("/nowhere")), None);
    }
}
