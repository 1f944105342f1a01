//! A lock file: which content is expected, in the words of `sha256sum`.

use std::collections::BTreeMap;
use std::path::Path;

use bam_crds::{Digest, ExitReason};

use crate::failure::Failure;

/// Digests by file name, without folders. Once there is one, nothing is taken that it does not list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock(BTreeMap<String, Digest>);

impl Lock {
    /// Reads what `sha256sum FILE… > lock` wrote.
    ///
    /// # Errors
    /// All lines that are none of it, and names that stand there twice with different digests.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bad = |problem: String| Failure::new(ExitReason::BadConfig, problem);
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad(format!("{}: cannot be read: {error}", path.display())))?;
        Self::parse(&text).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect();
            bad(lines.join("\n"))
        })
    }

    /// The lock of a manifest, if there is anything in it.
    pub fn of(digests: &BTreeMap<String, Digest>) -> Option<Self> {
        (!digests.is_empty()).then(|| Self(digests.clone()))
    }

    fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut lock, mut problems) = (Self::default(), Vec::new());
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line.split_once(char::is_whitespace).and_then(|(digest, path)| {
                let path = path.trim_start().trim_start_matches('*');
                let name = path.rsplit('/').next().filter(|name| !name.is_empty())?;
                Some((name.to_owned(), digest.to_ascii_lowercase().parse::<Digest>().ok()?))
            });
            let Some((name, digest)) = parsed else {
                problems.push(format!("line {number} is not `SHA-256  FILE`: write it with sha256sum"));
                continue;
            };
            if lock.0.insert(name.clone(), digest.clone()).is_some_and(|other| other != digest) {
                problems.push(format!("line {number}: {name} stands there twice with different digests: keep one"));
            }
        }
        if problems.is_empty() { Ok(lock) } else { Err(problems) }
    }

    /// What the file of this name has to be.
    pub fn get(&self, name: &str) -> Option<&Digest> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sha256sum_writes_is_understood() {
        let (one, two) = ("1".repeat(64), "a".repeat(64));
        let text = format!("# made on Monday\n\n{one}  data/RTE.zip\n{}\t*CoLA.zip\r\n{one} RTE.zip\n", "A".repeat(64));
        let lock = Lock::parse(&text).unwrap();
        assert_eq!(lock.get("RTE.zip").unwrap().as_str(), one);
        assert_eq!(lock.get("CoLA.zip").unwrap().as_str(), two);
        assert_eq!(lock.get("data/RTE.zip"), None);
    }

    #[test]
    fn all_bad_lines_are_told_at_once() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let text = format!("RTE.zip\n12ab  RTE.zip\n{one}  folder/\n{one}  a\n{two}  b/a\n");
        let problems = Lock::parse(&text).unwrap_err();
        let starts = ["line 1 is not", "line 2 is not", "line 3 is not", "line 5: a stands there twice"];
        assert_eq!(problems.len(), starts.len(), "{problems:?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }
}
