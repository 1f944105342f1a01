//! The same writes by a client that does nothing else: no watch, no plan, every connection busy.
//!
//! What happened in one namespace is recorded as watches tell it, the operator's writes and the kubelet's, and is done again
//! in every namespace of a fresh API server: each object's writes in their order, many objects at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{Failure, Wire, at_once};

/// Connections that are busy at the same time: more make two cores no quicker.
const AT_ONCE: usize = 48;
/// Kinds, as group and plural.
const KINDS: [(&str, &str); 5] = [
    ("/apis/bam.dev/v1alpha1", "bamexperiments"),
    ("/apis/bam.dev/v1alpha1", "bamruns"),
    ("/apis/batch/v1", "jobs"),
    ("/api/v1", "pods"),
    ("/apis/events.k8s.io/v1", "events"),
];
/// Stand for what only the answer to an earlier write tells.
const UID: &str = "@uid@";
const VERSION: &str = "@version@";

/// One write.
#[derive(Clone, Debug)]
struct Write {
    verb: &'static str,
    path: String,
    content_type: &'static str,
    body: String,
}

/// An object: which kind, and its name.
type Object = (usize, String);

/// What was written of one object.
#[derive(Debug, Default)]
struct Life {
    writes: Vec<Write>,
    last: Value,
}

/// What came of doing all of it again.
pub struct Replayed {
    /// How long it took.
    pub took: Duration,
    /// Writes to objects that were followed to their end.
    pub writes: usize,
    /// Objects that were not, since a write was refused or got no answer.
    pub failures: usize,
}

/// What was written in one namespace.
pub struct Record {
    namespace: String,
    lives: Mutex<BTreeMap<Object, Life>>,
}

impl Record {
    /// Begins to record.
    pub fn start(wire: &Wire, namespace: String) -> Arc<Self> {
        let record = Arc::new(Self { namespace, lives: Mutex::default() });
        for (kind, (group, plural)) in KINDS.iter().enumerate() {
            let (record, wire) = (record.clone(), wire.clone());
            tokio::spawn(async move {
                let path = format!("{group}/namespaces/{}/{plural}", record.namespace);
                wire.watch(&path, |line| record.hear(kind, line)).await;
            });
        }
        record
    }

