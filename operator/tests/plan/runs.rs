//! One run and its attempts: who pays, when the next one starts, when it is over.

use std::collections::{BTreeMap, BTreeSet};

use bam_crds::experiment::KeepJobs;
use bam_crds::run::{Failures, RunPhase};
use bam_crds::{BamRunSpec, ExitReason, RunReport, names};
use bam_operator::plan::graph::trainings;
use bam_operator::plan::retry::{Disruption, Ending, last_log};
use bam_operator::plan::run::{Attempt, AttemptState, Observed, Stored, Teacher, plan};
use bam_operator::plan::status::failure_message;
use bam_operator::plan::{Action, Plan, Reopened, Start, Why};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::build::{self, checkpointed, exit, said, start};

const RUN: &str = "run-0123456789abcdef";

pub fn teacher() -> BamRunSpec {
    node(0)
}

fn student() -> BamRunSpec {
    node(2)
}

fn node(index: usize) -> BamRunSpec {
    let experiment = build::distilled(&["rte", "mrpc"]);
    let findings = build::findings(&["rte".to_owned(), "mrpc".to_owned()]);
    trainings(&experiment.spec, &findings, &Default::default(), &Default::default()).unwrap().remove(index).spec
}

/// A run whose attempts ended like this.
fn after(endings: impl IntoIterator<Item = Ending>) -> Observed {
    let ended =
        |ending| Attempt { started_at: start(), state: AttemptState::Ended(Box::new(ending)), removable: false };
    let attempts = (1..).zip(endings.into_iter().map(ended)).collect();
    Observed { attempts, stored: Stored::Absent, ..Observed::default() }
}

fn later() -> Timestamp {
    start().saturating_add(SignedDuration::from_hours(1)).unwrap()
}

fn started<S>(plan: &Plan<S>) -> Option<Start> {
    plan.actions.iter().find_map(|planned| match &planned.action {
        Action::StartAttempt(start) => Some(start.clone()),
        _ => None,
    })
}

#[test]
fn who_pays_for_an_attempt_that_failed() {
    let steps = |steps| Ending { steps, ..exit(0) };
    let gone = |steps| Ending { code: None, disruption: Some(Disruption::RunnerGone), steps, ..exit(0) };
    let application = Failures { application: 1, ..Failures::default() };
    let infrastructure = Failures { infrastructure: 1, ..Failures::default() };
    let memory = Failures { out_of_memory: 1, ..Failures::default() };
    let nobody = Failures::default();
    let table: [(&str, Ending, &Failures); 17] = [
        ("an internal error: the program", exit(70), &application),
        ("a panic: the program", exit(101), &application),
        ("an abort: the program", exit(134), &application),
        ("a crash: the program", exit(139), &application),
        ("a code that nobody knows: the program", exit(3), &application),
        ("a diverged loss: the program", exit(82), &application),
        ("a store that cannot be reached: the infrastructure", exit(75), &infrastructure),
        ("SIGTERM without a checkpoint: the infrastructure", exit(143), &infrastructure),
        ("SIGKILL: the infrastructure", exit(137), &infrastructure),
        ("no status: the infrastructure", Ending { code: None, ..exit(0) }, &infrastructure),
        ("success without a manifest: the infrastructure", steps(20), &infrastructure),
        ("out of memory: the ladder", exit(80), &memory),
        ("killed for memory: the ladder", Ending { disruption: Some(Disruption::OutOfMemory), ..exit(137) }, &memory),
        ("a checkpoint further on: nobody", checkpointed(7), &nobody),
        ("a checkpoint no further on: the infrastructure", checkpointed(0), &infrastructure),
        ("bam went away while it got further: nobody", gone(7), &nobody),
        ("bam went away before it got further: the infrastructure", gone(0), &infrastructure),
    ];
    for (sentence, ending, pays) in table {
        let plan = plan(RUN, &teacher(), &after([ending]), later());
        assert_eq!(&plan.status.failures, pays, "{sentence}");
        assert_eq!(started(&plan).map(|start| start.number), Some(2), "{sentence}: it is tried again");
    }
}

