//! What the planner is told of attempts, from their Jobs and pods.

use bam_crds::ExitReason;
use bam_crds::report::{Progress, Stage};
use bam_operator::cluster::observe::Seen;
use bam_operator::plan::Why;
use bam_operator::plan::retry::Ending;
use bam_operator::plan::run::{Attempt, AttemptState, Observed};
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::fixture::{RUN, container, experiment, guarded, job, pod, put, run, terminated, told_of};

fn now() -> Timestamp {
    "2027-01-15T09:00:00Z".parse().unwrap()
}

fn observed(seen: &Seen) -> Observed {
    seen.run("lab", RUN, None, now()).unwrap().1
}

fn seen(status: Value) -> Seen {
    let seen = Seen::default();
    put(&seen.runs, guarded(run("r", status)));
    seen
}

fn ending(attempt: &Attempt) -> &Ending {
    match &attempt.state {
        AttemptState::Ended(ending) => ending,
        other => panic!("it has not ended: {other:?}"),
    }
}

/// A pod's status, and whether it is ready, and why.
fn with_ready(mut status: Value, ready: &str, reason: Option<&str>) -> Value {
    status["conditions"] = json!([{ "type": "Ready", "status": ready, "reason": reason }]);
    status
}

#[test]
fn an_attempt_stands_as_its_job_and_its_pod_say() {
    let said = serde_json::to_string(&bam_crds::RunReport::new(ExitReason::BadData, "row 7 has no label")).unwrap();
    let progress = serde_json::to_string(&Progress::new(Stage::Training, 7, 120)).unwrap();
    let running = || container(json!({ "running": {} }));
    // (what, how the Job ended, the pod's status, what the planner is told)
    type Case = (&'static str, Option<&'static str>, Option<Value>, &'static str);
    let cases: Vec<Case> = vec![
        ("a Job without a pod has begun", None, None, "starting: waits for its pod"),
        ("a pod without a node waits for one", None, Some(json!({})), "starting: waits for a node"),
        (
            "the scheduler's words are told",
            None,
            Some(
                json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes: too small" }] }),
            ),
            "starting: waits for a node: 0/1 nodes: too small",
        ),
        (
            "an image that cannot be pulled is told",
            None,
            Some(container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } }))),
            "starting: waits for its container (ImagePullBackOff: no such image)",
        ),
        (
            "a container that is being made is nothing special",
            None,
            Some(container(json!({ "waiting": { "reason": "ContainerCreating" } }))),
            "starting: waits for its container",
        ),
        ("a container that runs is at work", None, Some(running()), "running"),
        (
            "a Job that seems to end before its pod does has not been seen to end",
            Some("Failed"),
            Some(running()),
            "running",
        ),
        ("a pod that ended is not over before its Job is", None, Some(terminated(0, "Completed", "")), "running"),
        (
            "a pod that Kubernetes calls unready without a reason is on a node that is silent",
            None,
            Some(with_ready(running(), "False", None)),
            "silent on node-7",
        ),
        (
            "a pod that its kubelet calls unready is on a node that speaks",
            None,
            Some(with_ready(running(), "False", Some("ContainersNotReady"))),
            "running",
        ),
        ("a pod that is ready is at work", None, Some(with_ready(running(), "True", None)), "running"),
        (
            "the pod says how it ended",
            Some("Failed"),
            Some(terminated(65, "Error", &said)),
            "ended 65: row 7 has no label",
        ),
        (
            "what is no report is the end of a log",
            Some("Failed"),
            Some(terminated(139, "Error", "a\nsegfault\n")),
            "ended 139; segfault",
        ),
        (
            "how far it was says nothing of why it ended, also where the kubelet has cut it",
            Some("Failed"),
            Some(terminated(139, "Error", &format!("{}\n{progress}\n{progress}\n", "5}".repeat(1024)))),
            "ended 139",
        ),
        (
            "whoever is killed has not said why",
            Some("Failed"),
            Some(terminated(137, "Error", "all is well\n")),
            "ended 137",
        ),
        (
            "memory that ran out is told by the kubelet",
            Some("Failed"),
            Some(terminated(137, "OOMKilled", "")),
            "ended 137 out of memory",
        ),
        ("a Job that succeeded and lost its pod says nothing more", Some("Complete"), None, "ended 0; so it ended"),
        ("a Job that failed and lost its pod says what it knows", Some("Failed"), None, "ended; so it ended"),
        (
            "a pod that was evicted before it ran says by whom",
            Some("Failed"),
            Some(json!({ "phase": "Failed", "reason": "Evicted", "message": "the node was low on disk" })),
            "ended; the node was low on disk",
        ),
    ];
    for (what, end, status, told) in cases {
        let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
        put(&seen.jobs, job(1, "r", end));
        if let Some(status) = status {
            put(&seen.pods, pod(1, status));
        }
        let attempt = observed(&seen).attempts.remove(&1).unwrap();
        assert_eq!(told_of(&attempt.state), told, "{what}");
        assert!(attempt.removable, "{what}");
    }
}

