//! What a single machine remembers, in files below `<bam-dir>/.bam`. Any number of `bam` processes may share it.
//!
//! ```text
//! experiments/<name>/experiment.json  status.json
//! runs/<run>/run.json                 created once: of two that make it, one does and the other joins
//!            status.json              follows from the rest, and can be worked out anew
//!            reopened.json            which attempts no longer count
//!            lock                     held while an attempt is alive, by the attempt itself and by its `bam`
//! attempts/<run>-<n>/                 created once: a number is used once
//!            config.json started.json stdout.log stderr.log report.json
//!            ended.json               created once: how it ended
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bam_crds::{BamExperiment, BamExperimentStatus, BamRunSpec, BamRunStatus, RunReport, names};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use super::files::{self, Mode};
use crate::plan::Reopened;

/// The files below `<bam-dir>/.bam`.
#[derive(Clone, Debug)]
pub struct Ledger {
    root: PathBuf,
    mode: Mode,
}

/// A run as it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// The experiment that made it.
    pub made_by: String,
    /// What it is.
    pub spec: BamRunSpec,
}

/// The beginning of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// When.
    pub at: Timestamp,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// When it was seen.
    pub at: Timestamp,
    /// Its exit code, or 128 + n for a signal n; absent if no `bam` was there to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The system killed it because memory ran out.
    #[serde(default)]
    pub out_of_memory: bool,
}

impl Ledger {
    /// The ledger of this folder, made if it may be and there is none.
    pub fn open(bam_dir: &Path, mode: Mode) -> Result<Self, Error> {
        let root = bam_dir.join(".bam");
        if mode == Mode::ReadWrite {
            for folder in ["experiments", "runs", "attempts"] {
                files::create_folder(&root.join(folder))?;
            }
        }
        Ok(Self { root, mode })
    }

    /// May it be written?
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn experiment_folder(&self, name: &str) -> PathBuf {
        self.root.join("experiments").join(name)
    }

    fn run_folder(&self, name: &str) -> PathBuf {
        self.root.join("runs").join(name)
    }

    /// The experiment of this name as it was run last.
    pub fn experiment(&self, name: &str) -> Result<Option<BamExperiment>, Error> {
        files::read(&self.experiment_folder(name).join("experiment.json"), self.mode)
    }

    /// The names of all experiments.
    pub fn experiments(&self) -> Result<Vec<String>, Error> {
        let folder = self.root.join("experiments");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if files::is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(Error::read(&folder)(error)),
        };
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Remembers an experiment.
    pub fn save_experiment(&self, experiment: &BamExperiment) -> Result<(), Error> {
        let folder = self.experiment_folder(experiment.metadata.name.as_deref().unwrap_or_default());
        files::create_folder(&folder)?;
        files::write(&folder.join("experiment.json"), experiment)
    }

    /// The status that an experiment had last.
    pub fn experiment_status(&self, name: &str) -> Result<BamExperimentStatus, Error> {
        Ok(files::read(&self.experiment_folder(name).join("status.json"), self.mode)?.unwrap_or_default())
    }

    /// Remembers an experiment's status.
    pub fn save_experiment_status(&self, name: &str, status: &BamExperimentStatus) -> Result<(), Error> {
        files::write(&self.experiment_folder(name).join("status.json"), status)
    }

    /// A run.
    pub fn run(&self, name: &str) -> Result<Option<RunRecord>, Error> {
        files::read(&self.run_folder(name).join("run.json"), self.mode)
    }

    /// Makes a run, and says whether it did: false if there is one of that name.
    pub fn create_run(&self, name: &str, record: &RunRecord) -> Result<bool, Error> {
        let folder = self.run_folder(name);
        files::create_folder(&folder)?;
        files::create(&folder.join("run.json"), record)
    }

    /// The status that a run had last.
    pub fn run_status(&self, name: &str) -> Result<BamRunStatus, Error> {
        Ok(files::read(&self.run_folder(name).join("status.json"), self.mode)?.unwrap_or_default())
    }

