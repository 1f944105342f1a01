//! The bar that teachers clear before a student learns from them.

use std::collections::BTreeMap;

use bam_crds::experiment::{BamExperiment, ExperimentPhase, GateFailure, QualityGate, TeacherSpec};
use bam_crds::report::TaskResult;
use bam_crds::run::{Role, RunPhase};
use bam_operator::plan::gate::{Stand, all, best};
use bam_operator::plan::graph::{Node, trainings};

use crate::build;
use crate::world::{Fate, State, World};

fn gate(min: Option<f64>, best_of: u32) -> QualityGate {
    QualityGate { min: min.map(Into::into), best_of, ..QualityGate::default() }
}

fn gated(tasks: &[&str], gate: QualityGate) -> BamExperiment {
    let mut experiment = build::distilled(tasks);
    experiment.spec.distill.as_mut().unwrap().quality_gate = Some(gate);
    experiment
}

/// An experiment whose teachers reach this, by their seed.
fn with_scores(experiment: BamExperiment, scores: &[(u32, f64)]) -> World {
    let world = World::new(experiment);
    world.state.borrow_mut().scores = scores.iter().copied().collect();
    world
}

fn seeds_of_teachers_that_teach(state: &State) -> Vec<u32> {
    let hash = |run: &bam_crds::BamRunSpec| run.config.as_ref().map(|config| config.science_hash.clone());
    let students = state.runs.values().filter(|run| run.spec.role == Role::Student);
    let taught: Vec<_> = students.flat_map(|run| run.spec.config.as_ref().unwrap().science.teachers()).collect();
    let teaches = |run: &&crate::world::SimRun| hash(&run.spec).is_some_and(|hash| taught.contains(&&hash));
    state.runs.values().filter(teaches).map(|run| run.spec.config.as_ref().unwrap().science.seed).collect()
}

fn failed(state: &State) -> String {
    let failed = state.status.conditions.iter().find(|it| it.type_ == "Failed" && it.status == "True");
    failed.map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default()
}

#[test]
fn a_student_never_starts_from_a_teacher_below_the_bar() {
    let state = with_scores(gated(&["rte"], gate(Some(60.0), 1)), &[(1, 52.7)]).run();
    assert_eq!(state.status.phase, ExperimentPhase::Failed);
    assert_eq!(
        failed(&state),
        "BelowQualityGate: the student will not start: teacher rte reached accuracy 52.7 and its qualityGate asks for 60; \
         train it longer, let more of them compete (bestOf), or have the student learn from it all the same (onFailure: \
         Continue)"
    );
    assert_eq!(state.status.teachers, "1/1", "what was trained is shown");
    assert!(state.runs.values().all(|run| run.spec.role != Role::Student));
}

#[test]
fn one_that_clears_it_teaches() {
    let state = with_scores(gated(&["rte"], gate(Some(60.0), 1)), &[(1, 60.0)]).run();
    assert_eq!((state.status.phase, failed(&state)), (ExperimentPhase::Complete, String::new()));
    assert_eq!(state.status.passed_gate["rte"].len(), 1);
}

#[test]
fn told_to_go_on_the_best_one_teaches_whatever_it_reached() {
    let below = QualityGate { on_failure: GateFailure::Continue, ..gate(Some(60.0), 2) };
    let state = with_scores(gated(&["rte"], below), &[(1, 51.0), (2, 52.0)]).run();
    assert_eq!(state.status.phase, ExperimentPhase::Complete);
    assert_eq!(seeds_of_teachers_that_teach(&state), [2]);
}

#[test]
fn the_best_of_several_teaches_and_the_first_of_equals() {
    for (scores, seed) in [([70.0, 80.0, 75.0], 2), ([80.0, 80.0, 75.0], 1), ([0.0, 1.0, 0.0], 2)] {
        let scores: Vec<_> = (1..).zip(scores).collect();
        let state = with_scores(gated(&["rte"], gate(None, 3)), &scores).run();
        assert_eq!(state.status.phase, ExperimentPhase::Complete);
        assert_eq!((state.status.teachers.as_str(), seeds_of_teachers_that_teach(&state)), ("3/3", vec![seed]));
    }
}

#[test]
fn the_first_of_several_is_the_one_that_others_share() {
    let names = |experiment: &BamExperiment| -> Vec<String> {
        let findings = build::findings(&["rte".to_owned()]);
        let nodes = trainings(&experiment.spec, &findings, &Default::default(), &Default::default()).unwrap();
        nodes.into_iter().filter(|node| node.role == Role::Teacher).map(|node| node.name).collect()
    };
    assert_eq!(names(&build::distilled(&["rte"]))[0], names(&gated(&["rte"], gate(None, 3)))[0]);
}

#[test]
fn of_several_one_may_fail_but_not_all() {
    let fates = |count| [Fate::Completes].into_iter().chain(std::iter::repeat_n(Fate::Exits(64), count));
    let one = with_scores(gated(&["rte"], gate(Some(60.0), 2)), &[]).with_fates(fates(1)).run();
    assert_eq!(one.status.phase, ExperimentPhase::Complete);
    let both = with_scores(gated(&["rte"], gate(Some(60.0), 2)), &[]).with_fates(fates(2)).run();
    assert_eq!(both.status.phase, ExperimentPhase::Failed);
    assert!(failed(&both).starts_with("Failed: teacher rte (seed 1) failed"), "{}", failed(&both));
}

