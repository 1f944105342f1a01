//! Queues of the real Kueue: a run gets its turn when there is quota for it, and says what it waits for until then.

use bam_crds::BamRunStatus;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Failures, Role};
use serde_json::{Value, json};

use crate::cluster::{HeldUp, Script};
use crate::diary::{Kind, Seen};
use crate::experiment::{debug, with};
use crate::faults::{UNDISTURBED, disturbed, pod};
use crate::namespace::Namespace;
use crate::store::assert_same;

/// Kueue in the cluster; it goes when this does. It is asked about every Job, so nobody else may be there.
struct Kueue(Script);

impl Kueue {
    fn install(script: Script) -> Self {
        script.run(&["kueue"]);
        Self(script)
    }
}

impl Drop for Kueue {
    fn drop(&mut self) {
        println!("{}", self.0.try_run(&["no-kueue"]).1);
    }
}

/// In this order they go: Kueue lets go of what is in its queues.
struct Lab {
    namespace: Namespace,
    _kueue: Kueue,
}

/// A queue called `team`, with room for so many pods.
fn make_queue(namespace: &Namespace, pods: u32) {
    let of_kueue = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let quota = json!({ "name": "pods", "nominalQuota": pods });
    let flavor = json!({ "name": "any", "resources": [quota] });
    let groups = json!([{ "coveredResources": ["pods"], "flavors": [flavor] }]);
    namespace.apply(&of_kueue("ResourceFlavor", "any", json!({})));
    let all = json!({ "namespaceSelector": {}, "resourceGroups": groups });
    namespace.apply(&of_kueue("ClusterQueue", "team", all));
    namespace.apply(&of_kueue("LocalQueue", "team", json!({ "clusterQueue": "team" })));
}

/// What Kueue made for a Job.
fn workload_of(namespace: &Namespace, job: &str) -> String {
    let all = namespace.get(&["workloads", "-n", &namespace.name]);
    let is_its = |it: &&Value| it["metadata"]["ownerReferences"][0]["name"] == job;
    let workload = all["items"].as_array().unwrap().iter().find(is_its);
    workload.unwrap_or_else(|| panic!("no Workload of {job}"))["metadata"]["name"].as_str().unwrap().to_owned()
}

fn is_complete(seen: &Seen, experiment: &str) -> bool {
    let status = seen.experiment(experiment).unwrap_or_default();
    assert_ne!(status.phase, ExperimentPhase::Failed, "{status:#?}");
    status.phase == ExperimentPhase::Complete
}

#[test]
fn with_quota_for_one_run_two_experiments_complete_and_a_run_that_loses_its_turn_goes_on_where_it_was() {
    let Some(script) = Script::find("a queue") else { return };
    let Some(namespace) = Namespace::alone("a queue") else { return };
    let lab = Lab { namespace, _kueue: Kueue::install(script) };
    let namespace = &lab.namespace;
    make_queue(namespace, 1);
    // One that saw an earlier Kueue go may take a minute until it sees the next one.
    namespace.kill_operator();
    namespace.operator_is_back();
    namespace.took("Kueue is there");
    let experiments = [("first", "rte"), ("second", "mrpc")];
    for (name, task) in experiments {
        namespace.apply(&with(debug(name, &[task]), "queueName", "team"));
    }
    let said = namespace.within(120, "one says what it waits for", |seen| {
        let waits = experiments.iter().filter_map(|(name, _)| Some(seen.experiment(name)?.waiting_for));
        waits.into_iter().find(|waits| waits.contains("waits in the queue team: ") && waits.contains("quota"))
    });
    println!("{said}");
    namespace.within(300, "both are complete", |seen| {
        let alive = |pod: &Value| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let pods = seen.all(Kind::Pod).into_iter().filter(|(_, pod)| alive(pod)).map(|(name, _)| name);
        let pods: Vec<_> = pods.collect();
        assert!(pods.len() <= 1, "there is quota for one: {pods:?}");
        experiments.iter().all(|(name, _)| is_complete(seen, name)).then_some(())
    });
    namespace.took("two experiments are complete");

    namespace.apply(&with(disturbed(), "queueName", "team"));
    let student = namespace.run_of("disturbed", Role::Student, "rte").name;
    let works = |progress: &bam_crds::run::RunProgress| progress.total > 20 && progress.done > 5;
    namespace.run_when(&student, "trains", |status| status.progress.as_ref().is_some_and(works));
    // It would be done sooner than Kueue takes its turn away, on some machines.
    let held_up = HeldUp::trainer(pod(namespace, &student).1);
    let workload = workload_of(namespace, &format!("{student}-1"));
    let activate = |active: bool| {
        let patch = json!({ "spec": { "active": active } }).to_string();
        namespace.kubectl(&["patch", "workload", &workload, "--type=merge", "-p", &patch]);
    };
    activate(false);
    let is_told = |(_, pod): &(&str, &Value)| !pod["metadata"]["deletionTimestamp"].is_null();
    namespace.within(60, "its pod is told to end", |seen| seen.all(Kind::Pod).iter().any(is_told).then_some(()));
    drop(held_up);
    let waits = |status: &BamRunStatus| status.waiting_for.contains("waits in the queue team");
    let status = namespace.run_when(&student, "has lost its turn", waits);
    println!("{}", status.waiting_for);
    namespace.within(60, "its pod is gone", |seen| seen.all(Kind::Pod).is_empty().then_some(()));
    activate(true);
    namespace.complete("disturbed");
    let status = namespace.diary.read(|seen| seen.run_status(&student).unwrap());
    assert_eq!((status.attempts, status.failures), (1, Failures::default()), "{:#?}", status.history);
    let artifacts = namespace.store.artifacts().into_iter().filter(|(name, _)| UNDISTURBED.contains_key(name));
    assert_same(&artifacts.collect(), &UNDISTURBED);
    namespace.took("complete");
}