#[test]
fn what_a_person_must_mend_is_not_tried_again() {
    for (reason, phrase) in [
        (ExitReason::BadConfig, "could not use its configuration"),
        (ExitReason::BadData, "found data that do not fit"),
        (ExitReason::MissingInput, "missed an input"),
    ] {
        let plan = plan(RUN, &teacher(), &after([said(reason, "train.tsv:3: what is wrong")]), later());
        assert_eq!(plan.status.phase, RunPhase::Failed);
        assert_eq!(failure_message(&plan.status), format!("its last attempt {phrase}: train.tsv:3: what is wrong"));
        assert_eq!(plan.status.failures, Failures::default());
    }
}

#[test]
fn a_status_keeps_the_end_of_the_log_of_the_last_attempt_that_failed() {
    let logged = |ending: Ending, log: &str| Ending { log: log.to_owned(), ..ending };
    let kept = |endings: Vec<Ending>| {
        let status = plan(RUN, &teacher(), &after(endings), later()).status;
        (status.history.iter().map(|record| record.log.join("|")).collect::<Vec<_>>(), last_log(&status).join("|"))
    };
    let crashed = |log| logged(exit(139), log);
    let table: [(&str, Vec<Ending>, &[&str], &str); 6] = [
        ("its last lines", vec![crashed("a\n\u{1b}[31mb\u{1b}[0m\n")], &["a|b"], "a|b"),
        ("of the last one alone", vec![crashed("a"), crashed("b")], &["", "b"], "b"),
        ("also if one says nothing after it", vec![crashed("a"), exit(137)], &["a", ""], "a"),
        ("also if one ends well after it", vec![crashed("a"), logged(checkpointed(7), "fine")], &["a", ""], "a"),
        ("nothing of one that ended well", vec![logged(checkpointed(7), "fine")], &[""], ""),
        (
            "nothing that its message says",
            vec![logged(said(ExitReason::Internal, "no disk:\n/tmp is full"), "warning\n  /tmp is full")],
            &["warning"],
            "warning",
        ),
    ];
    for (sentence, endings, logs, last) in table {
        assert_eq!(kept(endings), (logs.iter().map(ToString::to_string).collect(), last.to_owned()), "{sentence}");
    }
}

#[test]
fn a_log_makes_a_status_little_longer_whatever_a_trainer_writes() {
    let bytes = |lines: &[String]| {
        let report = RunReport { log: lines.to_vec(), ..RunReport::new(ExitReason::Internal, "it broke") };
        let ending = Ending { log: lines.join("\n"), report: Some(report), ..exit(70) };
        let mut generous = teacher();
        generous.failure_policy.application_retries = 30;
        let status = plan(RUN, &generous, &after((0..20).map(|_| ending.clone())), later()).status;
        serde_json::to_vec(&status).unwrap().len()
    };
    for letter in ["x", "\"", "🦀", "\u{1}"] {
        let added = bytes(&vec![letter.repeat(500); 500]) - bytes(&[]);
        assert!(added < 2200, "{letter}: {added} bytes");
    }
}

#[test]
fn a_budget_that_is_spent_ends_the_run() {
    let plan = plan(RUN, &teacher(), &after([exit(139), exit(101)]), later());
    assert_eq!(plan.status.phase, RunPhase::Failed);
    assert_eq!(
        failure_message(&plan.status),
        "its last attempt panicked (exit code 101) (2 failures, and failurePolicy.applicationRetries is 1)"
    );
    assert!(plan.actions.is_empty());
}

#[test]
fn budgets_are_counted_apart() {
    let endings = [exit(139), exit(75), exit(137), checkpointed(5), exit(80)];
    let plan = plan(RUN, &teacher(), &after(endings), later());
    let failures = Failures { application: 1, infrastructure: 2, out_of_memory: 1 };
    assert_eq!(plan.status.failures, failures);
    assert_eq!(plan.status.attempts, 5);
    assert!(started(&plan).is_some());
}

#[test]
fn out_of_memory_halves_the_micro_batch_down_to_one_row_and_then_keeps_no_activations() {
    let mut spec = teacher();
    let config = spec.config.as_mut().unwrap();
    config.execution.micro_batch_tokens = Some(700);
    assert_eq!(config.science.hyperparameters.max_seq_length, 128);
    let rung = |spec: &BamRunSpec, times: usize| {
        let plan = plan(RUN, spec, &after(std::iter::repeat_n(exit(80), times)), later());
        started(&plan).map(|start| start.rung.map(|it| (it.micro_batch_tokens, it.activation_checkpointing)))
    };
    let rungs: Vec<_> = (0..=5).map(|times| rung(&spec, times)).collect();
    let on = |tokens, checkpointing| Some(Some((tokens, checkpointing)));
    assert_eq!(rungs, [Some(None), on(350, false), on(175, false), on(128, false), on(128, true), None]);
    let plan = plan(RUN, &spec, &after(std::iter::repeat_n(exit(80), 5)), later());
    assert_eq!(
        failure_message(&plan.status),
        "ran out of memory even with micro-batches of one row (128 word pieces) and activation checkpointing: use a \
         machine with more memory, a shorter maxSeqLength, or a smaller model"
    );
}

