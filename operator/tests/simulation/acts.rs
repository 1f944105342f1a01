//! What a schedule does to the world: the user's acts, and all faults.

use std::sync::Arc;

use bam_crds::BamExperiment;
use bam_crds::experiment::{
    BamExperimentSpec, ClaimSpec, ComputeSpec, DistillSpec, FailurePolicyOverrides, ModelSpec, NamedTeachers,
    QualityGate, StorageSpec, TaskSpec,
};
use bam_crds::profile::ProfileRef;
use serde_json::{Value, json};

use crate::history::{Who, text};
use crate::schedule::{Act, Experiment, Millis};
use crate::world::{Event, Heal, NAMESPACE, Wish, World};

/// The claim in which everything is kept.
const CLAIM: &str = "bam-dir";
/// The profile that they may name.
pub const PROFILE: &str = "machines";
/// What the experiments of a schedule are called.
pub const NAMES: [&str; 2] = ["a", "b"];

impl World {
    pub fn act(&mut self, act: Act) {
        self.came(format!("{act:?}"));
        match act {
            Act::Submit(which) => self.submit(which),
            Act::Suspend(which) => self.suspend(which, true),
            Act::Resume(which) => self.suspend(which, false),
            Act::Cancel(which) => self.change_spec(which, |spec| spec["cancel"] = true.into()),
            Act::Retry(which) => self.change_spec(which, |spec| {
                let before = spec["retry"].as_u64().unwrap_or_default();
                spec["retry"] = (before + 1).into();
            }),
            Act::Delete(which, slowly) => self.delete_experiment(NAMES[which], slowly),
            Act::Annotate => self.annotate(),
            Act::RemoveJob => self.with_one("jobs", |world, job| world.remove(Who::User, "jobs", &job)),
            Act::RemoveClaim(long) => {
                self.remove(Who::User, "persistentvolumeclaims", CLAIM);
                self.heals(long, Heal::Claim);
            }
            Act::ChangeProfile => self.write_profile(),
            Act::RemoveProfile(long) => {
                self.remove(Who::User, "bamprofiles", PROFILE);
                self.heals(long, Heal::Profile);
            }
            Act::Fate(fate, count) => (0..count).for_each(|_| self.machines.fates.push_back(fate)),
            Act::Evict => self.with_running(|world, pod| world.delete_pod(Who::Kubelet, &pod, Some("evicted"))),
            Act::ForceDelete => self.with_running(|world, pod| world.remove_pod(&pod)),
            Act::LoseMachine => self.with_running(|world, pod| world.lose_machine(&pod)),
            Act::HinderPods(long) => {
                self.machines.hindered = true;
                self.heals(long, Heal::Pods);
            }
            Act::BreakImages(long) => {
                self.machines.images_broken = true;
                self.heals(long, Heal::Images);
            }
            Act::LoseArtifacts(changed) => self.lose_artifacts(changed),
            Act::Lag(kind, by, long) => {
                self.network.lag.insert(kind, by);
                self.heals(long, Heal::Lag(kind));
            }
            Act::Double(kind, long) => {
                self.network.doubles.push(kind);
                self.heals(long, Heal::Double(kind));
            }
            Act::Break(kind, with_error) => self.server.break_watches(kind, with_error),
            Act::Expire(kind) => self.server.forget(kind),
            Act::Refuse(count, code) => self.network.refusals.extend((0..count).map(|_| code)),
            Act::Swallow(count, done) => self.network.swallows.extend((0..count).map(|_| done)),
            Act::Slow(by, long) => {
                self.network.slow = by;
                self.heals(long, Heal::Slow);
            }
            Act::Crash(long) => {
                self.wishes.push(Wish::Kill);
                self.later(long, Event::Heal(Heal::Operator));
            }
            Act::Replace => self.wishes.extend([Wish::Stop, Wish::Start]),
            Act::Twin(long) => {
                self.wishes.push(Wish::Start);
                self.later(long, Event::Heal(Heal::Twin));
            }
            Act::Skew(seconds) => self.skew = seconds,
            Act::SkewMachines(seconds) => self.machines.skew = seconds,
            Act::MuteLease(long) => {
                self.network.muted = self.server.leader.and_then(|(leader, _)| leader);
                self.heals(long, Heal::Lease);
            }
        }
    }

    fn heals(&mut self, after: Millis, what: Heal) {
        self.later(after, Event::Heal(what));
    }

    pub fn heal(&mut self, what: Heal) {
        match what {
            Heal::Lag(kind) => drop(self.network.lag.remove(kind)),
            Heal::Double(kind) => self.network.doubles.retain(|it| *it != kind),
            Heal::Slow => self.network.slow = 0,
            Heal::Pods => self.machines.hindered = false,
            Heal::Images => self.machines.images_broken = false,
            Heal::Claim => self.make_claim(),
            Heal::Profile => self.write_profile(),
            Heal::Operator => self.wishes.push(Wish::Start),
            Heal::Lease => self.network.muted = None,
            Heal::Twin => self.wishes.push(Wish::KillOld),
        }
    }

