//! Which runs of an experiment are made now, and how it stands. It sequences: attempts are the runs' own business.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamExperiment, BamExperimentSpec, BamExperimentStatus, BamRunSpec, BamRunStatus, Digest, names};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::gate::Stand;
use super::graph::{self, Graph, Node};
use super::places::{Place, Places};
use super::profile;
use super::run::Complaint;
use super::size;
use super::standing::Standing;
use super::status::{condition, failure_message};
use super::teachers::Named;
use super::{Action, Plan, Planned, Reopened, Why};

/// What was seen of an experiment, perhaps out of date.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The status that was published last.
    pub status: BamExperimentStatus,
    /// Whose input files these are, and their state, as far as it can be told without reading them.
    pub inputs_key: String,
    /// Whether its deadline counts: not where a person sits beside it.
    pub timed: bool,
    /// Runs that may be under way at the same time; absent: all.
    pub limit: Option<u32>,
    /// The runs of the experiment's graph that exist, by name; and those that a teacher which the manifest names learned
    /// from: it needs them if it has to be tried again.
    pub runs: BTreeMap<String, Run>,
    /// The runs of the graph that exist and are of no use, with the reason.
    pub unusable: BTreeMap<String, Why>,
    /// The teachers that the manifest names.
    pub teachers: Named,
    /// The profile that the manifest names.
    pub profile: profile::Named,
    /// Why the last pass over it could not do what it planned.
    pub obstacle: Option<Why>,
    /// The most bytes that its status may have as JSON; absent: any number.
    pub longest_status: Option<usize>,
    /// The science hashes of these runs whose manifest is whole in the store; absent: nobody can tell from here.
    pub whole: Option<BTreeSet<Digest>>,
}

impl Observed {
    /// What `experiment` says, and its profile where it is silent.
    pub fn spec<'a>(&self, experiment: &'a BamExperiment) -> Cow<'a, BamExperimentSpec> {
        match &self.profile {
            Some(Ok(found)) => Cow::Owned(profile::resolve(&experiment.spec, &found.spec)),
            _ => Cow::Borrowed(&experiment.spec),
        }
    }

    /// The runs of `experiment`, as far as they can be told from what was seen.
    pub fn graph(&self, experiment: &BamExperiment) -> Graph {
        let spec = self.spec(experiment);
        let check = self.runs.get(&graph::inputs(&spec, &self.inputs_key).name);
        let stand = |name: &str| self.runs.get(name).map_or(Stand::Open, Run::stand);
        let check = check.map(|run| &run.status);
        Graph::of(&spec, &self.inputs_key, &self.status, check, &self.teachers, stand)
    }
}

/// A run that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The experiment that made it.
    pub made_by: String,
    /// Whether this experiment is one of its owners, or need not be.
    pub owned: bool,
    /// What it is.
    pub spec: BamRunSpec,
    /// How it stands.
    pub status: BamRunStatus,
    /// What was asked of it.
    pub reopened: Reopened,
}

impl Run {
    /// Where it stands. What was reopened is not over, even if its status does not say so yet.
    pub(super) fn phase(&self) -> RunPhase {
        let phase = self.status.phase;
        if phase.is_final() && self.reopened.voids(self.status.attempts) { RunPhase::Pending } else { phase }
    }

    fn stand(&self) -> Stand {
        match self.phase() {
            RunPhase::Pending | RunPhase::Running => Stand::Open,
            RunPhase::Failed => Stand::Failed,
            RunPhase::Succeeded => {
                Stand::Done(self.status.report.as_ref().map(|report| report.results.clone()).unwrap_or_default())
            }
        }
    }

    /// Will nothing more happen to it?
    pub fn is_over(&self) -> bool {
        self.phase().is_final()
    }

    /// What `node` of this manifest asks for otherwise than this run was made: the first who makes a run decides how it is
    /// carried out. What only a profile says is no wish: it changes, and runs stay as they are.
    pub fn differences(&self, node: &Node, manifest: &BamExperimentSpec) -> Vec<String> {
        let own = carried_out(&self.spec);
        let wanted = match &manifest.compute.profile {
            None => carried_out(&node.spec),
            Some(_) => carried_out(&profile::asked_of(&self.spec, manifest, &node.spec)),
        };
        let names: BTreeSet<_> = own.keys().chain(wanted.keys()).collect();
        names.into_iter().filter(|name| own.get(*name) != wanted.get(*name)).cloned().collect()
    }
}