#[test]
fn pauses_double_and_differ_between_runs() {
    let pause = |run: &str, failures: usize| {
        let observed = after(std::iter::repeat_n(exit(75), failures));
        let plan = plan(run, &teacher(), &observed, start());
        let until = plan.revisit.expect("it waits");
        assert_eq!(plan.status.not_before.as_ref().unwrap().0, until);
        until.duration_since(start()).as_secs()
    };
    for (failures, shortest) in [(1, 2), (2, 4), (3, 8), (6, 64), (9, 300), (10, 300)] {
        let seconds = pause(RUN, failures);
        assert!((shortest..=shortest * 5 / 4).contains(&seconds), "{failures} failures: {seconds} s");
    }
    let others: BTreeSet<_> = (0..20).map(|run| pause(&format!("run-{run}"), 6)).collect();
    assert!(others.len() > 5, "they come back together: {others:?}");
}

#[test]
fn a_machine_whose_clock_is_ahead_delays_nothing() {
    let now = start() - k8s_openapi::jiff::SignedDuration::from_hours(1);
    let plan = plan(RUN, &teacher(), &after([exit(75)]), now);
    let pause = plan.revisit.expect("it waits").duration_since(now);
    assert!(pause.as_secs() <= 3, "it waits for {pause}");
}

#[test]
fn a_whole_manifest_is_the_run_whatever_else_was_seen() {
    for endings in [vec![], vec![exit(139), exit(139)], vec![exit(0)]] {
        let observed = Observed { stored: Stored::Whole(None), ..after(endings) };
        let plan = plan(RUN, &teacher(), &observed, later());
        assert_eq!(plan.status.phase, RunPhase::Succeeded);
        assert!(plan.actions.is_empty());
    }
}

#[test]
fn where_the_store_cannot_be_seen_the_report_counts() {
    let unseen = |ending| Observed { stored: Stored::Unseen, ..after([ending]) };
    let done = plan(RUN, &teacher(), &unseen(said(ExitReason::Completed, "")), later());
    assert_eq!(done.status.phase, RunPhase::Succeeded);
    let silent = plan(RUN, &teacher(), &unseen(exit(0)), later());
    assert_eq!(started(&silent).map(|start| start.number), Some(2), "one more, which only reports");
}

#[test]
fn an_attempt_that_is_alive_is_waited_for() {
    let mut observed = after([exit(139)]);
    observed.attempts.insert(2, Attempt { started_at: start(), state: AttemptState::Running(None), removable: false });
    let plan = plan(RUN, &teacher(), &observed, later());
    assert_eq!((plan.status.phase, plan.status.attempts), (RunPhase::Running, 2));
    assert!(plan.actions.is_empty() && plan.status.waiting_for.is_empty());
}

#[test]
fn what_is_written_into_the_status_is_not_counted_again() {
    let observed = after([exit(139)]);
    let first = plan(RUN, &teacher(), &observed, start());
    let again = plan(RUN, &teacher(), &Observed { status: first.status.clone(), ..observed }, start());
    assert_eq!(again.status, first.status);
    let gone = Observed { status: first.status.clone(), stored: Stored::Absent, ..Observed::default() };
    let after_its_job_is_gone = plan(RUN, &teacher(), &gone, start());
    assert_eq!(after_its_job_is_gone.status, first.status);
}

