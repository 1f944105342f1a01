//! Experiments: their graph, what they start, and what their status says.

use std::collections::{BTreeMap, BTreeSet};

use bam_crds::experiment::{BamExperiment, ExperimentPhase, SecretRef, StorageSpec, TeacherSpec};
use bam_crds::run::{Role, RunPhase};
use bam_crds::task::TaskMetric;
use bam_crds::{BamExperimentStatus, BamRunStatus, CustomTask, Digest, HyperparameterOverrides, TaskFiles};
use bam_operator::cluster::observe::LONGEST_STATUS;
use bam_operator::plan::experiment::{Observed, Run};
use bam_operator::plan::graph::{Node, inputs, trainings};

use k8s_openapi::jiff::SignedDuration;

use crate::build;
use crate::world::{Fate, State, World};

fn nodes(experiment: &BamExperiment) -> Vec<Node> {
    let tasks: Vec<_> = experiment.spec.tasks.iter().map(|task| task.name.clone()).collect();
    trainings(&experiment.spec, &build::findings(&tasks), &Default::default(), &Default::default()).unwrap()
}

fn science(node: &Node) -> &bam_crds::Science {
    &node.spec.config.as_ref().unwrap().science
}

#[test]
fn a_teacher_per_task_then_a_student_per_trial() {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    experiment.spec.trials = 2;
    experiment.spec.seed = 7;
    let nodes = nodes(&experiment);
    let titles: Vec<_> = nodes.iter().map(|node| node.title.as_str()).collect();
    assert_eq!(titles, ["teacher rte", "teacher mrpc", "student 1", "student 2"]);
    let seeds: Vec<_> = nodes.iter().map(|node| science(node).seed).collect();
    assert_eq!(seeds, [1, 1, 7, 8], "a teacher's seed is its own");
    for student in &nodes[2..] {
        for (task, teacher) in science(student).tasks.iter().zip(&nodes) {
            assert_eq!(task.teachers, [science(teacher).hash()]);
        }
    }
    let names: BTreeSet<_> = nodes.iter().map(|node| &node.name).collect();
    assert_eq!(names.len(), 4);
}

#[test]
fn out_of_fold_every_task_has_a_teacher_for_each_fold() {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    let plain = nodes(&experiment);
    experiment.spec.distill.as_mut().unwrap().out_of_fold = Some(2);
    let nodes = nodes(&experiment);
    let titles: Vec<_> = nodes.iter().map(|node| node.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "teacher rte (fold 1 of 2)",
            "teacher rte (fold 2 of 2)",
            "teacher mrpc (fold 1 of 2)",
            "teacher mrpc (fold 2 of 2)",
            "student"
        ]
    );
    let folds: Vec<_> = nodes.iter().map(|node| science(node).fold.map(|fold| (fold.index, fold.of))).collect();
    assert_eq!(folds, [Some((0, 2)), Some((1, 2)), Some((0, 2)), Some((1, 2)), None]);
    for (task, teachers) in science(&nodes[4]).tasks.iter().zip(nodes.chunks(2)) {
        let mut hashes: Vec<_> = teachers.iter().map(|teacher| science(teacher).hash()).collect();
        hashes.sort();
        assert_eq!(task.teachers, hashes);
    }
    assert_eq!(nodes[4].teachers.len(), 4);
    assert!(nodes[0].steps < plain[0].steps, "a fold is left out");
}

#[test]
fn out_of_fold_the_experiment_completes_and_its_status_tells_the_folds_apart() {
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.distill.as_mut().unwrap().out_of_fold = Some(3);
    let state = World::new(experiment).run();
    assert_eq!(state.status.phase, ExperimentPhase::Complete);
    assert_eq!(state.status.teachers, "3/3");
    let titles: Vec<_> = state.status.runs.iter().map(|run| bam_operator::plan::status::title(run, 1)).collect();
    let folds = ["teacher rte (fold 1 of 3)", "teacher rte (fold 2 of 3)", "teacher rte (fold 3 of 3)"];
    assert_eq!(titles, [&["inputs check"][..], &folds, &["student"]].concat());
}

#[test]
fn without_distillation_there_are_only_students() {
    let nodes = nodes(&build::experiment(&["rte", "mrpc"]));
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].title.as_str(), nodes[0].role), ("student", Role::Student));
    assert!(!science(&nodes[0]).distills());
}

