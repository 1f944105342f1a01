//! From facts about objects to what the planner is told. Pure: looks at nothing but what it is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use bam_crds::report::Stage;
use bam_crds::run::{Role, RunProgress};
use bam_crds::{BamExperiment, BamExperimentSpec, BamExperimentStatus, BamRunSpec, BamRunStatus, Digest, names};
use k8s_openapi::jiff::Timestamp;

use super::cache::Cache;
use super::facts::{ClaimFacts, ExperimentFacts, HindranceFacts, JobFacts, PodFacts, RunFacts};
use super::job;
use super::placement::Claim;
use super::profiles::Profiles;
use super::queue::WorkloadFacts;
use crate::plan::Why;
use crate::plan::experiment::{self, Run};
use crate::plan::graph;
use crate::plan::retry::{Disruption, Ending};
use crate::plan::run::{self, Attempt, AttemptState, Stored, Teacher};
use crate::plan::teachers::{self, Registry};
use crate::platform::{Kind, Subject};

/// The most bytes of an experiment's status, as far as there is something to leave out. All of it is stored at every change.
pub const LONGEST_STATUS: usize = 16 * 1024 - 1;
/// More owners a run does not get: what is shared by so many stays anyway.
const MOST_OWNERS: usize = 200;

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of experiments.
    pub experiments: Cache<ExperimentFacts>,
    /// Of runs.
    pub runs: Cache<RunFacts>,
    /// Of the runs' Jobs.
    pub jobs: Cache<JobFacts>,
    /// Of the runs' pods.
    pub pods: Cache<PodFacts>,
    /// Of what kept their pods from being made.
    pub hindrances: Cache<HindranceFacts>,
    /// Of volume claims.
    pub claims: Cache<ClaimFacts>,
    /// Of what Kueue says of the runs' Jobs.
    pub workloads: Cache<WorkloadFacts>,
    /// Of profiles.
    pub profiles: Profiles,
}

impl Seen {
    /// Forgets the last words of a run's pods, if the run is gone: nobody will ask for them.
    pub fn forget(&self, namespace: &str, run: &str) {
        if self.runs.get(namespace, run).is_none() {
            self.pods.forget_gone(namespace, run, |_| true);
        }
    }

    /// Can this one wait while others are due? Not if something of it has ended, so that something else may begin; but what
    /// has nothing under way yet, what is over, and what is only to be told.
    pub fn can_wait(&self, Subject { kind, namespace, name }: &Subject) -> bool {
        match kind {
            Kind::Experiment => self.experiments.get(namespace, name).is_some_and(|facts| {
                let has_ended = |run: &String| self.runs.get(namespace, run).is_some_and(|run| run.phase.is_final());
                facts.is_living() && !facts.open_runs.iter().any(has_ended)
            }),
            Kind::Run => self.runs.get(namespace, name).is_some_and(|facts| {
                let jobs = self.jobs.of_run(namespace, name);
                let mut open = jobs.iter().filter(|(_, job)| job.number > facts.settled).peekable();
                // Whom a student learns from is done: nothing else is left to be done for its experiment.
                let is_new = facts.role != Role::Student && facts.attempts == 0 && open.peek().is_none();
                let is_at_work = open.peek().is_some() && open.all(|(_, job)| job.end.is_none());
                facts.is_living() && (facts.phase.is_final() || is_new || is_at_work)
            }),
        }
    }

    /// An experiment, if there is one.
    pub fn experiment(&self, namespace: &str, name: &str) -> Option<(BamExperiment, experiment::Observed)> {
        let facts = self.experiments.get(namespace, name)?;
        let experiment = facts.living().filter(|experiment| experiment.spec.is_ours())?;
        let mut seen = experiment::Observed {
            status: experiment.status.clone().unwrap_or_default(),
            // The check is the experiment's own: what it finds may be out of date for the next one.
            inputs_key: facts.uid.clone(),
            timed: true,
            limit: experiment.spec.max_parallel_runs,
            longest_status: Some(LONGEST_STATUS),
            ..experiment::Observed::default()
        };
        let profile = experiment.spec.compute.profile.as_ref();
        seen.profile = profile.map(|profile| self.profiles.find(namespace, profile));
        let here = Namespace { seen: self, namespace };
        seen.teachers = teachers::find(name, &experiment.spec, &seen.status, &here);
        // The other runs have names only after this one has said what the inputs are.
        here.add(&mut seen, &graph::inputs(&experiment.spec, &facts.uid).name, &facts.uid);
        let graph = seen.graph(&experiment);
        for node in &graph.trainings {
            here.add(&mut seen, &node.name, &facts.uid);
        }
        // Who teaches, and so the students' names, is known only when the teachers are.
        if !graph.gates.is_empty() {
            for node in seen.graph(&experiment).trainings {
                here.add(&mut seen, &node.name, &facts.uid);
            }
        }
        here.add_teachers_of_named(&mut seen, &facts.uid);
        Some((experiment, seen))
    }

