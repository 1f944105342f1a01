//! The experiments: four teachers and a student each, a fifth of the teachers shared.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use crate::wire::{Failure, Wire};

/// Experiments of a namespace.
pub const A_NAMESPACE: usize = 100;
/// So many of them have their first teacher in common with others: one in five of all teachers.
const SHARING: usize = 80;
/// So many have the same one.
const SHARED_BY: usize = 40;
const TASKS: [&str; 4] = ["rte", "mrpc", "cola", "sst"];

/// Where experiments are.
const EXPERIMENTS: &str = "/apis/bam.dev/v1alpha1";

/// The namespace of the experiment of this number.
pub fn namespace(number: usize) -> String {
    format!("scale-{:03}", number / A_NAMESPACE)
}

fn name(number: usize) -> String {
    format!("experiment-{number:05}")
}

/// How many namespaces so many experiments need.
pub fn namespaces(experiments: usize) -> usize {
    experiments.div_ceil(A_NAMESPACE)
}

/// Makes the namespaces, and a claim in each.
pub async fn prepare(wire: &Wire, experiments: usize) -> Result<(), Failure> {
    for number in 0..namespaces(experiments) {
        let namespace = namespace(number * A_NAMESPACE);
        let metadata = json!({ "name": namespace });
        wire.post("/api/v1/namespaces", &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }))
            .await?;
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "bam-dir" },
            "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "1Gi" } } },
        });
        wire.post(&format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims"), &claim).await?;
    }
    Ok(())
}

/// The manifest of the experiment of this number. `round` makes all its teachers others than those of another round.
pub fn manifest(number: usize, round: usize) -> Value {
    let place = number % A_NAMESPACE;
    let tasks = TASKS.iter().enumerate().map(|(task, name)| {
        // A teacher is what it learns: another learning rate makes it another one.
        let rate = match task {
            0 if place < SHARING => 1 + place / SHARED_BY,
            _ => 1000 + number,
        };
        json!({ "name": name, "teacher": { "hyperparameters": { "learningRate": format!("{rate}e-{}", 9 + round) } } })
    });
    json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "metadata": { "name": name(number) },
        "spec": {
            "tasks": tasks.collect::<Vec<_>>(),
            "distill": { "hyperparameters": { "numTrainEpochs": "1" } },
            "hyperparameters": { "numTrainEpochs": "1", "trainBatchSize": 32, "maxSeqLength": 64, "learningRate": "1e-4" },
            "model": { "pretrained": "all-MiniLM-L6-v2" },
            "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
            "compute": { "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "2Gi" } } },
        },
    })
}

/// Who is complete, as a watch of all experiments tells it.
pub struct Complete {
    names: Mutex<BTreeSet<String>>,
    changed: Notify,
    places: Semaphore,
}

impl Complete {
    /// Begins to watch; so many experiments may be active at once.
    pub fn watch(wire: Wire, active: usize) -> Arc<Self> {
        let complete =
            Arc::new(Self { names: Mutex::default(), changed: Notify::new(), places: Semaphore::new(active) });
        let hears = complete.clone();
        tokio::spawn(async move {
            wire.watch(&format!("{EXPERIMENTS}/bamexperiments"), |line| hears.hear(line)).await;
        });
        complete
    }

    /// A line of 10 KB, thousands of times: it is searched, not parsed. Only an experiment as a whole is `Complete`; runs are
    /// `Succeeded`.
    fn hear(&self, line: &str) {
        let gone = line.starts_with("{\"type\":\"DELETED\"");
        if !gone && line.contains("\"phase\":\"Failed\"") {
            eprintln!("an experiment has failed: {line:.2000}");
        }
        if !gone && !line.contains("\"phase\":\"Complete\"") {
            return;
        }
        let Some(at) = line.find("\"name\":\"experiment-") else { return };
        let name: String = line[at + 8..].chars().take_while(|c| *c != '"').collect();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if gone {
            names.remove(&name);
        } else if names.insert(name) {
            self.places.add_permits(1);
        }
        self.changed.notify_waiters();
    }

    fn count(&self) -> usize {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until so many are complete; says every ten seconds how many are.
    pub async fn wait_for(&self, count: usize) {
        let begin = Instant::now();
        let mut said = begin;
        while self.count() != count {
            let _ = tokio::time::timeout(Duration::from_secs(1), self.changed.notified()).await;
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                println!("    {:>4} s: {} of {count} experiments", begin.elapsed().as_secs(), self.count());
            }
        }
    }
}

/// Creates so many experiments, each as soon as there is a place, and waits until all are complete. How long that took.
pub async fn run(wire: &Wire, complete: &Complete, experiments: usize, round: usize) -> Result<Duration, Failure> {
    let begin = Instant::now();
    for number in 0..experiments {
        // The place comes back when one is complete.
        complete.places.acquire().await.expect("nobody closes it").forget();
        let path = format!("{EXPERIMENTS}/namespaces/{}/bamexperiments", namespace(number));
        wire.post(&path, &manifest(number, round)).await?;
    }
    complete.wait_for(experiments).await;
    Ok(begin.elapsed())
}

/// Deletes these experiments and their runs, as the garbage collector would.
pub async fn remove(wire: &Wire, complete: &Complete, experiments: usize) -> Result<(), Failure> {
    for namespace in (0..namespaces(experiments)).map(|number| namespace(number * A_NAMESPACE)) {
        for kind in ["bamexperiments", "bamruns"] {
            wire.delete(&format!("{EXPERIMENTS}/namespaces/{namespace}/{kind}")).await?;
        }
    }
    complete.wait_for(0).await;
    Ok(())
}