#[test]
fn a_teachers_options_are_its_own_then_those_of_all_teachers_then_the_students_inputs() {
    let options = |epochs: Option<f64>, length, batch| HyperparameterOverrides {
        num_train_epochs: epochs.map(Into::into),
        max_seq_length: length,
        train_batch_size: batch,
        ..Default::default()
    };
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    experiment.spec.hyperparameters = options(Some(9.0), Some(64), Some(16));
    experiment.spec.distill.as_mut().unwrap().hyperparameters = options(Some(2.0), None, None);
    experiment.spec.tasks[1].teacher =
        Some(TeacherSpec { hyperparameters: options(Some(1.0), Some(96), None), ..TeacherSpec::default() });
    let nodes = nodes(&experiment);
    let of = |index: usize| {
        let options = &science(&nodes[index]).hyperparameters;
        (options.num_train_epochs, options.max_seq_length, options.train_batch_size, options.learning_rate)
    };
    assert_eq!(of(0), (2.0, 64, 32, 5e-5), "the inputs are the student's, the rest a single task's default");
    assert_eq!(of(1), (1.0, 96, 32, 5e-5));
    assert_eq!(of(2), (9.0, 64, 16, 1e-4));
    assert_eq!(inputs(&experiment.spec, "key").spec.inputs.unwrap().max_seq_length, 96);
}

#[test]
fn debug_runs_have_no_pretrained_weights() {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    experiment.spec.hyperparameters.debug = Some(true);
    assert!(nodes(&experiment).iter().all(|node| science(node).model.weights.is_none()));
    assert!(inputs(&experiment.spec, "key").spec.inputs.unwrap().debug);
    experiment.spec.distill.as_mut().unwrap().hyperparameters.debug = Some(false);
    let of_teachers: Vec<_> = nodes(&experiment).iter().map(|node| science(node).model.weights.is_some()).collect();
    assert_eq!(of_teachers, [true, true, false]);
    assert!(!inputs(&experiment.spec, "key").spec.inputs.unwrap().debug, "somebody needs the weights");
}

#[test]
fn an_object_store_is_the_same_one_with_whatever_credentials() {
    let mut one = build::distilled(&["rte", "mrpc"]);
    one.spec.storage = StorageSpec::from_uri("s3://models/bam").unwrap();
    let mut other = one.clone();
    other.spec.storage.object_store.as_mut().unwrap().secret_ref = Some(SecretRef { name: "keys".to_owned() });
    let (plain, keyed) = (nodes(&one), nodes(&other));
    assert_eq!(plain[0].name, keyed[0].name);
    assert_eq!(plain[0].spec.pod.secret, None);
    assert_eq!(keyed[0].spec.pod.secret.as_deref(), Some("keys"));
    assert_eq!(keyed[0].spec.config.as_ref().unwrap().execution.store, "s3://models/bam");
    one.spec.storage = StorageSpec::from_uri("s3://models/other").unwrap();
    assert_ne!(nodes(&one)[0].name, keyed[0].name, "in another store it is another run");
}

#[test]
fn experiments_that_need_the_same_teacher_name_the_same_run() {
    let mut one = build::distilled(&["rte", "mrpc"]);
    let mut other = build::distilled(&["rte"]);
    one.metadata.name = Some("one".to_owned());
    other.spec.trials = 5;
    other.spec.seed = 3;
    other.spec.compute.threads = Some(2);
    assert_eq!(nodes(&one)[0].name, nodes(&other)[0].name);
    one.spec.storage = StorageSpec::from_uri("pvc://elsewhere").unwrap();
    assert_ne!(nodes(&one)[0].name, nodes(&other)[0].name, "in another store it is another run");
    assert_eq!(nodes(&one)[0].science_hash(), nodes(&other)[0].science_hash());
}

