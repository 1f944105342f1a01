//! What must hold in every history. Nothing here looks into an operator: only at what it wrote, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bam_crds::{Digest, names};
use serde_json::Value;

use crate::acts::NAMES;
use crate::api_server::owners;
use crate::history::{Entry, What, Who, text};
use crate::life::Life;
use crate::schedule::{Act, Fate, Millis};
use crate::world::World;

/// A property that does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    pub property: &'static str,
    pub message: String,
}

type Property = (&'static str, fn(&Life) -> Result<(), String>);

pub const PROPERTIES: [Property; 13] = [
    ("an attempt's writes never touch another's", attempts_keep_apart),
    ("a student never starts before its targets are verified", students_wait),
    ("no hash is trained twice while a whole manifest of it exists", nothing_twice),
    ("suspended means nothing runs", suspended_is_quiet),
    ("a run is made with what its profile says, and not without it", profiles_are_kept),
    ("what failed for good or was stopped stays so", over_is_over),
    ("no status forgets an attempt", nothing_is_forgotten),
    ("budgets are never exceeded", budgets_hold),
    ("nothing fails without a cause", failures_have_causes),
    ("no conflict is of the operator's own doing", no_own_conflicts),
    ("no operator begins to write when another one leads", one_writes),
    ("it converges", converges),
    ("at rest no API call is made", rest_is_quiet),
];

/// The first property that does not hold.
pub fn violation(life: &Life) -> Option<Violation> {
    PROPERTIES.iter().find_map(|(property, holds)| {
        let message = holds(life).err()?;
        Some(Violation { property, message })
    })
}

/// How long an operator may need until it has heard of something and acted on it: the longest lag, twice, and pauses after
/// failures; or, where nothing is in its way, one more look.
const ACTS_WITHIN: Millis = 90_000;
const ACTS_AT_ONCE: Millis = 5_000;

/// The objects as they stood at one moment of a history.
#[derive(Default)]
struct Objects(BTreeMap<(&'static str, String), Arc<Value>>);

impl Objects {
    fn see(&mut self, entry: &Entry) {
        if let What::Wrote { kind, name, after, .. } = &entry.what {
            match after {
                Some(object) => drop(self.0.insert((kind, name.clone()), object.clone())),
                None => drop(self.0.remove(&(*kind, name.clone()))),
            }
        }
    }

    fn of(&self, kind: &'static str) -> impl Iterator<Item = (&String, &Arc<Value>)> {
        let from = self.0.range((kind, String::new())..);
        from.take_while(move |((of, _), _)| *of == kind).map(|((_, name), object)| (name, object))
    }

    fn run(&self, name: &str) -> Option<&Arc<Value>> {
        self.0.get(&("bamruns", name.to_owned()))
    }

    /// Are all owners of this run suspended, cancelled, or out of time?
    fn is_suspended(&self, run: &Value) -> bool {
        let mut its = owners(run).peekable();
        its.peek().is_some()
            && its.all(|uid| {
                let mut those = self.of("bamexperiments").filter(|(_, it)| text(it, "/metadata/uid") == uid);
                those.any(|(_, it)| is_halted(it))
            })
    }
}

/// Is this experiment suspended or cancelled, or has it failed because its time was over?
fn is_halted(experiment: &Value) -> bool {
    let conditions = experiment.pointer("/status/conditions").and_then(Value::as_array);
    let out_of_time = |it: &Value| text(it, "/status") == "True" && text(it, "/reason") == "DeadlineExceeded";
    let cancelled = experiment.pointer("/spec/cancel") == Some(&Value::Bool(true));
    is_suspended(experiment) || cancelled || conditions.into_iter().flatten().any(out_of_time)
}

fn is_suspended(experiment: &Value) -> bool {
    experiment.pointer("/spec/suspend") == Some(&Value::Bool(true))
}

/// The Job that an operator made with this entry, and its run.
fn new_job(entry: &Entry) -> Option<(&Arc<Value>, &str)> {
    match &entry.what {
        What::Wrote { kind: "jobs", before: None, after: Some(job), .. } => {
            Some((job, text(job, "/metadata/labels/bam.dev~1run")))
        }
        _ => None,
    }
}

fn number(job: &Value) -> u64 {
    text(job, "/metadata/labels/bam.dev~1attempt").parse().unwrap_or_default()
}

fn has_ended(job: &Value) -> bool {
    job.pointer("/status/conditions/0").is_some()
}

/// Who asked for another try, and up to which attempt nothing counts any more.
fn requests(run: &Value) -> impl Iterator<Item = (&str, u64)> {
    let annotations = run.pointer("/metadata/annotations").and_then(Value::as_object);
    let requests = annotations.into_iter().flatten();
    requests.filter_map(|(name, after)| Some((name.strip_prefix(names::REOPEN_PREFIX)?, after.as_str()?.parse().ok()?)))
}

fn reopened_after(run: &Value) -> Option<u64> {
    requests(run).map(|(_, after)| after).max()
}

/// Is it over in this phase, and nobody has asked for another try since?
fn is_over(run: &Value, phase: &str) -> bool {
    let attempts = run["status"]["attempts"].as_u64().unwrap_or_default();
    text(run, "/status/phase") == phase && reopened_after(run).is_none_or(|after| after < attempts)
}

fn attempts_keep_apart(life: &Life) -> Result<(), String> {
    for entry in &life.history.0 {
        if let What::Trespassed { folder, pod } = &entry.what {
            return Err(format!("{pod} wrote to the folder `{folder}`, which is another pod's"));
        }
    }
    Ok(())
}

fn students_wait(life: &Life) -> Result<(), String> {
    let (mut objects, mut whole) = (Objects::default(), BTreeMap::<Digest, usize>::new());
    // By run: the teachers that its last attempt did not find, and since when.
    let mut complaints = BTreeMap::<String, (Vec<Digest>, usize)>::new();
    for (index, entry) in life.history.0.iter().enumerate() {
        match &entry.what {
            What::Whole { hash, .. } => drop(whole.insert(hash.clone(), index)),
            What::Ended { run, missing, code: Some(_), .. } => {
                complaints.insert(run.clone(), (missing.clone(), index));
            }
            _ => {}
        }
        if let Some((job, run)) = new_job(entry) {
            let teachers = teachers(job);
            if let Some(teacher) = teachers.iter().find(|teacher| !whole.contains_key(teacher)) {
                return Err(format!("{run} was started before its teacher {} was ever whole", teacher.short()));
            }
            let told = |missed: &Digest| {
                let status = objects.run(run).map(|run| run["status"]["report"].to_string()).unwrap_or_default();
                status.contains(missed.as_str())
            };
            if let Some((missed, since)) = complaints.get(run)
                && let Some(teacher) = missed.iter().find(|it| told(it) && whole.get(it).is_none_or(|at| at < since))
            {
                return Err(format!("{run} was started again before its teacher {} was", teacher.short()));
            }
        }
        objects.see(entry);
    }
    Ok(())
}

fn teachers(job: &Value) -> Vec<Digest> {
    let pointer = format!("/spec/template/metadata/annotations/{}", names::CONFIG_ANNOTATION.replace('/', "~1"));
    let config: Value = serde_json::from_str(text(job, &pointer)).unwrap_or_default();
    let tasks = config["science"]["tasks"].as_array().cloned().unwrap_or_default();
    let hashes = tasks.iter().flat_map(|task| task["teachers"].as_array().cloned().unwrap_or_default());
    hashes.filter_map(|hash| serde_json::from_value(hash).ok()).collect()
}

/// How many trainers may go on while others have taken their places: on a machine that is out of reach; or told to end, where
/// an operator's clock is so far ahead that it should have ended long ago.
fn ghosts(life: &Life) -> u32 {
    let makes_one = |act: &Act| matches!(act, Act::LoseMachine | Act::Skew(60..));
    life.schedule.acts.iter().filter(|(_, act)| makes_one(act)).count() as u32
}

fn nothing_twice(life: &Life) -> Result<(), String> {
    let mut objects = Objects::default();
    let (mut trained, mut lost) = (BTreeMap::<Digest, u32>::new(), BTreeMap::<Digest, u32>::new());
    // Attempts that missed targets of a teacher.
    let mut complaints = BTreeSet::new();
    let ghosts = ghosts(life);
    for entry in &life.history.0 {
        match &entry.what {
            What::Lost { hash } => *lost.entry(hash.clone()).or_default() += 1,
            What::Ended { pod, missing, .. } if !missing.is_empty() => {
                complaints.extend(pod.rsplit_once('-').map(|(attempt, _)| attempt.to_owned()));
            }
            What::Wrote { kind: "bamruns", name, after: Some(run), .. } => {
                let mut asked = requests(run).filter(|(by, _)| by.starts_with("run-"));
                if let Some((by, _)) = asked.find(|(by, _)| !complaints.contains(*by)) {
                    return Err(format!("{name} is to be tried again for {by}, which missed nothing"));
                }
            }
            What::Whole { hash, trained: true, run } => {
                let count = trained.entry(hash.clone()).or_default();
                *count += 1;
                if *count > 1 + lost.get(hash).copied().unwrap_or_default() + ghosts {
                    return Err(format!("{run} was trained {count} times"));
                }
            }
            _ => {}
        }
        if let Some((job, run)) = new_job(entry) {
            if objects.run(run).is_some_and(|run| is_over(run, "Succeeded")) {
                return Err(format!("{} was done, and was tried again", text(job, "/metadata/name")));
            }
            let others = objects.of("jobs").filter(|(_, it)| text(it, "/metadata/labels/bam.dev~1run") == run);
            // The Job of a lost machine does not end; its attempt was given up.
            if let Some((other, _)) = others.into_iter().find(|(_, it)| !has_ended(it) && ghosts == 0) {
                return Err(format!("{} was made while {other} was alive", text(job, "/metadata/name")));
            }
        }
        objects.see(entry);
    }
    Ok(())
}

fn suspended_is_quiet(life: &Life) -> Result<(), String> {
    let within = if life.schedule.is_calm() { ACTS_AT_ONCE } else { ACTS_WITHIN };
    let mut objects = Objects::default();
    let mut since = BTreeMap::<String, Millis>::new();
    for entry in &life.history.0 {
        let is_late = |run: &str| since.get(run).is_some_and(|since| *since + within < entry.at);
        if let Some((job, _)) = new_job(entry).filter(|(_, run)| is_late(run)) {
            return Err(format!("{} was made long after its run was suspended", text(job, "/metadata/name")));
        }
        for (name, job) in objects.of("jobs").filter(|_| !since.is_empty()) {
            if !has_ended(job) && is_late(text(job, "/metadata/labels/bam.dev~1run")) {
                return Err(format!("{name} was left alive long after its run was suspended"));
            }
        }
        objects.see(entry);
        if matches!(&entry.what, What::Wrote { kind: "bamexperiments" | "bamruns", .. }) {
            for (name, run) in objects.of("bamruns") {
                match objects.is_suspended(run) {
                    true => drop(since.entry(name.clone()).or_insert(entry.at)),
                    false => drop(since.remove(name)),
                }
            }
        }
    }
    if life.unsettled.is_some() {
        return Ok(());
    }
    for (name, pod) in objects.of("pods") {
        let run = text(pod, "/metadata/labels/bam.dev~1run");
        let over = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
        if !over && objects.run(run).is_some_and(|run| objects.is_suspended(run)) {
            return Err(format!("{name} runs, and its run is suspended"));
        }
    }
    Ok(())
}

fn profiles_are_kept(life: &Life) -> Result<(), String> {
    let within = if life.schedule.is_calm() { ACTS_AT_ONCE } else { ACTS_WITHIN };
    // What it said, and until when; the last one still does.
    let mut said: Vec<(Option<String>, Millis)> = vec![(None, Millis::MAX)];
    for entry in &life.history.0 {
        match &entry.what {
            What::Wrote { kind: "bamprofiles", after, .. } => {
                said.last_mut().expect("it is never empty").1 = entry.at;
                let image = after.as_ref().map(|profile| text(profile, "/spec/compute/image").to_owned());
                said.push((image, Millis::MAX));
            }
            What::Wrote { kind: "bamruns", name, before: None, after: Some(run) } => {
                let made_by = text(run, "/metadata/annotations/bam.dev~1made-by");
                let which = NAMES.iter().position(|name| *name == made_by).expect("an experiment made it");
                let image = text(run, "/spec/pod/image");
                let not_long_ago = said.iter().filter(|(_, until)| until.saturating_add(within) >= entry.at);
                let is_said = not_long_ago.into_iter().any(|(said, _)| said.as_deref() == Some(image));
                if life.schedule.experiments[which].names_profile != is_said {
                    return Err(format!("{name} was made with the image {image:?}; the profile said {said:?}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn over_is_over(life: &Life) -> Result<(), String> {
    let mut objects = Objects::default();
    // An attempt that was given up, and was done before it heard of that: what it left counts.
    let mut done = BTreeSet::new();
    for entry in &life.history.0 {
        if let What::Ended { run, code: Some(0), .. } = &entry.what {
            done.insert(run.as_str());
        }
        if let Some((job, run)) = new_job(entry)
            && objects.run(run).is_some_and(|run| is_over(run, "Failed"))
        {
            return Err(format!("{} was made, and its run had failed for good", text(job, "/metadata/name")));
        }
        if let (Who::Operator(_), What::Wrote { kind, name, before: Some(before), after: Some(after) }) =
            (entry.who, &entry.what)
        {
            if before["spec"] != after["spec"] {
                return Err(format!("an operator changed the spec of {kind} {name}"));
            }
            let phase = |object: &Value| text(object, "/status/phase").to_owned();
            let was_over = ["Failed", "Succeeded"].contains(&phase(before).as_str());
            let late = phase(after) == "Succeeded" && done.contains(name.as_str());
            let changed = phase(before) != phase(after) && !late;
            if *kind == "bamruns" && was_over && changed && reopened_after(after).is_none() {
                return Err(format!("{name} was {}, and is {} now", phase(before), phase(after)));
            }
        }
        objects.see(entry);
    }
    let experiments: BTreeSet<_> = objects.of("bamexperiments").map(|(_, it)| text(it, "/metadata/uid")).collect();
    for (name, run) in objects.of("bamruns") {
        if life.unsettled.is_none() && !owners(run).any(|owner| experiments.contains(owner)) {
            return Err(format!("{name} is there, and nobody whose run it is"));
        }
    }
    Ok(())
}

/// A status that was decided from an older look, and written over a newer one, would.
fn nothing_is_forgotten(life: &Life) -> Result<(), String> {
    for entry in &life.history.0 {
        let What::Wrote { kind: "bamruns", name, before: Some(before), after: Some(after) } = &entry.what else {
            continue;
        };
        let known = |run: &Value| {
            let history = run.pointer("/status/history").and_then(Value::as_array);
            let last = history.and_then(|history| history.last()?["number"].as_u64()).unwrap_or_default();
            (run.pointer("/status/attempts").and_then(Value::as_u64).unwrap_or_default(), last)
        };
        let ((attempts, last), (attempts_now, last_now)) = (known(before), known(after));
        if attempts_now < attempts || last_now < last {
            return Err(format!(
                "{name} spoke of {attempts} attempts, of which {last} were over, and speaks of {attempts_now} and {last_now}"
            ));
        }
    }
    Ok(())
}

/// What attempts cost, as far as everybody could see it.
#[derive(Default)]
struct Costs {
    application: u32,
    infrastructure: u32,
    out_of_memory: u32,
    fatal: u32,
    unseen: u32,
    stopped: u32,
}

impl Costs {
    fn add(&mut self, code: Option<i32>, missing: bool) {
        match code {
            None => self.unseen += 1,
            Some(0) => {}
            Some(64..=66) => self.fatal += u32::from(!missing),
            Some(75 | 137) => self.infrastructure += 1,
            Some(80) => self.out_of_memory += 1,
            Some(81 | 143) => self.stopped += 1,
            Some(_) => self.application += 1,
        }
    }
}

/// By run and its identity.
fn costs(life: &Life) -> BTreeMap<(String, String), (Costs, Value)> {
    let (mut objects, mut costs) = (Objects::default(), BTreeMap::<_, (Costs, Value)>::new());
    for entry in &life.history.0 {
        objects.see(entry);
        if let What::Wrote { kind: "bamruns", name, after: Some(run), .. } = &entry.what {
            let key = (name.clone(), text(run, "/metadata/uid").to_owned());
            costs.entry(key).or_default().1 = (**run).clone();
        }
        if let What::Ended { run, code, missing, .. } = &entry.what
            && let Some(object) = objects.run(run)
        {
            let key = (run.clone(), text(object, "/metadata/uid").to_owned());
            costs.entry(key).or_default().0.add(*code, !missing.is_empty());
        }
    }
    costs
}

/// How many endings may be seen by nobody, or cost nothing because the attempt was told to stop.
fn unseen(life: &Life) -> u32 {
    let hides = |act: &Act| match act {
        Act::Fate(Fate::Mumbles, count) => *count,
        Act::Suspend(_)
        | Act::RemoveJob
        | Act::ForceDelete
        | Act::LoseMachine
        | Act::Evict
        | Act::Delete(..)
        | Act::Expire("pods") => 1,
        _ => 0,
    };
    life.schedule.acts.iter().map(|(_, act)| hides(act)).sum()
}

fn budgets_hold(life: &Life) -> Result<(), String> {
    let unseen = unseen(life);
    for ((name, _), (costs, run)) in costs(life) {
        if reopened_after(&run).is_some() {
            continue;
        }
        let retries = |budget: &str, default: u64| {
            run.pointer(&format!("/spec/failurePolicy/{budget}")).and_then(Value::as_u64).unwrap_or(default) as u32
        };
        let (application, infrastructure) = (retries("applicationRetries", 1), retries("infrastructureRetries", 10));
        if costs.application > application + 1 + unseen {
            return Err(format!("{name} failed {} times, with {application} retries", costs.application));
        }
        if costs.infrastructure > infrastructure + 1 + unseen {
            return Err(format!(
                "the machines of {name} failed {} times, with {infrastructure} retries",
                costs.infrastructure
            ));
        }
        if costs.fatal > 1 + unseen {
            return Err(format!("{name} was tried again after it could not succeed"));
        }
    }
    // The places of an experiment that shares them with nobody.
    let alone = life.schedule.experiments.len() == 1 && ghosts(life) == 0;
    let Some(limit) = life.schedule.experiments[0].parallel.filter(|_| alone) else { return Ok(()) };
    let mut objects = Objects::default();
    for entry in &life.history.0 {
        objects.see(entry);
        if new_job(entry).is_some() {
            // One that found no machine in time is told to stop: it never was under way.
            let has_failed = |run: &str| objects.run(run).is_some_and(|run| is_over(run, "Failed"));
            let alive = |job: &Value| !has_ended(job) && !has_failed(text(job, "/metadata/labels/bam.dev~1run"));
            let alive = objects.of("jobs").filter(|(_, job)| alive(job)).count();
            if alive > limit as usize {
                return Err(format!("{alive} attempts were under way, and maxParallelRuns is {limit}"));
            }
        }
    }
    Ok(())
}

fn failures_have_causes(life: &Life) -> Result<(), String> {
    let artifacts_lost = life.history.0.iter().any(|entry| matches!(entry.what, What::Lost { .. }));
    for ((name, _), (costs, run)) in costs(life) {
        if text(&run, "/status/phase") != "Failed" {
            continue;
        }
        let retries = |budget: &str, default: u64| {
            run.pointer(&format!("/spec/failurePolicy/{budget}")).and_then(Value::as_u64).unwrap_or(default) as u32
        };
        let machines = costs.infrastructure + costs.unseen + costs.stopped + unseen(life) + costs.out_of_memory;
        let has_cause = costs.fatal > 0
            || costs.application > retries("applicationRetries", 1)
            || machines > retries("infrastructureRetries", 10)
            || costs.out_of_memory > 5
            || run.pointer("/spec/failurePolicy/pendingDeadlineSeconds").is_some()
            || artifacts_lost;
        if !has_cause {
            return Err(format!("{name} failed: {}", run["status"]["conditions"]));
        }
    }
    Ok(())
}

fn no_own_conflicts(life: &Life) -> Result<(), String> {
    for entry in &life.history.0 {
        if let What::Asked { request, code: Some(code), own_fault: true } = &entry.what {
            return Err(format!("{:?} asked {request}, and got {code} for what it had done itself", entry.who));
        }
    }
    Ok(())
}

fn one_writes(life: &Life) -> Result<(), String> {
    let usurped = life.history.0.iter().find(|entry| matches!(entry.what, What::Usurped { .. }));
    usurped.map_or(Ok(()), |entry| Err(entry.to_string()))
}

fn converges(life: &Life) -> Result<(), String> {
    life.unsettled.clone().map_or(Ok(()), Err)
}

fn rest_is_quiet(life: &Life) -> Result<(), String> {
    let rest = life.history.0.iter().skip(life.settled).filter(|_| life.unsettled.is_none());
    for entry in rest {
        // One that was killed is followed by another one.
        let leads = matches!(entry.what, What::Leads | What::Resigns);
        if matches!(entry.who, Who::Operator(_)) && !leads {
            return Err(format!("at rest: {entry}"));
        }
    }
    Ok(())
}

impl World {
    /// What is not at its end yet, although nothing goes wrong any more.
    pub fn unsettled(&self) -> Option<String> {
        if let Some((pod, _)) = self.machines.alive().next() {
            return Some(format!("{pod} is alive"));
        }
        if self.machines.has_lost() {
            return Some("a machine is lost".to_owned());
        }
        let experiments = self.server.all("bamexperiments");
        for experiment in &experiments {
            let phase = text(experiment, "/status/phase");
            let name = text(experiment, "/metadata/name");
            let is_over = ["Complete", "Failed", "Cancelled"].contains(&phase);
            let suspended = is_suspended(experiment) && phase == "Suspended";
            let (spec, status) = (&experiment["spec"], &experiment["status"]);
            let retried = status["retried"].as_u64() >= spec["retry"].as_u64() || is_halted(experiment);
            let up_to_date = retried && status["observedGeneration"] == experiment["metadata"]["generation"];
            let expires = experiment.pointer("/spec/ttlSecondsAfterFinished").is_some();
            if !up_to_date || (is_over && expires) || !(is_over || suspended || self.waits_for_ever(name)) {
                let waits = text(experiment, "/status/waitingFor");
                return Some(format!("experiment {name} is {phase}: {waits}"));
            }
        }
        let halted = |uid: &str| {
            let its = experiments.iter().find(|experiment| text(experiment, "/metadata/uid") == uid);
            its.is_some_and(|experiment| is_halted(experiment))
        };
        for run in self.server.all("bamruns") {
            let phase = text(&run, "/status/phase");
            let is_over = ["Succeeded", "Failed"].contains(&phase);
            if !is_over && !owners(&run).all(halted) {
                let waits = text(&run, "/status/waitingFor");
                return Some(format!("{} is {phase}: {waits}", text(&run, "/metadata/name")));
            }
        }
        for job in self.server.all("jobs") {
            let run = self.server.get("bamruns", text(&job, "/metadata/labels/bam.dev~1run"));
            let kept = run.is_some_and(|run| {
                text(run, "/status/phase") == "Failed" && run["status"]["attempts"].as_u64() == Some(number(&job))
            });
            if !kept {
                return Some(format!("{} is left over", text(&job, "/metadata/name")));
            }
        }
        None
    }

    /// Is its teacher one that will never come?
    fn waits_for_ever(&self, experiment: &str) -> bool {
        let which = NAMES.iter().position(|name| *name == experiment).unwrap_or_default();
        let Some(teacher) = self.schedule.experiments[which].taught_by else { return false };
        match self.server.get("bamexperiments", teacher) {
            None => true,
            Some(teacher) => is_suspended(teacher) || ["Failed", "Cancelled"].contains(&text(teacher, "/status/phase")),
        }
    }
}
