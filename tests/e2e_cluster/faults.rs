//! Whatever is killed, deleted or lost on the way: the experiment completes, nothing is trained twice, and the weights are
//! those of a run that nobody touched.

use std::sync::LazyLock;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamRunStatus, ExitReason};
use serde_json::Value;

use crate::cluster::kill;
use crate::diary::Kind;
use crate::experiment::{debug, slow, with};
use crate::namespace::Namespace;
use crate::store::{Artifacts, Store, assert_same};

/// The experiment that is disturbed.
pub fn disturbed() -> Value {
    slow(debug("disturbed", &["rte", "mrpc"]))
}

/// What becomes of it if nobody disturbs it: trained here, once for all tests.
pub static UNDISTURBED: LazyLock<Artifacts> = LazyLock::new(|| {
    let inputs = std::env::var_os("BAM_TEST_BAM_DIR").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::with_demo(folder.path().join("bam_dir"), inputs.as_ref());
    store.run_here(&disturbed().to_string());
    store.artifacts()
});

/// It completes by itself; only `hit` took more than one attempt; the bytes are the same.
pub fn ends_as_if_nothing_had_been(namespace: &Namespace, hit: &[&str]) {
    namespace.complete("disturbed");
    for (title, attempts) in namespace.attempts("disturbed") {
        match hit.contains(&title.as_str()) {
            true => assert!(attempts > 1, "{title} was not disturbed"),
            false => assert_eq!(attempts, 1, "{title} was tried more than once"),
        }
    }
    assert_same(&namespace.store.artifacts(), &UNDISTURBED);
    namespace.took("complete");
}

/// The run of this role and task, when its trainer is at work and has saved something.
fn at_work(namespace: &Namespace, role: Role, task: &str) -> String {
    let run = namespace.run_of("disturbed", role, task).name;
    namespace.run_when(&run, "trains", |status| {
        status.phase == RunPhase::Running && status.progress.as_ref().is_some_and(|progress| progress.done > 5)
    });
    run
}