#[test]
fn a_task_of_one_s_own_is_known_by_its_meaning_and_found_by_its_files() {
    let with = |folder: &str, metric: Option<TaskMetric>| {
        let mut experiment = build::distilled(&["rte", "own"]);
        let own = &mut experiment.spec.tasks[1];
        let path = |file: &str| format!("{folder}/{file}.csv");
        own.files = Some(TaskFiles { train: path("train"), dev: path("dev"), test: None });
        let said = r#"{"format": "CSV", "textA": "text", "label": "mood", "labels": ["bad", "good"]}"#;
        own.custom = Some(CustomTask { metric, ..serde_json::from_str(said).unwrap() });
        experiment
    };
    let (here, there) = (with("here", None), with("there", Some(TaskMetric::Accuracy)));
    let nodes_here = nodes(&here);
    let names = |nodes: &[Node]| nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(&nodes_here),
        names(&nodes(&there)),
        "neither moving its files nor writing out a default renames a run"
    );
    assert_ne!(names(&nodes_here), names(&nodes(&with("here", Some(TaskMetric::Matthews)))));

    let files = |node: &Node| node.spec.config.as_ref().unwrap().execution.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        nodes_here.iter().map(files).collect::<Vec<_>>(),
        [vec![], vec!["own".to_owned()], vec!["own".to_owned()]]
    );
    assert!(nodes_here.iter().all(|node| node.spec.config.as_ref().unwrap().problems().is_empty()));
    let check = inputs(&here.spec, "key").spec.inputs.unwrap();
    assert_eq!((check.problems(), check.tasks.len(), check.custom.len()), (vec![], 2, 1));
    assert!(nodes_here.iter().all(|node| node.steps.is_some()), "its rows are counted like those of any task");
}

#[test]
fn edited_inputs_are_checked_again() {
    let experiment = build::distilled(&["rte"]);
    assert_ne!(inputs(&experiment.spec, "before").name, inputs(&experiment.spec, "after").name);
}

#[test]
fn a_check_that_says_nothing_of_a_task_ends_the_experiment_with_a_sentence() {
    let experiment = build::distilled(&["rte", "mrpc"]);
    let fault =
        trainings(&experiment.spec, &build::findings(&["rte".to_owned()]), &Default::default(), &Default::default())
            .unwrap_err();
    assert_eq!(fault.reason(), "InputsIncomplete");
    assert!(fault.to_string().contains("the data of mrpc"), "{fault}");
}

/// What an experiment's runs came to: title and phase.
fn phases(state: &State) -> Vec<(String, RunPhase)> {
    let of = |run: &bam_crds::experiment::RunSummary| {
        let trial = run.trial.map(|trial| format!(" {trial}")).unwrap_or_default();
        (format!("{}{trial}", run.role.noun()), run.phase)
    };
    state.status.runs.iter().map(of).collect()
}

fn condition<'a>(state: &'a State, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = state.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn a_student_that_fails_does_not_stop_the_others() {
    let mut experiment = build::experiment(&["rte"]);
    experiment.spec.trials = 3;
    experiment.spec.max_parallel_runs = Some(1);
    let fates = [Fate::Completes, Fate::Completes, Fate::Exits(65), Fate::Completes];
    let state = World::new(experiment).with_fates(fates).run();
    use RunPhase::{Failed, Succeeded};
    let names = ["inputs", "student 1", "student 2", "student 3"].map(str::to_owned);
    let expected: Vec<_> = names.into_iter().zip([Succeeded, Succeeded, Failed, Succeeded]).collect();
    assert_eq!(phases(&state), expected);
    assert_eq!(state.status.phase, ExperimentPhase::Failed);
    assert_eq!(state.status.scores["rte"].trials, 2, "what is done counts");
    let message = "student 2 failed: its last attempt found data that do not fit";
    assert_eq!(condition(&state, "Failed"), ("True", "Failed", message));
    assert_eq!(condition(&state, "Complete").0, "False");
}

#[test]
fn a_teacher_that_fails_stops_what_nobody_needs_any_more() {
    let mut experiment = build::distilled(&["rte", "mrpc", "cola"]);
    experiment.spec.max_parallel_runs = Some(1);
    let state = World::new(experiment).with_fates([Fate::Completes, Fate::Completes, Fate::Exits(66)]).run();
    assert_eq!(state.status.phase, ExperimentPhase::Failed);
    let messages: Vec<_> = state.status.runs.iter().map(|run| run.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "",
            "",
            "its last attempt missed an input",
            "is not needed: no student that is still to be trained learns from it",
            "will not start: teacher mrpc failed",
        ]
    );
    assert_eq!(state.started.len(), 3);
}

