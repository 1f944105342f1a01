//! What nobody else may be beside: the operator, the API server, and everything at random, killed; and what is counted. These
//! come last, when the long trainings of [`crate::example`] are done.

use std::collections::BTreeMap;
use std::time::Duration;

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Role, RunPhase};
use serde_json::Value;

use crate::cluster::{Script, kill};
use crate::diary::Kind;
use crate::experiment::debug;
use crate::faults::{UNDISTURBED, disturbed, ends_as_if_nothing_had_been};
use crate::namespace::Namespace;
use crate::store::assert_same;

#[test]
fn the_operator_killed_in_every_phase_goes_on() {
    let Some(namespace) = Namespace::alone("the operator killed") else { return };
    namespace.apply(&disturbed());
    for phase in [ExperimentPhase::CheckingInputs, ExperimentPhase::TrainingTeachers, ExperimentPhase::TrainingStudent]
    {
        // At the moment of the change, and again in the middle.
        namespace.wait_for("disturbed", phase);
        namespace.kill_operator();
        namespace.operator_is_back();
    }
    // In the middle of it, unless it was over before the operator was back.
    let student = namespace.run_of("disturbed", Role::Student, "rte").name;
    namespace.run_when(&student, "trains, or is done", |status| {
        status.phase.is_final() || status.progress.as_ref().is_some_and(|progress| progress.done > 5)
    });
    namespace.kill_operator();
    ends_as_if_nothing_had_been(&namespace, &[]);
    namespace.operator_is_back();
}

#[test]
fn of_two_operators_one_works_and_the_other_takes_over() {
    let Some(namespace) = Namespace::alone("two operators") else { return };
    namespace.scale_operator(2);
    namespace.apply(&disturbed());
    let mut leaders = vec![namespace.leader()];
    for phase in [ExperimentPhase::TrainingTeachers, ExperimentPhase::TrainingStudent] {
        namespace.wait_for("disturbed", phase);
        let last = leaders.last().unwrap().clone();
        namespace.stop_operator(&last);
        leaders.push(namespace.eventually(30, "the other one leads", || {
            Some(namespace.leader()).filter(|leader| !leader.is_empty() && *leader != last)
        }));
        namespace.took("another one leads");
        namespace.operator_is_back();
    }
    println!("{leaders:?}");
    ends_as_if_nothing_had_been(&namespace, &[]);
    namespace.scale_operator(1);
}