    /// Remembers a run's status.
    pub fn save_run_status(&self, name: &str, status: &BamRunStatus) -> Result<(), Error> {
        files::write(&self.run_folder(name).join("status.json"), status)
    }

    /// Which of a run's attempts no longer count.
    pub fn reopened(&self, name: &str) -> Result<Reopened, Error> {
        Ok(files::read(&self.run_folder(name).join("reopened.json"), self.mode)?.unwrap_or_default())
    }

    /// Has a run tried again, and says whether that is news.
    pub fn reopen(&self, name: &str, reopened: &Reopened) -> Result<bool, Error> {
        let before = self.reopened(name)?;
        let after = before.clone().merged(reopened);
        if after == before {
            return Ok(false);
        }
        files::write(&self.run_folder(name).join("reopened.json"), &after)?;
        Ok(true)
    }

    /// The lock of a run, if nobody holds it. While it or a copy of it in a child is open, nobody else gets it.
    pub fn lock(&self, name: &str) -> Result<Option<File>, Error> {
        let path = self.run_folder(name).join("lock");
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::write(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::write(&path)(error)),
        }
    }

    /// Is an attempt of this run alive, whoever began it?
    pub fn is_locked(&self, name: &str) -> Result<bool, Error> {
        let path = self.run_folder(name).join("lock");
        match File::open(&path) {
            Err(error) if files::is_absent(&error) => Ok(false),
            Err(error) => Err(Error::read(&path)(error)),
            // Shared, so that two that look do not see each other.
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(Error::read(&path)(error)),
            },
        }
    }

    /// A run's attempt of this number, whether there is one or not.
    pub fn attempt(&self, run: &str, number: u32) -> AttemptFolder {
        let path = self.root.join("attempts").join(names::attempt(run, number));
        AttemptFolder { path, mode: self.mode }
    }

    /// How many attempts of this run were begun.
    pub fn attempts(&self, run: &str) -> u32 {
        (1..).take_while(|number| self.attempt(run, *number).path.is_dir()).last().unwrap_or_default()
    }
}

/// The files of one attempt.
#[derive(Clone, Debug)]
pub struct AttemptFolder {
    path: PathBuf,
    mode: Mode,
}

impl AttemptFolder {
    /// Begins the attempt, and says whether it did: false if it was begun before.
    pub fn create(&self) -> Result<bool, Error> {
        match fs::create_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::write(&self.path)(error)),
        }
    }

    /// Takes back an attempt that did not come to be.
    pub fn remove(&self) {
        // What stays is an attempt without an end, which is tried again.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// The configuration that the trainer gets.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// Where the trainer puts its last word.
    pub fn report_file(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// The trainer's progress lines.
    pub fn stdout(&self) -> PathBuf {
        self.path.join("stdout.log")
    }

    /// What else the trainer says.
    pub fn stderr(&self) -> PathBuf {
        self.path.join("stderr.log")
    }

    /// Remembers the beginning.
    pub fn save_started(&self, started: &Started) -> Result<(), Error> {
        files::write(&self.path.join("started.json"), started)
    }

    /// The beginning. A machine may stop between making the folder and writing this.
    pub fn started(&self) -> Result<Started, Error> {
        if let Some(started) = files::read(&self.path.join("started.json"), self.mode)? {
            return Ok(started);
        }
        let made = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        let at = made.ok().and_then(|made| Timestamp::try_from(made).ok());
        Ok(Started { at: at.unwrap_or(Timestamp::UNIX_EPOCH) })
    }

    /// Remembers the end, unless somebody did.
    pub fn save_ended(&self, ended: &Ended) -> Result<bool, Error> {
        files::create(&self.path.join("ended.json"), ended)
    }

    /// The end, if it was seen.
    pub fn ended(&self) -> Result<Option<Ended>, Error> {
        files::read(&self.path.join("ended.json"), self.mode)
    }

    /// The trainer's last word. A trainer writes it whole or not at all; anything else is none.
    pub fn report(&self) -> Option<RunReport> {
        serde_json::from_slice(&fs::read(self.report_file()).ok()?).ok()
    }
}
