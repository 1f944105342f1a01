//! Runs that belong to several experiments, and teachers that a manifest names.

use std::collections::BTreeMap;

use bam_crds::experiment::{
    BamExperiment, ExperimentPhase, NamedTeachers, PinnedInputs, RunSummary, StorageSpec, TeacherRef,
};
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamExperimentSpec, BamExperimentStatus, BamRunSpec, BamRunStatus};
use bam_operator::plan::experiment::{Observed, Run, plan};
use bam_operator::plan::graph::{Node, inputs, trainings};
use bam_operator::plan::teachers::{Entry, Named, Registry, find};
use bam_operator::plan::{Action, Reopened, Why};

use crate::build;

/// What names stand for.
#[derive(Default)]
struct Names {
    experiments: BTreeMap<String, (BamExperimentSpec, BamExperimentStatus)>,
    runs: BTreeMap<String, BamRunSpec>,
}

impl Registry for Names {
    fn experiment(&self, name: &str) -> Option<(BamExperimentSpec, BamExperimentStatus)> {
        self.experiments.get(name).cloned()
    }

    fn run(&self, name: &str) -> Option<BamRunSpec> {
        self.runs.get(name).cloned()
    }
}

/// An experiment on rte and mrpc whose teacher of rte is the student of `teacher`.
fn taught_by(teacher: &str) -> BamExperiment {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    let named = NamedTeachers { experiment: Some(teacher.to_owned()), ..Default::default() };
    experiment.spec.distill.as_mut().unwrap().teachers.insert("rte".to_owned(), named);
    experiment
}

/// The only teacher of rte.
fn rte() -> Entry {
    Entry { task: "rte".to_owned(), member: None }
}

/// An experiment on rte and mrpc whose teachers of rte are these runs and the student of experiment `single`.
fn taught_by_several(runs: &[&str]) -> BamExperiment {
    let mut experiment = taught_by("");
    let runs = runs.iter().map(|run| TeacherRef { run: Some((*run).to_owned()), ..Default::default() });
    let ensemble = runs.chain([TeacherRef { experiment: Some("single".to_owned()), ..Default::default() }]).collect();
    let named = NamedTeachers { ensemble, ..Default::default() };
    experiment.spec.distill.as_mut().unwrap().teachers.insert("rte".to_owned(), named);
    experiment
}

fn nodes(experiment: &BamExperiment, named: &Named) -> Vec<Node> {
    let tasks: Vec<_> = experiment.spec.tasks.iter().map(|task| task.name.clone()).collect();
    trainings(&experiment.spec, &build::findings(&tasks), named, &Default::default()).unwrap()
}

/// An experiment on `tasks` that has begun to train its student.
fn training(tasks: &[&str]) -> (Names, Node) {
    let experiment = build::experiment(tasks);
    let student = nodes(&experiment, &Named::new()).remove(0);
    let status = BamExperimentStatus { runs: vec![summary(&student)], ..Default::default() };
    let mut names = Names::default();
    names.experiments.insert("single".to_owned(), (experiment.spec, status));
    names.runs.insert(student.name.clone(), student.spec.clone());
    (names, student)
}

fn summary(node: &Node) -> RunSummary {
    RunSummary {
        name: node.name.clone(),
        role: Role::Student,
        tasks: node.tasks.clone(),
        trial: Some(1),
        fold: None,
        phase: RunPhase::Running,
        message: String::new(),
        shared: String::new(),
        progress: None,
        results: Vec::new(),
        finished_at: None,
    }
}

fn found(experiment: &BamExperiment, names: &Names) -> Named {
    find("exp", &experiment.spec, &BamExperimentStatus::default(), names)
}

fn run(node: &Node, made_by: &str, owned: bool, phase: RunPhase) -> Run {
    let status = BamRunStatus { phase, attempts: 1, ..Default::default() };
    Run { made_by: made_by.to_owned(), owned, spec: node.spec.clone(), status, reopened: Reopened::default() }
}

/// An experiment whose inputs are known.
fn known(experiment: &BamExperiment) -> Observed {
    let check = inputs(&experiment.spec, "key");
    let tasks: Vec<_> = experiment.spec.tasks.iter().map(|task| task.name.clone()).collect();
    let pinned = PinnedInputs { run: check.name, report: build::findings(&tasks) };
    let status = BamExperimentStatus { inputs: Some(pinned), ..Default::default() };
    Observed { status, inputs_key: "key".to_owned(), ..Default::default() }
}