    /// A run, if there is one.
    pub fn run(
        &self,
        namespace: &str,
        name: &str,
        progress: Option<RunProgress>,
        now: Timestamp,
    ) -> Option<(BamRunSpec, run::Observed)> {
        let facts = self.runs.get(namespace, name)?;
        let (spec, status) = facts.living()?;
        let jobs = self.jobs.of_run(namespace, name);
        let pods = self.pods.of_run(namespace, name);
        let claim = self.claim(namespace, &spec);
        let parts = Parts {
            jobs: &jobs,
            pods: &pods,
            hindrances: &self.hindrances.of_run(namespace, name),
            workloads: &self.workloads.of_run(namespace, name),
            claim: claim.as_ref(),
        };
        let seen = run::Observed {
            attempts: attempts(&facts.uid, &status, &parts, progress, now),
            status,
            stored: Stored::Unseen,
            teachers: self.teachers(namespace, &spec),
            reopened: facts.reopened.clone(),
            generation: facts.generation,
            suspended: self.is_suspended(namespace, &facts.owners),
            obstacle: self.obstacle(namespace, &spec),
            refused: None,
            look_again: pods.iter().filter_map(|(_, pod)| pod.lost_at()).filter(|at| *at > now).min(),
        };
        Some((spec, seen))
    }

    /// The Jobs that a run's status speaks of, and that were not seen: of attempts that did not end, as far as it says.
    pub fn missing_jobs(&self, namespace: &str, name: &str) -> Vec<String> {
        let Some(facts) = self.runs.get(namespace, name) else { return Vec::new() };
        if !facts.is_living() {
            return Vec::new();
        }
        let jobs = self.jobs.of_run(namespace, name);
        let seen = |number: u32| jobs.iter().any(|(_, job)| job.run_uid == facts.uid && job.number == number);
        let unsettled = facts.settled + 1..=facts.attempts;
        unsettled.filter(|number| !seen(*number)).map(|number| names::attempt(name, number)).collect()
    }

    /// The identities of the Jobs that are over, of attempts that did not end as far as the run's status says, and no pod of
    /// which was seen to end.
    pub fn ends_without_a_word(&self, namespace: &str, name: &str) -> Vec<String> {
        let Some(facts) = self.runs.get(namespace, name) else { return Vec::new() };
        if !facts.is_living() {
            return Vec::new();
        }
        let (jobs, pods) = (self.jobs.of_run(namespace, name), self.pods.of_run(namespace, name));
        let is_over = |job: &JobFacts| job.run_uid == facts.uid && job.number > facts.settled && job.end.is_some();
        let over = jobs.iter().map(|(_, job)| job).filter(|job| is_over(job));
        let told = |job: &JobFacts| newest(&pods, |pod| pod.job_uid == job.uid).is_some_and(|pod| pod.end.is_some());
        over.filter(|job| !told(job)).map(|job| job.uid.clone()).collect()
    }

    fn teachers(&self, namespace: &str, spec: &BamRunSpec) -> BTreeMap<Digest, Teacher> {
        let teachers = teachers::of(spec).into_iter().filter_map(|(hash, run)| {
            let facts = self.runs.get(namespace, &run)?;
            if !facts.is_living() {
                return None;
            }
            let teacher = Teacher { phase: facts.phase, attempts: facts.attempts, reopened: facts.reopened.clone() };
            Some((hash.clone(), teacher))
        });
        teachers.collect()
    }

    /// Are all of these known, and suspended or out of time? A run without an owner was left to itself by a person, and goes on.
    fn is_suspended(&self, namespace: &str, owners: &[(String, String)]) -> bool {
        let suspended = |name: &str, uid: &str| {
            let facts = self.experiments.get(namespace, name).filter(|facts| facts.uid == uid);
            facts.is_some_and(|facts| facts.is_halted())
        };
        !owners.is_empty() && owners.iter().all(|(name, uid)| suspended(name, uid))
    }

    fn obstacle(&self, namespace: &str, spec: &BamRunSpec) -> Option<Why> {
        let claim = job::claim(spec)?;
        self.claims.get(namespace, &claim).is_none().then_some(Why::ClaimMissing { claim })
    }

