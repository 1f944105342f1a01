//! One file from a server to a disk. What came stays, whoever stops it: the next try asks for the rest.
//!
//! ```text
//! <work>/state/<name>.json   of what content the bytes are, and how many there are
//!        parts/<name>        bytes so far
//! <done>/<name>              all of them, and what they should be
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bam_crds::Digest;
use bam_crds::report::Stage;
use bam_crds::store::Artifact;
use serde::{Deserialize, Serialize};
use url::Url;

use super::http::{Answer, Client, HttpError};
use crate::digest;
use crate::durable::{self, WriteError};
use crate::report::Reporter;

/// So much that came makes up for the tries that failed before it.
const PROGRESS: u64 = 1 << 20;
/// The longest pause, also if a server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes that are read at once.
const PIECE: usize = 128 * 1024;

/// How often to try again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries in a row that bring nothing.
    pub tries: u32,
    /// Pause after the first one; it doubles from one to the next.
    pub pause: Duration,
}

impl Default for Patience {
    /// About half a minute.
    fn default() -> Self {
        Self { tries: 8, pause: Duration::from_millis(200) }
    }
}

/// What to download.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it is.
    pub url: Url,
    /// Its name on disk.
    pub name: String,
    /// What it has to be; unknown: what the server says, if anything.
    pub sha256: Option<Digest>,
    /// More than this is a mistake.
    pub most: u64,
}

/// A file that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Downloaded {
    /// What it is.
    pub artifact: Artifact,
    /// The commit that it comes from, if the server said so.
    pub commit: Option<String>,
}

/// Why a file is not complete.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server, or the way there.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The content is not what it should be.
    #[error(
        "{url}: SHA-256 is {found}, expected {expected}: it was changed at its source or on the way; if you trust it, \
         name that digest in a lock file"
    )]
    Digest {
        /// Where it is.
        url: String,
        /// What came.
        found: Digest,
        /// What should have come.
        expected: Digest,
    },
    /// More than there should be.
    #[error("{url}: larger than {most} bytes, which such a file never is")]
    TooLarge {
        /// Where it is.
        url: String,
        /// How large it may be.
        most: u64,
    },
    /// The disk.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What is known of the bytes that are there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
}

/// Downloads into a folder of its own, which nobody else writes to meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Downloader<'a> {
    /// Asks servers.
    pub client: &'a Client,
    /// How often.
    pub patience: Patience,
    /// Hears how it goes.
    pub reporter: &'a Reporter,
    /// Folder for what is not complete.
    pub work: &'a Path,
}