#[test]
fn scores_over_trials_are_the_best_median_mean_and_deviation() {
    let mut experiment = build::experiment(&["rte"]);
    experiment.spec.trials = 4;
    let world = World::new(experiment);
    world.state.borrow_mut().scores = [(1, 70.0), (2, 74.0), (3, 71.0)].into();
    let state = world.run();
    let scores = &state.status.scores["rte"];
    assert_eq!((scores.trials, scores.best, scores.median, scores.mean), (4, Some(75.0), 72.5, 72.5));
    assert_eq!(scores.standard_deviation, Some((17f64 / 3.0).sqrt()));
    assert_eq!((state.status.students.as_str(), state.status.progress.as_str()), ("4/4", "100 %"));
}

/// What nine tasks of GLUE and three of one's own are called.
const TWELVE: [&str; 12] =
    ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst", "sts", "wnli", "sentiment", "questions", "newswire"];

#[test]
fn with_12_tasks_and_20_trials_a_status_never_has_more_than_16_kib_and_tells_the_scores_of_all() {
    let mut experiment = build::distilled(&TWELVE);
    experiment.spec.trials = 20;
    let of = |limit: Option<usize>| {
        let mut world = World::new(experiment.clone());
        world.sees_store = false;
        world.state.borrow_mut().longest_status = limit;
        world.run()
    };
    let short = of(Some(LONGEST_STATUS));
    assert!(short.longest < 16 * 1024, "{} bytes", short.longest);
    assert_eq!(short.status.phase, ExperimentPhase::Complete);
    assert_eq!(short.status.runs.len(), 1 + 12 + 20);
    assert_eq!(short.status.scores.len(), 12);
    assert!(short.status.scores.values().all(|score| score.trials == 20 && score.median == 75.0));
    let teachers = short.status.runs.iter().filter(|run| run.role == Role::Teacher);
    assert!(teachers.into_iter().all(|run| run.results[0].metrics.contains_key("accuracy")), "{short:#?}");

    let whole = of(None);
    assert!(whole.longest > 16 * 1024, "nothing had to be left out: {} bytes", whole.longest);
    assert_eq!((short.status.scores, short.started), (whole.status.scores, whole.started));
}

#[test]
fn all_conditions_are_there_from_the_first_status_on() {
    let experiment = build::distilled(&["rte"]);
    let seen = Observed::default();
    let plan = bam_operator::plan::experiment::plan(&experiment, &seen, build::start());
    let conditions: Vec<_> = plan.status.conditions.iter().map(|it| (it.type_.as_str(), it.status.as_str())).collect();
    let expected =
        ["InputsReady", "Running", "TeachersReady", "Suspended", "Complete", "Failed"].map(|kind| (kind, "False"));
    assert_eq!(conditions, expected);
    assert_eq!(plan.status.phase, ExperimentPhase::Pending);
    assert_eq!(plan.status.waiting_for, "inputs check is new");
}

#[test]
fn it_says_which_machine_of_its_runs_does_not_answer() {
    let experiment = build::distilled(&["rte"]);
    let check = inputs(&experiment.spec, "");
    let waiting_for = "waits for the node node-7, which does not answer".to_owned();
    let status = BamRunStatus { phase: RunPhase::Running, attempts: 1, waiting_for, ..BamRunStatus::default() };
    let made_by = experiment.metadata.name.clone().unwrap();
    let run = Run { made_by, owned: true, spec: check.spec, status, reopened: Default::default() };
    let seen = Observed { runs: BTreeMap::from([(check.name, run)]), ..Observed::default() };
    let plan = bam_operator::plan::experiment::plan(&experiment, &seen, build::start());
    assert_eq!(plan.status.waiting_for, "inputs check waits for the node node-7, which does not answer");
}

#[test]
fn models_that_are_whole_in_the_store_are_not_trained_and_take_no_place() {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    experiment.spec.max_parallel_runs = Some(1);
    let world = World::new(experiment.clone());
    let whole: BTreeSet<Digest> = nodes(&experiment).iter().filter_map(Node::science_hash).cloned().collect();
    world.state.borrow_mut().whole = whole;
    let state = world.run();
    assert_eq!(state.status.phase, ExperimentPhase::Complete);
    assert_eq!(state.started.len(), 1, "only the inputs are checked");
    assert_eq!(state.status.scores["rte"].median, 75.0, "results are in the store");
}

#[test]
fn a_suspended_experiment_starts_nothing_and_says_how_it_goes_on() {
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.suspend = true;
    let state = World::new(experiment).run();
    assert!(state.runs.is_empty());
    assert_eq!(state.status.phase, ExperimentPhase::Suspended);
    assert!(state.status.waiting_for.contains("set spec.suspend to false"), "{}", state.status.waiting_for);
    let condition = state.status.conditions.iter().find(|it| it.type_ == "Suspended").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "Suspended"));
}

