//! A stand-in for the trainer, and for the artifact store: what an attempt finds, how long it takes, and how it ends.
//!
//! It does what the real one promises: it looks for its teachers' targets before the first step, trains nothing that is
//! whole already, goes on from the newest checkpoint, and writes one when it is told to end.

use std::collections::BTreeMap;

use bam_crds::{Digest, ExitReason, InputsConfig, RunConfig, RunReport, names};
use serde_json::Value;

use crate::findings::findings;
use crate::history::{What, Who, text};
use crate::schedule::{Fate, Millis};
use crate::world::World;

/// Steps of every training.
const STEPS: u64 = 100;
/// A checkpoint is written after so many.
const CHECKPOINT: u64 = 25;

#[derive(Default)]
pub struct ArtifactStore {
    /// Manifests; false: their files are not what they were.
    pub manifests: BTreeMap<Digest, bool>,
    /// The newest checkpoint of each training.
    checkpoints: BTreeMap<Digest, u64>,
    /// Folders, and the pods that write to them.
    folders: BTreeMap<String, String>,
}

/// How an attempt will end.
#[derive(Clone, Debug)]
pub struct Ending {
    pub code: i32,
    pub out_of_memory: bool,
    /// Its last word, or the end of its log.
    pub said: String,
    /// What it leaves in the store.
    pub leaves: Option<Leaves>,
    pub missing: Vec<Digest>,
}

/// What an attempt leaves in the store.
#[derive(Clone, Debug)]
pub enum Leaves {
    Manifest(Digest, bool),
    Checkpoint(Digest, u64),
}

/// A training that is under way.
#[derive(Clone, Debug)]
pub struct Training {
    pub hash: Digest,
    from: u64,
    since: Millis,
    takes: Millis,
}

impl Training {
    fn step(&self, now: Millis) -> u64 {
        let share = (now - self.since) as f64 / self.takes.max(1) as f64;
        self.from + ((STEPS - self.from) as f64 * share.min(1.0)) as u64
    }
}

impl World {
    /// A trainer starts: plans its ending, and says what it trains.
    pub fn start_trainer(&mut self, name: &str, pod: &Value) -> Option<Training> {
        let said = text(pod, &format!("/metadata/annotations/{}", names::CONFIG_ANNOTATION.replace('/', "~1")));
        let config: Value = serde_json::from_str(said).expect("a configuration");
        let fate = self.machines.fates.pop_front();
        if config.get("science").is_none() {
            let config: InputsConfig = serde_json::from_value(config).expect("a check's configuration");
            self.check_inputs(name, &config, fate);
            return None;
        }
        let config: RunConfig = serde_json::from_value(config).expect("a training's configuration");
        self.claim_folder(name, pod);
        self.train(name, &config, fate)
    }

    fn check_inputs(&mut self, pod: &str, config: &InputsConfig, fate: Option<Fate>) {
        let takes = self.random.between(1_000, 8_000);
        let mut report = RunReport::new(ExitReason::Completed, "");
        report.inputs = Some(findings(&config.tasks));
        let ending = met(fate, &ending(&report, None));
        self.plan_ending(pod, takes, ending);
    }

    fn train(&mut self, pod: &str, config: &RunConfig, fate: Option<Fate>) -> Option<Training> {
        let hash = config.science_hash.clone();
        let mut report = RunReport::new(ExitReason::Completed, "");
        report.science_hash = Some(hash.clone());
        report.total_steps = STEPS;
        let state = |teacher: &&&Digest| self.store.manifests.get(**teacher).copied();
        let teachers = config.science.teachers();
        report.missing = teachers.iter().filter(|it| state(it).is_none()).map(|it| (*it).clone()).collect();
        report.changed = teachers.iter().filter(|it| state(it) == Some(false)).map(|it| (*it).clone()).collect();
        let soon = self.random.between(500, 3_000);
        if !report.missing.is_empty() || !report.changed.is_empty() {
            report.reason = if report.missing.is_empty() { ExitReason::BadData } else { ExitReason::MissingInput };
            let missing = report.missing.iter().chain(&report.changed).cloned().collect();
            let ending = Ending { missing, ..ending(&report, None) };
            self.plan_ending(pod, soon, ending);
            return None;
        }
        if self.store.manifests.get(&hash) == Some(&true) {
            report.saved_steps = STEPS;
            let ending = met(fate, &ending(&report, Some(Leaves::Manifest(hash, false))));
            self.plan_ending(pod, soon, ending);
            return None;
        }
        let run = self.machines.run_of(pod);
        self.history.add(self.now, Who::Trainer, What::Trains { run });
        let from = self.store.checkpoints.get(&hash).copied().unwrap_or_default();
        let takes = self.random.between(5_000, 30_000);
        let training = Training { hash: hash.clone(), from, since: self.now, takes };
        let (ending, after) = match fate {
            None | Some(Fate::Mumbles) => {
                report.saved_steps = STEPS;
                report.resumed_from = from;
                (met(fate, &ending(&report, Some(Leaves::Manifest(hash, true)))), takes)
            }
            Some(_) => {
                let after = self.random.between(0, takes);
                report.saved_steps = (training.step(self.now + after) / CHECKPOINT * CHECKPOINT).max(from);
                report.resumed_from = from;
                let leaves = Leaves::Checkpoint(hash, report.saved_steps);
                (met(fate, &ending(&report, Some(leaves))), after)
            }
        };
        self.plan_ending(pod, after, ending);
        Some(training)
    }