#[test]
fn a_named_experiments_student_teaches_and_is_not_trained_again() {
    let (names, teacher) = training(&["rte"]);
    let experiment = taught_by("single");
    let named = found(&experiment, &names);
    let nodes = nodes(&experiment, &named);
    let titles: Vec<_> = nodes.iter().map(|node| node.title.as_str()).collect();
    assert_eq!(titles, ["teacher rte (of experiment single)", "teacher mrpc", "student"]);
    assert_eq!(nodes[0].name, teacher.name);
    let science = &nodes[2].spec.config.as_ref().unwrap().science;
    assert_eq!(science.tasks[0].teachers, [teacher.science_hash().unwrap().clone()]);
    assert_eq!(nodes[2].teachers, [nodes[0].name.clone(), nodes[1].name.clone()]);
}

#[test]
fn a_multi_task_model_teaches_all_its_tasks_as_one_run() {
    let (names, teacher) = training(&["rte", "mrpc"]);
    let mut experiment = taught_by("single");
    let distill = experiment.spec.distill.as_mut().unwrap();
    distill.teachers.insert("mrpc".to_owned(), NamedTeachers { run: Some(teacher.name.clone()), ..Default::default() });
    let nodes = nodes(&experiment, &found(&experiment, &names));
    assert_eq!(nodes.len(), 2, "one teacher, one student");
    let science = &nodes[1].spec.config.as_ref().unwrap().science;
    assert_eq!(science.tasks[0].teachers, science.tasks[1].teachers);
}

#[test]
fn several_teachers_of_a_task_teach_its_student_whatever_their_order() {
    let (mut names, single) = training(&["rte"]);
    let multi = nodes(&build::experiment(&["rte", "mrpc"]), &Named::new()).remove(0);
    let mut again = build::experiment(&["rte"]);
    again.spec.seed = 2;
    let again = nodes(&again, &Named::new()).remove(0);
    for node in [&multi, &again] {
        names.runs.insert(node.name.clone(), node.spec.clone());
    }
    let student = |runs: &[&str]| {
        let experiment = taught_by_several(runs);
        nodes(&experiment, &found(&experiment, &names))
    };
    let taught = student(&[&again.name, &multi.name]);
    let titles: Vec<_> = taught.iter().map(|node| node.title.as_str()).collect();
    assert_eq!(
        titles,
        ["teacher rte 1", "teacher rte 2", "teacher rte 3 (of experiment single)", "teacher mrpc", "student"]
    );
    assert_eq!(taught[4].teachers.len(), 4, "it waits for all of them");
    let science = &taught[4].spec.config.as_ref().unwrap().science;
    let mut hashes = [&again, &multi, &single].map(|node| node.science_hash().unwrap().clone());
    hashes.sort();
    assert_eq!(science.tasks[0].teachers, hashes);
    assert_eq!(science.tasks[1].teachers.len(), 1);

    assert_eq!(student(&[&multi.name, &again.name])[4].name, taught[4].name, "the order means nothing");
    let doubled = student(&[&again.name, &multi.name, &single.name, &again.name]);
    assert_eq!(doubled.last().unwrap().name, taught[4].name, "nor do two names for one run");
}

