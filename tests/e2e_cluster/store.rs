//! The artifact store of a test: a folder that a volume leads to, or one that `bam run` works in on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Every artifact of every run by its path; reports (they tell of time) left out.
pub type Artifacts = BTreeMap<String, Vec<u8>>;

/// A folder with the layout of a BAM_DIR. It goes when this does.
pub struct Store {
    pub folder: PathBuf,
}

impl Store {
    /// Empty.
    pub fn new(folder: PathBuf) -> Self {
        for below in ["runs", "models", "glue_data", "pretrained_models"] {
            fs::create_dir_all(folder.join(below)).unwrap();
        }
        // Trainers are nobody in particular.
        for written in ["runs", "models"] {
            fs::set_permissions(folder.join(written), fs::Permissions::from_mode(0o777)).unwrap();
        }
        Self { folder }
    }

    /// With the demo's data and its small pretrained model.
    pub fn with_demo(folder: PathBuf, inputs: &Path) -> Self {
        let store = Self::new(folder);
        copy(&inputs.join("pretrained_models"), &store.folder.join("pretrained_models"), true);
        store.take_tasks(inputs);
        store
    }

    /// Takes the data of RTE and MRPC from another one. Copies: tests change them.
    pub fn take_tasks(&self, inputs: &Path) {
        for task in ["rte", "mrpc"] {
            let below = Path::new("glue_data").join(task);
            copy(&inputs.join(&below), &self.folder.join(&below), false);
        }
    }

    /// Keeps so many training rows of each task: the same way, in less time.
    pub fn shorten(&self, rows: usize) {
        for task in ["rte", "mrpc"] {
            let path = self.folder.join("glue_data").join(task).join("train.tsv");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.split_inclusive('\n').take(1 + rows).collect::<String>()).unwrap();
        }
    }

    /// `bam run -f`, on this machine, with the trainer of the cluster's image.
    pub fn run_here(&self, manifest: &str) {
        let path = self.folder.join("manifest.yaml");
        fs::write(&path, manifest).unwrap();
        let mut bam = Command::new(program("BAM_TEST_BAM", "bam"));
        bam.args(["run", "-f"]).arg(&path).arg("--bam-dir").arg(&self.folder).env("BAM_DEVICE", "cpu");
        bam.env("BAM_TRAINER", program("BAM_TEST_TRAINER", "bam-trainer")).stdin(Stdio::null());
        let output = bam.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bam run: {said}");
    }

    pub fn artifacts(&self) -> Artifacts {
        let mut artifacts = BTreeMap::new();
        for run in fs::read_dir(self.folder.join("runs")).unwrap().flatten() {
            let Ok(manifest) = fs::read(run.path().join("manifest.json")) else { continue };
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            for name in manifest["files"].as_object().unwrap().keys().filter(|name| *name != "report.json") {
                let key = format!("{}/{name}", run.file_name().to_string_lossy());
                artifacts.insert(key, fs::read(run.path().join(name)).unwrap());
            }
        }
        artifacts
    }

    /// As if nothing had been trained.
    pub fn forget_runs(&self) {
        for run in fs::read_dir(self.folder.join("runs")).unwrap().flatten() {
            fs::remove_dir_all(run.path()).unwrap();
        }
    }

    /// When each run's manifest was written: a run that is trained again writes another one.
    pub fn manifests(&self) -> BTreeMap<String, std::time::SystemTime> {
        let runs = fs::read_dir(self.folder.join("runs")).unwrap().flatten();
        let manifests = runs.filter_map(|run| {
            let written = fs::metadata(run.path().join("manifest.json")).ok()?.modified().unwrap();
            Some((run.file_name().to_string_lossy().into_owned(), written))
        });
        manifests.collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The same artifacts, byte by byte; and there are some.
#[track_caller]
pub fn assert_same(these: &Artifacts, those: &Artifacts) {
    assert!(!those.is_empty());
    assert_eq!(these.keys().collect::<Vec<_>>(), those.keys().collect::<Vec<_>>());
    let different: Vec<_> =
        these.iter().filter(|(name, bytes)| those[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "other bytes in {different:?}");
}

fn program(variable: &str, name: &str) -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_BIN_EXE_bam")).with_file_name(name);
    std::env::var_os(variable).map_or_else(beside, PathBuf::from)
}

fn copy(from: &Path, to: &Path, link: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to, link);
        } else if !(link && fs::hard_link(&from, &to).is_ok()) {
            fs::copy(&from, &to).unwrap();
        }
    }
}