#[test]
fn jobs_are_kept_as_long_as_somebody_may_want_to_read_their_logs() {
    let removes = |keep, code| {
        let mut spec = teacher();
        spec.pod.keep_jobs = keep;
        let mut observed = after([exit(75), exit(code)]);
        observed.attempts.values_mut().for_each(|attempt| attempt.removable = true);
        if code == 0 {
            observed.stored = Stored::Whole(None);
        }
        observed.status = plan(RUN, &spec, &observed, later()).status;
        let removed = plan(RUN, &spec, &observed, later()).actions.into_iter().filter_map(|it| match it.action {
            Action::RemoveAttempt { number, .. } => Some(number),
            _ => None,
        });
        removed.collect::<Vec<_>>()
    };
    let table: [(&str, KeepJobs, i32, &[u32]); 6] = [
        ("of a run that failed the last one stays", KeepJobs::OnFailure, 64, &[1]),
        ("of one that is done none", KeepJobs::OnFailure, 0, &[1, 2]),
        ("all stay, failed", KeepJobs::Always, 64, &[]),
        ("all stay, done", KeepJobs::Always, 0, &[]),
        ("none stays, failed", KeepJobs::Never, 64, &[1, 2]),
        ("none stays, done", KeepJobs::Never, 0, &[1, 2]),
    ];
    for (what, keep, code, removed) in table {
        assert_eq!(removes(keep, code), removed, "{what}");
    }
}

/// A student whose first attempt missed the targets of RTE's teacher.
fn student_that_complained(reopened: Reopened, phase: RunPhase) -> Observed {
    let spec = student();
    let science = spec.config.unwrap().science;
    let rte = science.tasks[0].teachers[0].clone();
    let mut ending = said(ExitReason::MissingInput, "targets are missing");
    ending.report.as_mut().unwrap().missing.push(rte.clone());
    let done = Teacher { phase: RunPhase::Succeeded, attempts: 1, reopened: Reopened::default() };
    let mut teachers: BTreeMap<_, _> =
        science.teachers().into_iter().map(|hash| (hash.clone(), done.clone())).collect();
    let attempts = if reopened.by.is_empty() || phase != RunPhase::Succeeded { 1 } else { 2 };
    teachers.insert(rte, Teacher { phase, attempts, reopened });
    Observed { teachers, ..after([ending]) }
}

#[test]
fn a_student_waits_while_its_teacher_is_trained_again_and_nobody_pays() {
    let asked = Reopened { after: 1, by: BTreeSet::from([names::attempt(RUN, 1)]) };
    let waits = "waits until the teacher of rte is trained again: its targets are gone or changed";
    for (reopened, phase) in [
        (Reopened::default(), RunPhase::Succeeded),
        (asked.clone(), RunPhase::Pending),
        (asked.clone(), RunPhase::Running),
    ] {
        let plan = plan(RUN, &student(), &student_that_complained(reopened, phase), later());
        assert_eq!((plan.status.phase, plan.status.waiting_for.as_str()), (RunPhase::Pending, waits), "{phase:?}");
        assert_eq!(plan.status.failures, Failures::default());
    }
    let plan = plan(RUN, &student(), &student_that_complained(asked, RunPhase::Succeeded), later());
    assert_eq!(started(&plan).map(|start| start.number), Some(2));
}

#[test]
fn a_teacher_is_trained_again_for_a_student_only_once() {
    let asked = Reopened { after: 1, by: BTreeSet::from([names::attempt(RUN, 1)]) };
    let mut observed = student_that_complained(asked, RunPhase::Succeeded);
    let again = observed.attempts[&1].clone();
    observed.attempts.insert(2, again);
    let plan = plan(RUN, &student(), &observed, later());
    assert_eq!(
        failure_message(&plan.status),
        "its last attempt missed an input: targets are missing, although the teacher of rte was trained again"
    );
}

#[test]
fn a_run_that_failed_gets_fresh_budgets_when_somebody_asks_for_it() {
    let failed = plan(RUN, &teacher(), &after([exit(139), exit(139)]), later());
    assert_eq!(failed.status.phase, RunPhase::Failed);
    let reopened = Reopened { after: 2, by: BTreeSet::from(["bam run".to_owned()]) };
    let from_its_status = Observed { status: failed.status, reopened, ..after([exit(139), exit(139)]) };
    let from_its_attempts = Observed { status: Default::default(), ..from_its_status.clone() };
    for observed in [from_its_status, from_its_attempts] {
        let plan = plan(RUN, &teacher(), &observed, later());
        assert_eq!(started(&plan).map(|start| start.number), Some(3));
        assert_eq!(plan.status.failures, Failures::default());
    }
}