#[test]
fn a_pod_that_was_told_to_end_and_is_never_heard_of_again_is_lost_with_its_machine() {
    let leaves_by = |at: &str| Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at.parse().unwrap()));
    let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
    put(&seen.jobs, job(1, "r", None));
    let mut leaving = pod(1, container(json!({ "running": {} })));
    leaving.metadata.deletion_timestamp = leaves_by("2027-01-15T08:59:30Z");
    put(&seen.pods, leaving.clone());
    let soon = observed(&seen);
    assert!(matches!(soon.attempts[&1].state, AttemptState::Running(_)), "it has a minute more");
    assert_eq!(soon.look_again, Some("2027-01-15T09:00:30Z".parse().unwrap()));

    leaving.metadata.deletion_timestamp = leaves_by("2027-01-15T08:58:59Z");
    put(&seen.pods, leaving);
    let lost = observed(&seen);
    assert_eq!((ending(&lost.attempts[&1]).code, lost.look_again), (None, None));
    assert!(ending(&lost.attempts[&1]).note.starts_with("its machine was lost"));

    let mut ended = pod(1, terminated(81, "Error", ""));
    ended.metadata.deletion_timestamp = leaves_by("2027-01-15T08:58:59Z");
    put(&seen.pods, ended);
    put(&seen.jobs, job(1, "r", Some("Failed")));
    assert_eq!(ending(&observed(&seen).attempts[&1]).code, Some(81), "it was heard of");
}

#[test]
fn the_last_word_of_a_pod_that_was_deleted_is_kept_until_its_job_is_seen_to_end() {
    let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
    put(&seen.jobs, job(1, "r", None));
    put(&seen.pods, pod(1, terminated(81, "Error", "")));
    seen.pods.apply(Event::Delete(pod(1, terminated(81, "Error", ""))));
    put(&seen.jobs, job(1, "r", Some("Failed")));
    assert_eq!(ending(&observed(&seen).attempts[&1]).reason(), Some(ExitReason::Checkpointed));

    seen.pods.forget_gone("lab", RUN, |pod| pod.number <= 1);
    assert_eq!(ending(&observed(&seen).attempts[&1]).reason(), None);
}

#[test]
fn the_last_words_of_the_pods_of_a_run_that_is_gone_are_forgotten() {
    let seen = seen(json!({}));
    put(&seen.pods, pod(1, terminated(0, "Completed", "")));
    seen.pods.apply(Event::Delete(pod(1, terminated(0, "Completed", ""))));
    seen.forget("lab", RUN);
    assert_eq!(seen.pods.of_run("lab", RUN).len(), 1, "the run is still there");
    seen.runs.apply(Event::Delete(guarded(run("r", json!({})))));
    seen.forget("lab", RUN);
    assert!(seen.pods.of_run("lab", RUN).is_empty());
}

#[test]
fn an_attempt_whose_job_somebody_removed_is_over_when_its_pod_is() {
    let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
    put(&seen.pods, pod(1, container(json!({ "running": {} }))));
    assert!(matches!(observed(&seen).attempts[&1].state, AttemptState::Running(_)));

    put(&seen.pods, pod(1, terminated(81, "Error", "")));
    let attempts = observed(&seen).attempts;
    assert_eq!(ending(&attempts[&1]).code, Some(81));
    assert!(!attempts[&1].removable);

    let seen = self::seen(json!({ "phase": "Running", "attempts": 1 }));
    let gone = observed(&seen).attempts.remove(&1).unwrap();
    assert_eq!((ending(&gone).code, ending(&gone).at), (None, now()));
}

#[test]
fn the_job_of_an_earlier_run_of_the_same_name_is_no_attempt_of_this_one() {
    let seen = seen(json!({}));
    put(&seen.jobs, job(1, "the one before", None));
    assert!(observed(&seen).attempts.is_empty());
}