/// All of a run that is not what it learns, by field.
fn carried_out(spec: &BamRunSpec) -> Map<String, Value> {
    let execution = spec.config.as_ref().map(|config| serde_json::to_value(&config.execution));
    let mut fields = match execution {
        Some(Ok(Value::Object(fields))) => fields,
        _ => Map::new(),
    };
    let policy = serde_json::to_value(&spec.failure_policy).unwrap_or_default();
    fields.insert("failurePolicy".to_owned(), policy);
    if let Ok(Value::Object(pod)) = serde_json::to_value(&spec.pod) {
        fields.extend(pod);
    }
    fields
}

/// Decides what to do about an experiment.
pub fn plan(experiment: &BamExperiment, observed: &Observed, now: Timestamp) -> Plan<BamExperimentStatus> {
    let name = experiment.metadata.name.as_deref().unwrap_or_default();
    let graph = observed.graph(experiment);
    let (halted, deadline) = halted(experiment, observed, now);
    let world = World { name, halted, manifest: &experiment.spec, graph: &graph, observed };
    let ttl = experiment.spec.ttl_seconds_after_finished;
    if world.stays_complete(experiment.metadata.generation) {
        let whys = graph.nodes().map(|node| (node.name.clone(), Why::Done)).collect();
        let (expired, revisit) = world.expire(ttl, &observed.status, now);
        return Plan { actions: Vec::from_iter(expired), status: observed.status.clone(), revisit, whys };
    }

    let mut actions = Vec::new();
    let mut places = Places::new(&world);
    let mut whys = BTreeMap::new();
    for node in graph.nodes() {
        actions.extend(world.join(node));
        let (why, action) = world.decide(node, &mut places);
        if let Some(action) = action {
            actions.push(Planned { title: node.title.clone(), action, why: why.clone() });
        }
        whys.insert(node.name.clone(), why);
    }
    actions.extend(world.join_the_others());
    actions.extend(world.reopen_the_others());
    let mut status = Standing::new(&world, &whys).status(experiment.metadata.generation, now);
    if let Some(limit) = observed.longest_status {
        size::fit(&mut status, limit);
    }
    let (expired, revisit) = world.expire(ttl, &status, now);
    actions.extend(expired);
    Plan { actions, status, revisit: revisit.into_iter().chain(deadline).min(), whys }
}

/// Is nothing begun for this experiment, and what trains for it alone stopped?
pub fn is_halted(experiment: &BamExperiment) -> bool {
    experiment.spec.suspend
        || experiment.spec.cancel
        || experiment.status.as_ref().is_some_and(|status| failure(status) == Some(OUT_OF_TIME))
}

/// The reason of an experiment that took longer than it may.
const OUT_OF_TIME: &str = "DeadlineExceeded";

/// Why an experiment has failed, in a word.
fn failure(status: &BamExperimentStatus) -> Option<&str> {
    condition(&status.conditions, "Failed").map(|failed| failed.reason.as_str())
}

/// Why nothing is begun for it; or until when it has time.
fn halted(experiment: &BamExperiment, observed: &Observed, now: Timestamp) -> (Option<Why>, Option<Timestamp>) {
    let published = &observed.status;
    if experiment.spec.cancel {
        return (Some(Why::Cancelled), None);
    }
    if experiment.spec.suspend {
        return (Some(Why::Suspended), None);
    }
    // What has come to another end needs no more time.
    let is_over = published.phase.is_final() && failure(published) != Some(OUT_OF_TIME);
    let counts = observed.timed && !is_over;
    let Some(seconds) = experiment.spec.active_deadline_seconds.filter(|_| counts) else { return (None, None) };
    // The condition is there from the first pass on, and changes when it is resumed.
    let active = published.conditions.iter().find(|it| it.type_ == "Suspended" && it.status == "False");
    let since = active.map_or(now, |active| active.last_transition_time.0);
    let until = since.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
    if now < until { (None, Some(until)) } else { (Some(Why::DeadlineExceeded { seconds }), None) }
}

