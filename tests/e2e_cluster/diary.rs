//! What happened in a namespace, as watches told it, from the first moment on.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::RunPhase;
use bam_crds::{BamExperiment, BamExperimentStatus, BamRun, BamRunStatus, names};
use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::cluster::RUNTIME;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Experiment,
    Run,
    Job,
    Pod,
}

/// One look at one object.
#[derive(Debug)]
pub struct Page {
    pub kind: Kind,
    pub name: String,
    pub uid: String,
    /// None: it is gone.
    pub object: Option<Value>,
}

/// Everything that was seen, and how it is now.
#[derive(Debug, Default)]
pub struct Seen {
    pub pages: Vec<Page>,
    now: BTreeMap<(Kind, String), usize>,
}

impl Seen {
    fn write(&mut self, kind: Kind, object: &DynamicObject, there: bool) {
        let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
        let key = (kind, name.clone());
        if there {
            self.now.insert(key, self.pages.len());
        } else {
            self.now.remove(&key);
        }
        let object = there.then(|| serde_json::to_value(object).unwrap());
        self.pages.push(Page { kind, name, uid, object });
    }

    /// An object as it is now.
    pub fn object(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.now.get(&(kind, name.to_owned())).and_then(|page| self.pages[*page].object.as_ref())
    }

    fn typed<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Option<T> {
        serde_json::from_value(self.object(kind, name)?.clone()).ok()
    }

    /// An experiment's status now.
    pub fn experiment(&self, name: &str) -> Option<BamExperimentStatus> {
        let experiment: BamExperiment = self.typed(Kind::Experiment, name)?;
        Some(experiment.status.unwrap_or_default())
    }

    /// A run as it is now.
    pub fn run(&self, name: &str) -> Option<BamRun> {
        self.typed(Kind::Run, name)
    }

    /// How a run stands now.
    pub fn run_status(&self, name: &str) -> Option<BamRunStatus> {
        self.run(name).map(|run| run.status.unwrap_or_default())
    }

    /// What there is now of a kind, by name.
    pub fn all(&self, kind: Kind) -> Vec<(&str, &Value)> {
        let names = self.now.keys().filter(|(it, _)| *it == kind);
        names.filter_map(|(_, name)| Some((name.as_str(), self.object(kind, name)?))).collect()
    }

    /// All looks at one object.
    fn looks<'a>(&'a self, kind: Kind, name: &'a str) -> impl Iterator<Item = &'a Value> {
        let pages = self.pages.iter().filter(move |page| page.kind == kind && page.name == name);
        pages.filter_map(|page| page.object.as_ref())
    }

    /// The phases that an experiment was seen in, in order.
    pub fn phases(&self, experiment: &str) -> Vec<ExperimentPhase> {
        let mut phases: Vec<ExperimentPhase> = self
            .looks(Kind::Experiment, experiment)
            .filter_map(|object| serde_json::from_value(object["status"]["phase"].clone()).ok())
            .collect();
        phases.dedup();
        phases
    }

    /// The identities of all Jobs or pods that a run ever had, in order.
    pub fn ever(&self, kind: Kind, run: &str) -> Vec<String> {
        let mut uids: Vec<String> = Vec::new();
        for page in &self.pages {
            let label = page.object.as_ref().map(|object| &object["metadata"]["labels"][names::RUN_LABEL]);
            let its = page.kind == kind && label.and_then(Value::as_str) == Some(run);
            if its && !uids.contains(&page.uid) {
                uids.push(page.uid.clone());
            }
        }
        uids
    }

    /// The identities that a run of this name had.
    pub fn run_uids(&self, run: &str) -> Vec<String> {
        let mut uids: Vec<_> = self.looks(Kind::Run, run).filter_map(|it| it["metadata"]["uid"].as_str()).collect();
        uids.dedup();
        uids.into_iter().map(ToOwned::to_owned).collect()
    }

    /// Were all of these runs Running at the same time once?
    pub fn overlapped(&self, runs: &[&str]) -> bool {
        let running = serde_json::to_value(RunPhase::Running).unwrap();
        let mut now = BTreeMap::new();
        self.pages.iter().filter(|page| page.kind == Kind::Run).any(|page| {
            let phase = page.object.as_ref().map(|object| object["status"]["phase"].clone());
            now.insert(page.name.as_str(), phase == Some(running.clone()));
            runs.iter().all(|run| now.get(run) == Some(&true))
        })
    }
}

/// What is written while a test goes on.
pub struct Diary {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    watches: Vec<JoinHandle<()>>,
}

impl Diary {
    pub fn begin(client: &Client, namespace: &str) -> Self {
        let shared = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let kinds = [
            (Kind::Experiment, ApiResource::erase::<BamExperiment>(&())),
            (Kind::Run, ApiResource::erase::<BamRun>(&())),
            (Kind::Job, ApiResource::erase::<Job>(&())),
            (Kind::Pod, ApiResource::erase::<Pod>(&())),
        ];
        let watches = kinds.map(|(kind, resource)| {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            RUNTIME.spawn(write(kind, api, shared.clone()))
        });
        Self { shared, watches: watches.into() }
    }

    /// Looks at it.
    pub fn read<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Until there is an answer, at most so long.
    pub fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&Seen) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let (seen, changed) = &*self.shared;
        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            // A look that panics must not take the diary with it: the lock is poisoned, and goes on.
            if let Some(answer) = look(&seen) {
                return Some(answer);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            seen = changed.wait_timeout(seen, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

async fn write(kind: Kind, api: Api<DynamicObject>, shared: Arc<(Mutex<Seen>, Condvar)>) {
    let mut events = pin!(watcher(api, Config::default()).default_backoff());
    let mut listed: Option<Vec<String>> = None;
    while let Some(event) = events.next().await {
        let mut seen = shared.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Ok(Event::Init) => listed = Some(Vec::new()),
            Ok(Event::InitApply(object)) => {
                listed.iter_mut().for_each(|listed| listed.push(object.name_any()));
                seen.write(kind, &object, true);
            }
            Ok(Event::InitDone) => {
                let listed = listed.take().unwrap_or_default();
                seen.now.retain(|(its, name), _| *its != kind || listed.contains(name));
            }
            Ok(Event::Apply(object)) => seen.write(kind, &object, true),
            Ok(Event::Delete(object)) => seen.write(kind, &object, false),
            Err(_) => {}
        }
        drop(seen);
        shared.1.notify_all();
    }
}
