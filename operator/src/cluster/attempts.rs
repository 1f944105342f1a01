//! Where the attempts of a run stand, from its Jobs and their pods. Pure.
//!
//! An attempt has one pod, or one on each host of a slice. Of several it is under way when all are. How it ended, the first
//! host says if it ended well: what it trained is in the store. Otherwise it is the pod that failed first, or was taken away:
//! the others fail because of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bam_crds::BamRunStatus;
use bam_crds::report::Stage;
use bam_crds::run::RunProgress;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::facts::{HindranceFacts, JobFacts, PodEnd, PodFacts};
use super::placement::Claim;
use super::queue::WorkloadFacts;
use crate::plan::retry::{Disruption, Ending, Held};
use crate::plan::run::{Attempt, AttemptState};

type Named<F> = [(String, Arc<F>)];
/// The newest pod of each host, by the host's number.
type Hosts<'a> = BTreeMap<u32, &'a PodFacts>;

/// What belongs to a run.
pub struct Parts<'a> {
    /// Its Jobs.
    pub jobs: &'a Named<JobFacts>,
    /// Their pods.
    pub pods: &'a Named<PodFacts>,
    /// What keeps pods from being made.
    pub hindrances: &'a Named<HindranceFacts>,
    /// What Kueue says of the Jobs.
    pub workloads: &'a Named<WorkloadFacts>,
    /// The claim that its pods use.
    pub claim: Option<&'a Claim>,
}

/// The attempts of a run, from its Jobs and their pods.
pub fn attempts(
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
        let pods = hosts(parts.pods, |pod| pod.job_uid == job.uid);
        let is_held_back = job.end.is_none() && job.suspended && pods.values().all(|pod| pod.end.is_some());
        let state = match is_held_back {
            true => AttemptState::Queued(waits_for_turn(job, parts.workloads)),
            false => state(Some(job), &pods, parts, progress.clone(), now),
        };
        let removable = !job.deleting;
        // Its time in a queue is not time that it has to come to work in.
        let started_at = job.started_at.filter(|_| job.queue.is_some()).unwrap_or(job.created_at);
        attempts.insert(*number, Attempt { started_at, state, removable });
    }
    // The status speaks of an attempt only when its Job was seen, and somebody has asked for it: it was removed.
    for number in status.settled() + 1..=status.attempts {
        if jobs.contains_key(&number) {
            continue;
        }
        let pods = hosts(parts.pods, |pod| pod.number == number);
        let started_at = pods.values().map(|pod| pod.created_at).max().unwrap_or(now);
        let state = match pods.is_empty() {
            false => state(None, &pods, parts, progress.clone(), now),
            true => ended(Ending { note: "somebody removed its Job".to_owned(), ..Ending::unseen(now) }),
        };
        attempts.insert(number, Attempt { started_at, state, removable: false });
    }
    attempts
}

/// The newest pod of each host, of those that are meant.
pub fn hosts(pods: &Named<PodFacts>, is_its: impl Fn(&PodFacts) -> bool) -> Hosts<'_> {
    let mut hosts = Hosts::new();
    for pod in pods.iter().map(|(_, pod)| pod.as_ref()).filter(|pod| is_its(pod)) {
        let newest = hosts.entry(pod.index).or_insert(pod);
        if newest.created_at <= pod.created_at {
            *newest = pod;
        }
    }
    hosts
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

/// Where an attempt stands. The Job says whether it is over, the pods how it ended; one may be seen later than the other.
fn state(
    job: Option<&Arc<JobFacts>>,
    pods: &Hosts<'_>,
    parts: &Parts<'_>,
    progress: Option<RunProgress>,
    now: Timestamp,
) -> AttemptState {
    let is_lost = |pod: &PodFacts| pod.lost_at().is_some_and(|at| at <= now);
    let lost = pods.values().any(|pod| is_lost(pod));
    let over = job.is_none_or(|job| job.end.is_some());
    let alive = pods.values().any(|pod| pod.end.is_none());
    if lost || (over && !alive) {
        return ended(ending(job, pods, now));
    }
    if let Some(waits) = waits(job, pods, parts, over) {
        return AttemptState::Starting(waits);
    }
    let mut silent = pods.values().filter(|pod| pod.end.is_none()).filter_map(|pod| pod.silent.clone());
    match silent.next() {
        Some(node) => AttemptState::Silent(node),
        None => AttemptState::Running(progress.filter(|it| it.stage != Stage::Preparing || it.total > 0)),
    }
}