#[test]
fn a_teacher_that_is_to_be_trained_again_is_not_done_because_of_its_old_manifest() {
    let reopened = Reopened { after: 1, by: BTreeSet::from(["run-student-1".to_owned()]) };
    let observed = Observed { stored: Stored::Whole(None), reopened, ..after([said(ExitReason::Completed, "")]) };
    let before = plan(RUN, &teacher(), &observed, later());
    assert_eq!(started(&before).map(|start| start.number), Some(2));
    let mut observed = observed;
    let done = Attempt {
        started_at: later(),
        state: AttemptState::Ended(Box::new(said(ExitReason::Completed, ""))),
        removable: false,
    };
    observed.attempts.insert(2, done);
    let plan = plan(RUN, &teacher(), &observed, later());
    assert_eq!(plan.status.phase, RunPhase::Succeeded);
}

#[test]
fn history_is_bounded() {
    let mut spec = teacher();
    spec.failure_policy.infrastructure_retries = 100;
    let plan = plan(RUN, &spec, &after(std::iter::repeat_n(exit(75), 40)), later());
    assert_eq!(plan.status.history.len(), bam_crds::run::HISTORY);
    assert_eq!((plan.status.attempts, plan.status.failures.infrastructure), (40, 40));
}

#[test]
fn an_attempt_that_is_not_at_work_yet_says_what_it_waits_for() {
    let mut observed = after([]);
    let state = AttemptState::Starting("waits for a node: all are full".to_owned());
    observed.attempts.insert(1, Attempt { started_at: start(), state, removable: true });
    let plan = plan(RUN, &teacher(), &observed, later());
    assert_eq!(plan.status.phase, RunPhase::Pending);
    assert_eq!(plan.status.waiting_for, "has begun attempt 1, which waits for a node: all are full");
    assert!(plan.actions.is_empty());
}

#[test]
fn an_obstacle_is_waited_out_and_a_refusal_is_tried_again() {
    let missing = Why::ClaimMissing { claim: "bam-dir".to_owned() };
    let blocked = Observed { obstacle: Some(missing), ..after([]) };
    let blocked = plan(RUN, &teacher(), &blocked, later());
    assert_eq!(started(&blocked), None);
    assert_eq!(blocked.status.conditions[0].reason, "ClaimMissing");
    assert!(blocked.status.waiting_for.contains("bam-dir"), "{}", blocked.status.waiting_for);

    let refused = Observed { refused: Some(Why::Refused { message: "over quota".to_owned() }), ..after([]) };
    let refused = plan(RUN, &teacher(), &refused, later());
    assert_eq!(started(&refused).map(|start| start.number), Some(1));
    assert_eq!(refused.status.waiting_for, "is held up: over quota");
}

#[test]
fn what_is_left_of_an_attempt_is_removed_only_when_the_published_status_tells_of_it() {
    let removed = |plan: &Plan<_>| -> Vec<u32> {
        let number = |planned: &bam_operator::plan::Planned| match planned.action {
            Action::RemoveAttempt { number, .. } => Some(number),
            _ => None,
        };
        plan.actions.iter().filter_map(number).collect()
    };
    let mut observed = after([exit(75), said(ExitReason::Completed, "")]);
    observed.stored = Stored::Unseen;
    observed.attempts.values_mut().for_each(|attempt| attempt.removable = true);
    let first = plan(RUN, &teacher(), &observed, later());
    assert_eq!((first.status.phase, removed(&first)), (RunPhase::Succeeded, vec![]));
    observed.status = first.status;
    assert_eq!(removed(&plan(RUN, &teacher(), &observed, later())), [1, 2]);
}

#[test]
fn the_last_attempt_of_a_run_that_failed_stays_for_its_log() {
    let mut observed = after([exit(75), said(ExitReason::BadData, "row 7")]);
    observed.attempts.values_mut().for_each(|attempt| attempt.removable = true);
    observed.status = plan(RUN, &teacher(), &observed, later()).status;
    let plan = plan(RUN, &teacher(), &observed, later());
    assert_eq!(plan.status.phase, RunPhase::Failed);
    let removed: Vec<_> = plan.actions.iter().map(|planned| planned.action.to_string()).collect();
    assert_eq!(removed, ["remove attempt 1"]);
}