#[test]
fn a_job_with_a_number_that_nobody_gave_is_no_attempt() {
    let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
    put(&seen.jobs, job(1, "r", None));
    put(&seen.jobs, job(u32::MAX, "r", None));
    put(&seen.jobs, job(0, "r", None));
    assert_eq!(observed(&seen).attempts.into_keys().collect::<Vec<_>>(), [1]);
}

#[test]
fn the_end_of_a_log_is_that_of_the_report_or_what_is_no_report() {
    let said = bam_crds::RunReport {
        log: vec!["a warning".to_owned(), "another".to_owned()],
        ..bam_crds::RunReport::new(ExitReason::Internal, "it broke")
    };
    let said = serde_json::to_string(&said).unwrap();
    for (word, log) in [(said.as_str(), "a warning\nanother"), ("loading\nsegfault\n", "loading\nsegfault\n"), ("", "")]
    {
        let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
        put(&seen.jobs, job(1, "r", Some("Failed")));
        put(&seen.pods, pod(1, terminated(70, "Error", word)));
        assert_eq!(ending(&observed(&seen).attempts[&1]).log, log);
    }
}

#[test]
fn a_report_says_no_number_that_a_status_cannot_hold() {
    let mut said = bam_crds::RunReport::new(ExitReason::Completed, "");
    (said.saved_steps, said.total_steps) = (u64::MAX, 7);
    let seen = seen(json!({ "phase": "Running", "attempts": 1 }));
    put(&seen.jobs, job(1, "r", Some("Complete")));
    put(&seen.pods, pod(1, terminated(0, "Completed", &serde_json::to_string(&said).unwrap())));
    let attempts = observed(&seen).attempts;
    let report = ending(&attempts[&1]).report.as_ref().unwrap();
    assert_eq!((report.saved_steps, report.total_steps), (1 << 48, 7));
}

#[test]
fn attempts_that_are_settled_and_removed_are_not_missed() {
    let record = json!({
        "number": 2, "reason": "Internal", "startedAt": "2027-01-15T08:00:00Z", "finishedAt": "2027-01-15T08:00:20Z",
    });
    let seen = seen(json!({ "phase": "Pending", "attempts": 2, "history": [record] }));
    assert!(observed(&seen).attempts.is_empty());
}

#[test]
fn a_claim_that_is_not_there_is_an_obstacle() {
    let missing = Why::ClaimMissing { claim: "bam-dir".to_owned() };
    let seen = seen(json!({}));
    assert_eq!(observed(&seen).obstacle, Some(missing));
    let claim = json!({ "metadata": { "name": "bam-dir", "namespace": "lab" } });
    put(&seen.claims, serde_json::from_value(claim).unwrap());
    assert_eq!(observed(&seen).obstacle, None);
}

#[test]
fn a_run_that_is_being_deleted_is_not_there() {
    let seen = Seen::default();
    let mut leaving = run("r", json!({}));
    leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    put(&seen.runs, guarded(leaving));
    assert!(seen.run("lab", RUN, None, now()).is_none());
}

#[test]
fn annotations_ask_for_another_try() {
    let seen = Seen::default();
    let mut asked = run("r", json!({ "attempts": 3 }));
    let annotations = asked.metadata.annotations.get_or_insert_default();
    annotations.insert("reopen.bam.dev/run-1-1".to_owned(), "2".to_owned());
    annotations.insert("reopen.bam.dev/alice".to_owned(), "3".to_owned());
    annotations.insert("reopen.bam.dev/bob".to_owned(), "soon".to_owned());
    put(&seen.runs, guarded(asked));
    let reopened = observed(&seen).reopened;
    assert_eq!((reopened.after, reopened.by), (3, ["alice".to_owned(), "run-1-1".to_owned()].into()));
}

#[test]
fn a_run_is_suspended_when_all_who_need_it_are() {
    let owner = |name: &str| json!({ "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "name": name, "uid": format!("uid-{name}") });
    let owned_by = |owners: &[&str]| {
        let mut run = run("r", json!({}));
        let owners: Vec<_> = owners.iter().map(|name| owner(name)).collect();
        run.metadata.owner_references = serde_json::from_value(owners.into()).unwrap();
        run
    };
    let cases: [(&str, &[&str], bool); 5] = [
        ("its only one is", &["asleep"], true),
        ("both are", &["asleep", "dozing"], true),
        ("another one is not", &["asleep", "awake"], false),
        ("another one is not known yet", &["asleep", "new"], false),
        ("a person left it to itself", &[], false),
    ];
    for (what, owners, is) in cases {
        let seen = Seen::default();
        for name in ["asleep", "dozing", "awake"] {
            let mut experiment = experiment(name, Value::Null);
            experiment.0.as_mut().unwrap().spec.suspend = name != "awake";
            put(&seen.experiments, experiment);
        }
        put(&seen.runs, guarded(owned_by(owners)));
        assert_eq!(observed(&seen).suspended, is, "{what}");
    }
}

/// A Workload of the first attempt's Job, with these conditions.
fn workload(conditions: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload",
        "metadata": {
            "name": "job-1", "namespace": "lab",
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": format!("{RUN}-1"), "uid": "job-1" }],
        },
        "status": { "conditions": conditions },
    }))
    .unwrap()
}