    /// The claim that holds a run's store, if it is in one and that is there.
    pub fn claim(&self, namespace: &str, spec: &BamRunSpec) -> Option<Claim> {
        let name = job::claim(spec)?;
        let access = self.claims.get(namespace, &name)?.access;
        Some(Claim { name, access })
    }
}

/// What names stand for in a namespace.
struct Namespace<'a> {
    seen: &'a Seen,
    namespace: &'a str,
}

impl Namespace<'_> {
    /// The run of this name, if there is one.
    fn add(&self, seen: &mut experiment::Observed, name: &str, uid: &str) {
        let Some(facts) = self.seen.runs.get(self.namespace, name) else { return };
        let Some((spec, status)) = facts.living() else {
            let why = match &facts.kept {
                Err(message) => Why::Undecodable { message: message.clone() },
                Ok(_) => Why::Leaving,
            };
            seen.unusable.insert(name.to_owned(), why);
            return;
        };
        let owns = facts.owners.iter().any(|(_, owner)| owner == uid);
        let run = Run {
            made_by: facts.made_by.clone(),
            owned: owns || facts.owners.len() >= MOST_OWNERS,
            spec,
            status,
            reopened: facts.reopened.clone(),
        };
        seen.runs.insert(name.to_owned(), run);
    }

    /// The runs that the named teachers learned from, and those that these learned from, and so on.
    fn add_teachers_of_named(&self, seen: &mut experiment::Observed, uid: &str) {
        let named = seen.teachers.values().filter_map(|teacher| teacher.as_ref().ok());
        let names = |spec: &BamRunSpec| teachers::of(spec).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let mut open: Vec<_> = named.flat_map(|teacher| names(&teacher.spec)).collect();
        while let Some(name) = open.pop() {
            if seen.runs.contains_key(&name) {
                continue;
            }
            self.add(seen, &name, uid);
            open.extend(seen.runs.get(&name).into_iter().flat_map(|run| names(&run.spec)));
        }
    }
}

impl Registry for Namespace<'_> {
    fn experiment(&self, name: &str) -> Option<(BamExperimentSpec, BamExperimentStatus)> {
        let facts = self.seen.experiments.get(self.namespace, name)?;
        let experiment = facts.living()?;
        Some((experiment.spec, experiment.status.unwrap_or_default()))
    }

    fn run(&self, name: &str) -> Option<BamRunSpec> {
        Some(self.seen.runs.get(self.namespace, name)?.living()?.0)
    }
}

type Named<F> = [(String, Arc<F>)];

/// What belongs to a run.
struct Parts<'a> {
    jobs: &'a Named<JobFacts>,
    pods: &'a Named<PodFacts>,
    hindrances: &'a Named<HindranceFacts>,
    workloads: &'a Named<WorkloadFacts>,
    claim: Option<&'a Claim>,
}

/// The attempts of a run, from its Jobs and their pods.
fn attempts(
    uid: &str,
    status: &BamRunStatus,
    parts: &Parts<'_>,
    progress: Option<RunProgress>,
    now: Timestamp,
) -> BTreeMap<u32, Attempt> {
    let mut attempts = BTreeMap::new();
    // A Job of a run of the same name that is gone is none of this one's; nor is one with a number that cannot have been
    // given yet, whoever made it: the next attempt, and the one after it, may have begun since the status was written.
    let given = 1..=status.attempts.saturating_add(2);
    let its = parts.jobs.iter().filter(|(_, it)| it.run_uid == uid && given.contains(&it.number));
    let jobs: BTreeMap<u32, _> = its.map(|(_, it)| (it.number, it)).collect();
    for (number, job) in &jobs {
        let pod = newest(parts.pods, |pod| pod.job_uid == job.uid);
        let state = match (pod, &job.end) {
            (pod, None) if job.suspended && pod.is_none_or(|pod| pod.end.is_some()) => {
                AttemptState::Queued(waits_for_turn(job, parts.workloads))
            }
            (None, None) => AttemptState::Starting(waits_for_pod(&job.uid, parts.hindrances)),
            _ => explained(state(Some(job), pod, progress.clone(), now), pod, parts.claim),
        };
        let removable = !job.deleting;
        // Its time in a queue is not time that it has to come to work in.
        let started_at = job.started_at.filter(|_| job.queue.is_some()).unwrap_or(job.created_at);
        attempts.insert(*number, Attempt { started_at, state, removable });
    }
    // The status speaks of an attempt only when its Job was seen, and somebody has asked for it: it was removed.
    for number in settled(status) + 1..=status.attempts {
        if jobs.contains_key(&number) {
            continue;
        }
        let pod = newest(parts.pods, |pod| pod.number == number);
        let started_at = pod.map_or(now, |pod| pod.created_at);
        let state = match pod {
            Some(pod) => explained(state(None, Some(pod), progress.clone(), now), Some(pod), parts.claim),
            None => ended(Ending { note: "somebody removed its Job".to_owned(), ..Ending::unseen(now) }),
        };
        attempts.insert(number, Attempt { started_at, state, removable: false });
    }
    attempts
}

