//! Stand-ins for the Job controller, the kubelet and the garbage collector.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::api_server::owners;
use crate::history::{What, Who, text};
use crate::schedule::{Fate, Millis};
use crate::trainer::{Ending, Training};
use crate::world::{Event, World};

#[derive(Default)]
pub struct Machines {
    pods: BTreeMap<String, Life>,
    /// Of the trainers that start next.
    pub fates: VecDeque<Fate>,
    /// No pod can be made.
    pub hindered: bool,
    /// No image can be pulled.
    pub images_broken: bool,
    /// Seconds by which the machines' clocks are wrong.
    pub skew: i64,
    plans: u64,
    names: u64,
}

/// A pod, as its machine knows it.
struct Life {
    run: String,
    /// What will end it, and the number of that plan.
    plan: Option<(u64, Ending)>,
    training: Option<Training>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Running,
    Ended,
    /// Nobody hears of it any more.
    Lost,
}

/// How long a pod may take to end.
const GRACE: Millis = 120_000;
/// After so long, pods of lost machines are removed.
const LOST: Millis = 600_000;

impl Machines {
    pub fn run_of(&self, pod: &str) -> String {
        self.pods.get(pod).map(|life| life.run.clone()).unwrap_or_default()
    }

    pub fn plan(&mut self, pod: &str, ending: Ending) -> u64 {
        self.plans += 1;
        if let Some(life) = self.pods.get_mut(pod) {
            life.plan = Some((self.plans, ending));
        }
        self.plans
    }

    /// Pods whose trainers are alive and not given up.
    pub fn running(&self) -> Vec<String> {
        let running = self.pods.iter().filter(|(_, life)| life.state == State::Running);
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Pods that are not over, and of which something will be heard.
    pub fn alive(&self) -> impl Iterator<Item = (&String, &String)> {
        let alive = self.pods.iter().filter(|(_, life)| matches!(life.state, State::Waiting | State::Running));
        alive.map(|(name, life)| (name, &life.run))
    }

    pub fn has_lost(&self) -> bool {
        self.pods.values().any(|life| life.state == State::Lost)
    }
}

// The Job controller.
impl World {
    /// Makes a Job's pod, or says how it ended.
    pub fn sync_job(&mut self, uid: &str) {
        let Some((_, job)) = self.server.by_uid(uid).filter(|((kind, _), _)| *kind == "jobs") else { return };
        if job.pointer("/status/conditions/0").is_some() {
            return;
        }
        let made = job.pointer("/status/startTime").is_some();
        let pods = self.server.owned_by(uid);
        match pods.first() {
            None if !made => self.make_pod(&job),
            None => self.end_job(&job, None),
            Some((_, pod)) => {
                let phase = text(pod, "/status/phase").to_owned();
                if ["Succeeded", "Failed"].contains(&phase.as_str()) {
                    self.end_job(&job, Some(phase == "Succeeded"));
                }
            }
        }
    }

