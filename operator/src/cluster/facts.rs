//! What the operator keeps of the objects that it watches: a few facts of each.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use bam_crds::experiment::{DistillSpec, ExperimentPhase};
use bam_crds::profile::{Profile, ProfileRef};
use bam_crds::run::{Role, RunPhase, RunProgress};
use bam_crds::{BamExperiment, BamRun, BamRunSpec, BamRunStatus, Digest, RunReport, log, names};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Event, PersistentVolumeClaim, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::DeserializeGuard;

use super::job::CONTAINER;
use super::kept::Kept;
use super::placement::Access;
use super::slice::INDEX;
use crate::plan::Reopened;
use crate::plan::experiment::is_halted;
use crate::plan::profile::Found;
use crate::plan::retry::{Held, SIGKILL};

/// Facts about one object.
pub trait Facts: PartialEq + Send + Sync + Sized + 'static {
    /// The object.
    type Object;

    /// What is kept of it.
    fn of(object: &Self::Object) -> Self;

    /// The run that it belongs to.
    fn run(&self) -> Option<&str> {
        None
    }

    /// Is it worth keeping when it is gone?
    fn outlives(&self) -> bool {
        false
    }
}

/// An experiment; or why it cannot be understood.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentFacts {
    /// Its identity.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// It is being removed.
    pub deleting: bool,
    /// Where it stands.
    pub phase: ExperimentPhase,
    /// Its runs that are not over, as far as its status says.
    pub open_runs: Vec<String>,
    /// Nothing is begun for it, and what trains for it alone is stopped.
    halted: bool,
    /// It names teachers.
    pub names_teachers: bool,
    /// The experiments that it names as teachers.
    pub teachers: Vec<String>,
    /// The profile that it names.
    pub profile: Option<ProfileRef>,
    /// Metadata without what others keep there, spec and status.
    pub kept: Result<Kept<BamExperiment>, String>,
}

impl Facts for ExperimentFacts {
    type Object = DeserializeGuard<BamExperiment>;

    fn of(object: &Self::Object) -> Self {
        match &object.0 {
            Ok(experiment) => {
                let metadata = &experiment.metadata;
                let kept = ObjectMeta {
                    name: metadata.name.clone(),
                    namespace: metadata.namespace.clone(),
                    uid: metadata.uid.clone(),
                    generation: metadata.generation,
                    creation_timestamp: metadata.creation_timestamp.clone(),
                    deletion_timestamp: metadata.deletion_timestamp.clone(),
                    ..ObjectMeta::default()
                };
                let experiment = BamExperiment { metadata: kept, ..experiment.clone() };
                let distill = experiment.spec.distill.as_ref();
                let named = distill.into_iter().flat_map(DistillSpec::named_teachers);
                let phase = experiment.status.as_ref().map(|status| status.phase).unwrap_or_default();
                let open = experiment.status.iter().flat_map(|it| &it.runs).filter(|run| !run.phase.is_final());
                Self {
                    phase,
                    open_runs: open.map(|run| run.name.clone()).collect(),
                    halted: is_halted(&experiment),
                    names_teachers: distill.is_some_and(|distill| !distill.teachers.is_empty()),
                    teachers: named.filter_map(|teacher| teacher.experiment).collect(),
                    profile: experiment.spec.compute.profile.clone(),
                    kept: Ok(Kept::of(experiment, phase.is_final())),
                    ..Self::unreadable(metadata, String::new())
                }
            }
            Err(invalid) => Self::unreadable(&invalid.metadata, invalid.error.clone()),
        }
    }
}

impl ExperimentFacts {
    fn unreadable(metadata: &ObjectMeta, why: String) -> Self {
        Self {
            uid: uid(metadata),
            version: version(metadata),
            deleting: metadata.deletion_timestamp.is_some(),
            phase: ExperimentPhase::default(),
            open_runs: Vec::new(),
            halted: false,
            names_teachers: false,
            teachers: Vec::new(),
            profile: None,
            kept: Err(why),
        }
    }

    /// Is nothing begun for it, and what trains for it alone stopped? Also while it is being deleted: its runs go with it.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// Can it be understood, and is it to stay?
    pub fn is_living(&self) -> bool {
        self.kept.is_ok() && !self.deleting
    }

