//! A folder with data, a manifest, and `bam` to run in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// An artifact store of its own for one test.
pub struct Bam {
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Bam {
    /// A store with data for RTE and MRPC.
    pub fn new() -> Self {
        let bam = Self { folder: tempfile::tempdir().unwrap() };
        for task in ["rte", "mrpc"] {
            for split in ["train", "dev"] {
                let rows: String = (0..320).map(|row| format!("{task} {split} {row}\n")).collect();
                bam.write(&format!("glue_data/{task}/{split}.tsv"), &format!("header\n{rows}"));
            }
        }
        bam.write("pretrained_models/tiny/vocab.txt", "[PAD]\n");
        bam
    }

    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir().join(path)).unwrap_or_default()
    }

    /// Tells the fake trainer how attempts end.
    pub fn orders(self, json: &str) -> Self {
        self.write("fake.json", json);
        self
    }

    /// A manifest with this below `spec`, beside the store's folders.
    pub fn manifest(&self, spec: &str) -> PathBuf {
        let text = format!(
            "apiVersion: bam.dev/v1alpha1\nkind: BamExperiment\nmetadata: {{name: exp}}\nspec:\n  \
             tasks: [{{name: rte}}, {{name: mrpc}}]\n  model: {{pretrained: tiny}}\n  \
             storage: {{persistentVolumeClaim: {{claimName: bam-dir}}}}\n  {spec}\n"
        );
        self.write("exp.yaml", &text);
        self.dir().join("exp.yaml")
    }

    /// A BAM experiment: two teachers and a student.
    pub fn distilled(&self) -> PathBuf {
        self.manifest("distill: {}")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bam"));
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local/fake-trainer");
        command.args(arguments).env("BAM_DIR", self.dir()).env("BAM_TRAINER", fake).env_remove("BAM_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn bam(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    pub fn run(&self, manifest: &Path) -> Said {
        self.bam(&["run", "--plain", "-f", manifest.to_str().unwrap()])
    }

    /// Starts `bam run` and does not wait.
    pub fn start(&self, manifest: &Path) -> Child {
        self.command(&["run", "--plain", "-f", manifest.to_str().unwrap()]).spawn().unwrap()
    }

    /// How often each science was trained to its end.
    pub fn trained(&self) -> BTreeMap<String, usize> {
        count(&self.read("trained.log"))
    }

    /// How often each optimizer step of each science was taken.
    pub fn steps(&self) -> BTreeMap<String, usize> {
        count(&self.read("steps.log"))
    }

    /// The attempts that were begun, in no order.
    pub fn attempts(&self) -> usize {
        fs::read_dir(self.dir().join(".bam/attempts")).map(Iterator::count).unwrap_or_default()
    }

    /// Waits until something is true.
    pub fn wait_until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is(self) {
            assert!(start.elapsed() < Duration::from_secs(60), "{what} does not happen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A text without what differs from machine to machine: the store's folder, and the names of runs, which are
    /// numbered as they appear.
    pub fn normalized(&self, text: &str) -> String {
        let text = text.replace(&self.dir().canonicalize().unwrap().display().to_string(), "BAM_DIR");
        let text = number(&text, "run-", 16);
        number(&text, "runs/", 64)
    }
}

fn number(text: &str, prefix: &str, digits: usize) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut parts = text.split(prefix);
    let mut normalized = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        normalized += prefix;
        match part.get(..digits).filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            Some(name) => {
                let known = names.iter().position(|known| known == name);
                let index = known.unwrap_or_else(|| {
                    names.push(name.to_owned());
                    names.len() - 1
                });
                normalized += &format!("{:0>1$}", index + 1, digits.min(4));
                normalized += &part[digits..];
            }
            None => normalized += part,
        }
    }
    normalized
}

fn count(lines: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn end(child: Child) -> Said {
    Said::from(child.wait_with_output().unwrap())
}

pub fn signal(child: &Child, signal: i32) {
    // SAFETY: `kill` has no memory effects, and the child has not been waited for.
    unsafe { libc::kill(child.id().try_into().unwrap(), signal) };
}

/// Compares with a file of `tests/golden`, or writes it if `UPDATE_GOLDEN` is set.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{text}", path.display());
}
