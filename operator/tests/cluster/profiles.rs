//! Profiles as the cluster shows them: found, missing, or not to be read; and who has to look when one changes.

use bam_crds::profile::{ProfileKind, ProfileRef};
use bam_crds::{BamProfile, ClusterBamProfile};
use bam_operator::cluster::observe::Seen;
use bam_operator::cluster::profiles::{OF_NO_NAMESPACE, unreadable};
use bam_operator::cluster::wake;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::fixture::{experiment, put};

fn profile(namespace: &str, name: &str, generation: i64) -> DeserializeGuard<BamProfile> {
    serde_json::from_value(json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "BamProfile",
        "metadata": { "name": name, "namespace": namespace, "generation": generation },
        "spec": { "compute": { "image": format!("{name}-{generation}") } },
    }))
    .unwrap()
}

fn cluster_profile(name: &str) -> DeserializeGuard<ClusterBamProfile> {
    serde_json::from_value(json!({
        "apiVersion": "bam.dev/v1alpha1", "kind": "ClusterBamProfile", "metadata": { "name": name, "generation": 1 },
        "spec": { "priorityClassName": "low" },
    }))
    .unwrap()
}

fn named(kind: ProfileKind, name: &str) -> ProfileRef {
    ProfileRef { kind, name: name.to_owned() }
}

/// An experiment of `lab` that names this profile.
fn naming(experiment_name: &str, kind: ProfileKind, name: &str) -> DeserializeGuard<bam_crds::BamExperiment> {
    let mut experiment = experiment(experiment_name, Value::Null);
    experiment.0.as_mut().unwrap().spec.compute.profile = Some(named(kind, name));
    experiment
}

#[test]
fn a_profile_is_found_in_the_namespace_of_its_experiment_or_in_the_cluster() {
    let seen = Seen::default();
    put(&seen.profiles.namespaced, profile("lab", "l4", 3));
    put(&seen.profiles.cluster, cluster_profile("everybody"));
    put(&seen.experiments, naming("exp", ProfileKind::BamProfile, "l4"));
    let (_, observed) = seen.experiment("lab", "exp").unwrap();
    let found = observed.profile.unwrap().unwrap();
    assert_eq!((found.generation, found.spec.compute.image.as_deref()), (3, Some("l4-3")));

    let said = |namespace: &str, kind: ProfileKind, name: &str| {
        let found = seen.profiles.find(namespace, &named(kind, name));
        found.map_or_else(
            |why| format!("{}: {why}", why.reason()),
            |found| format!("{:?}", found.spec.priority_class_name),
        )
    };
    assert_eq!(said("lab", ProfileKind::ClusterBamProfile, "everybody"), "Some(\"low\")");
    let waits = |what: &str| {
        format!("ProfileMissing: waits for {what}: create it, or name another one in spec.compute.profile")
    };
    for (namespace, kind, name, what) in [
        ("other", ProfileKind::BamProfile, "l4", "BamProfile l4, which does not exist in namespace other"),
        ("lab", ProfileKind::BamProfile, "everybody", "BamProfile everybody, which does not exist in namespace lab"),
        ("lab", ProfileKind::ClusterBamProfile, "l4", "ClusterBamProfile l4, which does not exist in this cluster"),
    ] {
        assert_eq!(said(namespace, kind, name), waits(what));
    }
}