    /// The experiment, if it can be understood and is to stay.
    pub fn living(&self) -> Option<BamExperiment> {
        self.kept.as_ref().ok().filter(|_| !self.deleting).map(Kept::get)
    }
}

/// A profile of either kind.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileFacts<K> {
    /// What it says; or why it cannot be understood.
    pub found: Result<Found, String>,
    kind: PhantomData<K>,
}

impl<K: Profile + Clone + PartialEq + Send + Sync + 'static> Facts for ProfileFacts<K> {
    type Object = DeserializeGuard<K>;

    fn of(object: &Self::Object) -> Self {
        let found = object.0.as_ref().map_err(|invalid| invalid.error.clone());
        let found = found.map(|profile| Found {
            generation: profile.meta().generation.unwrap_or_default(),
            spec: profile.says().clone(),
        });
        Self { found, kind: PhantomData }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// Its identity.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// It is being removed.
    pub deleting: bool,
    /// The experiments that own it: names and identities.
    pub owners: Vec<(String, String)>,
    /// The experiment that made it.
    pub made_by: String,
    /// What was asked of it since it was over.
    pub reopened: Reopened,
    /// What it is for.
    pub role: Role,
    /// Where it stands.
    pub phase: RunPhase,
    /// Attempts that were begun.
    pub attempts: u32,
    /// The last attempt of whose end its status tells.
    pub settled: u32,
    /// How far its attempt is.
    pub progress: Option<RunProgress>,
    /// What it trains.
    pub science_hash: Option<Digest>,
    /// What it learns from.
    pub teachers: Vec<Digest>,
    /// What it is and how it stands; or why it cannot be understood.
    pub kept: Result<Kept<(BamRunSpec, BamRunStatus)>, String>,
}

impl Facts for RunFacts {
    type Object = DeserializeGuard<BamRun>;

    fn of(object: &Self::Object) -> Self {
        let (metadata, run) = match &object.0 {
            Ok(run) => (&run.metadata, Ok((run.spec.clone(), run.status.clone().unwrap_or_default()))),
            Err(invalid) => (&invalid.metadata, Err(invalid.error.clone())),
        };
        let (spec, status) = run.as_ref().ok().map(|(spec, status)| (spec, status)).unzip();
        let science = spec.and_then(|spec| spec.config.as_ref());
        let phase = status.map(|status| status.phase).unwrap_or_default();
        let annotations = metadata.annotations.as_ref();
        let owners = metadata.owner_references.iter().flatten().map(|owner| (owner.name.clone(), owner.uid.clone()));
        Self {
            uid: uid(metadata),
            version: version(metadata),
            generation: metadata.generation,
            deleting: metadata.deletion_timestamp.is_some(),
            owners: owners.collect(),
            made_by: annotations.and_then(|all| all.get(names::MADE_BY_ANNOTATION)).cloned().unwrap_or_default(),
            reopened: reopened(annotations),
            role: spec.map_or(Role::Inputs, |spec| spec.role),
            phase,
            attempts: status.map(|status| status.attempts).unwrap_or_default(),
            settled: status.map_or(0, BamRunStatus::settled),
            progress: status.and_then(|status| status.progress.clone()),
            science_hash: science.map(|config| config.science_hash.clone()),
            teachers: science.map(|it| it.science.teachers().into_iter().cloned().collect()).unwrap_or_default(),
            kept: run.map(|run| Kept::of(run, phase.is_final())),
        }
    }
}

impl RunFacts {
    /// The run, if it can be understood and is to stay.
    pub fn living(&self) -> Option<(BamRunSpec, BamRunStatus)> {
        self.kept.as_ref().ok().filter(|_| !self.deleting).map(Kept::get)
    }

    /// Can it be understood, and is it to stay?
    pub fn is_living(&self) -> bool {
        self.kept.is_ok() && !self.deleting
    }
}

/// Requests to try a run again: an annotation each, so that nobody overwrites another's.
fn reopened(annotations: Option<&BTreeMap<String, String>>) -> Reopened {
    let requests = annotations.into_iter().flatten().filter_map(|(name, after)| {
        let by = name.strip_prefix(names::REOPEN_PREFIX)?;
        Some(Reopened { after: after.parse().ok()?, by: [by.to_owned()].into() })
    });
    requests.fold(Reopened::default(), |all, one| all.merged(&one))
}

