//! A fake kubelet: it does the work of the Job controller, the kubelet, the trainers and the garbage collector for Jobs,
//! whoever made them. All that it writes are the objects that these would write: a pod, how it stands, how the Job stands.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bam_crds::names;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::trainer;
use crate::wire::{Failure, Wire};

/// Requests that are under way at the same time.
const AT_ONCE: usize = 32;

/// A kubelet at work.
pub struct Kubelet {
    wire: Wire,
    /// How long every training takes.
    takes: Duration,
    places: Semaphore,
    /// The identities of the Jobs that were seen.
    known: Mutex<HashSet<String>>,
    /// By namespace and science hash: when the Job of this training was seen to be done, here.
    done: Mutex<HashMap<(String, String), Instant>>,
    waits: Mutex<Vec<Duration>>,
    counts: Counts,
}

/// What was written, by kind.
#[derive(Debug, Default)]
pub struct Counts {
    /// Jobs that were seen.
    pub jobs: AtomicUsize,
    /// Requests that change something.
    pub writes: AtomicUsize,
    /// Requests that were refused, or got no answer.
    pub failures: AtomicUsize,
}

impl Kubelet {
    /// Begins to work. It ends with the process, or with its API server.
    pub fn start(wire: Wire, takes: Duration) -> Arc<Self> {
        let kubelet = Arc::new(Self {
            wire,
            takes,
            places: Semaphore::new(AT_ONCE),
            known: Mutex::default(),
            done: Mutex::default(),
            waits: Mutex::default(),
            counts: Counts::default(),
        });
        let works = kubelet.clone();
        tokio::spawn(async move {
            let wire = works.wire.clone();
            wire.watch("/apis/batch/v1/jobs", |line| works.hear(line)).await;
        });
        kubelet
    }

    /// What it has done so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How long each student's Job came after the last of its teachers' Jobs was done.
    pub fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(self: &Arc<Self>, line: &str) {
        // Most lines are its own writes coming back.
        if line.starts_with("{\"type\":\"MODIFIED\"") {
            return;
        }
        let Ok(mut event) = serde_json::from_str::<Value>(line) else { return };
        let job = event["object"].take();
        match event["type"].as_str() {
            Some("ADDED") => {
                let seen = Instant::now();
                let uid = text(&job, "/metadata/uid").to_owned();
                if !self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(uid) {
                    return;
                }
                if job["status"]["conditions"].as_array().is_none_or(Vec::is_empty) && job["spec"]["suspend"] != true {
                    self.counts.jobs.fetch_add(1, Ordering::Relaxed);
                    self.note_wait(&job, seen);
                    let kubelet = self.clone();
                    tokio::spawn(async move { kubelet.run(&job).await });
                }
            }
            Some("DELETED") => {
                let kubelet = self.clone();
                tokio::spawn(async move {
                    let path = format!("{}/{}", pods(&job), pod_name(&job));
                    let _ = kubelet.write(|wire| async move { wire.delete(&path).await }).await;
                });
            }
            _ => {}
        }
    }

    /// One attempt, from its Job's first moment to its end.
    async fn run(&self, job: &Value) {
        if let Err(error) = self.try_to_run(job).await {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
            eprintln!("the kubelet: Job {}: {error}", job["metadata"]["name"]);
        }
    }

    async fn try_to_run(&self, job: &Value) -> Result<(), Failure> {
        let (namespace, name) = (text(job, "/metadata/namespace"), text(job, "/metadata/name"));
        let jobs = format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}/status");
        let pods = pods(job);
        let pod = format!("{pods}/{}/status", pod_name(job));
        let template = &job["spec"]["template"];
        let mut spec = template["spec"].clone();
        spec["nodeName"] = "node".into();
        let made = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {
                "name": pod_name(job), "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"],
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
        });
        let began = Timestamp::now().to_string();
        let container = text(template, "/spec/containers/0/name");
        self.write(|wire| async move { wire.post(&pods, &made).await }).await?;
        let status = json!({ "status": { "startTime": began, "active": 1, "ready": 1 } });
        self.write(|wire| {
            let jobs = jobs.clone();
            async move { wire.merge(&jobs, &status).await }
        })
        .await?;
        let status = pod_status("Running", container, &began, json!({ "running": { "startedAt": began } }));
        self.write(|wire| {
            let pod = pod.clone();
            async move { wire.merge(&pod, &status).await }
        })
        .await?;
        tokio::time::sleep(self.takes).await;

        let ended = Timestamp::now().to_string();
        let config = template["metadata"]["annotations"][names::CONFIG_ANNOTATION].as_str();
        let message = config.map(trainer::last_word).unwrap_or_default();
        let terminated = json!({
            "exitCode": 0, "reason": "Completed", "message": message, "startedAt": began, "finishedAt": ended,
        });
        let status = pod_status("Succeeded", container, &began, json!({ "terminated": terminated }));
        self.write(|wire| async move { wire.merge(&pod, &status).await }).await?;
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "CompletionsReached", "lastProbeTime": ended,
                "lastTransitionTime": ended, "message": "Reached expected number of succeeded pods",
            })
        };
        let status = json!({ "status": {
            "active": 0, "ready": 0, "succeeded": 1, "completionTime": ended, "uncountedTerminatedPods": {},
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        } });
        self.write(|wire| async move { wire.merge(&jobs, &status).await }).await?;
        if let Some(hash) = config.and_then(trainer::science_hash) {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.insert((namespace.to_owned(), hash), Instant::now());
        }
        Ok(())
    }

    /// A student's Job is there: how long after its last teacher was done?
    fn note_wait(&self, job: &Value, seen: Instant) {
        let Some(config) = job["spec"]["template"]["metadata"]["annotations"][names::CONFIG_ANNOTATION].as_str() else {
            return;
        };
        let namespace = text(job, "/metadata/namespace");
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = trainer::teachers(config).into_iter().map(|hash| done.get(&(namespace.to_owned(), hash)).copied());
        if let Some(last) = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max()) {
            let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
            waits.push(seen.saturating_duration_since(last));
        }
    }

    async fn write<F>(&self, request: impl FnOnce(Wire) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<String, Failure>>,
    {
        let _place = self.places.acquire().await.expect("nobody closes it");
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        request(self.wire.clone()).await.map(drop)
    }
}

fn pod_status(phase: &str, container: &str, began: &str, state: Value) -> Value {
    let scheduled = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": began });
    json!({ "status": {
        "phase": phase, "startTime": began, "conditions": [scheduled],
        "containerStatuses": [{
            "name": container, "image": "trainer", "imageID": "", "ready": phase == "Running", "restartCount": 0, "state": state,
        }],
    } })
}

fn pods(job: &Value) -> String {
    format!("/api/v1/namespaces/{}/pods", text(job, "/metadata/namespace"))
}

/// The Job controller would add five letters at random.
fn pod_name(job: &Value) -> String {
    format!("{}-fake0", text(job, "/metadata/name"))
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}