#[test]
fn files_teach_by_their_content_and_are_waited_for_by_nobody() {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    let file = |path: &str| NamedTeachers { targets: Some(path.to_owned()), ..Default::default() };
    experiment.spec.distill.as_mut().unwrap().teachers.insert("rte".to_owned(), file("teachers/rte.pkl"));
    let tasks = ["rte".to_owned(), "mrpc".to_owned()];
    let student = |path: &str, content: &str| {
        let mut experiment = experiment.clone();
        experiment.spec.distill.as_mut().unwrap().teachers.insert("rte".to_owned(), file(path));
        let mut findings = build::findings(&tasks);
        let rte = findings.tasks.get_mut("rte").unwrap();
        rte.targets.insert(path.to_owned(), build::digest(content));
        trainings(&experiment.spec, &findings, &Named::new(), &Default::default()).unwrap()
    };
    let nodes = student("teachers/rte.pkl", "logits");
    let titles: Vec<_> = nodes.iter().map(|node| node.title.as_str()).collect();
    assert_eq!(titles, ["teacher mrpc", "student"]);
    let config = nodes[1].spec.config.as_ref().unwrap();
    let digest = build::digest("logits");
    assert_eq!(config.execution.target_files, [(digest.to_string(), "teachers/rte.pkl".to_owned())].into());
    assert_eq!(config.science.tasks[0].target_files, [digest]);
    assert_eq!(nodes[1].teachers, [nodes[0].name.clone()], "it waits for the other one");
    assert_eq!(student("elsewhere/rte.pkl", "logits")[1].name, nodes[1].name, "where it lies means nothing");
    assert_ne!(student("teachers/rte.pkl", "other logits")[1].name, nodes[1].name);

    let check = |experiment: &BamExperiment| inputs(&experiment.spec, "key");
    assert_eq!(check(&experiment).spec.inputs.unwrap().targets["rte"], ["teachers/rte.pkl"]);
    assert_ne!(check(&experiment).name, check(&build::distilled(&["rte", "mrpc"])).name);
    let lacks = trainings(&experiment.spec, &build::findings(&tasks), &Named::new(), &Default::default());
    assert!(lacks.unwrap_err().to_string().contains("teachers/rte.pkl"), "an older trainer says nothing of it");
}

#[test]
fn one_of_several_teachers_that_is_not_known_is_waited_for_by_its_place() {
    let (names, single) = training(&["rte"]);
    let experiment = taught_by_several(&["run-0123456789abcdef"]);
    let mut observed = known(&experiment);
    observed.teachers = found(&experiment, &names);
    let plan = plan(&experiment, &observed, build::start());
    assert!(
        plan.status.waiting_for.contains(
            "waits for run run-0123456789abcdef, which does not exist here: name another \
                                          one in distill.teachers.rte.ensemble[0]"
        ),
        "{}",
        plan.status.waiting_for
    );
    assert!(!plan.status.runs.iter().any(|run| run.role == Role::Student), "it has no name yet");
    assert_eq!(plan.status.named_teachers, [("rte.ensemble[1]".to_owned(), single.name)].into());
}

#[test]
fn experiments_that_teach_each_other_among_several_are_a_circle() {
    let mut names = Names::default();
    names.experiments.insert("single".to_owned(), (taught_by("exp").spec, BamExperimentStatus::default()));
    let named = found(&taught_by_several(&[]), &names);
    let why = named.into_values().next().unwrap().unwrap_err();
    assert!(why.to_string().contains("in a circle (exp -> single -> exp)"), "{why}");
}

#[test]
fn a_model_teaches_the_next_generation_of_its_own_task() {
    let (names, first) = training(&["rte"]);
    let mut second = build::distilled(&["rte"]);
    let named = NamedTeachers { run: Some(first.name.clone()), ..Default::default() };
    second.spec.distill.as_mut().unwrap().teachers.insert("rte".to_owned(), named);
    let nodes = nodes(&second, &found(&second, &names));
    let titles: Vec<_> = nodes.iter().map(|node| node.title.as_str()).collect();
    assert_eq!(titles, ["teacher rte", "student"]);
    let science = &nodes[1].spec.config.as_ref().unwrap().science;
    assert_eq!(science.tasks[0].teachers, [first.science_hash().unwrap().clone()]);
    assert_ne!(nodes[1].name, first.name);
}