/// The pod of a run's attempt: name and identity.
pub fn pod(namespace: &Namespace, run: &str) -> (String, String) {
    let pods = namespace.diary.read(|seen| {
        let all = seen.all(Kind::Pod).into_iter();
        let its = all.filter(|(_, pod)| pod["metadata"]["labels"][bam_crds::names::RUN_LABEL] == run);
        its.map(|(name, pod)| (name.to_owned(), pod["metadata"]["uid"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    });
    assert_eq!(pods.len(), 1, "{pods:?}");
    pods.into_iter().next().unwrap()
}

fn last_record(namespace: &Namespace, run: &str) -> (BamRunStatus, bam_crds::run::AttemptRecord) {
    let status = namespace.run_when(run, "has an attempt that ended", |status| !status.history.is_empty());
    let record = status.history[0].clone();
    (status, record)
}

#[test]
fn a_teacher_s_trainer_killed_with_9_goes_on_where_it_was() {
    let Some(namespace) = Namespace::new("kill -9") else { return };
    namespace.apply(&disturbed());
    let teacher = at_work(&namespace, Role::Teacher, "rte");
    assert_eq!(kill(&pod(&namespace, &teacher).1, "bam-trainer"), 1);
    let (status, record) = last_record(&namespace, &teacher);
    assert_eq!((record.reason, record.exit_code), (None, Some(137)), "{record:?}");
    assert!(record.log.iter().any(|line| line.contains("\"Training\"")), "what it said last: {record:?}");
    assert_eq!((status.failures.infrastructure, status.failures.application), (1, 0), "{status:?}");
    ends_as_if_nothing_had_been(&namespace, &["Teacher rte"]);
}

#[test]
fn a_student_s_pod_deleted_by_somebody_goes_on_where_it_was() {
    let Some(namespace) = Namespace::new("a deleted pod") else { return };
    namespace.apply(&disturbed());
    let student = at_work(&namespace, Role::Student, "rte");
    namespace.kubectl(&["delete", "pod", &pod(&namespace, &student).0, "--wait=false"]);
    let (status, record) = last_record(&namespace, &student);
    assert_eq!(record.reason, Some(ExitReason::Checkpointed), "{record:?}");
    assert!(record.saved_steps > 0, "{record:?}");
    // It had a checkpoint: that costs nothing.
    assert_eq!((status.failures.infrastructure, status.failures.application), (0, 0), "{status:?}");
    ends_as_if_nothing_had_been(&namespace, &["Student rte+mrpc"]);
}

#[test]
fn a_pod_that_is_gone_at_once_without_a_trace_costs_one_attempt() {
    let Some(namespace) = Namespace::new("a lost pod") else { return };
    namespace.apply(&disturbed());
    let student = at_work(&namespace, Role::Student, "rte");
    let (name, uid) = pod(&namespace, &student);
    kill(&uid, "bam-trainer");
    namespace.kubectl(&["delete", "pod", &name, "--grace-period=0", "--force"]);
    ends_as_if_nothing_had_been(&namespace, &["Student rte+mrpc"]);
}

fn a_job_deleted_by_a_user(cascade: &str) {
    let Some(namespace) = Namespace::new(&format!("a Job deleted in the {cascade}")) else { return };
    namespace.apply(&disturbed());
    let teacher = at_work(&namespace, Role::Teacher, "mrpc");
    namespace.kubectl(&["delete", "job", &format!("{teacher}-1"), &format!("--cascade={cascade}"), "--wait=false"]);
    ends_as_if_nothing_had_been(&namespace, &["Teacher mrpc"]);
    namespace.within(60, "no Job and no pod is left", |seen| {
        (seen.all(Kind::Job).is_empty() && seen.all(Kind::Pod).is_empty()).then_some(())
    });
}

#[test]
fn a_job_deleted_by_a_user_in_the_background_is_made_again() {
    a_job_deleted_by_a_user("background");
}

#[test]
fn a_job_deleted_by_a_user_in_the_foreground_is_made_again() {
    a_job_deleted_by_a_user("foreground");
}

#[test]
fn a_job_deleted_by_a_user_without_its_pod_is_made_again() {
    let Some(namespace) = Namespace::new("an orphaned pod") else { return };
    namespace.apply(&disturbed());
    let teacher = at_work(&namespace, Role::Teacher, "mrpc");
    // Its pod lives on, and its work counts, if somebody can still see how it ended.
    namespace.kubectl(&["delete", "job", &format!("{teacher}-1"), "--cascade=orphan", "--wait=false"]);
    namespace.complete("disturbed");
    assert_same(&namespace.store.artifacts(), &UNDISTURBED);
    for (title, attempts) in namespace.attempts("disturbed") {
        let most = if title == "Teacher mrpc" { 2 } else { 1 };
        assert!(attempts <= most, "{title}: {attempts} attempts");
    }
}

#[test]
fn out_of_memory_takes_the_ladder_and_says_so() {
    let Some(namespace) = Namespace::new("out of memory") else { return };
    // The real model: its weights and moments alone need more than this.
    let experiment = with(debug("greedy", &["rte"]), "hyperparameters/debug", false);
    let experiment = with(experiment, "compute/resources/limits/memory", "280Mi");
    namespace.apply(&with(experiment, "hyperparameters/maxSeqLength", 128));
    let status = namespace.within(240, "greedy has failed", |seen| {
        seen.experiment("greedy").filter(|status| status.phase == ExperimentPhase::Failed)
    });
    let failed = status.conditions.iter().find(|condition| condition.type_ == "Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", "Failed"), "{failed:?}");
    assert!(failed.message.contains("ran out of memory"), "{failed:?}");
    let run = namespace.diary.read(|seen| {
        let failed = status.runs.iter().find(|run| run.phase == RunPhase::Failed).unwrap();
        seen.run_status(&failed.name).unwrap()
    });
    assert!(run.failures.out_of_memory > 1, "{run:#?}");
    assert!(run.history.iter().all(|record| record.reason == Some(ExitReason::OutOfMemory)), "{run:#?}");
    namespace.took("ended at the ladder's foot");
}

#[test]
fn memory_that_is_enough_for_a_smaller_micro_batch_is_enough() {
    let Some(namespace) = Namespace::new("less memory") else { return };
    // The real model, and steps of 512 rows that take more than this at once.
    let mut experiment = with(debug("squeezed", &["rte"]), "hyperparameters/debug", false);
    experiment["spec"].as_object_mut().unwrap().remove("distill");
    let experiment = with(experiment, "hyperparameters/trainBatchSize", 512);
    let experiment = with(experiment, "hyperparameters/numTrainEpochs", "1");
    let experiment = with(experiment, "hyperparameters/maxSeqLength", 128);
    let experiment = with(experiment, "compute/microBatchTokens", 16_384);
    namespace.apply(&with(experiment, "compute/resources/limits/memory", "1Gi"));
    let status = namespace.complete("squeezed");
    let run = namespace.diary.read(|seen| seen.run_status(&status.runs[1].name).unwrap());
    assert_eq!(run.history.first().and_then(|first| first.reason), Some(ExitReason::OutOfMemory), "{run:#?}");
    assert!(run.failures.out_of_memory >= 1, "{run:#?}");
    assert_eq!((run.failures.application, run.failures.infrastructure), (0, 0), "{run:#?}");
    namespace.took(&format!("{} rungs", run.failures.out_of_memory));
}

#[test]
fn suspended_in_the_middle_or_out_of_time_it_stops_at_no_cost_and_goes_on_where_it_was() {
    let Some(namespace) = Namespace::new("suspend and resume") else { return };
    namespace.apply(&disturbed());
    let student = at_work(&namespace, Role::Student, "rte");
    namespace.apply(&with(disturbed(), "suspend", true));
    namespace.wait_for("disturbed", ExperimentPhase::Suspended);
    namespace.within(60, "no pod is left", |seen| seen.all(Kind::Pod).is_empty().then_some(()));
    let status = namespace.run_when(&student, "waits", |status| status.phase == RunPhase::Pending);
    assert_eq!(status.history.last().and_then(|last| last.reason), Some(ExitReason::Checkpointed), "{status:#?}");
    assert_eq!((status.failures.infrastructure, status.failures.application), (0, 0), "{status:#?}");
    // Resumed, it has one second.
    namespace.apply(&with(disturbed(), "activeDeadlineSeconds", 1));
    namespace.within(60, "it has failed, and no pod is left", |seen| {
        let conditions = seen.experiment("disturbed")?.conditions;
        let failed = conditions.into_iter().find(|it| it.type_ == "Failed" && it.status == "True")?;
        assert_eq!(failed.reason, "DeadlineExceeded", "{failed:?}");
        seen.all(Kind::Pod).is_empty().then_some(())
    });
    namespace.apply(&with(disturbed(), "activeDeadlineSeconds", 3600));
    let status = namespace.run_when(&student, "goes on", |status| status.phase == RunPhase::Running);
    assert_eq!((status.failures.infrastructure, status.failures.application), (0, 0), "{status:#?}");
    namespace.within(60, "it is not failed any more", |seen| {
        (seen.experiment("disturbed")?.phase != ExperimentPhase::Failed).then_some(())
    });
    ends_as_if_nothing_had_been(&namespace, &["Student rte+mrpc"]);
}