#[test]
fn a_cancelled_experiment_is_over_and_starts_nothing() {
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.cancel = true;
    let state = World::new(experiment).run();
    assert!(state.runs.is_empty());
    assert_eq!(state.status.phase, ExperimentPhase::Cancelled);
    assert_eq!(state.status.waiting_for, "");
    for (kind, status) in [("Complete", "False"), ("Failed", "True"), ("Suspended", "False")] {
        let condition = state.status.conditions.iter().find(|it| it.type_ == kind).unwrap();
        assert_eq!(condition.status, status, "{kind}");
        assert!(kind == "Suspended" || condition.message == "the experiment is cancelled (spec.cancel is true)");
    }
}

#[test]
fn what_has_failed_is_tried_again_when_a_person_says_so_and_nothing_else() {
    let failing = [Fate::Completes, Fate::Completes, Fate::Exits(64)];
    let mut failed = World::new(build::distilled(&["rte", "mrpc"])).with_fates(failing).run();
    assert_eq!(failed.status.phase, ExperimentPhase::Failed);
    assert_eq!(failed.started.len(), 3, "the check, and both teachers");
    // As in a cluster: every version of a spec has a number, and the status is about one of them.
    failed.experiment.metadata.generation = Some(2);
    failed.status.observed_generation = Some(1);
    for (raised, tries) in [(0, 0), (1, 2), (1, 0), (3, 0)] {
        let world = World::new(failed.experiment.clone());
        world.state.borrow_mut().take_over(&failed);
        world.state.borrow_mut().experiment.spec.retry = raised;
        failed = world.run();
        assert_eq!(failed.started.len(), tries, "retry: {raised}");
        assert_eq!(failed.status.retried, raised);
        let phase = if raised == 0 { ExperimentPhase::Failed } else { ExperimentPhase::Complete };
        assert_eq!(failed.status.phase, phase);
    }
    assert!(failed.runs.values().all(|run| run.status.attempts == 1 + u32::from(!run.reopened.by.is_empty())));
}

#[test]
fn what_an_experiment_begins_with_is_no_wish_for_another_try() {
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.retry = 5;
    experiment.metadata.generation = Some(1);
    let state = World::new(experiment).with_fates([Fate::Completes, Fate::Exits(64)]).run();
    assert_eq!((state.status.phase, state.status.retried), (ExperimentPhase::Failed, 5));
    assert_eq!(state.started.len(), 2);
}

#[test]
fn what_is_complete_is_not_suspended_any_more() {
    let finished = World::new(build::distilled(&["rte"])).run();
    let mut experiment = finished.experiment.clone();
    experiment.spec.suspend = true;
    let world = World::new(experiment);
    {
        let mut state = world.state.borrow_mut();
        (state.runs, state.status, state.whole) = (finished.runs, finished.status, finished.whole);
    }
    assert_eq!(world.run().status.phase, ExperimentPhase::Complete);
}

#[test]
fn an_experiment_that_is_to_be_forgotten_goes_when_its_end_was_published_for_that_long() {
    use bam_operator::plan::{Action, experiment};
    let finished = World::new(build::distilled(&["rte"])).run();
    let mut asked = finished.experiment.clone();
    let over = finished.status.conditions.iter().find(|it| it.type_ == "Complete").unwrap().last_transition_time.0;
    let later = |seconds| over.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    asked.metadata.generation = Some(1);
    let published = experiment::Observed {
        status: BamExperimentStatus { observed_generation: Some(1), ..finished.status },
        // It stays complete, whatever can be seen.
        unusable: [("run-1".to_owned(), bam_operator::plan::Why::Leaving)].into(),
        ..Default::default()
    };
    let removed = |asked: &BamExperiment, at| {
        let plan = experiment::plan(asked, &published, at);
        (plan.actions.iter().any(|it| it.action == Action::RemoveExperiment), plan.revisit)
    };
    assert_eq!(removed(&asked, later(1000)), (false, None), "it is kept unless it is said otherwise");
    asked.spec.ttl_seconds_after_finished = Some(60);
    assert_eq!(removed(&asked, later(59)), (false, Some(later(60))));
    assert_eq!(removed(&asked, later(60)), (true, None));

    let mut unpublished = published.clone();
    unpublished.status.phase = ExperimentPhase::TrainingStudent;
    let plan = experiment::plan(&asked, &unpublished, later(60));
    assert!(plan.actions.iter().all(|it| it.action != Action::RemoveExperiment));
}