    fn make_pod(&mut self, job: &Value) {
        let uid = text(job, "/metadata/uid").to_owned();
        if self.machines.hindered {
            let name = format!("{}.hindered", text(job, "/metadata/name"));
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": { "name": name }, "reason": "FailedCreate",
                "message": "Error creating: pods \"x\" is forbidden: exceeded quota", "lastTimestamp": self.stamp(),
                "involvedObject": { "kind": "Job", "name": text(job, "/metadata/name"), "uid": uid },
            });
            if self.server.get("events", &name).is_none() {
                self.put(Who::JobController, "events", event);
            }
            return self.later(5_000, Event::SyncJob(uid));
        }
        self.machines.names += 1;
        let name = format!("{}-{:05}", text(job, "/metadata/name"), self.machines.names);
        let template = &job["spec"]["template"];
        let containers = template["spec"]["containers"].as_array().into_iter().flatten();
        // What nobody reads is left out.
        let containers: Vec<_> =
            containers.map(|it| json!({ "name": it["name"], "args": it["args"], "env": it["env"] })).collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": text(job, "/metadata/name"), "uid": uid, "controller": true,
                }],
            },
            "spec": { "containers": containers },
            "status": { "phase": "Pending" },
        });
        let run = text(job, "/metadata/labels/bam.dev~1run").to_owned();
        let life = Life { run, plan: None, training: None, state: State::Waiting };
        self.machines.pods.insert(name.clone(), life);
        self.put(Who::JobController, "pods", pod);
        let mut job = job.clone();
        job["status"] = json!({ "startTime": self.stamp() });
        self.put(Who::JobController, "jobs", job);
        let soon = self.random.between(100, 3_000);
        self.later(soon, Event::StartPod(name));
    }

    fn end_job(&mut self, job: &Value, succeeded: Option<bool>) {
        let mut job = job.clone();
        let kind = if succeeded == Some(true) { "Complete" } else { "Failed" };
        let condition = json!({
            "type": kind, "status": "True", "lastTransitionTime": self.stamp(), "message": "as its pod ended",
        });
        job["status"]["conditions"] = json!([condition]);
        self.put(Who::JobController, "jobs", job);
    }
}

// The kubelet.
impl World {
    pub fn start_pod(&mut self, name: &str) {
        let waits = self.machines.pods.get(name).is_some_and(|life| life.state == State::Waiting);
        let Some(pod) = self.server.get("pods", name).cloned().filter(|_| waits) else { return };
        if !text(&pod, "/metadata/deletionTimestamp").is_empty() {
            return;
        }
        if self.machines.images_broken {
            let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": "not found" } });
            self.set_pod(&pod, "Pending", waiting);
            return self.later(10_000, Event::StartPod(name.to_owned()));
        }
        let stamp = self.stamp();
        self.set_pod(&pod, "Running", json!({ "running": { "startedAt": stamp } }));
        self.machines.pods.get_mut(name).expect("it is there").state = State::Running;
        let training = self.start_trainer(name, &pod);
        if let Some(life) = self.machines.pods.get_mut(name) {
            life.training = training;
        }
    }

    fn set_pod(&mut self, pod: &Value, phase: &str, state: Value) {
        let mut pod = pod.clone();
        pod["status"]["phase"] = phase.into();
        pod["status"]["containerStatuses"] = json!([{
            "name": "trainer", "image": "trainer", "imageID": "", "ready": true, "restartCount": 0, "state": state,
        }]);
        self.put(Who::Kubelet, "pods", pod);
    }

    /// A trainer ends, if this is still its plan.
    pub fn end_pod(&mut self, name: &str, plan: u64) {
        let Some(life) = self.machines.pods.get_mut(name) else { return };
        let Some((_, ending)) = life.plan.take_if(|(number, _)| *number == plan) else { return };
        let (run, was) = (life.run.clone(), life.state);
        if was != State::Lost {
            life.state = State::Ended;
        }
        if let Some(leaves) = &ending.leaves {
            self.leave(&run, leaves);
        }
        let seen = was == State::Running && self.server.get("pods", name).is_some();
        let what = What::Ended {
            run,
            pod: name.to_owned(),
            code: seen.then_some(if ending.out_of_memory { 80 } else { ending.code }),
            missing: ending.missing.clone(),
        };
        self.history.add(self.now, Who::Trainer, what);
        let Some(pod) = self.server.get("pods", name).cloned().filter(|_| seen) else { return };
        let terminated = json!({ "terminated": {
            "exitCode": ending.code, "reason": if ending.out_of_memory { "OOMKilled" } else { "Error" },
            "message": ending.said, "finishedAt": crate::world::stamp(self.now, self.machines.skew),
        } });
        self.set_pod(&pod, if ending.code == 0 { "Succeeded" } else { "Failed" }, terminated);
        self.tell_job(&pod);
        if !text(&pod, "/metadata/deletionTimestamp").is_empty() {
            let soon = self.random.between(10, 2_000);
            self.later(soon, Event::RemovePod(name.to_owned()));
        }
    }

