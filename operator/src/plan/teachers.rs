//! The teachers that a manifest names instead of having them trained: students of other experiments, and runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bam_crds::experiment::{DistillSpec, ExperimentPhase, StorageSpec, TeacherRef};
use bam_crds::run::Role;
use bam_crds::{BamExperimentSpec, BamExperimentStatus, BamRunSpec, Digest, names};

use super::Why;

/// Named teachers: each with its run, or with the reason why that cannot be told yet.
pub type Named = BTreeMap<Entry, Result<Reference, Why>>;

/// Where a name stands in `distill.teachers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The task that it teaches.
    pub task: String,
    /// Its place in the task's ensemble, if that has one.
    pub member: Option<usize>,
}

/// `rte`, or `rte.ensemble[0]`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            None => f.write_str(&self.task),
            Some(member) => write!(f, "{}.ensemble[{member}]", self.task),
        }
    }
}

/// A named teacher.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Its run.
    pub run: String,
    /// What that is.
    pub spec: BamRunSpec,
    /// The experiment that was named, if it was one.
    pub experiment: Option<String>,
}

/// What names can stand for.
pub trait Registry {
    /// An experiment.
    fn experiment(&self, name: &str) -> Option<(BamExperimentSpec, BamExperimentStatus)>;
    /// A run.
    fn run(&self, name: &str) -> Option<BamRunSpec>;
}

/// Finds the teachers that the experiment `name` names.
///
/// A teacher that was found once stays, even if the experiment that it came from goes.
pub fn find(name: &str, spec: &BamExperimentSpec, status: &BamExperimentStatus, registry: &dyn Registry) -> Named {
    let search = Search { name, spec, registry };
    entries(spec)
        .map(|(entry, wanted)| {
            let known = status.named_teachers.get(&entry.to_string()).and_then(|run| {
                let spec = registry.run(run)?;
                Some(Reference { run: run.clone(), spec, experiment: wanted.experiment.clone() })
            });
            let found = known.map_or_else(|| search.find(&entry, &wanted), Ok);
            (entry, found)
        })
        .collect()
}

/// The runs that a run learns from: science hashes and names.
pub fn of(spec: &BamRunSpec) -> Vec<(&Digest, String)> {
    let Some(config) = &spec.config else { return Vec::new() };
    let Some(storage) = StorageSpec::from_uri(&config.execution.store) else { return Vec::new() };
    config.science.teachers().into_iter().map(|hash| (hash, names::run(hash, &storage))).collect()
}

/// All names that stand in `distill.teachers`. A file is none: it is there, or the check of the inputs says that it is not.
fn entries(spec: &BamExperimentSpec) -> impl Iterator<Item = (Entry, TeacherRef)> {
    let named = spec.distill.iter().flat_map(|distill| &distill.teachers);
    named.flat_map(|(task, named)| {
        let entry = |(place, wanted)| {
            let member = (!named.ensemble.is_empty()).then_some(place);
            (Entry { task: task.clone(), member }, wanted)
        };
        named.each().into_iter().enumerate().filter(|(_, wanted)| wanted.targets.is_none()).map(entry)
    })
}

struct Search<'a> {
    name: &'a str,
    spec: &'a BamExperimentSpec,
    registry: &'a dyn Registry,
}

impl Search<'_> {
    fn find(&self, entry: &Entry, wanted: &TeacherRef) -> Result<Reference, Why> {
        match (&wanted.experiment, &wanted.run) {
            (Some(experiment), _) => self.student_of(entry, experiment),
            (None, Some(run)) => self.run(entry, run, None, &format!("run {run}")),
            // The schema refuses it.
            (None, None) => Err(unknown(format!("distill.teachers.{entry} names neither an experiment nor a run"))),
        }
    }

    fn student_of(&self, entry: &Entry, experiment: &str) -> Result<Reference, Why> {
        let task = &entry.task;
        if let Some(experiments) = self.cycle(experiment) {
            return Err(Why::TeacherCycle { experiments });
        }
        let Some((spec, status)) = self.registry.experiment(experiment) else {
            return Err(unknown(format!(
                "waits for experiment {experiment}, which does not exist here: create it, or name another one in \
                 distill.teachers.{entry}"
            )));
        };
        if !spec.tasks.iter().any(|known| known.name == *task) {
            return Err(unknown(format!(
                "cannot learn {task} from experiment {experiment}, which does not have that task: name another one in \
                 distill.teachers.{entry}"
            )));
        }
        if spec.storage.identity() != self.spec.storage.identity() {
            return Err(unknown(format!(
                "cannot learn {task} from experiment {experiment}, which keeps its models in {} and not in {}",
                spec.storage.uri(),
                self.spec.storage.uri()
            )));
        }
        let student = status.runs.iter().find(|run| run.role == Role::Student && run.trial == Some(1));
        match student.filter(|student| self.registry.run(&student.name).is_some()) {
            Some(student) => self.run(entry, &student.name, Some(experiment), &format!("experiment {experiment}")),
            None => Err(unknown(format!(
                "waits until experiment {experiment} begins to train its student{}",
                hint(&status)
            ))),
        }
    }

    fn run(&self, entry: &Entry, run: &str, experiment: Option<&str>, what: &str) -> Result<Reference, Why> {
        let task = &entry.task;
        let Some(spec) = self.registry.run(run) else {
            return Err(unknown(format!(
                "waits for run {run}, which does not exist here: name another one in distill.teachers.{entry}"
            )));
        };
        let tasks = spec.config.iter().flat_map(|config| &config.science.tasks);
        if !tasks.into_iter().any(|known| known.name == *task) {
            return Err(unknown(format!(
                "cannot learn {task} from {what}, which does not have that task: name another one in \
                 distill.teachers.{entry}"
            )));
        }
        if spec.config.as_ref().is_some_and(|config| config.execution.store != self.spec.storage.uri()) {
            return Err(unknown(format!("cannot learn {task} from {what}, which is kept in another store")));
        }
        Ok(Reference { run: run.to_owned(), spec, experiment: experiment.map(ToOwned::to_owned) })
    }

    /// The circle in which experiments teach each other, if `first` leads back to this one.
    fn cycle(&self, first: &str) -> Option<Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut paths = vec![vec![self.name.to_owned(), first.to_owned()]];
        while let Some(path) = paths.pop() {
            let last = path.last().map(String::as_str).unwrap_or_default();
            if last == self.name {
                return Some(path);
            }
            if !seen.insert(last.to_owned()) {
                continue;
            }
            let Some((spec, _)) = self.registry.experiment(last) else { continue };
            let next = spec.distill.iter().flat_map(DistillSpec::named_teachers);
            for teacher in next.filter_map(|teacher| teacher.experiment) {
                paths.push(path.iter().cloned().chain([teacher]).collect());
            }
        }
        None
    }
}

/// Why an experiment may never come to its student, and what to do.
fn hint(status: &BamExperimentStatus) -> &'static str {
    match status.phase {
        ExperimentPhase::Failed => "; it has failed: raise its spec.retry, or name another one",
        ExperimentPhase::Cancelled => "; it is cancelled, and never will: name another one",
        ExperimentPhase::Suspended => "; it is suspended: set its spec.suspend to false",
        _ => "",
    }
}

fn unknown(message: String) -> Why {
    Why::TeacherUnknown { message }
}