/// A Job: one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    /// Its identity.
    pub uid: String,
    /// The run's name and identity.
    pub run: String,
    /// The identity of the run that owns it.
    pub run_uid: String,
    /// The attempt's number.
    pub number: u32,
    /// How many pods it has at the same time: one on each host.
    pub hosts: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// It is being removed.
    pub deleting: bool,
    /// The queue in which it waits for its turn, if it has to.
    pub queue: Option<String>,
    /// It may have no pod now: it is not its turn, or somebody holds it back.
    pub suspended: bool,
    /// When it may have had its pod, for the last time.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// Well, or not.
    pub succeeded: bool,
    /// When.
    pub at: Timestamp,
    /// What the Job controller says of it.
    pub message: String,
}

impl Facts for JobFacts {
    type Object = Job;

    fn of(job: &Job) -> Self {
        let owner = job.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ends =
            conditions.filter(|it| it.status == "True" && ["Complete", "Failed"].contains(&it.type_.as_str()));
        let created_at = moment(job.metadata.creation_timestamp.as_ref());
        Self {
            uid: uid(&job.metadata),
            run: label(&job.metadata, names::RUN_LABEL),
            run_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            number: label(&job.metadata, names::ATTEMPT_LABEL).parse().unwrap_or_default(),
            hosts: job.spec.as_ref().and_then(|spec| u32::try_from(spec.completions?).ok()).unwrap_or(1).max(1),
            created_at,
            deleting: job.metadata.deletion_timestamp.is_some(),
            queue: Some(label(&job.metadata, names::QUEUE_LABEL)).filter(|queue| !queue.is_empty()),
            suspended: job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)),
            started_at: job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            end: ends.next().map(|end| JobEnd {
                succeeded: end.type_ == "Complete",
                at: end.last_transition_time.as_ref().map_or(created_at, |time| time.0),
                message: end.message.clone().unwrap_or_default(),
            }),
        }
    }

    fn run(&self) -> Option<&str> {
        Some(&self.run)
    }
}

/// A pod of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// The identity of its Job.
    pub job_uid: String,
    /// The run.
    pub run: String,
    /// The attempt's number.
    pub number: u32,
    /// Which host of the attempt it is, counted from 0.
    pub index: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where its trainer listens, while it runs.
    pub address: Option<String>,
    /// What it waits for before it can run, to continue "attempt 1, which …".
    pub waits: Option<String>,
    /// The scheduler has found a node for it.
    pub has_node: bool,
    /// The node on which it ran, if nothing is heard of that.
    pub silent: Option<String>,
    /// When it has to be gone: it was told to end.
    pub leaves_by: Option<Timestamp>,
    /// How it ended.
    pub end: Option<PodEnd>,
}

/// A kubelet that says nothing of a pod for so long after its grace period is not there any more. The pod then stays until
/// its node is removed, and its Job does not end: nobody else would notice.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(1);

impl PodFacts {
    /// When this pod is to be given up, if nothing is heard of it.
    pub fn lost_at(&self) -> Option<Timestamp> {
        let leaves_by = self.leaves_by.filter(|_| self.end.is_none())?;
        leaves_by.saturating_add(LOST_AFTER).ok()
    }
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PodEnd {
    /// When.
    pub at: Timestamp,
    /// The trainer's exit code, if it ran.
    pub code: Option<i32>,
    /// The system killed it because memory ran out.
    pub out_of_memory: bool,
    /// Its last word.
    pub report: Option<RunReport>,
    /// Somebody took it away: its end is not one of the trainer's own accord.
    pub disrupted: bool,
    /// What else is known: who evicted it, or the end of its log.
    pub note: String,
    /// The end of its log, as far as that is known.
    pub log: String,
    /// How long it held its machine.
    pub held: Held,
}

impl Facts for PodFacts {
    type Object = Pod;

    fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let trainer = status.and_then(|it| it.container_statuses.as_ref()?.iter().find(|it| it.name == CONTAINER));
        let created_at = moment(pod.metadata.creation_timestamp.as_ref());
        let running = trainer.is_some_and(|it| it.state.as_ref().is_some_and(|state| state.running.is_some()));
        let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let annotations = pod.metadata.annotations.as_ref();
        Self {
            job_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            run: label(&pod.metadata, names::RUN_LABEL),
            number: label(&pod.metadata, names::ATTEMPT_LABEL).parse().unwrap_or_default(),
            index: annotations.and_then(|all| all.get(INDEX)?.parse().ok()).unwrap_or_default(),
            created_at,
            address: status.and_then(|status| status.pod_ip.clone()).filter(|_| running),
            waits: if running { None } else { Some(waits(pod, trainer)) },
            has_node: node.is_some(),
            silent: node.filter(|_| running && is_unheard_of(pod)),
            leaves_by: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            end: pod_end(pod, trainer, created_at),
        }
    }

    fn run(&self) -> Option<&str> {
        Some(&self.run)
    }

    /// Its last word is read nowhere else.
    fn outlives(&self) -> bool {
        self.end.is_some()
    }
}

/// A pod whose node says nothing any more is made unready by Kubernetes, which gives no reason; kubelets always do.
fn is_unheard_of(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|it| it.type_ == "Ready");
    ready.any(|ready| ready.status == "False" && ready.reason.as_deref().unwrap_or_default().is_empty())
}

fn pod_end(pod: &Pod, trainer: Option<&ContainerStatus>, created_at: Timestamp) -> Option<PodEnd> {
    let status = pod.status.as_ref()?;
    let disruption =
        status.conditions.iter().flatten().find(|it| it.type_ == "DisruptionTarget" && it.status == "True");
    let disrupted = disruption.and_then(|it| it.message.clone()).or_else(|| status.message.clone()).unwrap_or_default();
    if let Some(ended) = trainer.and_then(|it| it.state.as_ref()?.terminated.as_ref()) {
        let said = ended.message.clone().unwrap_or_default();
        let report: Option<RunReport> = serde_json::from_str(said.trim()).ok().map(bounded);
        // Who is killed has not said why.
        let is_told = report.is_some() || ended.exit_code == SIGKILL;
        let tail = if is_told { String::new() } else { last_line(&said) };
        // What is no report is the end of its log.
        let log = report.as_ref().map_or(said, |report| report.log.join("\n"));
        return Some(PodEnd {
            at: ended.finished_at.as_ref().map_or(created_at, |time| time.0),
            code: Some(ended.exit_code),
            out_of_memory: ended.reason.as_deref() == Some("OOMKilled"),
            report,
            disrupted: disruption.is_some(),
            note: if disrupted.is_empty() { tail } else { disrupted },
            log,
            held: held(pod, ended),
        });
    }
    // It never ran, or nobody knows how it ended.
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let (log, held) = (String::new(), Held::default());
    over.then_some(PodEnd {
        at: created_at,
        code: None,
        out_of_memory: false,
        report: None,
        disrupted: disruption.is_some(),
        note: disrupted,
        log,
        held,
    })
}

/// From when it was given a machine to when its trainer began, and from there to its end.
fn held(pod: &Pod, ended: &ContainerStateTerminated) -> Held {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut scheduled = conditions.filter(|it| it.type_ == "PodScheduled" && it.status == "True");
    let scheduled = scheduled.next().and_then(|it| it.last_transition_time.as_ref());
    let between = |from: Option<&Time>, to: Option<&Time>| {
        let both = from.zip(to).map(|(from, to)| to.0.duration_since(from.0));
        both.unwrap_or_default().max(SignedDuration::ZERO)
    };
    let (began, over) = (ended.started_at.as_ref(), ended.finished_at.as_ref());
    Held { idle: between(scheduled, began), ran: between(began, over) }
}

/// More steps nobody takes, and a status can hold no more.
const MOST_STEPS: u64 = 1 << 48;

/// A report with numbers that a status can hold: a trainer is not trusted, and what it says must not keep a run's status from
/// being written.
fn bounded(report: RunReport) -> RunReport {
    let bounded = |steps: u64| steps.min(MOST_STEPS);
    RunReport {
        total_steps: bounded(report.total_steps),
        saved_steps: bounded(report.saved_steps),
        resumed_from: bounded(report.resumed_from),
        skipped_steps: bounded(report.skipped_steps),
        ..report
    }
}

