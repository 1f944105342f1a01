//! A namespace of a test, with a volume, and with a diary of all that happens in it. It goes when the test ends.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bam_crds::experiment::{ExperimentPhase, RunSummary};
use bam_crds::run::Role;
use bam_crds::{BamExperimentStatus, BamRunStatus};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Peace};
use crate::diary::{Diary, Kind, Seen};
use crate::store::Store;

/// The name of the claim in all manifests.
pub const CLAIM: &str = "bam-dir";
/// No debug experiment takes longer, whatever is done to it.
const PATIENCE: Duration = Duration::from_secs(180);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub struct Namespace {
    pub name: String,
    pub store: Store,
    pub diary: Diary,
    cluster: Cluster,
    began: Instant,
    _peace: Peace,
}

impl Deref for Namespace {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Namespace {
    /// For a test that disturbs nobody: with the demo's data, and a claim. None: the test is skipped, and says so.
    pub fn new(test: &str) -> Option<Self> {
        let namespace = Self::make(test, Peace::calm)?;
        namespace.make_claim();
        Some(namespace)
    }

    /// For a test that disturbs operator or API server.
    pub fn alone(test: &str) -> Option<Self> {
        let namespace = Self::make(test, Peace::alone)?;
        // A test that failed may have left it on its way.
        namespace.operator_is_back();
        namespace.make_claim();
        Some(namespace)
    }

    /// Without a claim.
    pub fn without_claim(test: &str) -> Option<Self> {
        Self::make(test, Peace::calm)
    }

    fn make(test: &str, peace: impl FnOnce() -> Peace) -> Option<Self> {
        let cluster = Cluster::find(test)?;
        let folder = |variable| match std::env::var_os(variable) {
            Some(folder) => Some(PathBuf::from(folder)),
            None => {
                println!("SKIPPED: no volume: {test}: {variable} is not set (`make test` sets it)");
                None
            }
        };
        let (volumes, inputs) = (folder("BAM_TEST_VOLUME_DIR")?, folder("BAM_TEST_BAM_DIR")?);
        let peace = peace();
        let name = format!("e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let store = Store::with_demo(volumes.join(&name), &inputs);
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
        });
        cluster.kubectl(&["create", "-f", "-"], &object.to_string());
        let diary = Diary::begin(&cluster.client, &name);
        Some(Self { name, store, diary, cluster, began: Instant::now(), _peace: peace })
    }

    /// Until nothing is left of the tests before this one: their namespaces go by themselves, some time after they end.
    #[track_caller]
    pub fn others_are_gone(&self) {
        let of_tests = format!("e2e-{}-", std::process::id());
        self.eventually(120, "the namespaces of earlier tests are gone", || {
            let namespaces = self.cluster.kubectl(&["get", "namespaces", "-o", "name"], "");
            let mut names = namespaces.lines().filter_map(|line| line.strip_prefix("namespace/"));
            names.all(|name| !name.starts_with(&of_tests) || name == self.name).then_some(())
        });
    }

