//! Attempts of several pods, one on each host of a slice: where they stand, how they ended, and what else is one for all.

use bam_crds::{ExitReason, RunReport, names};
use bam_operator::cluster::facts::{Facts, JobFacts, PodFacts};
use bam_operator::cluster::observe::Seen;
use bam_operator::plan::run::{Attempt, AttemptState};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{RUN, container, guarded, job, of_host, pod, put, run, terminated, told_of};

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The Job of the first attempt, on so many hosts.
fn job_of(hosts: u32, end: Option<&str>) -> Job {
    let mut job = job(1, "r", end);
    let spec = job.spec.get_or_insert_default();
    spec.completions = i32::try_from(hosts).ok();
    spec.parallelism = spec.completions;
    job
}

/// What Kubernetes shows of the pod on a host.
#[derive(Clone)]
struct Host(u32, Value, Option<&'static str>);

impl Host {
    /// It was told to end until then.
    fn told(self, until: &'static str) -> Self {
        Self(self.0, self.1, Some(until))
    }

    fn pod(&self) -> Pod {
        let mut pod = of_host(self.0, pod(1, self.1.clone()));
        pod.metadata.deletion_timestamp = self.2.map(|until| Time(moment(until)));
        pod
    }
}

fn works(index: u32) -> Host {
    Host(index, container(json!({ "running": {} })), None)
}

fn without_node(index: u32) -> Host {
    let condition = json!({ "type": "PodScheduled", "status": "False", "message": "0/4 nodes: no chips" });
    Host(index, json!({ "conditions": [condition] }), None)
}

/// It ended at this second.
fn ended(index: u32, second: u32, code: i32, said: &str) -> Host {
    let mut status = terminated(code, if code == 0 { "Completed" } else { "Error" }, said);
    status["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(format!("2027-01-15T08:00:{second}Z"));
    Host(index, status, None)
}

/// It ended because Kubernetes took it away.
fn evicted(index: u32, second: u32, code: i32) -> Host {
    let mut host = ended(index, second, code, "");
    host.1["conditions"] = json!([{ "type": "DisruptionTarget", "status": "True", "message": "the node was drained" }]);
    host
}

/// It was ended before it ran.
fn never_ran(index: u32) -> Host {
    Host(index, json!({ "phase": "Failed" }), None)
}

fn said(reason: ExitReason, message: &str, saved_steps: u64) -> String {
    serde_json::to_string(&RunReport { saved_steps, ..RunReport::new(reason, message) }).unwrap()
}

fn seen(job: Job, hosts: &[Host]) -> Seen {
    let seen = Seen::default();
    put(&seen.runs, guarded(run("r", json!({ "phase": "Running", "attempts": 1 }))));
    put(&seen.jobs, job);
    hosts.iter().for_each(|host| put(&seen.pods, host.pod()));
    seen
}

fn attempt(seen: &Seen) -> Attempt {
    let mut observed = seen.run("lab", RUN, None, moment("2027-01-15T09:00:00Z")).unwrap().1;
    observed.attempts.remove(&1).unwrap()
}

const SOON: &str = "2027-01-15T09:02:00Z";

#[test]
fn an_attempt_on_several_hosts_stands_as_all_its_pods_say() {
    let silent = || {
        let mut host = works(1);
        host.1["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
        host
    };
    // (what, hosts, how the Job ended, what is seen of the pods, what the planner is told)
    type Case = (&'static str, u32, Option<&'static str>, Vec<Host>, &'static str);
    let cases: Vec<Case> = vec![
        ("no pod was made yet", 4, None, vec![], "starting: waits for 4 of 4 hosts (0-3): host 0 waits for its pod"),
        (
            "one host of two has no chips",
            2,
            None,
            vec![works(0), without_node(1)],
            "starting: waits for 1 of 2 hosts (1): host 1 waits for a node: 0/4 nodes: no chips",
        ),
        (
            "one has no pod, another no node",
            6,
            None,
            vec![works(0), without_node(1), works(2), works(3), works(5)],
            "starting: waits for 2 of 6 hosts (1,4): host 1 waits for a node: 0/4 nodes: no chips",
        ),
        (
            "one gets its image, and the other has no chips: it holds up both",
            2,
            None,
            vec![Host(0, container(json!({ "waiting": { "reason": "ImagePullBackOff" } })), None), without_node(1)],
            "starting: waits for 2 of 2 hosts (0-1): host 1 waits for a node: 0/4 nodes: no chips",
        ),
        ("all are at work", 2, None, vec![works(0), works(1)], "running"),
        ("one of them is on a node that is silent", 2, None, vec![works(0), silent()], "silent on node-7"),
        ("one has done its part, and the others are at work", 2, None, vec![works(0), ended(1, 20, 0, "")], "running"),
        (
            "one has failed, and the others have not heard of it",
            2,
            None,
            vec![works(0), ended(1, 20, 70, "")],
            "running",
        ),
        (
            "its Job is over, and one still writes its checkpoint",
            2,
            Some("Failed"),
            vec![works(0).told(SOON), ended(1, 20, 70, "")],
            "running",
        ),
        (
            "its Job is over, and pods that it will not have any more are not waited for",
            3,
            Some("Failed"),
            vec![ended(1, 20, 70, "no libtpu")],
            "ended 70; no libtpu",
        ),
    ];
    for (what, hosts, end, pods, told) in cases {
        assert_eq!(told_of(&attempt(&seen(job_of(hosts, end), &pods)).state), told, "{what}");
    }
}

#[test]
fn an_attempt_on_several_hosts_ended_as_the_pod_that_failed_first() {
    let bad_data = said(ExitReason::BadData, "row 7 has no label", 0);
    let done = said(ExitReason::Completed, "all steps", 9);
    let oom = || {
        let mut host = ended(2, 20, 137, "");
        host.1["containerStatuses"][0]["state"]["terminated"]["reason"] = json!("OOMKilled");
        host
    };
    // (what, how the Job ended, the pods, what the planner is told)
    type Case = (&'static str, &'static str, Vec<Host>, String);
    let cases: Vec<Case> = vec![
        (
            "all ended well, and the first host says what came of it",
            "Complete",
            vec![ended(0, 20, 0, &done), ended(1, 10, 0, ""), ended(2, 30, 0, "")],
            "ended 0: all steps".to_owned(),
        ),
        (
            "the first host was done, and another one failed after that: the work is in the store",
            "Failed",
            vec![ended(0, 20, 0, &done), ended(1, 25, 1, "connection reset"), ended(2, 20, 0, "")],
            "ended 0: all steps".to_owned(),
        ),
        (
            "one failed, and the others lost their connection to it",
            "Failed",
            vec![ended(0, 22, 1, "connection reset"), ended(1, 20, 65, &bad_data), ended(2, 21, 1, "connection reset")],
            "ended 65: row 7 has no label".to_owned(),
        ),
        (
            "another than the first failed, after one had done its part",
            "Failed",
            vec![ended(0, 22, 143, "").told(SOON), ended(1, 10, 0, ""), ended(2, 20, 70, "no libtpu")],
            "ended 70; no libtpu".to_owned(),
        ),
        (
            "one ran out of memory, and the others were told to stop",
            "Failed",
            vec![ended(0, 24, 81, "").told(SOON), ended(1, 23, 81, "").told(SOON), oom()],
            "ended 137 out of memory".to_owned(),
        ),
        (
            "one was drained, and the others were told to stop because of it",
            "Failed",
            vec![ended(0, 24, 81, "").told(SOON), evicted(1, 23, 143).told(SOON), never_ran(2).told(SOON)],
            "ended 143; the node was drained".to_owned(),
        ),
        (
            "one was drained, and the others lost their connection to it before it had ended",
            "Failed",
            vec![ended(0, 20, 1, "connection reset"), evicted(1, 21, 143).told(SOON), ended(2, 20, 1, "")],
            "ended 143; the node was drained".to_owned(),
        ),
        (
            "one failed while others had no machine yet: these were told to stop, and did not begin",
            "Failed",
            vec![never_ran(0).told(SOON), ended(1, 20, 70, "no libtpu"), never_ran(2).told(SOON)],
            "ended 70; no libtpu".to_owned(),
        ),
        (
            "of two that failed in the same second the one with the lower number counts",
            "Failed",
            vec![ended(1, 20, 71, ""), ended(2, 20, 72, "")],
            "ended 71".to_owned(),
        ),
        ("nothing is known of any of them", "Failed", vec![], "ended; so it ended".to_owned()),
        ("nothing is known of any of them, and it ended well", "Complete", vec![], "ended 0; so it ended".to_owned()),
    ];
    for (what, end, pods, told) in cases {
        assert_eq!(told_of(&attempt(&seen(job_of(3, Some(end)), &pods)).state), told, "{what}");
    }
}

#[test]
fn where_the_checkpoint_stands_says_the_first_host_also_if_another_one_failed() {
    let pods = [
        ended(0, 24, 81, &said(ExitReason::Checkpointed, "was told to stop", 120)).told(SOON),
        ended(1, 20, 70, "no libtpu"),
    ];
    let AttemptState::Ended(ending) = attempt(&seen(job_of(2, Some("Failed")), &pods)).state else { panic!() };
    assert_eq!((ending.code, ending.steps), (Some(70), 120));
}

#[test]
fn what_an_attempt_cost_is_the_mean_of_its_hosts() {
    let held = |index: u32, scheduled: u32, started: u32| {
        let mut host = ended(index, 50, 0, "");
        host.1["containerStatuses"][0]["state"]["terminated"]["startedAt"] =
            json!(format!("2027-01-15T08:00:{started}Z"));
        host.1["conditions"] = json!([{
            "type": "PodScheduled", "status": "True", "lastTransitionTime": format!("2027-01-15T08:00:{scheduled}Z"),
        }]);
        host
    };
    let pods = [held(0, 10, 30), held(1, 20, 30)];
    let AttemptState::Ended(ending) = attempt(&seen(job_of(2, Some("Complete")), &pods)).state else { panic!() };
    assert_eq!((ending.held.idle.as_secs(), ending.held.ran.as_secs()), (15, 20));
}

#[test]
fn a_host_whose_machine_is_lost_is_the_end_of_all() {
    let told = |other: Host, until| told_of(&attempt(&seen(job_of(2, None), &[other, works(1).told(until)])).state);
    assert_eq!(told(works(0), "2027-01-15T08:59:30Z"), "running", "it has a minute more");
    for other in [works(0), ended(0, 20, 1, "connection reset")] {
        let told = told(other, "2027-01-15T08:58:59Z");
        assert!(told.starts_with("ended; its machine was lost"), "{told}");
    }
}

#[test]
fn of_a_host_that_had_several_pods_the_last_one_counts() {
    // Kueue took its turn away, and gave it back.
    let mut resumed = job_of(2, None);
    let labels = resumed.metadata.labels.get_or_insert_default();
    labels.insert(names::QUEUE_LABEL.to_owned(), "team-a".to_owned());
    resumed.status.get_or_insert_default().start_time = Some(Time(moment("2027-01-15T08:01:00Z")));
    let before = [ended(0, 20, 81, ""), ended(1, 20, 81, "")];
    let seen = seen(resumed.clone(), &before);
    let told = told_of(&attempt(&seen).state);
    assert_eq!(told, "running", "its next pods are to come");
    for mut pod in [works(0), works(1)].map(|host| host.pod()) {
        pod.metadata.name = pod.metadata.name.map(|name| name + "-again");
        pod.metadata.creation_timestamp = Some(Time(moment("2027-01-15T08:01:01Z")));
        put(&seen.pods, pod);
    }
    assert_eq!(told_of(&attempt(&seen).state), "running");

    resumed.spec.get_or_insert_default().suspend = Some(true);
    let queued = self::seen(resumed, &before);
    assert_eq!(told_of(&attempt(&queued).state), "queued: waits in the queue team-a");
}

#[test]
fn an_attempt_whose_job_somebody_removed_is_over_when_all_its_pods_are() {
    let without_job = |pods: &[Host]| {
        let seen = Seen::default();
        put(&seen.runs, guarded(run("r", json!({ "phase": "Running", "attempts": 1 }))));
        pods.iter().for_each(|host| put(&seen.pods, host.pod()));
        told_of(&attempt(&seen).state)
    };
    assert_eq!(without_job(&[works(0).told(SOON), ended(1, 20, 81, "").told(SOON)]), "running");
    assert_eq!(without_job(&[ended(0, 21, 81, "").told(SOON), ended(1, 20, 81, "").told(SOON)]), "ended 81");
}

#[test]
fn the_api_server_is_asked_for_the_last_words_that_were_not_heard() {
    let unheard = |end, pods: &[Host]| {
        let seen = seen(job_of(2, end), pods);
        let jobs = seen.ends_without_a_word("lab", RUN);
        jobs.into_iter().map(|(job, heard)| format!("{job}: {}", heard.join(","))).collect::<Vec<_>>()
    };
    let first = format!("job-1: {RUN}-1-abcde-0");
    let none: [&str; 0] = [];
    assert_eq!(unheard(None, &[]), none, "the Job is not over");
    assert_eq!(unheard(Some("Failed"), &[]), ["job-1: "], "of neither");
    assert_eq!(unheard(Some("Failed"), &[ended(0, 20, 1, ""), works(1)]), [first], "of one");
    assert_eq!(unheard(Some("Failed"), &[ended(0, 20, 1, ""), ended(1, 20, 1, "")]), none, "of both");
}

#[test]
fn a_job_and_a_pod_of_one_host_are_what_they_were() {
    assert_eq!(JobFacts::of(&job(1, "r", None)).hosts, 1);
    assert_eq!(PodFacts::of(&pod(1, json!({}))).index, 0);
}