#[test]
fn an_experiment_out_of_time_fails_until_it_gets_more_and_a_resumed_one_has_all_of_it() {
    use bam_operator::plan::experiment::{self, Observed, is_halted};
    let mut asked = build::distilled(&["rte"]);
    asked.spec.active_deadline_seconds = Some(600);
    let at = |seconds| build::start().saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    let mut observed = Observed { timed: true, inputs_key: "key".to_owned(), ..Observed::default() };
    let mut pass = |asked: &mut BamExperiment, seconds| {
        let plan = experiment::plan(asked, &observed, at(seconds));
        observed.status = plan.status.clone();
        asked.status = Some(plan.status.clone());
        plan
    };
    let reason = |status: &BamExperimentStatus, kind: &str| {
        let condition = status.conditions.iter().find(|it| it.type_ == kind).unwrap();
        (condition.status.clone(), condition.reason.clone())
    };

    let first = pass(&mut asked, 0);
    assert_eq!((first.status.phase, first.revisit), (ExperimentPhase::Pending, Some(at(600))));
    assert_eq!(pass(&mut asked, 599).status.phase, ExperimentPhase::Pending);
    assert!(!is_halted(&asked));

    let late = pass(&mut asked, 600);
    assert_eq!((late.status.phase, late.actions.len(), late.revisit), (ExperimentPhase::Failed, 0, None));
    assert_eq!(reason(&late.status, "Failed"), ("True".to_owned(), "DeadlineExceeded".to_owned()));
    assert_eq!(late.status.waiting_for, "");
    assert!(is_halted(&asked), "its runs stop");
    assert_eq!(pass(&mut asked, 9_000).status, late.status, "what is over stays so");

    asked.spec.active_deadline_seconds = Some(10_000);
    let more = pass(&mut asked, 9_001);
    assert_eq!((more.status.phase, more.revisit), (ExperimentPhase::Pending, Some(at(10_000))));
    assert!(!is_halted(&asked));

    asked.spec.suspend = true;
    assert_eq!(pass(&mut asked, 9_500).status.phase, ExperimentPhase::Suspended);
    assert_eq!(pass(&mut asked, 20_000).status.phase, ExperimentPhase::Suspended, "time stands still");
    asked.spec.suspend = false;
    assert_eq!(pass(&mut asked, 20_001).revisit, Some(at(30_001)));

    observed.timed = false;
    assert_eq!(experiment::plan(&asked, &observed, at(90_000)).status.phase, ExperimentPhase::Pending, "on a laptop");
}

#[test]
fn what_has_come_to_its_end_needs_no_time() {
    use bam_operator::plan::experiment::{self, Observed};
    let finished = World::new(build::distilled(&["rte"])).run();
    let mut asked = finished.experiment.clone();
    asked.metadata.generation = Some(1);
    asked.spec.active_deadline_seconds = Some(1);
    let status = BamExperimentStatus { observed_generation: Some(1), ..finished.status };
    let unusable = [("run-1".to_owned(), bam_operator::plan::Why::Leaving)].into();
    let observed = Observed { timed: true, status, unusable, ..Observed::default() };
    let later = build::start().saturating_add(SignedDuration::from_hours(9_000)).unwrap();
    assert_eq!(experiment::plan(&asked, &observed, later).status.phase, ExperimentPhase::Complete);
}

#[test]
fn the_token_of_a_fetch_goes_to_the_check_alone_and_makes_it_no_other_one() {
    use bam_crds::config::Fetch;
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.fetch = Some(Fetch { model: Some("meta/model".to_owned()), ..Fetch::default() });
    let open = inputs(&experiment.spec, "key");
    let secret = Some(SecretRef { name: "hf-token".to_owned() });
    experiment.spec.fetch.as_mut().unwrap().secret_ref = secret;
    let closed = inputs(&experiment.spec, "key");
    assert_eq!(closed.name, open.name);
    assert_eq!(closed.spec.inputs, open.spec.inputs, "the trainer is told nothing of it");
    assert_eq!(closed.spec.pod.secret.as_deref(), Some("hf-token"));
    assert!(nodes(&experiment).iter().all(|node| node.spec.pod.secret.is_none()));
}