impl Downloader<'_> {
    /// Downloads a file into the folder `done`, unless it is there.
    ///
    /// # Errors
    /// If it cannot be had, or is not what it should be. What came is kept for another time, if it can be of use.
    pub fn download(&self, wanted: &Wanted, done: &Path) -> Result<Downloaded, DownloadError> {
        let complete = done.join(&wanted.name);
        if complete.exists() {
            // Without a state it comes from another address.
            match self.state(wanted).map(|state| (check(wanted, &state, &complete), state.commit)) {
                Some((Ok(artifact), commit)) => return Ok(Downloaded { artifact, commit }),
                Some((Err(DownloadError::Digest { .. }), _)) | None => remove(&complete)?,
                Some((Err(error), _)) => return Err(error),
            }
        }
        let resumed = self.length(wanted) > 0;
        let (artifact, commit) = match self.receive(wanted) {
            // Half of it may have been damaged, or of another content, since it came. From the start it cannot be.
            Err(DownloadError::Digest { .. }) if resumed => self.receive(wanted)?,
            received => received?,
        };
        let part = self.part(wanted);
        let placed = (|| {
            fs::create_dir_all(done)?;
            fs::rename(&part, &complete)?;
            File::open(done)?.sync_all()
        })();
        placed.map_err(|error| WriteError::new(&complete, error))?;
        Ok(Downloaded { artifact, commit })
    }

    /// Tries until all of it is there, and right. What is wrong is removed.
    fn receive(&self, wanted: &Wanted) -> Result<(Artifact, Option<String>), DownloadError> {
        let Patience { tries, mut pause } = self.patience;
        let mut failed = 0;
        let state = loop {
            let before = self.length(wanted);
            let error = match self.try_once(wanted) {
                Ok(state) => break state,
                Err(DownloadError::Http(error)) if error.may_pass() => error,
                Err(error) => return Err(error),
            };
            if self.length(wanted) >= before + PROGRESS {
                (failed, pause) = (0, self.patience.pause);
            }
            failed += 1;
            if failed >= tries {
                return Err(error.into());
            }
            self.reporter.note(&format!("{error}; trying again"));
            thread::sleep(error.pause().unwrap_or(pause).min(LONGEST_PAUSE));
            pause *= 2;
        };
        let part = self.part(wanted);
        match check(wanted, &state, &part) {
            Ok(artifact) => Ok((artifact, state.commit)),
            Err(error) => {
                if matches!(error, DownloadError::Digest { .. }) {
                    remove(&part)?;
                }
                Err(error)
            }
        }
    }

    /// Asks for what is missing, once.
    fn try_once(&self, wanted: &Wanted) -> Result<State, DownloadError> {
        let (have, known) = (self.length(wanted), self.state(wanted));
        if let Some(known) = known.as_ref().filter(|known| known.total == Some(have)) {
            // Ended between the last byte and what comes then.
            return Ok(known.clone());
        }
        let validator = known.as_ref().and_then(|known| known.validator.as_deref()).filter(|_| have > 0);
        let answer = match self.client.get(&wanted.url, validator.map(|validator| (have, validator))) {
            // The server has no such part: what is here is of something else.
            Err(HttpError::Status { status, .. }) if status.as_u16() == 416 => self.client.get(&wanted.url, None)?,
            answer => answer?,
        };
        if answer.total.is_some_and(|total| total > wanted.most) {
            return Err(self.too_large(wanted));
        }
        let state = match known.filter(|_| answer.start > 0) {
            Some(known) => State { total: answer.total.or(known.total), ..known },
            None => State {
                url: wanted.url.to_string(),
                total: answer.total,
                validator: answer.validator.clone(),
                commit: answer.commit.clone(),
                sha256: answer.sha256.clone(),
            },
        };
        let file = self.begin(wanted, &state, answer.start)?;
        self.pour(wanted, answer, file)?;
        Ok(state)
    }

    /// Opens the file for bytes from `start` on. What follows is cut off before the state speaks of other content, and the
    /// state is on disk before a byte of that is.
    fn begin(&self, wanted: &Wanted, state: &State, start: u64) -> Result<File, WriteError> {
        let part = self.part(wanted);
        let opened = (|| {
            fs::create_dir_all(part.parent().expect("it is in a folder"))?;
            let file = OpenOptions::new().create(true).append(true).open(&part)?;
            file.set_len(start)?;
            Ok(file)
        })();
        let file = opened.map_err(|error| WriteError::new(&part, error))?;
        let json = serde_json::to_vec(state).expect("a state is plain data");
        durable::write(&self.state_file(wanted), |mut file| file.write_all(&json))?;
        Ok(file)
    }

    fn pour(&self, wanted: &Wanted, answer: Answer, mut file: File) -> Result<(), DownloadError> {
        let part = self.part(wanted);
        let Answer { start, total, body, .. } = answer;
        let on = if start > 0 { ", going on" } else { "" };
        self.reporter.note(&format!("{} from {}{on}", wanted.name, wanted.url));
        self.reporter.stage(Stage::Fetching, start, total.unwrap_or(0));
        let mut body = body.into_reader();
        let mut piece = vec![0; PIECE];
        let mut have = start;
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(HttpError::broken(&wanted.url, &error).into()),
            };
            have += read as u64;
            if have > wanted.most {
                return Err(self.too_large(wanted));
            }
            file.write_all(&piece[..read]).map_err(|error| WriteError::new(&part, error))?;
            self.reporter.advance(have, 0);
        }
        if total.is_some_and(|total| total != have) {
            let problem = format!("it ended after {have} bytes of {}", total.unwrap_or(0));
            return Err(HttpError::Unreachable { url: wanted.url.to_string(), problem }.into());
        }
        file.sync_all().map_err(|error| WriteError::new(&part, error))?;
        Ok(())
    }

    fn too_large(&self, wanted: &Wanted) -> DownloadError {
        DownloadError::TooLarge { url: wanted.url.to_string(), most: wanted.most }
    }

    fn part(&self, wanted: &Wanted) -> PathBuf {
        self.work.join("parts").join(&wanted.name)
    }

    fn state_file(&self, wanted: &Wanted) -> PathBuf {
        self.work.join("state").join(format!("{}.json", wanted.name))
    }

    /// Bytes that are there.
    fn length(&self, wanted: &Wanted) -> u64 {
        fs::metadata(self.part(wanted)).map_or(0, |found| found.len())
    }

    /// What is known of them, if they come from there.
    fn state(&self, wanted: &Wanted) -> Option<State> {
        let bytes = fs::read(self.state_file(wanted)).ok()?;
        let state: State = serde_json::from_slice(&bytes).ok()?;
        (state.url == wanted.url.as_str()).then_some(state)
    }
}

/// What a file is, if that is what it should be.
fn check(wanted: &Wanted, state: &State, path: &Path) -> Result<Artifact, DownloadError> {
    let found = digest::of_file(path).map_err(|error| WriteError::new(path, error))?;
    match wanted.sha256.as_ref().or(state.sha256.as_ref()) {
        Some(expected) if *expected != found.sha256 => {
            Err(DownloadError::Digest { url: wanted.url.to_string(), found: found.sha256, expected: expected.clone() })
        }
        _ => Ok(found),
    }
}

fn remove(path: &Path) -> Result<(), WriteError> {
    fs::remove_file(path).map_err(|error| WriteError::new(path, error))
}