/// What the hosts wait for that are not at work yet, if there are any: to continue "attempt 1, which …".
fn waits(job: Option<&Arc<JobFacts>>, pods: &Hosts<'_>, parts: &Parts<'_>, over: bool) -> Option<String> {
    let count = job.map_or(1, |job| job.hosts);
    let of_pod = |pod: &PodFacts| {
        let waits = pod.waits.clone().filter(|_| pod.end.is_none())?;
        // The scheduler does not say whose wish it is that pods share a node, or follow each other.
        let why = parts.claim.filter(|_| !pod.has_node).and_then(Claim::why_wait);
        Some(why.map_or_else(|| waits.clone(), |why| format!("{waits} ({why})")))
    };
    let waiting = pods.iter().filter_map(|(index, pod)| Some((*index, (pod.has_node, of_pod(pod)?))));
    let mut missing: BTreeMap<u32, (bool, String)> = waiting.collect();
    // Of a Job that is over no further pod comes.
    if let Some(job) = job.filter(|_| !over) {
        let unmade = (0..count).filter(|index| !pods.contains_key(index));
        missing.extend(unmade.map(|index| (index, (false, waits_for_pod(&job.uid, parts.hindrances)))));
    }
    // Whoever has no machine yet holds up the others longest.
    let (index, (_, waits)) = missing.iter().min_by_key(|(index, (has_node, _))| (*has_node, **index))?;
    if count == 1 {
        return Some(waits.clone());
    }
    let numbers: Vec<_> = missing.keys().copied().collect();
    Some(format!("waits for {} of {count} hosts ({}): host {index} {waits}", numbers.len(), ranges(&numbers)))
}

/// `0,2-5`: as a Job writes the indexes that are complete.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let words = runs.map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    words.collect::<Vec<_>>().join(",")
}

/// A Job without a pod: it has none yet, or may have none.
fn waits_for_pod(job: &str, hindrances: &Named<HindranceFacts>) -> String {
    let its = hindrances.iter().map(|(_, hindrance)| hindrance).filter(|hindrance| hindrance.job_uid == job);
    let last = its.max_by_key(|hindrance| hindrance.at);
    last.map_or_else(|| "waits for its pod".to_owned(), |last| format!("waits for its pod: {}", last.message))
}

/// How an attempt ended.
fn ending(job: Option<&Arc<JobFacts>>, pods: &Hosts<'_>, now: Timestamp) -> Ending {
    let first = pods.get(&0).and_then(|pod| pod.end.as_ref());
    let held = held(pods);
    if let Some(end) = first.filter(|end| end.code == Some(0)) {
        return Ending { held, ..of_pod(end) };
    }
    if let Some(mut cause) = cause(job, pods, now) {
        // Where a checkpoint stands, the first host knows.
        let saved = first.and_then(|end| end.report.as_ref()).map_or(0, |report| report.saved_steps);
        cause.steps = cause.steps.max(saved);
        return Ending { held, ..cause };
    }
    let end = job.and_then(|job| job.end.as_ref());
    let unseen = Ending::unseen(end.map_or(Timestamp::UNIX_EPOCH, |end| end.at));
    let succeeded = end.is_some_and(|end| end.succeeded);
    let note = end.map(|end| end.message.clone()).unwrap_or_default();
    Ending { code: succeeded.then_some(0), note, held, ..unseen }
}

/// The end of the pod that failed first, if one did.
fn cause(job: Option<&Arc<JobFacts>>, pods: &Hosts<'_>, now: Timestamp) -> Option<Ending> {
    let resumed_at = job.filter(|job| job.queue.is_some()).and_then(|job| job.started_at);
    let failed = pods.iter().filter_map(|(index, pod)| {
        let Some(end) = &pod.end else {
            let at = pod.lost_at().filter(|at| *at <= now)?;
            let note = "its machine was lost: it was told to stop, and nothing was heard of it since".to_owned();
            return Some(((false, false, false, at, false, *index), Ending { note, ..Ending::unseen(at) }));
        };
        // It lost its turn in a queue, and was not the last pod of its host.
        let is_earlier = resumed_at.is_some_and(|resumed_at| end.at < resumed_at);
        // Whoever was told to end, and by nothing that happened to its machine, was told so because another one had failed.
        let was_told = pod.leaves_by.is_some() && !end.disrupted;
        let never_ran = was_told && end.code.is_none();
        // A pod that was taken away is why others fail, also if they noticed before it had ended.
        let order = (is_earlier, !end.disrupted, never_ran, end.at, was_told, *index);
        (end.code != Some(0)).then(|| (order, of_pod(end)))
    });
    failed.min_by_key(|(order, _)| *order).map(|(_, ending)| ending)
}

fn of_pod(end: &PodEnd) -> Ending {
    Ending {
        at: end.at,
        code: end.code,
        disruption: end.out_of_memory.then_some(Disruption::OutOfMemory),
        steps: end.report.as_ref().map(|report| report.saved_steps).unwrap_or_default(),
        report: end.report.clone(),
        note: end.note.clone(),
        log: end.log.clone(),
        held: end.held,
    }
}

/// How long a machine was held, in the mean of the hosts of which that is known.
fn held(pods: &Hosts<'_>) -> Held {
    let all: Vec<Held> = pods.values().filter_map(|pod| Some(pod.end.as_ref()?.held)).collect();
    let hosts = i32::try_from(all.len()).unwrap_or(i32::MAX).max(1);
    let mean = |each: fn(&Held) -> SignedDuration| {
        let sum = all.iter().map(each).fold(SignedDuration::ZERO, SignedDuration::saturating_add);
        sum / hosts
    };
    Held { idle: mean(|held| held.idle), ran: mean(|held| held.ran) }
}

fn ended(ending: Ending) -> AttemptState {
    AttemptState::Ended(Box::new(ending))
}
