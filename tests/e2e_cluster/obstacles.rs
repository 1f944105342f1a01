//! What keeps an experiment from going on is said at once, in words that tell what to do; when it is gone, it goes on.

use bam_crds::run::Role;
use serde_json::json;

use crate::diary::Kind;
use crate::experiment::{debug, with};
use crate::namespace::{CLAIM, Namespace};

/// Until the experiment says that it waits for this, with that reason in its condition `Complete`.
#[track_caller]
pub fn waits(namespace: &Namespace, seconds: u64, experiment: &str, reason: &str, words: &[&str]) {
    let what = format!("{experiment} waits with reason {reason} for {words:?}");
    namespace.within(seconds, &what, |seen| {
        let status = seen.experiment(experiment)?;
        let condition = status.conditions.iter().find(|condition| condition.type_ == "Complete")?;
        let said = words.iter().all(|word| status.waiting_for.contains(word));
        (condition.reason == reason && condition.status == "False" && said).then_some(())
    });
    namespace.took(reason);
}

#[test]
fn a_missing_claim_is_named_and_waited_for() {
    let Some(namespace) = Namespace::without_claim("a missing claim") else { return };
    namespace.apply(&debug("homeless", &["rte"]));
    waits(
        &namespace,
        5,
        "homeless",
        "ClaimMissing",
        &["inputs check waits for the PersistentVolumeClaim bam-dir", "create it"],
    );
    let told = namespace.events("BamExperiment", "homeless");
    assert!(told.iter().any(|(reason, note)| reason == "ClaimMissing" && note.contains(CLAIM)), "{told:#?}");
    namespace.make_claim();
    namespace.complete("homeless");
}

#[test]
fn an_experiment_that_is_to_teach_may_be_created_later() {
    let Some(namespace) = Namespace::new("an unknown teacher") else { return };
    let pupil = with(debug("pupil", &["rte"]), "distill/teachers", json!({ "rte": { "experiment": "nowhere" } }));
    namespace.apply(&pupil);
    waits(&namespace, 5, "pupil", "TeacherUnknown", &["nowhere", "distill.teachers.rte"]);
    let told = namespace.events("BamExperiment", "pupil");
    assert!(told.iter().any(|(reason, note)| reason == "TeacherUnknown" && note.contains("nowhere")), "{told:#?}");
    namespace.apply(&debug("nowhere", &["rte"]));
    namespace.complete("nowhere");
    namespace.complete("pupil");
}

#[test]
fn experiments_that_teach_each_other_in_a_circle_are_told_so() {
    let Some(namespace) = Namespace::new("a circle") else { return };
    for (name, teacher) in [("a", "b"), ("b", "a")] {
        let teachers = json!({ "rte": { "experiment": teacher } });
        namespace.apply(&with(debug(name, &["rte"]), "distill/teachers", teachers));
    }
    waits(&namespace, 5, "a", "TeacherCycle", &["in a circle (a -> b -> a)"]);
    waits(&namespace, 5, "b", "TeacherCycle", &["in a circle (b -> a -> b)"]);
}

#[test]
fn an_image_that_cannot_be_pulled_is_said_to_be_waited_for() {
    let Some(namespace) = Namespace::new("no such image") else { return };
    namespace.apply(&with(debug("pulls", &["rte"]), "compute/image", "localhost/no-such-image:1"));
    waits(&namespace, 60, "pulls", "Starting", &["inputs check", "localhost/no-such-image:1"]);
    let said = namespace.diary.read(|seen| seen.experiment("pulls")).unwrap().waiting_for;
    assert!(said.contains("ErrImagePull") || said.contains("ImagePullBackOff"), "{said}");
}

#[test]
fn a_pod_that_no_node_has_room_for_says_what_the_scheduler_says_and_is_given_up_in_time() {
    let Some(namespace) = Namespace::new("no room") else { return };
    let huge = with(debug("huge", &["rte"]), "compute/resources/requests/memory", "900Ti");
    namespace.apply(&with(huge, "failurePolicy/pendingDeadlineSeconds", 20));
    waits(&namespace, 20, "huge", "Starting", &["waits for a node: 0/", "Insufficient memory"]);
    namespace.within(60, "it has failed, and no pod is left", |seen| {
        let conditions = seen.experiment("huge")?.conditions;
        let failed = conditions.into_iter().find(|it| it.type_ == "Failed" && it.status == "True")?;
        assert!(failed.message.contains("longer than failurePolicy.pendingDeadlineSeconds (20 s)"), "{failed:?}");
        seen.all(Kind::Pod).is_empty().then_some(())
    });
}

#[test]
fn a_quota_that_allows_no_job_is_named_and_its_end_noticed() {
    let Some(namespace) = Namespace::new("a quota of Jobs") else { return };
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "nothing" },
        "spec": { "hard": { "count/jobs.batch": "0" } },
    });
    namespace.apply(&quota);
    namespace.eventually(20, "the quota is in force", || {
        let quota = namespace.get(&["resourcequota", "nothing", "-n", &namespace.name]);
        (quota["status"]["hard"]["count/jobs.batch"] == "0").then_some(())
    });
    namespace.apply(&debug("poor", &["rte"]));
    waits(&namespace, 10, "poor", "Refused", &["inputs check is held up", "exceeded quota: nothing"]);
    namespace.kubectl(&["delete", "resourcequota", "nothing"]);
    namespace.complete("poor");
}