#[test]
fn a_teacher_whose_run_is_gone_is_not_waited_for_unless_its_targets_were_missed() {
    let spec = student();
    let alone = plan(RUN, &spec, &Observed { teachers: Default::default(), ..after([]) }, later());
    assert_eq!(started(&alone).map(|start| start.number), Some(1), "an attempt will tell");

    let mut missed = said(ExitReason::MissingInput, "no targets");
    let teacher = spec.config.as_ref().unwrap().science.teachers()[0].clone();
    missed.report.as_mut().unwrap().missing = vec![teacher];
    let waits = plan(RUN, &spec, &after([missed]), later());
    assert!(waits.status.waiting_for.contains("is trained again"), "{}", waits.status.waiting_for);
}

#[test]
fn what_will_be_otherwise_by_itself_is_looked_at_again_then() {
    let mut observed = after([]);
    observed.attempts.insert(1, Attempt { started_at: start(), state: AttemptState::Running(None), removable: true });
    observed.look_again = Some(later());
    assert_eq!(plan(RUN, &teacher(), &observed, start()).revisit, Some(later()));
}

#[test]
fn a_suspended_run_is_stopped_after_its_status_says_so_and_its_end_costs_nothing() {
    let stops = |plan: &Plan<bam_crds::BamRunStatus>| {
        plan.actions.iter().any(|it| it.action == Action::StopAttempt { run: RUN.to_owned(), number: 1 })
    };
    let mut observed = Observed { suspended: true, ..after([]) };
    let alive = Attempt { started_at: start(), state: AttemptState::Running(None), removable: true };
    observed.attempts.insert(1, alive);
    let first = plan(RUN, &teacher(), &observed, start());
    assert_eq!((first.status.phase, first.status.stopped, stops(&first)), (RunPhase::Running, 1, false));
    observed.status = first.status;
    let second = plan(RUN, &teacher(), &observed, start());
    assert!(stops(&second));

    // It had no checkpoint yet, and nobody saw it end.
    let gone = Attempt {
        started_at: start(),
        state: AttemptState::Ended(Box::new(Ending::unseen(start()))),
        removable: false,
    };
    observed.attempts.insert(1, gone);
    let waits = plan(RUN, &teacher(), &observed, start());
    assert_eq!((waits.status.phase, &waits.status.failures), (RunPhase::Pending, &Failures::default()));
    assert!(waits.status.waiting_for.starts_with("is suspended"), "{}", waits.status.waiting_for);
    assert_eq!(started(&waits), None);

    observed.suspended = false;
    assert_eq!(started(&plan(RUN, &teacher(), &observed, start())).map(|start| start.number), Some(2), "at once");
}

#[test]
fn an_attempt_that_crashes_while_it_is_stopped_is_paid_for() {
    let mut observed = after([exit(139)]);
    observed.status.stopped = 1;
    let plan = plan(RUN, &teacher(), &observed, later());
    assert_eq!(plan.status.failures.application, 1);
}

#[test]
fn an_attempt_that_is_not_at_work_in_time_fails_its_run_and_is_stopped_at_no_cost() {
    let mut spec = teacher();
    spec.failure_policy.pending_deadline_seconds = Some(600);
    let after_seconds = |seconds| start().saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    let waits = "waits for a machine".to_owned();
    let attempt = |state| Attempt { started_at: start(), state, removable: true };
    let mut observed = after([]);
    observed.attempts.insert(1, attempt(AttemptState::Starting(waits.clone())));
    observed.look_again = Some(after_seconds(3600));

    let early = plan(RUN, &spec, &observed, after_seconds(599));
    assert_eq!((early.status.phase, early.revisit), (RunPhase::Pending, Some(after_seconds(600))));
    observed.attempts.insert(1, attempt(AttemptState::Running(None)));
    assert_eq!(plan(RUN, &spec, &observed, after_seconds(600)).status.phase, RunPhase::Running, "it is at work");
    observed.attempts.insert(1, attempt(AttemptState::Starting(waits)));
    assert_eq!(plan(RUN, &teacher(), &observed, later()).status.phase, RunPhase::Pending, "nobody set a deadline");

    let stop = Action::StopAttempt { run: RUN.to_owned(), number: 1 };
    let late = plan(RUN, &spec, &observed, after_seconds(600));
    assert_eq!(late.status.phase, RunPhase::Failed);
    assert_eq!(
        failure_message(&late.status),
        "attempt 1 waits for a machine, for longer than failurePolicy.pendingDeadlineSeconds (600 s)"
    );
    assert!(late.actions.is_empty(), "first it is said: {:?}", late.actions);
    observed.status = late.status;
    let stops = plan(RUN, &spec, &observed, after_seconds(601));
    assert_eq!(stops.actions.iter().map(|it| &it.action).collect::<Vec<_>>(), [&stop]);

    observed.attempts.insert(1, attempt(AttemptState::Running(None)));
    let too_late = plan(RUN, &spec, &observed, after_seconds(602));
    assert_eq!(too_late.status.phase, RunPhase::Failed, "a machine that was found while it was stopped");
    assert_eq!(too_late.actions.iter().map(|it| &it.action).collect::<Vec<_>>(), [&stop]);

    let gone = AttemptState::Ended(Box::new(Ending::unseen(after_seconds(603))));
    observed.attempts.insert(1, Attempt { removable: false, ..attempt(gone) });
    let over = plan(RUN, &spec, &observed, after_seconds(604)).status;
    assert_eq!((over.phase, &over.failures), (RunPhase::Failed, &Failures::default()));
    assert!(failure_message(&over).contains("pendingDeadlineSeconds"), "{}", failure_message(&over));
}