#[test]
fn a_kind_that_cannot_be_read_is_told_with_what_to_do_until_it_can() {
    let seen = Seen::default();
    put(&seen.profiles.namespaced, profile("lab", "l4", 1));
    let find = || seen.profiles.find("lab", &named(ProfileKind::BamProfile, "l4")).map_err(|why| why.to_string());
    for (code, sentence) in [
        (
            404,
            "waits for BamProfile l4, which cannot be read: this cluster does not know the kind: `kubectl apply --server-side \
             -f crds/bamprofiles.bam.dev.yaml`, or upgrade the chart",
        ),
        (
            403,
            "waits for BamProfile l4, which cannot be read: this operator may not: give it the verbs list and watch of \
             bamprofiles.bam.dev",
        ),
    ] {
        let why = unreadable(ProfileKind::BamProfile, code);
        assert!(seen.profiles.note(ProfileKind::BamProfile, why.clone()));
        assert!(!seen.profiles.note(ProfileKind::BamProfile, why), "it is told once");
        assert_eq!(find().unwrap_err(), sentence);
    }
    assert!(seen.profiles.note(ProfileKind::BamProfile, None));
    assert!(find().is_ok());
    for code in [401, 409, 410, 429, 500, 503] {
        assert_eq!(unreadable(ProfileKind::BamProfile, code), None, "{code} passes");
    }
    seen.profiles.note(ProfileKind::ClusterBamProfile, Some(OF_NO_NAMESPACE.to_owned()));
    let why = seen.profiles.find("lab", &named(ProfileKind::ClusterBamProfile, "l4")).unwrap_err();
    assert_eq!(
        why.to_string(),
        "waits for ClusterBamProfile l4, which cannot be read: this operator sees one namespace alone, and may read nothing \
         outside of it: name a BamProfile"
    );
}

#[test]
fn a_profile_that_this_operator_cannot_understand_is_told_with_the_reason() {
    let seen = Seen::default();
    let mut odd = json!({ "metadata": { "name": "l4", "namespace": "lab" }, "spec": { "compute": { "gpus": 1 } } });
    put(&seen.profiles.namespaced, serde_json::from_value(odd.take()).unwrap());
    let why = seen.profiles.find("lab", &named(ProfileKind::BamProfile, "l4")).unwrap_err();
    assert!(why.to_string().contains("which cannot be read: Unknown field gpus"), "{why}");
    assert!(why.to_string().ends_with("; correct it, or upgrade the operator"), "{why}");
}

#[test]
fn a_profile_wakes_the_experiments_that_name_it_and_no_others() {
    let seen = Seen::default();
    put(&seen.experiments, naming("a", ProfileKind::BamProfile, "l4"));
    put(&seen.experiments, naming("b", ProfileKind::BamProfile, "h100"));
    put(&seen.experiments, naming("c", ProfileKind::ClusterBamProfile, "l4"));
    put(&seen.experiments, experiment("d", Value::Null));
    let names = |woken: Vec<bam_operator::platform::Subject>| -> Vec<String> {
        woken.iter().map(ToString::to_string).collect()
    };
    let came = seen.profiles.namespaced.apply(Event::Apply(profile("lab", "l4", 1))).remove(0);
    assert_eq!(names(wake::by_profile(&seen, ProfileKind::BamProfile, &came)), ["experiment lab/a"]);
    let elsewhere = seen.profiles.namespaced.apply(Event::Apply(profile("other", "l4", 1))).remove(0);
    assert_eq!(names(wake::by_profile(&seen, ProfileKind::BamProfile, &elsewhere)), [""; 0]);
    let cluster = seen.profiles.cluster.apply(Event::Apply(cluster_profile("l4"))).remove(0);
    assert_eq!(names(wake::by_profile(&seen, ProfileKind::ClusterBamProfile, &cluster)), ["experiment lab/c"]);
    let all = wake::by_profiles(&seen, ProfileKind::BamProfile, |_| true);
    assert_eq!(names(all), ["experiment lab/a", "experiment lab/b"]);
    assert!(seen.profiles.namespaced.apply(Event::Apply(profile("lab", "l4", 1))).is_empty(), "nothing is otherwise");
    let changed = seen.profiles.namespaced.apply(Event::Apply(profile("lab", "l4", 2))).remove(0);
    assert_eq!(names(wake::by_profile(&seen, ProfileKind::BamProfile, &changed)), ["experiment lab/a"]);
    let gone = seen.profiles.namespaced.apply(Event::Delete(profile("lab", "l4", 2))).remove(0);
    assert_eq!(names(wake::by_profile(&seen, ProfileKind::BamProfile, &gone)), ["experiment lab/a"]);
}