#[test]
fn what_ends_while_the_operator_is_down_is_taken_up_when_it_is_back() {
    let Some(namespace) = Namespace::alone("the operator down") else { return };
    namespace.apply(&disturbed());
    let teacher = namespace.run_of("disturbed", Role::Teacher, "rte").name;
    namespace.run_when(&teacher, "runs", |status| status.phase == RunPhase::Running);
    namespace.scale_operator(0);
    namespace.within(120, "both teachers' Jobs are over", |seen| {
        let jobs = seen.all(Kind::Job);
        let over = |job: &Value| job["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty());
        (jobs.len() >= 2 && jobs.iter().all(|(_, job)| over(job))).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    namespace.scale_operator(1);
    ends_as_if_nothing_had_been(&namespace, &[]);
}

/// After each restart the other parts of Kubernetes take up to half a minute to look again.
fn the_api_server_restarted(phases: &[ExperimentPhase]) {
    let Some(script) = Script::find("the API server restarted") else { return };
    let Some(namespace) = Namespace::alone("the API server restarted") else { return };
    namespace.apply(&disturbed());
    for phase in phases {
        namespace.wait_for("disturbed", *phase);
        script.run(&["restart", "apiserver"]);
    }
    ends_as_if_nothing_had_been(&namespace, &[]);
    namespace.operator_is_back();
    namespace.eventually(90, "the operator is ready", || namespace.operator_is_ready().then_some(()));
}

#[test]
fn the_api_server_restarted_while_teachers_train_changes_nothing() {
    the_api_server_restarted(&[ExperimentPhase::TrainingTeachers]);
}

#[test]
#[ignore = "long: make test-long"]
fn the_api_server_restarted_in_every_phase_changes_nothing() {
    let phases = [ExperimentPhase::CheckingInputs, ExperimentPhase::TrainingTeachers, ExperimentPhase::TrainingStudent];
    the_api_server_restarted(&phases);
}

#[test]
fn the_metrics_count_what_was_done() {
    let Some(namespace) = Namespace::alone("the metrics") else { return };
    namespace.others_are_gone();
    let before = namespace.metrics();
    namespace.apply(&debug("counted", &["rte", "mrpc"]));
    namespace.complete("counted");
    namespace.within(30, "no Job is left", |seen| seen.all(Kind::Job).is_empty().then_some(()));
    let counted = [
        (r#"bam_attempts_started_total{attempt="first",role="Inputs"}"#, 1.0),
        (r#"bam_attempts_started_total{attempt="first",role="Teacher"}"#, 2.0),
        (r#"bam_attempts_started_total{attempt="first",role="Student"}"#, 1.0),
        (r#"bam_attempts_ended_total{reason="Completed",role="Inputs"}"#, 1.0),
        (r#"bam_attempts_ended_total{reason="Completed",role="Teacher"}"#, 2.0),
        (r#"bam_attempts_ended_total{reason="Completed",role="Student"}"#, 1.0),
        (r#"bam_actions_total{action="create_run",outcome="done"}"#, 4.0),
        (r#"bam_actions_total{action="start_attempt",outcome="done"}"#, 4.0),
        (r#"bam_actions_total{action="remove_attempt",outcome="done"}"#, 4.0),
        (r#"bam_attempt_duration_seconds_count{role="Teacher"}"#, 2.0),
        (r#"bam_attempt_wait_seconds_count{role="Teacher"}"#, 2.0),
        ("bam_student_wait_seconds_count", 1.0),
        (r#"bam_experiment_duration_seconds_count{phase="Complete"}"#, 1.0),
    ];
    // Of a namespace that is new. They lag a little.
    let stands = [
        (r#"bam_experiments{namespace="NAME",phase="Complete"}"#, 1.0),
        (r#"bam_runs{namespace="NAME",phase="Succeeded",role="Inputs"}"#, 1.0),
        (r#"bam_runs{namespace="NAME",phase="Succeeded",role="Teacher"}"#, 2.0),
        (r#"bam_runs{namespace="NAME",phase="Succeeded",role="Student"}"#, 1.0),
        (r#"bam_runs{namespace="NAME",phase="Running",role="Student"}"#, 0.0),
    ];
    let agree = || {
        let after = namespace.metrics();
        let of = |all: &BTreeMap<String, f64>, name: &str| *all.get(name).unwrap_or_else(|| panic!("no metric {name}"));
        let counted =
            counted.iter().map(|(name, more)| ((*name).to_owned(), of(&after, name) - of(&before, name), *more));
        let stands = stands.iter().map(|(name, count)| {
            let name = name.replace("NAME", &namespace.name);
            let is = after.get(&name).copied().unwrap_or(f64::NAN);
            (name, is, *count)
        });
        let wrong: Vec<_> = counted.chain(stands).filter(|(_, is, should)| is != should).collect();
        println!("counted otherwise than expected: {wrong:?}");
        wrong.is_empty().then_some(())
    };
    namespace.eventually(15, "the metrics agree", agree);
}

/// Random kills of everything, for minutes: `BAM_TEST_MINUTES`.
#[test]
#[ignore = "long: make test-long"]
fn killed_at_random_for_minutes_every_experiment_completes_with_the_same_bytes() {
    let Some(namespace) = Namespace::alone("random kills") else { return };
    let minutes = std::env::var("BAM_TEST_MINUTES").ok().and_then(|it| it.parse().ok()).unwrap_or(10);
    let deadline = std::time::Instant::now() + Duration::from_secs(60 * minutes);
    let mut dice = crate::shared_teachers::Dice::new();
    let mut rounds = 0;
    while std::time::Instant::now() < deadline {
        namespace.apply(&disturbed());
        let mut hits = Vec::new();
        let over = |namespace: &Namespace| {
            namespace.diary.read(|seen| seen.experiment("disturbed").map(|it| it.phase))
                == Some(ExperimentPhase::Complete)
        };
        while !over(&namespace) && hits.len() < 8 {
            std::thread::sleep(Duration::from_millis(dice.below(4000)));
            let pods: Vec<_> = namespace.diary.read(|seen| {
                let pods = seen.all(Kind::Pod).into_iter();
                pods.map(|(name, pod)| (name.to_owned(), pod["metadata"]["uid"].as_str().unwrap().to_owned())).collect()
            });
            let pod = pods.get(dice.below(pods.len().max(1) as u64) as usize);
            hits.push(match (dice.below(4), pod) {
                (0, _) => {
                    namespace.kill_operator();
                    "operator".to_owned()
                }
                (1, Some((name, _))) => {
                    namespace.try_kubectl(&["delete", "pod", name, "--wait=false"]);
                    format!("pod {name}")
                }
                (2, Some((name, _))) => {
                    let job = name.rsplit_once('-').unwrap().0;
                    let cascade = ["background", "foreground", "orphan"][dice.below(3) as usize];
                    namespace.try_kubectl(&["delete", "job", job, "--wait=false", &format!("--cascade={cascade}")]);
                    format!("{cascade} Job {job}")
                }
                (_, Some((name, uid))) => format!("{} of {name}", kill(uid, "bam-trainer")),
                _ => continue,
            });
        }
        println!("round {rounds}: {}", hits.join(", "));
        namespace.complete("disturbed");
        assert_same(&namespace.store.artifacts(), &UNDISTURBED);
        rounds += 1;
        // From the beginning: without runs, and with an empty store.
        namespace.kubectl(&["delete", "bam", "disturbed", "--cascade=foreground", "--timeout=120s"]);
        // Pods whose Job went without them belong to whoever wanted that.
        namespace.within(90, "nothing is left but orphans", |seen| {
            let owned = |pod: &Value| !pod["metadata"]["ownerReferences"].is_null();
            seen.all(Kind::Pod).iter().all(|(_, pod)| !owned(pod)).then_some(())
        });
        namespace.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
        namespace.store.forget_runs();
        namespace.operator_is_back();
    }
    println!("{rounds} rounds in {minutes} minutes");
}