#[test]
fn a_quota_that_allows_no_pod_is_named_and_its_end_noticed() {
    let Some(namespace) = Namespace::new("a quota of pods") else { return };
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "nothing" },
        "spec": { "hard": { "pods": "0" } },
    });
    namespace.apply(&quota);
    namespace.eventually(20, "the quota is in force", || {
        let quota = namespace.get(&["resourcequota", "nothing", "-n", &namespace.name]);
        (quota["status"]["hard"]["pods"] == "0").then_some(())
    });
    namespace.apply(&debug("poor", &["rte"]));
    // The Job is there, its pod is not: only the Job controller knows why, and says so in an event of the Job.
    waits(&namespace, 30, "poor", "Starting", &["inputs check", "waits for its pod", "exceeded quota: nothing"]);
    namespace.kubectl(&["delete", "resourcequota", "nothing"]);
    namespace.complete("poor");
}

/// A field that the operator does not know can come with a newer CRD.
#[test]
fn an_object_that_cannot_be_understood_stops_nobody_else() {
    let Some(namespace) = Namespace::alone("an undecodable object") else { return };
    let crd = namespace.get(&["crd", "bamexperiments.bam.dev"]);
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-preserve-unknown-fields";
    let patch = |operation: serde_json::Value| {
        let patch = json!([operation]).to_string();
        namespace.kubectl(&["patch", "crd", "bamexperiments.bam.dev", "--type=json", "-p", &patch]);
    };
    assert!(crd.pointer(spec).is_none());
    struct Restore<F: Fn()>(F);
    impl<F: Fn()> Drop for Restore<F> {
        fn drop(&mut self) {
            self.0();
        }
    }
    let _restore = Restore(|| patch(json!({ "op": "remove", "path": spec })));
    patch(json!({ "op": "add", "path": spec, "value": true }));
    let count = || namespace.metrics()[r#"bam_undecodable_objects{kind="bamexperiments"}"#];
    assert_eq!(count(), 0.0, "there is one already");

    let strange = with(debug("strange", &["rte"]), "fromTheFuture", true);
    namespace.eventually(20, "the API server keeps the field", || {
        namespace.apply(&strange);
        let kept = namespace.get(&["bam", "strange", "-n", &namespace.name])["spec"]["fromTheFuture"] == true;
        if !kept {
            namespace.kubectl(&["delete", "bam", "strange"]);
        }
        kept.then_some(())
    });
    namespace.apply(&debug("plain", &["rte"]));
    namespace.complete("plain");
    let told = namespace.events("BamExperiment", "strange");
    let undecodable: Vec<_> = told.iter().filter(|(reason, _)| reason == "Undecodable").collect();
    assert_eq!(undecodable.len(), 1, "{told:#?}");
    assert!(undecodable[0].1.contains("fromTheFuture"), "{told:#?}");
    assert_eq!(count(), 1.0);
    namespace.kubectl(&["delete", "bam", "strange"]);
    namespace.eventually(15, "it counts no longer", || (count() == 0.0).then_some(()));
}

#[test]
fn a_named_experiment_s_student_teaches_and_is_not_trained_again() {
    let Some(namespace) = Namespace::new("a named teacher") else { return };
    let mut teaching = debug("teaching", &["rte"]);
    teaching["spec"].as_object_mut().unwrap().remove("distill");
    namespace.apply(&teaching);
    namespace.complete("teaching");
    let teacher = namespace.run_of("teaching", Role::Student, "rte").name;
    let trained = namespace.store.manifests();

    let learning = debug("learning", &["rte", "mrpc"]);
    namespace.apply(&with(learning, "distill/teachers", json!({ "rte": { "experiment": "teaching" } })));
    let status = namespace.complete("learning");
    assert_eq!(status.named_teachers["rte"], teacher);
    let teachers: Vec<_> = status.runs.iter().filter(|run| run.role == Role::Teacher).collect();
    assert!(teachers.iter().any(|run| run.name == teacher), "{teachers:#?}");
    assert_eq!(namespace.diary.read(|seen| seen.ever(Kind::Job, &teacher).len()), 1);
    assert_eq!(namespace.store.manifests()[&science(&namespace, &teacher)], trained[&science(&namespace, &teacher)]);
    // It learned from that one and from no other.
    let student = namespace.run_of("learning", Role::Student, "rte").name;
    let config = namespace.diary.read(|seen| seen.run(&student)).unwrap().spec.config.unwrap();
    let rte = config.science.tasks.iter().find(|task| task.name == "rte").unwrap();
    assert_eq!(rte.teachers.iter().map(ToString::to_string).collect::<Vec<_>>(), [science(&namespace, &teacher)]);
}

fn science(namespace: &Namespace, run: &str) -> String {
    let run = namespace.diary.read(|seen| seen.run(run)).unwrap();
    run.spec.config.unwrap().science_hash.to_string()
}