/// What a pod waits for, as the scheduler or the kubelet says it.
fn waits(pod: &Pod, trainer: Option<&ContainerStatus>) -> String {
    if let Some(ContainerState { waiting: Some(waiting), .. }) = trainer.and_then(|it| it.state.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        return match (reason, message) {
            ("" | "ContainerCreating" | "PodInitializing", "") => "waits for its container".to_owned(),
            (reason, "") => format!("waits for its container ({reason})"),
            (reason, message) => format!("waits for its container ({reason}: {message})"),
        };
    }
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions.filter(|it| it.type_ == "PodScheduled" && it.status == "False");
    let message = unscheduled.filter_map(|it| it.message.clone()).next();
    message.map_or_else(|| "waits for a node".to_owned(), |message| format!("waits for a node: {message}"))
}

/// So many bytes of a log become a termination message, where there is no other, cut wherever it may be.
/// Source: <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>.
const CUT: usize = 2048;

/// The last sentence of a log. How far it was says nothing of why it ended.
fn last_line(text: &str) -> String {
    let whole = text.lines().skip(usize::from(text.len() >= CUT));
    let is_sentence = |line: &&str| !line.trim().is_empty() && !log::is_progress(line);
    let line = whole.filter(is_sentence).last().unwrap_or_default();
    line.trim().chars().take(512).collect()
}

/// Why the Job controller could not make a pod: only an event of the Job tells.
#[derive(Clone, Debug, PartialEq)]
pub struct HindranceFacts {
    /// The identity of the Job.
    pub job_uid: String,
    /// The run whose attempt the Job is.
    pub run: String,
    /// When it was tried last.
    pub at: Timestamp,
    /// In the API server's words.
    pub message: String,
}

impl Facts for HindranceFacts {
    type Object = Event;

    fn of(event: &Event) -> Self {
        let job = event.involved_object.name.as_deref().unwrap_or_default();
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let last = last.or_else(|| event.event_time.as_ref().map(|time| time.0));
        Self {
            job_uid: event.involved_object.uid.clone().unwrap_or_default(),
            run: job.rsplit_once('-').map(|(run, _)| run.to_owned()).unwrap_or_default(),
            at: last.unwrap_or_else(|| moment(event.metadata.creation_timestamp.as_ref())),
            message: without_pod(event.message.as_deref().unwrap_or_default()),
        }
    }

    fn run(&self) -> Option<&str> {
        Some(&self.run)
    }
}

/// Without the pod's name, which is another one at every try: `Error creating: pods "…" is forbidden: …`.
fn without_pod(message: &str) -> String {
    let message = message.strip_prefix("Error creating: ").unwrap_or(message);
    let rest = message.strip_prefix("pods \"").and_then(|rest| rest.split_once("\" is ").map(|(_, rest)| rest));
    rest.map_or_else(|| message.to_owned(), |rest| format!("it is {rest}"))
}

/// A claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimFacts {
    /// Which pods can use it at the same time.
    pub access: Access,
}

impl Facts for ClaimFacts {
    type Object = PersistentVolumeClaim;

    fn of(claim: &PersistentVolumeClaim) -> Self {
        // A volume may be able to do more than was asked for, and is known only when the claim has got one.
        let volume = claim.status.as_ref().and_then(|status| status.access_modes.clone());
        let asked = || claim.spec.as_ref().and_then(|spec| spec.access_modes.clone());
        let modes = volume.filter(|modes| !modes.is_empty()).or_else(asked).unwrap_or_default();
        Self { access: Access::of(&modes) }
    }
}

fn uid(metadata: &ObjectMeta) -> String {
    metadata.uid.clone().unwrap_or_default()
}

fn version(metadata: &ObjectMeta) -> String {
    metadata.resource_version.clone().unwrap_or_default()
}

fn label(metadata: &ObjectMeta, name: &str) -> String {
    metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned().unwrap_or_default()
}

fn moment(time: Option<&Time>) -> Timestamp {
    time.map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