#[test]
fn a_task_has_a_gate_of_its_own_instead() {
    let mut experiment = gated(&["rte", "mrpc"], gate(Some(60.0), 1));
    let own = Some(TeacherSpec { quality_gate: Some(gate(Some(90.0), 1)), ..TeacherSpec::default() });
    experiment.spec.tasks[1].teacher = own;
    let state = World::new(experiment).run();
    assert!(failed(&state).contains("teacher mrpc reached accuracy 75.0"), "{}", failed(&state));
}

#[test]
fn who_teaches_goes_on_teaching_when_it_is_trained_again() {
    let mut experiment = gated(&["rte"], gate(None, 2));
    experiment.spec.trials = 2;
    experiment.spec.max_parallel_runs = Some(1);
    let fates = [Fate::Completes, Fate::Completes, Fate::Completes, Fate::CompletesAndTeacherIsLost];
    let state = with_scores(experiment, &[(1, 70.0), (2, 80.0)]).with_fates(fates).run();
    assert_eq!(state.status.phase, ExperimentPhase::Complete);
    assert_eq!(seeds_of_teachers_that_teach(&state), [2]);
    assert!(state.runs.values().all(|run| run.status.phase == RunPhase::Succeeded));
}

#[test]
fn every_part_s_teacher_must_clear_it() {
    let mut experiment = gated(&["rte"], gate(Some(60.0), 1));
    experiment.spec.distill.as_mut().unwrap().out_of_fold = Some(2);
    let good = World::new(experiment.clone()).run();
    assert_eq!((good.status.phase, good.status.passed_gate["rte"].len()), (ExperimentPhase::Complete, 2));
    let bad = with_scores(experiment, &[(1, 59.9)]).run();
    assert!(failed(&bad).contains("teacher rte (fold 1 of 2) reached accuracy 59.9"), "{}", failed(&bad));
}

#[test]
fn what_a_gate_makes_of_scores() {
    let nodes: Vec<Node> = {
        let experiment = gated(&["rte"], gate(None, 2));
        let findings = build::findings(&["rte".to_owned()]);
        let nodes = trainings(&experiment.spec, &findings, &Default::default(), &Default::default()).unwrap();
        nodes.into_iter().filter(|node| node.role == Role::Teacher).collect()
    };
    let done = |task: &str, f1: f64| {
        Stand::Done(vec![TaskResult {
            task: task.to_owned(),
            main_metric: "accuracy".to_owned(),
            metrics: BTreeMap::from([("accuracy".to_owned(), 50.0), ("f1".to_owned(), f1)]),
            majority: None,
            rows: 10,
        }])
    };
    let by = |metric: &str, min| QualityGate { metric: Some(metric.to_owned()), ..gate(min, 2) };
    let table = [
        ("by another metric", by("f1", Some(60.0)), [done("rte", 61.0), done("rte", 62.0)], Ok(1)),
        ("one is not done", gate(None, 2), [done("rte", 61.0), Stand::Open], Err("waits for teacher rte (seed 2)")),
        ("one failed", gate(None, 2), [Stand::Failed, done("rte", 1.0)], Ok(1)),
        ("both failed", gate(Some(60.0), 2), [Stand::Failed, Stand::Failed], Ok(0)),
        ("no such metric", by("mcc", Some(60.0)), [done("rte", 61.0), done("rte", 62.0)], Err("reached no mcc and")),
        ("no such metric, and no bar", by("mcc", None), [done("rte", 61.0), done("rte", 62.0)], Ok(0)),
        ("undefined", by("f1", Some(0.0)), [done("rte", f64::NAN), done("rte", f64::NAN)], Err("reached no f1 and")),
        ("undefined and defined", by("f1", Some(0.0)), [done("rte", f64::NAN), done("rte", 0.0)], Ok(1)),
        ("of another task", gate(Some(1.0), 2), [done("mrpc", 61.0), done("mrpc", 61.0)], Err("reached no score and")),
    ];
    for (what, gate, stands, expected) in table {
        let stand = |name: &str| {
            let index = nodes.iter().position(|node| node.name == name).unwrap();
            stands[index].clone()
        };
        match (best(&gate, "rte", &nodes, &stand), expected) {
            (Ok(names), Ok(index)) => assert_eq!(names, [nodes[index].name.clone()], "{what}"),
            (Err(why), Err(said)) => assert!(why.to_string().contains(said), "{what}: {why}"),
            (got, _) => panic!("{what}: {got:?}"),
        }
    }
    let stand = |_: &str| done("rte", 61.0);
    assert_eq!(all(&by("f1", Some(60.0)), "rte", &nodes, &stand).map(|names| names.len()), Ok(2));
    assert!(all(&by("f1", Some(62.0)), "rte", &nodes, &stand).is_err());
}