    /// The claim, and the volume that it is bound to.
    pub fn make_claim(&self) {
        let storage = json!({ "storage": "1Gi" });
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": self.name },
            "spec": {
                "accessModes": ["ReadWriteMany"], "capacity": storage, "storageClassName": "",
                "claimRef": { "namespace": self.name, "name": CLAIM },
                "hostPath": { "path": self.store.folder, "type": "Directory" },
            },
        });
        self.cluster.kubectl(&["create", "-f", "-"], &volume.to_string());
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": CLAIM },
            "spec": {
                "accessModes": ["ReadWriteMany"], "resources": { "requests": storage },
                "storageClassName": "", "volumeName": self.name,
            },
        });
        self.apply(&claim);
    }

    /// `kubectl -n`, which must not fail.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", &self.name], arguments].concat(), "")
    }

    /// `kubectl -n`, which may fail.
    pub fn try_kubectl(&self, arguments: &[&str]) -> (bool, String) {
        self.cluster.try_kubectl(&[&["-n", &self.name], arguments].concat(), "")
    }

    /// `kubectl apply -f`.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.cluster.kubectl(&["-n", &self.name, "apply", "-f", "-"], &object.to_string());
    }

    /// Until there is an answer; after so many seconds the test has failed.
    #[track_caller]
    pub fn within<T>(&self, seconds: u64, what: &str, look: impl FnMut(&Seen) -> Option<T>) -> T {
        let began = Instant::now();
        let answer = self.diary.wait(Duration::from_secs(seconds), look);
        answer.unwrap_or_else(|| panic!("not within {} s: {what}", began.elapsed().as_secs()))
    }

    /// Until there is an answer, of what the diary does not tell.
    #[track_caller]
    pub fn eventually<T>(&self, seconds: u64, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = look() {
                return answer;
            }
            assert!(began.elapsed().as_secs() < seconds, "not within {seconds} s: {what}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Until an experiment is in this phase. It must not fail before.
    #[track_caller]
    pub fn wait_for(&self, experiment: &str, phase: ExperimentPhase) -> BamExperimentStatus {
        let what = format!("{experiment} is {phase:?}");
        let status = self.within(PATIENCE.as_secs(), &what, |seen| {
            let status = seen.experiment(experiment)?;
            (status.phase == phase || status.phase == ExperimentPhase::Failed).then_some(status)
        });
        assert_eq!(status.phase, phase, "{status:#?}");
        status
    }

    /// Until it is complete.
    #[track_caller]
    pub fn complete(&self, experiment: &str) -> BamExperimentStatus {
        self.wait_for(experiment, ExperimentPhase::Complete)
    }

    /// The experiment's run of that role with that task, when there is one.
    #[track_caller]
    pub fn run_of(&self, experiment: &str, role: Role, task: &str) -> RunSummary {
        let what = format!("{experiment} has a {role:?} of {task}");
        self.within(PATIENCE.as_secs(), &what, |seen| {
            let runs = seen.experiment(experiment)?.runs;
            let mut those = runs.into_iter().filter(|run| run.role == role && run.tasks.iter().any(|it| it == task));
            those.find(|run| seen.object(Kind::Run, &run.name).is_some())
        })
    }

    /// How a run stands, when that is so.
    #[track_caller]
    pub fn run_when(&self, run: &str, what: &str, is_so: impl Fn(&BamRunStatus) -> bool) -> BamRunStatus {
        self.within(PATIENCE.as_secs(), &format!("{run} {what}"), |seen| seen.run_status(run).filter(&is_so))
    }

    /// Every run of this experiment, all of which ended well, took this many attempts by title (`Teacher rte`), with as
    /// many Jobs.
    pub fn attempts(&self, experiment: &str) -> Vec<(String, u32)> {
        self.diary.read(|seen| {
            let runs = seen.experiment(experiment).unwrap_or_default().runs.into_iter();
            let attempts = runs.map(|run| {
                let status = seen.run_status(&run.name).unwrap_or_default();
                let title = format!("{:?} {}", run.role, run.tasks.join("+"));
                (title, status.attempts.max(seen.ever(Kind::Job, &run.name).len() as u32))
            });
            attempts.collect()
        })
    }

    /// The events about an object in the order of their time: reason and note.
    pub fn events(&self, kind: &str, name: &str) -> Vec<(String, String)> {
        let events = self.get(&["events.events.k8s.io", "-n", &self.name]);
        let mut events: Vec<_> = events["items"].as_array().unwrap().clone();
        events.retain(|event| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name);
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        events.sort_by_key(|event| text(event, "eventTime"));
        events.iter().map(|event| (text(event, "reason"), text(event, "note"))).collect()
    }

    /// Says how long something took, for whoever reads the test's output.
    pub fn took(&self, what: &str) {
        println!("{what}: {:.1} s", self.began.elapsed().as_secs_f64());
    }

    fn tell_all(&self) {
        println!("--- {} after {:.1} s", self.name, self.began.elapsed().as_secs_f64());
        let looks: [&[&str]; 4] = [
            &["get", "bam,bamruns,jobs,pods,pvc", "-o", "wide"],
            &["get", "events.events.k8s.io", "--sort-by=.eventTime"],
            &["describe", "bam"],
            &["get", "bamruns", "-o", "yaml"],
        ];
        for look in looks {
            println!("--- kubectl {}\n{}", look.join(" "), self.try_kubectl(look).1);
        }
        println!("--- the operator's log\n{}", self.operator_log());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_all();
        }
        // Nothing may start again, and pods have much time to end: not these.
        let _ = self.try_kubectl(&["delete", "bam", "--all", "--wait=false"]);
        let _ = self.try_kubectl(&["delete", "pods", "--all", "--grace-period=1", "--wait=false"]);
        // They go by themselves; a test that ends need not wait for it.
        for (kind, name) in [("namespace", &self.name), ("pv", &self.name)] {
            let delete = ["delete", kind, name, "--ignore-not-found", "--wait=false"];
            let (well, said) = self.cluster.try_kubectl(&delete, "");
            if !well {
                println!("{kind} {name} stays: {said}");
            }
        }
        // A pod's last files may come while this goes. (The store itself tries once more.)
        let _ = fs::remove_dir_all(&self.store.folder);
    }
}
