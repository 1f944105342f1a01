//! Profiles: waited for, heeded by the runs that are made after they were written, and never by those before.

use bam_crds::BamRunSpec;
use bam_crds::profile::ProfileKind;
use bam_crds::run::Role;
use serde_json::{Value, json};

use crate::diary::Kind;
use crate::experiment::{debug, with};
use crate::namespace::Namespace;
use crate::obstacles::waits;

fn profile(kind: &str, name: &str, label: &str, memory: &str) -> Value {
    json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": kind, "metadata": { "name": name },
        "spec": {
            "failurePolicy": { "infrastructureRetries": 7 },
            "compute": {
                "keepJobs": "Always",
                "resources": { "limits": { "memory": memory } },
                "podTemplate": { "metadata": { "labels": { "profile": label, "team": "everybody" } } },
            },
        },
    })
}

/// An experiment of rte that names a profile, and has a label of its own.
fn naming(name: &str, kind: &str, profile: &str) -> Value {
    let experiment = with(debug(name, &["rte"]), "compute/profile", json!({ "name": profile, "kind": kind }));
    with(experiment, "compute/podTemplate", json!({ "metadata": { "labels": { "team": "mine" } } }))
}

/// The specification of the experiment's run of this role.
fn made(namespace: &Namespace, experiment: &str, role: Role) -> BamRunSpec {
    let run = namespace.run_of(experiment, role, "rte").name;
    namespace.diary.read(|seen| seen.run(&run)).unwrap_or_else(|| panic!("{run} is gone")).spec
}

/// Label and limit of memory of a run's pods.
fn pods(namespace: &Namespace, run: &str) -> Vec<[String; 3]> {
    namespace.diary.read(|seen| {
        let pods = seen.pages.iter().filter(|page| page.kind == Kind::Pod).filter_map(|page| page.object.clone());
        let its = pods.filter(|pod| pod["metadata"]["labels"][bam_crds::names::RUN_LABEL] == run);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        its.map(|pod| {
            let labels = &pod["metadata"]["labels"];
            let limit = &pod["spec"]["containers"][0]["resources"]["limits"]["memory"];
            [text(&labels["profile"]), text(&labels["team"]), text(limit)]
        })
        .collect()
    })
}

#[test]
fn a_profile_is_waited_for_and_a_change_of_it_reaches_later_runs_alone() {
    let Some(namespace) = Namespace::new("profiles") else { return };
    namespace.apply(&naming("first", "BamProfile", "small"));
    let place = format!("which does not exist in namespace {}: create it", namespace.name);
    waits(&namespace, 20, "first", "ProfileMissing", &["waits for BamProfile small", &place]);
    assert!(namespace.diary.read(|seen| seen.all(Kind::Run).is_empty()), "nothing is made without it");

    namespace.apply(&profile("BamProfile", "small", "one", "1500Mi"));
    let status = namespace.complete("first");
    let in_use = status.profile.expect("it names one");
    assert_eq!((in_use.kind, in_use.name.as_str(), in_use.generation), (ProfileKind::BamProfile, "small", 1));
    for role in [Role::Inputs, Role::Teacher, Role::Student] {
        let run = namespace.run_of("first", role, "rte").name;
        let pods = pods(&namespace, &run);
        assert!(!pods.is_empty(), "{role:?}");
        assert!(pods.iter().all(|pod| *pod == ["one", "mine", "1500Mi"]), "{role:?}: {pods:?}");
        assert_eq!(made(&namespace, "first", role).failure_policy.infrastructure_retries, 7);
    }

    let before = made(&namespace, "first", Role::Teacher);
    namespace.apply(&profile("BamProfile", "small", "two", "1600Mi"));
    // Another seed is another student; the teacher is shared, and stays as it was made.
    namespace.apply(&with(naming("second", "BamProfile", "small"), "seed", 2));
    let status = namespace.complete("second");
    assert_eq!(status.profile.map(|profile| profile.generation), Some(2));
    let student = namespace.run_of("second", Role::Student, "rte").name;
    assert!(pods(&namespace, &student).iter().all(|pod| *pod == ["two", "mine", "1600Mi"]));
    let teacher = namespace.run_of("second", Role::Teacher, "rte");
    assert_eq!(teacher.shared, "is shared with experiment first, which made it");
    assert_eq!(made(&namespace, "first", Role::Teacher), before);
    let [first, second] = ["first", "second"].map(|it| namespace.run_of(it, Role::Teacher, "rte").name);
    assert_eq!(first, second);
}

/// It is no namespace's, and goes with the test.
struct OfTheCluster<'a>(&'a Namespace, String);

impl Drop for OfTheCluster<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_kubectl(&["delete", "clusterbamprofile", &self.1, "--ignore-not-found"]);
    }
}

#[test]
fn a_profile_of_the_cluster_is_heeded_in_every_namespace() {
    let Some(namespace) = Namespace::new("a profile of the cluster") else { return };
    let name = namespace.name.clone();
    namespace.apply(&naming("everywhere", "ClusterBamProfile", &name));
    let said = format!("waits for ClusterBamProfile {name}, which does not exist in this cluster");
    waits(&namespace, 20, "everywhere", "ProfileMissing", &[&said]);
    let _profile = OfTheCluster(&namespace, name.clone());
    namespace.apply(&profile("ClusterBamProfile", &name, "all", "1500Mi"));
    let status = namespace.complete("everywhere");
    assert_eq!(status.profile.map(|profile| profile.kind), Some(ProfileKind::ClusterBamProfile));
    let student = namespace.run_of("everywhere", Role::Student, "rte").name;
    assert!(pods(&namespace, &student).iter().all(|pod| *pod == ["all", "mine", "1500Mi"]));
}