/// The last attempt of whose end the status tells.
fn settled(status: &BamRunStatus) -> u32 {
    status.history.last().map_or(0, |last| last.number)
}

/// A Job without a pod: it has none yet, or may have none.
fn waits_for_pod(job: &str, hindrances: &Named<HindranceFacts>) -> String {
    let its = hindrances.iter().map(|(_, hindrance)| hindrance).filter(|hindrance| hindrance.job_uid == job);
    let last = its.max_by_key(|hindrance| hindrance.at);
    last.map_or_else(|| "waits for its pod".to_owned(), |last| format!("waits for its pod: {}", last.message))
}

/// A Job that is held back: until there is quota for it, or by a person.
fn waits_for_turn(job: &JobFacts, workloads: &Named<WorkloadFacts>) -> String {
    let Some(queue) = &job.queue else {
        return "is suspended by somebody: set spec.suspend of its Job to false".to_owned();
    };
    let its = workloads.iter().map(|(_, workload)| workload).find(|workload| workload.job_uid == job.uid);
    match its.map(|workload| workload.waits.as_deref()) {
        Some(Some(why)) if !why.is_empty() => format!("waits in the queue {queue}: {why}"),
        Some(None) => format!("waits in the queue {queue}: it is its turn"),
        _ => format!("waits in the queue {queue}"),
    }
}

/// The scheduler does not say whose wish it is that pods share a node, or follow each other.
fn explained(state: AttemptState, pod: Option<&PodFacts>, claim: Option<&Claim>) -> AttemptState {
    let why = claim.filter(|_| pod.is_some_and(|pod| !pod.has_node)).and_then(Claim::why_wait);
    match (state, why) {
        (AttemptState::Starting(waits), Some(why)) => AttemptState::Starting(format!("{waits} ({why})")),
        (state, _) => state,
    }
}

fn newest(pods: &Named<PodFacts>, is_its: impl Fn(&PodFacts) -> bool) -> Option<&PodFacts> {
    pods.iter().map(|(_, pod)| pod.as_ref()).filter(|pod| is_its(pod)).max_by_key(|pod| pod.created_at)
}

/// Where an attempt stands. The Job says whether it is over, the pod how it ended; one may be seen later than the other.
fn state(
    job: Option<&JobFacts>,
    pod: Option<&PodFacts>,
    progress: Option<RunProgress>,
    now: Timestamp,
) -> AttemptState {
    let over = job.is_none_or(|job| job.end.is_some());
    if let Some(at) = pod.and_then(PodFacts::lost_at).filter(|at| *at <= now) {
        let note = "its machine was lost: it was told to stop, and nothing was heard of it since".to_owned();
        return ended(Ending { note, ..Ending::unseen(at) });
    }
    match (over, pod) {
        (true, Some(PodFacts { end: Some(end), .. })) => ended(Ending {
            at: end.at,
            code: end.code,
            disruption: end.out_of_memory.then_some(Disruption::OutOfMemory),
            steps: end.report.as_ref().map(|report| report.saved_steps).unwrap_or_default(),
            report: end.report.clone(),
            note: end.note.clone(),
            log: end.log.clone(),
            held: end.held,
        }),
        (_, Some(PodFacts { waits: Some(waits), end: None, .. })) => AttemptState::Starting(waits.clone()),
        (_, Some(PodFacts { silent: Some(node), end: None, .. })) => AttemptState::Silent(node.clone()),
        (_, Some(_)) => AttemptState::Running(progress.filter(|it| it.stage != Stage::Preparing || it.total > 0)),
        (_, None) => {
            let end = job.and_then(|job| job.end.as_ref());
            let unseen = Ending::unseen(end.map_or(Timestamp::UNIX_EPOCH, |end| end.at));
            let succeeded = end.is_some_and(|end| end.succeeded);
            let note = end.map(|end| end.message.clone()).unwrap_or_default();
            ended(Ending { code: succeeded.then_some(0), note, ..unseen })
        }
    }
}

fn ended(ending: Ending) -> AttemptState {
    AttemptState::Ended(Box::new(ending))
}