#[test]
fn a_teacher_that_cannot_be_told_is_waited_for_in_words() {
    let (mut names, _) = training(&["mrpc"]);
    names.experiments.insert("other".to_owned(), (taught_by("exp").spec, BamExperimentStatus::default()));
    let mut elsewhere = build::experiment(&["rte"]).spec;
    elsewhere.storage = StorageSpec::from_uri("pvc://elsewhere").unwrap();
    names.experiments.insert("elsewhere".to_owned(), (elsewhere, BamExperimentStatus::default()));
    names.experiments.insert("young".to_owned(), (build::experiment(&["rte"]).spec, BamExperimentStatus::default()));
    for phase in [ExperimentPhase::Failed, ExperimentPhase::Cancelled, ExperimentPhase::Suspended] {
        let status = BamExperimentStatus { phase, ..Default::default() };
        names.experiments.insert(format!("{phase:?}"), (build::experiment(&["rte"]).spec, status));
    }
    let cases = [
        ("nowhere", "waits for experiment nowhere, which does not exist here"),
        ("single", "cannot learn rte from experiment single, which does not have that task"),
        ("elsewhere", "keeps its models in pvc://elsewhere and not in pvc://"),
        ("young", "waits until experiment young begins to train its student"),
        ("Failed", "begins to train its student; it has failed: raise its spec.retry, or name another one"),
        ("Cancelled", "begins to train its student; it is cancelled, and never will: name another one"),
        ("Suspended", "begins to train its student; it is suspended: set its spec.suspend to false"),
        ("other", "in a circle (exp -> other -> exp)"),
        ("exp", "in a circle (exp -> exp)"),
    ];
    for (teacher, words) in cases {
        let why = found(&taught_by(teacher), &names).remove(&rte()).unwrap().unwrap_err();
        assert!(why.to_string().contains(words), "{teacher}: {why}");
    }
}

#[test]
fn a_circle_further_on_is_somebody_elses() {
    let mut names = Names::default();
    for (name, teacher) in [("a", "b"), ("b", "a")] {
        names.experiments.insert(name.to_owned(), (taught_by(teacher).spec, BamExperimentStatus::default()));
    }
    let why = found(&taught_by("a"), &names).remove(&rte()).unwrap().unwrap_err();
    assert_eq!(why.reason(), "TeacherUnknown", "{why}");
}

#[test]
fn while_a_teacher_is_not_known_the_others_are_trained_and_the_status_says_what_is_missing() {
    let experiment = taught_by("nowhere");
    let mut observed = known(&experiment);
    observed.teachers = found(&experiment, &Names::default());
    let plan = plan(&experiment, &observed, build::start());
    let titles: Vec<_> = plan.actions.iter().map(|planned| planned.title.as_str()).collect();
    assert_eq!(titles, ["teacher mrpc"]);
    assert_eq!(plan.status.phase, ExperimentPhase::TrainingTeachers);
    assert!(plan.status.waiting_for.starts_with("student waits for experiment nowhere"), "{}", plan.status.waiting_for);
    let ready = plan.status.conditions.iter().find(|condition| condition.type_ == "TeachersReady").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "TeacherUnknown"));
}

#[test]
fn a_teacher_that_was_found_stays_when_its_experiment_goes() {
    let (mut names, teacher) = training(&["rte"]);
    let experiment = taught_by("single");
    let mut observed = known(&experiment);
    observed.teachers = found(&experiment, &names);
    observed.runs.insert(teacher.name.clone(), run(&teacher, "single", true, RunPhase::Succeeded));
    let status = plan(&experiment, &observed, build::start()).status;
    assert_eq!(status.named_teachers, [("rte".to_owned(), teacher.name.clone())].into());

    names.experiments.clear();
    let still = find("exp", &experiment.spec, &status, &names);
    assert_eq!(still[&rte()].as_ref().unwrap().run, teacher.name);
}

#[test]
fn a_run_that_another_experiment_made_is_joined_once_and_the_status_says_what_does_not_count() {
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.compute.threads = Some(4);
    experiment.spec.compute.spot = Some(true);
    let mut observed = known(&experiment);
    let mut theirs = build::distilled(&["rte"]);
    theirs.spec.compute.threads = Some(2);
    let teacher = nodes(&theirs, &Named::new()).remove(0);
    observed.runs.insert(teacher.name.clone(), run(&teacher, "theirs", false, RunPhase::Running));
    let first = plan(&experiment, &observed, build::start());
    let joins = |plan: &bam_operator::plan::Plan<_>| {
        plan.actions.iter().filter(|it| matches!(it.action, Action::JoinRun { .. })).count()
    };
    assert_eq!((joins(&first), first.actions.len()), (1, 1));
    assert!(
        matches!(&first.actions[0].why, Why::Joined { by, differences } if by == "theirs" && differences == &["spot", "threads"])
    );
    let shared = &first.status.runs[1].shared;
    let said = "is shared with experiment theirs, which made it; what is said here of spot and threads does not count";
    assert_eq!(shared, said);

    observed.runs.get_mut(&teacher.name).unwrap().owned = true;
    assert_eq!(joins(&plan(&experiment, &observed, build::start())), 0);
}