    /// The folder in which this pod's trainer writes, as its arguments say it.
    fn claim_folder(&mut self, pod_name: &str, pod: &Value) {
        let container = &pod["spec"]["containers"][0];
        let arguments: Vec<_> = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let place = arguments.iter().position(|argument| *argument == "--attempt");
        let mut folder = place.map_or("", |place| arguments[place + 1]).to_owned();
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match text(variable, "/valueFrom/fieldRef/fieldPath") {
                "metadata.name" => pod_name,
                _ => text(variable, "/value"),
            };
            folder = folder.replace(&format!("$({})", text(variable, "/name")), value);
        }
        let uid = text(pod, "/metadata/uid").to_owned();
        let owner = self.store.folders.entry(folder.clone()).or_insert_with(|| uid.clone());
        if *owner != uid {
            self.history.add(self.now, Who::Trainer, What::Trespassed { folder, pod: pod_name.to_owned() });
        }
    }

    /// A trainer is told to end: it writes a checkpoint, if it has something to write.
    pub fn checkpoint(&mut self, training: Option<&Training>) -> Ending {
        let Some(training) = training else { return wordless(143) };
        let step = training.step(self.now);
        let mut report = RunReport::new(ExitReason::Checkpointed, "");
        report.science_hash = Some(training.hash.clone());
        (report.total_steps, report.saved_steps, report.resumed_from) = (STEPS, step, training.from);
        let leaves = Leaves::Checkpoint(training.hash.clone(), step);
        ending(&report, Some(leaves))
    }

    /// What an attempt has left is there.
    pub fn leave(&mut self, run: &str, leaves: &Leaves) {
        match leaves {
            Leaves::Manifest(hash, trained) => {
                let was_whole = self.store.manifests.insert(hash.clone(), true) == Some(true);
                let what = What::Whole { run: run.to_owned(), hash: hash.clone(), trained: *trained && !was_whole };
                self.history.add(self.now, Who::Trainer, what);
                self.store.checkpoints.remove(hash);
            }
            Leaves::Checkpoint(hash, step) => {
                let newest = self.store.checkpoints.entry(hash.clone()).or_default();
                *newest = (*newest).max(*step);
            }
        }
    }

    /// Something that was trained is lost, or not what it was.
    pub fn lose_artifacts(&mut self, changed: bool) {
        let whole: Vec<_> =
            self.store.manifests.iter().filter(|(_, sound)| **sound).map(|(hash, _)| hash.clone()).collect();
        if whole.is_empty() {
            return;
        }
        let hash = self.random.pick(&whole);
        match changed {
            true => drop(self.store.manifests.insert(hash.clone(), false)),
            false => drop(self.store.manifests.remove(&hash)),
        }
        self.history.add(self.now, Who::Schedule, What::Lost { hash });
    }
}

fn ending(report: &RunReport, leaves: Option<Leaves>) -> Ending {
    let said = serde_json::to_string(report).expect("a report is plain data");
    Ending { code: report.reason.code(), out_of_memory: false, said, leaves, missing: Vec::new() }
}

fn wordless(code: i32) -> Ending {
    let (said, missing) = (String::new(), Vec::new());
    Ending { code, out_of_memory: false, said, leaves: None, missing }
}

/// The ending that fate gives to an attempt which would have ended like this.
fn met(fate: Option<Fate>, otherwise: &Ending) -> Ending {
    let leaves = otherwise.leaves.clone().filter(|leaves| matches!(leaves, Leaves::Checkpoint(..)));
    match fate {
        None => otherwise.clone(),
        Some(Fate::Mumbles) => Ending { said: "killed while it spoke".to_owned(), ..otherwise.clone() },
        Some(Fate::Crashes(code)) => Ending { leaves, ..wordless(code) },
        Some(Fate::RunsOutOfMemory) => Ending { out_of_memory: true, leaves, ..wordless(137) },
        Some(Fate::Exits(code)) => {
            let reason = ExitReason::from_code(code).expect("a code of the contract");
            let mut report: RunReport = serde_json::from_str(&otherwise.said).expect("its own report");
            (report.reason, report.inputs, report.message) = (reason, None, "so fate wants it".to_owned());
            Ending { leaves, ..ending(&report, None) }
        }
    }
}