/// All that a decision looks at.
pub(super) struct World<'a> {
    pub(super) name: &'a str,
    /// Why nothing is begun for it.
    pub(super) halted: Option<Why>,
    pub(super) manifest: &'a BamExperimentSpec,
    pub(super) graph: &'a Graph,
    pub(super) observed: &'a Observed,
}

impl<'a> World<'a> {
    pub(super) fn run(&self, node: &Node) -> Option<&'a Run> {
        self.observed.runs.get(&node.name)
    }

    /// Was all of it done, as it is asked for now, and only can no longer be seen? A run that somebody deleted, or that this
    /// operator cannot read, takes no scores away.
    fn stays_complete(&self, generation: Option<i64>) -> bool {
        let published = &self.observed.status;
        published.phase == ExperimentPhase::Complete
            && generation.is_some()
            && published.observed_generation == generation
            && !(self.graph.unknown.is_empty() && self.observed.unusable.is_empty())
    }

    /// Removes the experiment when it was over for long enough, and for everybody to see; or says when that will be.
    fn expire(
        &self,
        ttl: Option<u32>,
        status: &BamExperimentStatus,
        now: Timestamp,
    ) -> (Option<Planned>, Option<Timestamp>) {
        let over = ["Complete", "Failed"].into_iter().find_map(|kind| condition(&status.conditions, kind));
        let Some((since, ttl)) = over.map(|over| over.last_transition_time.0).zip(ttl) else { return (None, None) };
        let at = since.saturating_add(SignedDuration::from_secs(ttl.into())).unwrap_or(Timestamp::MAX);
        if now < at {
            return (None, Some(at));
        }
        let published = status.phase == self.observed.status.phase;
        let remove = || Planned {
            title: format!("experiment {}", self.name),
            action: Action::RemoveExperiment,
            why: Why::Expired { since },
        };
        (published.then(remove), None)
    }

    /// It needs nothing any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.halted == Some(Why::Cancelled)
    }

    /// Is there a wish for another try that is not carried out yet? What an experiment begins with is none: nothing of it has
    /// failed.
    fn is_retried(&self) -> bool {
        let published = &self.observed.status;
        published.observed_generation.is_some() && self.manifest.retry > published.retried
    }

    /// Who asks for a run that has failed to be tried again, if that was not done yet.
    fn asks_again(&self, run: &Run) -> Option<String> {
        let by = names::retry(self.name, self.manifest.retry);
        let asks = self.halted.is_none() && self.is_retried() && run.phase() == RunPhase::Failed;
        (asks && !run.reopened.by.contains(&by)).then_some(by)
    }

    /// The last wish for another try that was carried out: no run is left that it is about.
    pub(super) fn retried(&self) -> u32 {
        let mut runs = self.graph.nodes().filter_map(|node| self.run(node));
        let put_off = self.is_retried() && (self.halted.is_some() || runs.any(|run| self.asks_again(run).is_some()));
        let published = self.observed.status.retried;
        if put_off { published } else { self.manifest.retry.max(published) }
    }

    fn named(&self, names: &'a [String]) -> impl Iterator<Item = &'a Node> {
        self.graph.trainings.iter().filter(|node| names.contains(&node.name))
    }

    /// Is the run known to be whole in the store?
    fn is_whole(&self, node: &Node) -> bool {
        let whole = self.observed.whole.as_ref();
        whole.zip(node.science_hash()).is_some_and(|(whole, hash)| whole.contains(hash))
    }

    /// Is it over, and its manifest known to be gone since?
    fn is_lost(&self, node: &Node, run: &Run) -> bool {
        run.phase() == RunPhase::Succeeded
            && node.role != Role::Inputs
            && self.observed.whole.is_some()
            && !self.is_whole(node)
    }

    pub(super) fn is_done(&self, node: &Node) -> bool {
        self.run(node).is_some_and(|run| run.phase() == RunPhase::Succeeded && !self.is_lost(node, run))
    }

    pub(super) fn has_failed(&self, node: &Node) -> bool {
        self.run(node).is_some_and(|run| run.phase() == RunPhase::Failed)
    }

    /// Is an attempt of it under way?
    pub(super) fn is_alive(&self, node: &Node) -> bool {
        self.run(node).is_some_and(|run| run.phase() == RunPhase::Running)
    }

    /// Is this student still to be trained, and can it be?
    pub(super) fn is_open(&self, student: &'a Node) -> bool {
        let nothing_to_train = match self.run(student) {
            Some(run) => self.is_done(student) || run.phase() == RunPhase::Failed,
            None => self.is_whole(student),
        };
        !nothing_to_train && !self.named(&student.teachers).any(|teacher| self.has_failed(teacher))
    }

    pub(super) fn is_needed(&self, node: &Node) -> bool {
        node.role != Role::Teacher
            || !self.graph.unknown.is_empty()
            || self.graph.trainings.iter().any(|other| other.teachers.contains(&node.name) && self.is_open(other))
    }

    /// Will something still happen to this run, without anything new being started for it?
    pub(super) fn is_under_way(&self, node: &'a Node) -> bool {
        match self.run(node) {
            Some(run) => !run.is_over() && (node.role != Role::Student || self.is_open(node)),
            None => self.is_whole(node),
        }
    }

    /// How this experiment shares a run that another one made; none if it made it itself.
    pub(super) fn shared(&self, node: &Node) -> Option<Why> {
        let run = self.run(node).filter(|run| run.made_by != self.name)?;
        Some(Why::Joined { by: run.made_by.clone(), differences: run.differences(node, self.manifest) })
    }

    /// Becomes an owner of a run that exists, so that it stays as long as this experiment does.
    fn join(&self, node: &Node) -> Option<Planned> {
        let run = self.run(node).filter(|run| !run.owned && !self.is_cancelled())?;
        let orphaned = || Why::Joined { by: run.made_by.clone(), differences: Vec::new() };
        let why = self.shared(node).unwrap_or_else(orphaned);
        Some(Planned { title: node.title.clone(), action: Action::JoinRun { name: node.name.clone() }, why })
    }

    /// The runs that named teachers learned from, and that are not of this graph.
    fn others(&self) -> impl Iterator<Item = (&'a String, &'a Run)> {
        let nodes: BTreeSet<_> = self.graph.nodes().map(|node| &node.name).collect();
        self.observed.runs.iter().filter(move |(name, _)| !nodes.contains(name))
    }

    /// Becomes an owner of them.
    fn join_the_others(&self) -> impl Iterator<Item = Planned> {
        let others = self.others().filter(|(_, run)| !run.owned && !self.is_cancelled());
        others.map(|(name, run)| Planned {
            title: super::title(&run.spec),
            action: Action::JoinRun { name: name.clone() },
            why: Why::Joined { by: run.made_by.clone(), differences: Vec::new() },
        })
    }

    /// The attempts that did not find this teacher's targets as they were, and that nobody has acted on.
    fn complaints(&self, teacher: &Node, run: &Run) -> BTreeSet<String> {
        let students = self.graph.trainings.iter().filter(|other| other.teachers.contains(&teacher.name));
        let seen = students.filter_map(|student| Some((student.name.as_str(), self.run(student)?)));
        teacher.science_hash().map(|hash| complaints(hash, run, seen)).unwrap_or_default()
    }

    /// The runs that named teachers learned from, and whose targets these did not find: nobody else may want them any more.
    fn reopen_the_others(&self) -> impl Iterator<Item = Planned> {
        let others = self.others().filter(|(_, run)| self.halted.is_none() && run.phase() == RunPhase::Succeeded);
        others.filter_map(|(name, run)| {
            let hash = &run.spec.config.as_ref()?.science_hash;
            let by = complaints(hash, run, self.observed.runs.iter().map(|(name, run)| (name.as_str(), run)));
            let reopened = Reopened { after: run.status.attempts, by: by.clone() };
            (!by.is_empty()).then(|| Planned {
                title: super::title(&run.spec),
                action: Action::Reopen { run: name.clone(), reopened },
                why: Why::TargetsGone { attempts: by.into_iter().collect() },
            })
        })
    }

    /// Why a run stands where it stands, and what to do about it.
    fn decide(&self, node: &'a Node, places: &mut Places) -> (Why, Option<Action>) {
        match self.run(node) {
            Some(run) => self.decide_made(node, run, places),
            None => self.decide_unmade(node, places),
        }
    }

    fn decide_made(&self, node: &'a Node, run: &Run, places: &mut Places) -> (Why, Option<Action>) {
        let complaints = self.complaints(node, run);
        let reopen = |after: u32, by: &BTreeSet<String>| Action::Reopen {
            run: node.name.clone(),
            reopened: Reopened { after, by: by.clone() },
        };
        let why = match run.phase() {
            RunPhase::Succeeded if self.halted.is_some() => Why::Done,
            RunPhase::Succeeded if self.is_needed(node) && !complaints.is_empty() => {
                let why = Why::TargetsGone { attempts: complaints.iter().cloned().collect() };
                return match places.take(Place::ForItsStudent) {
                    Ok(()) => (why, Some(reopen(run.status.attempts, &complaints))),
                    Err(full) => (full, None),
                };
            }
            RunPhase::Succeeded if self.is_needed(node) && self.is_lost(node, run) => {
                let student = node.role == Role::Student;
                let by = BTreeSet::from([format!("experiment {}", self.name)]);
                return match places.take(if student { Place::OfItsOwn } else { Place::ForItsStudent }) {
                    Ok(()) => (Why::Lost, Some(reopen(run.status.attempts, &by))),
                    Err(full) => (full, None),
                };
            }
            RunPhase::Succeeded => Why::Done,
            RunPhase::Failed if let Some(by) = self.asks_again(run) => {
                let by = BTreeSet::from([by]);
                return match places.take(Place::OfItsOwn) {
                    Ok(()) => {
                        let why = Why::AskedAgain { by: by.iter().cloned().collect() };
                        (why, Some(reopen(run.status.attempts, &by)))
                    }
                    Err(full) => (full, None),
                };
            }
            RunPhase::Failed => Why::Failed { message: failure_message(&run.status) },
            RunPhase::Running if run.status.waiting_for.is_empty() => {
                Why::UnderWay { attempt: run.status.attempts, progress: run.status.progress.clone() }
            }
            RunPhase::Pending | RunPhase::Running => {
                let reason = run.status.conditions.first().map(|condition| condition.reason.clone());
                Why::Waits { reason: reason.unwrap_or_default(), message: run.status.waiting_for.clone() }
            }
        };
        // It is being trained again already: whoever complains meanwhile is helped by the same attempt.
        let joins = !run.is_over() && !complaints.is_empty() && !run.reopened.by.is_empty();
        (why, joins.then(|| reopen(run.reopened.after, &complaints)))
    }

    fn decide_unmade(&self, node: &'a Node, places: &mut Places) -> (Why, Option<Action>) {
        let create = || Action::CreateRun { name: node.name.clone(), spec: Box::new(node.spec.clone()) };
        if let Some(why) = &self.halted {
            return (why.clone(), None);
        }
        if self.is_whole(node) {
            return (Why::Cached, Some(create()));
        }
        if node.role == Role::Inputs && self.graph.pinned.is_some() {
            return (Why::Done, None);
        }
        if !self.is_needed(node) {
            return (Why::NotNeeded, None);
        }
        let titles = |is: &dyn Fn(&Node) -> bool| -> Vec<String> {
            self.named(&node.teachers).filter(|teacher| is(teacher)).map(|teacher| teacher.title.clone()).collect()
        };
        let failed = titles(&|teacher| self.has_failed(teacher));
        if !failed.is_empty() {
            return (Why::TeacherFailed { teachers: failed }, None);
        }
        if let Some(Err(why)) = &self.observed.profile {
            return (why.clone(), None);
        }
        let missing = titles(&|teacher| !self.is_done(teacher));
        if !missing.is_empty() {
            return (Why::TeachersNotDone { teachers: missing }, None);
        }
        if let Some(why) = self.observed.unusable.get(&node.name) {
            return (why.clone(), None);
        }
        match places.take(Place::OfItsOwn) {
            Ok(()) => (Why::New, Some(create())),
            Err(full) => (full, None),
        }
    }
}

/// The attempts of these runs that did not find the targets of `run` as they were, and that nobody has acted on.
fn complaints<'a>(hash: &Digest, run: &Run, students: impl Iterator<Item = (&'a str, &'a Run)>) -> BTreeSet<String> {
    let open = students.filter(|(_, student)| !student.is_over());
    let attempts = open.filter_map(|(name, student)| {
        // Not the one that is under way meanwhile.
        let complaint = Complaint::of(&student.status, &student.reopened);
        complaint.missed.contains(&hash).then(|| names::attempt(name, complaint.attempt))
    });
    attempts.filter(|attempt| !run.reopened.by.contains(attempt)).collect()
}