#[test]
fn a_job_that_is_held_back_waits_for_its_turn_and_says_why() {
    let reserved = |status, message| json!({ "type": "QuotaReserved", "status": status, "message": message });
    let admitted = |status, message| json!({ "type": "Admitted", "status": status, "message": message });
    let evicted = json!({ "type": "Evicted", "status": "True", "message": "Preempted to accommodate a workload" });
    let ended = || terminated(81, "Error", "");
    // (what, its queue, what Kueue says, its pod's status, what the planner is told)
    type Case = (&'static str, Option<&'static str>, Option<Value>, Option<Value>, &'static str);
    let cases: Vec<Case> = vec![
        ("Kueue has said nothing yet", Some("team-a"), None, None, "queued: waits in the queue team-a"),
        (
            "there is no quota",
            Some("team-a"),
            Some(json!([reserved("False", "1 more needed")])),
            None,
            "queued: waits in the queue team-a: 1 more needed",
        ),
        (
            "a check is still to be passed",
            Some("team-a"),
            Some(json!([reserved("True", "Quota reserved"), admitted("False", "waits for a machine")])),
            None,
            "queued: waits in the queue team-a: waits for a machine",
        ),
        (
            "it is its turn, and its Job does not know yet",
            Some("team-a"),
            Some(json!([reserved("True", "Quota reserved"), admitted("True", "The workload is admitted")])),
            None,
            "queued: waits in the queue team-a: it is its turn",
        ),
        (
            "it has lost its turn, and its trainer writes a checkpoint",
            Some("team-a"),
            Some(json!([reserved("False", "no quota"), evicted])),
            Some(container(json!({ "running": {} }))),
            "running",
        ),
        (
            "it has lost its turn",
            Some("team-a"),
            Some(json!([reserved("False", "no quota"), evicted])),
            Some(ended()),
            "queued: waits in the queue team-a: no quota; Preempted to accommodate a workload",
        ),
        (
            "a person holds it back",
            None,
            None,
            None,
            "queued: is suspended by somebody: set spec.suspend of its Job to false",
        ),
    ];
    for (what, queue, conditions, status, told) in cases {
        let seen = seen(json!({ "phase": "Pending", "attempts": 1 }));
        let mut held = job(1, "r", None);
        held.spec.get_or_insert_default().suspend = Some(true);
        let labels = held.metadata.labels.get_or_insert_default();
        labels.extend(queue.map(|queue| ("kueue.x-k8s.io/queue-name".to_owned(), queue.to_owned())));
        put(&seen.jobs, held);
        conditions.into_iter().for_each(|conditions| put(&seen.workloads, workload(conditions)));
        status.into_iter().for_each(|status| put(&seen.pods, pod(1, status)));
        let state = match observed(&seen).attempts.remove(&1).unwrap().state {
            AttemptState::Queued(waits) => format!("queued: {waits}"),
            AttemptState::Running(_) => "running".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(state, told, "{what}");
    }
}

#[test]
fn the_time_in_a_queue_is_none_in_which_an_attempt_has_to_come_to_work() {
    let began = |queue: Option<&str>| {
        let seen = seen(json!({ "phase": "Pending", "attempts": 1 }));
        let mut admitted = job(1, "r", None);
        let labels = admitted.metadata.labels.get_or_insert_default();
        labels.extend(queue.map(|queue| ("kueue.x-k8s.io/queue-name".to_owned(), queue.to_owned())));
        let start = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2027-01-15T08:40:00Z".parse().unwrap());
        admitted.status.get_or_insert_default().start_time = Some(start);
        put(&seen.jobs, admitted);
        observed(&seen).attempts[&1].started_at.to_string()
    };
    assert_eq!(began(Some("team-a")), "2027-01-15T08:40:00Z");
    assert_eq!(began(None), "2027-01-15T08:00:00Z");
}