#[test]
fn what_the_platform_refused_is_said() {
    let experiment = build::experiment(&["rte"]);
    let mut observed = known(&experiment);
    observed.obstacle = Some(Why::Refused { message: "cannot make run run-1: over quota".to_owned() });
    let plan = plan(&experiment, &observed, build::start());
    assert!(plan.status.waiting_for.contains("over quota"), "{}", plan.status.waiting_for);
    assert_eq!(plan.actions.len(), 1, "and tried again");
}

#[test]
fn the_runs_that_a_named_teacher_learned_from_are_joined_too() {
    let (names, teacher) = training(&["rte"]);
    let experiment = taught_by("single");
    let mut observed = known(&experiment);
    observed.teachers = found(&experiment, &names);
    observed.runs.insert(teacher.name.clone(), run(&teacher, "single", true, RunPhase::Succeeded));
    let before_it = nodes(&build::distilled(&["rte"]), &Named::new()).remove(0);
    observed.runs.insert(before_it.name.clone(), run(&before_it, "single", false, RunPhase::Succeeded));
    let joined = |observed: &Observed| {
        let actions = plan(&experiment, observed, build::start()).actions;
        actions.iter().filter(|it| it.action == Action::JoinRun { name: before_it.name.clone() }).count()
    };
    assert_eq!(joined(&observed), 1);
    observed.runs.get_mut(&before_it.name).unwrap().owned = true;
    assert_eq!(joined(&observed), 0);
}

#[test]
fn a_run_whose_name_is_taken_by_something_of_no_use_is_not_made_and_the_status_says_why() {
    let experiment = build::experiment(&["rte"]);
    let student = nodes(&experiment, &Named::new()).remove(0);
    let cases = [
        (Why::Leaving, "student waits until the run of its name that is being deleted is gone"),
        (Why::Undecodable { message: "no role".to_owned() }, "student cannot be made: there is a run of its name"),
    ];
    for (why, words) in cases {
        let mut observed = known(&experiment);
        observed.unusable.insert(student.name.clone(), why);
        let plan = plan(&experiment, &observed, build::start());
        assert_eq!(plan.actions, []);
        assert!(plan.status.waiting_for.starts_with(words), "{}", plan.status.waiting_for);
    }
}

#[test]
fn what_is_complete_stays_so_when_a_run_can_no_longer_be_seen_and_not_when_something_else_is_asked_for() {
    let (names, teacher) = training(&["rte"]);
    let mut experiment = taught_by("single");
    experiment.metadata.generation = Some(3);
    let mut observed = known(&experiment);
    observed.teachers = found(&experiment, &names);
    for node in nodes(&experiment, &observed.teachers) {
        observed.runs.insert(node.name.clone(), run(&node, "exp", true, RunPhase::Succeeded));
    }
    observed.status = plan(&experiment, &observed, build::start()).status;
    assert_eq!(observed.status.phase, ExperimentPhase::Complete);

    observed.runs.remove(&teacher.name);
    observed.teachers = find("exp", &experiment.spec, &observed.status, &Names::default());
    let still = plan(&experiment, &observed, build::start());
    assert_eq!((&still.status, still.actions.len()), (&observed.status, 0));

    experiment.metadata.generation = Some(4);
    let changed = plan(&experiment, &observed, build::start());
    assert_ne!(changed.status.phase, ExperimentPhase::Complete);
}

#[test]
fn how_a_check_of_the_inputs_is_carried_out_does_not_make_it_another_one() {
    let experiment = build::experiment(&["rte"]);
    let mut other = experiment.clone();
    other.spec.compute.threads = Some(7);
    other.spec.compute.save_checkpoints_steps = Some(3);
    assert_eq!(inputs(&experiment.spec, "key").name, inputs(&other.spec, "key").name);
    other.spec.model.pretrained = "another".to_owned();
    assert_ne!(inputs(&experiment.spec, "key").name, inputs(&other.spec, "key").name);
}