    /// How many writes were recorded, by verb and kind.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for ((kind, _), life) in lives.iter() {
            for write in &life.writes {
                let status = if write.path.contains("/status") { "/status" } else { "" };
                *counts.entry(format!("{} {}{status}", write.verb, KINDS[*kind].1)).or_default() += 1;
            }
        }
        counts
    }

    fn hear(&self, kind: usize, line: &str) {
        let Ok(mut event) = serde_json::from_str::<Value>(line) else { return };
        let object = event["object"].take();
        let Some(name) = object["metadata"]["name"].as_str().map(ToOwned::to_owned) else { return };
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let life = lives.entry((kind, name.clone())).or_default();
        let (group, plural) = KINDS[kind];
        let path = format!("{group}/namespaces/{}/{plural}", self.namespace);
        let write = match event["type"].as_str() {
            // A watch that begins anew tells again of what is known.
            Some("ADDED") if !life.last.is_null() => None,
            Some("ADDED") => Some(made(path, &object)),
            Some("MODIFIED") => Some(changed(format!("{path}/{name}"), kind, &life.last, &object)),
            Some("DELETED") => Some(deleted(format!("{path}/{name}"))),
            _ => None,
        };
        life.writes.extend(write);
        life.last = object;
    }

    /// The writes of every object, in order.
    fn recorded(&self) -> Vec<Vec<Write>> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.values().map(|life| life.writes.clone()).collect()
    }

    /// Does all of it again in each of these namespaces.
    pub async fn replay(&self, wire: &Wire, namespaces: Vec<String>) -> Replayed {
        let lives = Arc::new(self.recorded());
        let [next, done, failed] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let begin = Instant::now();
        let (namespaces, recorded) = (Arc::new(namespaces), self.namespace.clone());
        let workers = (0..AT_ONCE).map(|_| {
            let (lives, namespaces, next) = (lives.clone(), namespaces.clone(), next.clone());
            let (wire, recorded, done, failed) = (wire.clone(), recorded.clone(), done.clone(), failed.clone());
            tokio::spawn(async move {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let Some(namespace) = namespaces.get(turn / lives.len().max(1)) else { break };
                    let writes = &lives[turn % lives.len()];
                    match live(&wire, writes, &recorded, namespace).await {
                        Ok(()) => drop(done.fetch_add(writes.len(), Ordering::Relaxed)),
                        Err(error) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("the bare client: {error}");
                        }
                    }
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("no worker panics");
        }
        let [writes, failures] = [done, failed].map(|count| count.load(Ordering::Relaxed));
        Replayed { took: begin.elapsed(), writes, failures }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    metadata: Metadata,
}

/// Everything that was written of one object, in its order.
async fn live(wire: &Wire, writes: &[Write], recorded: &str, namespace: &str) -> Result<(), Failure> {
    let mut known = Metadata::default();
    for write in writes {
        let body = write.body.replace(recorded, namespace);
        let body = body.replace(UID, &known.uid).replace(VERSION, &known.resource_version);
        let path = write.path.replace(recorded, namespace);
        let answer = wire.send(write.verb, &path, write.content_type, body.into_bytes()).await?;
        known = serde_json::from_str::<Answer>(&answer).unwrap_or_default().metadata;
    }
    Ok(())
}

/// A POST of what the API server adds nothing to.
fn made(path: String, object: &Value) -> Write {
    let mut object = object.clone();
    let drop_of = |of: &mut Value, fields: &[&str]| {
        fields.iter().for_each(|field| {
            of.as_object_mut().map(|of| of.remove(*field));
        });
    };
    let added = ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"];
    drop_of(&mut object["metadata"], &added);
    drop_of(&mut object, &["status"]);
    if object["kind"] == "Job" {
        drop_of(&mut object["spec"], &["selector"]);
        let names =
            ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
        drop_of(&mut object["spec"]["template"]["metadata"]["labels"], &names);
        drop_of(&mut object["metadata"]["labels"], &names);
    }
    Write { verb: "POST", path, content_type: "application/json", body: object.to_string() }
}

/// A change as who made it writes it: a status onto the version that is known, or a further owner.
fn changed(path: String, kind: usize, before: &Value, after: &Value) -> Write {
    let ours = kind < 2;
    let mut metadata = json!({ "name": after["metadata"]["name"], "uid": UID });
    if ours && before["status"] == after["status"] {
        let owners = after["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let known = before["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let new: Vec<_> = owners.into_iter().filter(|owner| !known.contains(owner)).collect();
        let manager = new.first().and_then(|owner| owner["uid"].as_str()).unwrap_or_default().to_owned();
        metadata["ownerReferences"] = new.into();
        let body = json!({ "apiVersion": after["apiVersion"], "kind": after["kind"], "metadata": metadata });
        let path = format!("{path}?fieldManager=bam-owner-{manager}");
        return Write { verb: "PATCH", path, content_type: "application/apply-patch+yaml", body: body.to_string() };
    }
    if ours {
        metadata["resourceVersion"] = VERSION.into();
        let body = json!({
            "apiVersion": after["apiVersion"], "kind": after["kind"], "metadata": metadata, "status": after["status"],
        });
        let path = format!("{path}/status?force=true&fieldManager=bam-operator");
        return Write { verb: "PATCH", path, content_type: "application/apply-patch+yaml", body: body.to_string() };
    }
    let content_type = "application/merge-patch+json";
    match kind {
        4 => Write { verb: "PATCH", path, content_type, body: json!({ "series": after["series"] }).to_string() },
        _ => {
            let body = json!({ "status": after["status"] }).to_string();
            Write { verb: "PATCH", path: format!("{path}/status"), content_type, body }
        }
    }
}

fn deleted(path: String) -> Write {
    Write { verb: "DELETE", path, content_type: "application/json", body: at_once().to_string() }
}