    fn tell_job(&mut self, pod: &Value) {
        let soon = self.random.between(10, 2_000);
        if let Some(job) = owners(pod).next() {
            self.later(soon, Event::SyncJob(job.to_owned()));
        }
    }

    /// A pod is deleted, with time to end.
    pub fn delete_pod(&mut self, who: Who, name: &str, disruption: Option<&str>) {
        let Some(pod) = self.server.get("pods", name).cloned() else { return };
        if !text(&pod, "/metadata/deletionTimestamp").is_empty() {
            return;
        }
        let state = self.machines.pods.get(name).map(|life| life.state);
        let mut leaving = (*pod).clone();
        let until = crate::world::time(self.now / 1000 * 1000 + GRACE).to_string();
        leaving["metadata"]["deletionTimestamp"] = until.into();
        if let Some(message) = disruption {
            leaving["status"]["conditions"] =
                json!([{ "type": "DisruptionTarget", "status": "True", "message": message }]);
        }
        self.put(who, "pods", leaving);
        match state {
            Some(State::Running) => {
                let soon = self.random.between(10, 1_000);
                self.later(soon, Event::Terminate(name.to_owned()));
            }
            // It stays until its machine is given up.
            Some(State::Lost) => {}
            _ => self.later(50, Event::RemovePod(name.to_owned())),
        }
    }

    /// A trainer hears SIGTERM.
    pub fn terminate(&mut self, name: &str) {
        let running = self.machines.pods.get(name).filter(|life| life.state == State::Running);
        let Some(training) = running.map(|life| life.training.clone()) else { return };
        let ending = self.checkpoint(training.as_ref());
        let soon = self.random.between(100, 3_000);
        self.plan_ending(name, soon, ending);
    }

    /// The object goes, whatever its process does.
    pub fn remove_pod(&mut self, name: &str) {
        let Some(pod) = self.server.get("pods", name).cloned() else { return };
        if let Some(life) = self.machines.pods.get_mut(name)
            && life.state != State::Ended
        {
            let unseen = life.state != State::Waiting;
            let run = life.run.clone();
            life.state = State::Ended;
            life.plan = None;
            if unseen {
                let (pod, missing) = (name.to_owned(), Vec::new());
                let what = What::Ended { run, pod, code: None, missing };
                self.history.add(self.now, Who::Kubelet, what);
            }
        }
        self.remove(Who::Kubelet, "pods", name);
        self.tell_job(&pod);
    }

    /// The machine of a pod goes silent, perhaps when the pod was told to end already. Its trainer does not know that.
    pub fn lose_machine(&mut self, name: &str) {
        if let Some(life) = self.machines.pods.get_mut(name) {
            life.state = State::Lost;
        }
        self.delete_pod(Who::Kubelet, name, Some("its node is not reachable"));
        self.later(LOST, Event::RemovePod(name.to_owned()));
    }
}

// The garbage collector.
impl World {
    /// Looks for what the owner of this identity has left.
    pub fn collect(&mut self, owner: &str) {
        if self.server.by_uid(owner).is_some() {
            return;
        }
        for ((kind, name), object) in self.server.owned_by(owner) {
            let lives = |uid: &&str| self.server.by_uid(uid).is_some();
            if owners(&object).any(|uid| lives(&uid)) {
                let mut object = (*object).clone();
                let its = object["metadata"]["ownerReferences"].as_array_mut().expect("a list");
                its.retain(|it| text(it, "/uid") != owner);
                self.put(Who::GarbageCollector, kind, object);
            } else if kind == "pods" {
                self.delete_pod(Who::GarbageCollector, &name, None);
            } else {
                self.remove(Who::GarbageCollector, kind, &name);
            }
        }
    }
}
