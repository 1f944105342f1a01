//! A namespace with experiments in it, as the operator leaves them, and `kubectl bam` to look at them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bam_crds::{BamExperiment, BamRun};
use bam_operator::cluster::observe::Seen;
use bam_operator::cluster::slice::INDEX;
use bam_operator::plan::experiment;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Server;

pub struct Lab {
    pub server: Server,
    url: String,
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Lab {
    /// An empty namespace with a claim.
    pub fn new() -> Self {
        let server = Server::default();
        let url = server.start();
        let lab = Self { server, url, folder: tempfile::tempdir().unwrap() };
        lab.server.put(
            "persistentvolumeclaims",
            json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "bam-dir", "namespace": "lab" }, "spec": { "accessModes": ["ReadWriteMany"] } }),
        );
        lab.kubeconfig(&lab.url);
        lab
    }

    /// Where the cluster is said to be.
    pub fn kubeconfig(&self, url: &str) {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{ "name": "here", "cluster": { "server": url } }],
            "contexts": [{ "name": "here", "context": { "cluster": "here", "user": "me", "namespace": "lab" } }],
            "users": [{ "name": "me", "user": {} }],
        });
        fs::write(self.path("kubeconfig"), text.to_string()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An experiment that the operator has worked on: its runs stand as `phases` says, in the order of the graph; what
    /// comes after them is not made yet.
    pub fn experiment(&self, name: &str, spec: Value, phases: &[&str]) -> BamExperiment {
        let object = object(name, spec);
        let seen = self.seen();
        seen.experiments.apply(Event::Apply(guarded(&object)));
        let mut phases = phases.iter();
        if let Some(phase) = phases.next() {
            let (experiment, observed) = seen.experiment("lab", name).unwrap();
            self.run(&experiment, &seen, observed.graph(&experiment).inputs, phase);
        }
        for phase in phases {
            let (experiment, observed) = seen.experiment("lab", name).unwrap();
            let graph = observed.graph(&experiment);
            let next = graph.trainings.into_iter().find(|node| !observed.runs.contains_key(&node.name));
            self.run(&experiment, &seen, next.unwrap(), phase);
        }
        let (mut experiment, observed) = seen.experiment("lab", name).unwrap();
        let now: Timestamp = "2027-01-15T08:00:00Z".parse().unwrap();
        experiment.status = Some(experiment::plan(&experiment, &observed, now).status);
        self.server.put("bamexperiments", serde_json::to_value(&experiment).unwrap());
        experiment
    }

    fn run(&self, by: &BamExperiment, seen: &Seen, node: bam_operator::plan::graph::Node, phase: &str) {
        let points = if node.role == bam_crds::run::Role::Student { 71.25 } else { 66.4 };
        let score = |task: &String| {
            json!({ "task": task, "mainMetric": "accuracy", "metrics": { "accuracy": points }, "majority": 55.00000000000001,
                "rows": 320 })
        };
        let scores: Vec<_> = node.tasks.iter().filter(|_| node.spec.inputs.is_none()).map(score).collect();
        let (done, attempts) =
            (json!({ "reason": "Completed", "message": "", "results": scores }), u32::from(phase != "Pending"));
        let mut status = json!({ "phase": phase, "attempts": attempts });
        let condition = |kind: &str, message: &str| {
            json!([{ "type": kind, "status": "True", "reason": "Done", "message": message,
                "lastTransitionTime": "2027-01-15T08:00:00Z" }])
        };
        let ended = |reason: &str, message: &str| {
            json!([{ "number": 1, "reason": reason, "message": message, "startedAt": "2027-01-15T07:00:00Z",
                "finishedAt": "2027-01-15T08:00:00Z" }])
        };
        match phase {
            "Running" => {
                status["progress"] = json!({ "stage": "Training", "done": 96, "total": 200, "resumedFrom": 40 })
            }
            "Succeeded" => {
                status["report"] = done;
                status["conditions"] = condition("Complete", "it is done");
                status["history"] = ended("Completed", "");
            }
            "Failed" => {
                let message = "glue_data/rte/dev.tsv:2: the label is not one of 0, 1";
                status["conditions"] =
                    condition("Failed", &format!("its last attempt found data that do not fit: {message}"));
                status["history"] = ended("BadData", message);
                status["history"][0]["log"] = json!(["reading glue_data/rte", "warning: 2 rows are the same"]);
            }
            _ => status["waitingFor"] = "has begun attempt 1, which waits for a node".into(),
        }
        if node.spec.inputs.is_some() && phase == "Succeeded" {
            let digest = |of: &str| bam_crds::Digest::of_bytes(of.as_bytes());
            let files = |task: &String| {
                let train = digest(&format!("{task} train"));
                (task.clone(), json!({ "train": train, "trainRows": 1600, "dev": digest(task), "devRows": 320 }))
            };
            let tasks: serde_json::Map<_, _> = node.tasks.iter().map(files).collect();
            let model = json!({ "config": digest("c"), "vocabulary": digest("v"), "weights": digest("w") });
            status["report"]["inputs"] = json!({ "model": model, "tasks": tasks });
        }
        let (name, uid) = (by.metadata.name.clone().unwrap(), by.metadata.uid.clone().unwrap());
        let run = json!({
            "apiVersion": "bam.dev/v1alpha1", "kind": "BamRun",
            "metadata": {
                "name": node.name, "namespace": "lab", "uid": format!("uid-{}", node.name), "generation": 1,
                "annotations": { "bam.dev/made-by": name, "bam.dev/tasks": node.tasks.join(",") },
                "ownerReferences": [{ "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "name": name, "uid": uid }],
            },
            "spec": node.spec, "status": status,
        });
        let known: BamRun = serde_json::from_value(run.clone()).unwrap();
        seen.runs.apply(Event::Apply(DeserializeGuard(Ok(known))));
        self.server.put("bamruns", run);
    }

    /// The namespace as the operator sees it.
    fn seen(&self) -> Seen {
        let seen = Seen::default();
        for ((plural, _), object) in &self.server.objects().all {
            match plural.as_str() {
                "bamexperiments" => drop(seen.experiments.apply(Event::Apply(guarded(object)))),
                "bamruns" => {
                    let run = serde_json::from_value(object.clone()).unwrap();
                    drop(seen.runs.apply(Event::Apply(DeserializeGuard(Ok(run)))));
                }
                _ => {}
            }
        }
        seen
    }

    /// A pod of an attempt of a run that ended, with its log.
    pub fn pod(&self, run: &str, attempt: u32, log: &str) {
        self.host(run, attempt, 0, log);
    }

    /// The same of one host of several, the first of which began first.
    pub fn host(&self, run: &str, attempt: u32, index: u32, log: &str) {
        let name = format!("{run}-{attempt}-{index}-x7k2p");
        let annotations = json!({ INDEX: index.to_string() });
        let container = json!({ "name": "trainer", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "finishedAt": "2027-01-15T08:00:00Z" } } });
        self.server.put(
            "pods",
            json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "lab", "uid": name, "annotations": annotations,
                "creationTimestamp": format!("2027-01-15T07:00:0{index}Z"),
                "labels": { "bam.dev/run": run, "bam.dev/attempt": attempt.to_string() } },
            "spec": { "containers": [] }, "status": { "phase": "Succeeded", "containerStatuses": [container] } }),
        );
        self.server.objects().logs.insert(name, log.to_owned());
    }

    /// A manifest in a file.
    pub fn manifest(&self, name: &str, spec: Value) -> String {
        let mut manifest = object(name, spec);
        manifest["metadata"] = json!({ "name": name });
        let path = self.path(&format!("{name}.json"));
        fs::write(&path, manifest.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, called: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bam"));
        command.arg0(called).args(arguments).env("KUBECONFIG", self.path("kubeconfig"));
        command.env_remove("BAM_LOG").env_remove("NO_COLOR").env("NO_PROXY", "127.0.0.1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn bam(&self, arguments: &[&str]) -> Said {
        self.said(self.command("kubectl-bam", arguments))
    }

    pub fn said(&self, mut command: Command) -> Said {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&self.url, "http://cluster").replace(self.folder.path().to_str().unwrap(), "FOLDER")
        };
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn guarded(object: &Value) -> DeserializeGuard<BamExperiment> {
    DeserializeGuard(Ok(serde_json::from_value(object.clone()).unwrap()))
}

/// An experiment on rte and mrpc that distills, with this in its spec.
pub fn object(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment",
        "metadata": { "name": name, "namespace": "lab", "uid": format!("uid-{name}"), "generation": 1 },
        "spec": {
            "tasks": [{ "name": "rte" }, { "name": "mrpc" }], "model": { "pretrained": "tiny" }, "distill": {},
            "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
        },
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

/// Compares with a file of `tests/golden/kubectl`, or writes it if `UPDATE_GOLDEN` is set.
pub fn golden(name: &str, said: &Said) {
    let mut text = said.out.clone();
    if !said.err.is_empty() {
        text += &format!("--- on standard error\n{}", said.err);
    }
    if said.code != Some(0) {
        text += &format!("--- exit code {}\n", said.code.unwrap_or(-1));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubectl").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{text}", path.display());
}