#[test]
fn a_student_whose_teacher_failed_for_good_fails_too() {
    let spec = student();
    let tasks = &spec.config.as_ref().unwrap().science.tasks;
    let hashes: Vec<_> = tasks.iter().map(|task| task.teachers[0].clone()).collect();
    let teacher = |phase| Teacher { phase, attempts: 2, ..Teacher::default() };
    let mut observed = after([]);
    observed.teachers.insert(hashes[0].clone(), teacher(RunPhase::Succeeded));
    observed.teachers.insert(hashes[1].clone(), teacher(RunPhase::Failed));
    let failed = plan(RUN, &spec, &observed, later());
    assert_eq!(failed.status.phase, RunPhase::Failed);
    assert_eq!(failure_message(&failed.status), "the teacher of mrpc failed");
    assert_eq!(started(&failed), None);

    let again = Reopened { after: 2, by: BTreeSet::from(["somebody".to_owned()]) };
    observed.teachers.insert(hashes[1].clone(), Teacher { reopened: again, ..teacher(RunPhase::Failed) });
    assert_eq!(plan(RUN, &spec, &observed, later()).status.phase, RunPhase::Pending, "it is tried again");
}

#[test]
fn a_run_on_a_machine_that_does_not_answer_says_so_and_goes_on_waiting() {
    let attempt = |state| Attempt { started_at: start(), state, removable: true };
    let mut observed = after([]);
    observed.attempts.insert(1, attempt(AttemptState::Silent("node-7".to_owned())));
    let silent = plan(RUN, &teacher(), &observed, later());
    assert_eq!((silent.status.phase, silent.actions.len()), (RunPhase::Running, 0));
    assert!(silent.status.waiting_for.starts_with("waits for the node node-7, which does not answer"), "{silent:#?}");
    assert_eq!(silent.status.conditions[0].reason, "NodeSilent");

    // It was only the network.
    observed.status = silent.status;
    observed.attempts.insert(1, attempt(AttemptState::Running(None)));
    let back = plan(RUN, &teacher(), &observed, later());
    assert_eq!((back.status.phase, back.status.waiting_for.as_str()), (RunPhase::Running, ""));
}

#[test]
fn in_a_queue_no_deadline_passes_and_it_can_be_stopped_there() {
    let mut spec = teacher();
    spec.failure_policy.pending_deadline_seconds = Some(1);
    let mut observed = Observed { suspended: true, ..after([]) };
    let queued = AttemptState::Queued("waits in the queue team-a: no quota".to_owned());
    observed.attempts.insert(1, Attempt { started_at: start(), state: queued, removable: true });
    let waits = plan(RUN, &spec, &observed, later());
    assert_eq!(waits.status.phase, RunPhase::Pending);
    assert_eq!(waits.status.waiting_for, "has begun attempt 1, which waits in the queue team-a: no quota");
    assert_eq!((waits.status.conditions[0].reason.as_str(), waits.status.stopped), ("Queued", 1));
    observed.status = waits.status;
    let stopped = plan(RUN, &spec, &observed, later());
    assert_eq!(stopped.actions.len(), 1, "{stopped:#?}");
    assert_eq!(stopped.actions[0].action, Action::StopAttempt { run: RUN.to_owned(), number: 1 });
}