    pub fn make_claim(&mut self) {
        if self.server.get("persistentvolumeclaims", CLAIM).is_none() {
            let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": CLAIM } });
            self.put(Who::User, "persistentvolumeclaims", claim);
        }
    }

    /// A profile that never said the same before.
    pub fn write_profile(&mut self) {
        self.profiles += 1;
        let spec = json!({ "compute": { "image": format!("trainer-{}", self.profiles) } });
        match self.server.get("bamprofiles", PROFILE) {
            Some(_) => self.change("bamprofiles", PROFILE, |profile| profile["spec"] = spec),
            None => {
                let profile = json!({
                    "apiVersion": "bam.dev/v1alpha1", "kind": "BamProfile", "metadata": { "name": PROFILE }, "spec": spec,
                });
                self.put(Who::User, "bamprofiles", profile);
            }
        }
    }

    fn submit(&mut self, which: usize) {
        if self.server.get("bamexperiments", NAMES[which]).is_none() {
            let spec = spec(&self.schedule.experiments[which]);
            let mut experiment = BamExperiment::new(NAMES[which], spec);
            experiment.metadata.namespace = Some(NAMESPACE.to_owned());
            let experiment = serde_json::to_value(&experiment).expect("an experiment is plain data");
            self.put(Who::User, "bamexperiments", experiment);
        }
    }

    fn change(&mut self, kind: &'static str, name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(object) = self.server.get(kind, name).cloned() {
            let mut object = Arc::unwrap_or_clone(object);
            change(&mut object);
            self.put(Who::User, kind, object);
        }
    }

    fn suspend(&mut self, which: usize, suspend: bool) {
        self.change_spec(which, |spec| spec["suspend"] = suspend.into());
    }

    fn change_spec(&mut self, which: usize, change: impl FnOnce(&mut Value)) {
        self.change("bamexperiments", NAMES[which], |experiment| change(&mut experiment["spec"]));
    }

    fn annotate(&mut self) {
        let mark = format!("{}", self.now);
        for kind in ["bamexperiments", "bamruns", "jobs"] {
            for object in self.server.all(kind) {
                let name = text(&object, "/metadata/name");
                self.change(kind, name, |object| object["metadata"]["annotations"]["mark"] = mark.clone().into());
            }
        }
    }

    fn delete_experiment(&mut self, name: &str, slowly: bool) {
        if !slowly {
            return self.remove(Who::User, "bamexperiments", name);
        }
        let until = self.stamp();
        self.change("bamexperiments", name, |experiment| experiment["metadata"]["deletionTimestamp"] = until.into());
        let after = self.random.between(100, 5_000);
        self.later(after, Event::FinishDeletion(name.to_owned()));
    }

    fn with_one(&mut self, kind: &'static str, act: impl FnOnce(&mut Self, String)) {
        let names: Vec<_> =
            self.server.all(kind).iter().map(|object| text(object, "/metadata/name").to_owned()).collect();
        if !names.is_empty() {
            let name = self.random.pick(&names);
            act(self, name);
        }
    }

    fn with_running(&mut self, act: impl FnOnce(&mut Self, String)) {
        let running = self.machines.running();
        if !running.is_empty() {
            let pod = self.random.pick(&running);
            act(self, pod);
        }
    }
}

/// The manifest of an experiment.
fn spec(wanted: &Experiment) -> BamExperimentSpec {
    let task = |name: &&str| TaskSpec { name: (*name).to_owned(), ..TaskSpec::default() };
    let gate = wanted.best_of.map(|best_of| QualityGate { best_of, ..QualityGate::default() });
    let mut distill =
        wanted.distills.then(|| DistillSpec { annealing: true, quality_gate: gate, ..DistillSpec::default() });
    if let (Some(distill), Some(teacher)) = (&mut distill, wanted.taught_by) {
        let named = NamedTeachers { experiment: Some(teacher.to_owned()), ..NamedTeachers::default() };
        distill.teachers.insert(wanted.tasks[0].to_owned(), named);
    }
    let claim = ClaimSpec { claim_name: CLAIM.to_owned() };
    BamExperimentSpec {
        tasks: wanted.tasks.iter().map(task).collect(),
        distill,
        hyperparameters: Default::default(),
        seed: 1,
        precision: Default::default(),
        trials: wanted.trials,
        model: ModelSpec { pretrained: "tiny".to_owned() },
        storage: StorageSpec { persistent_volume_claim: Some(claim), ..StorageSpec::default() },
        fetch: None,
        compute: ComputeSpec {
            profile: wanted.names_profile.then(|| ProfileRef { name: PROFILE.to_owned(), ..ProfileRef::default() }),
            ..ComputeSpec::default()
        },
        priority_class_name: None,
        queue_name: None,
        failure_policy: FailurePolicyOverrides {
            application_retries: Some(wanted.application_retries),
            infrastructure_retries: Some(wanted.infrastructure_retries),
            pending_deadline_seconds: wanted.pending_deadline,
        },
        max_parallel_runs: wanted.parallel,
        suspend: false,
        cancel: false,
        retry: 0,
        managed_by: None,
        active_deadline_seconds: wanted.deadline,
        ttl_seconds_after_finished: wanted.ttl_seconds,
    }
}
