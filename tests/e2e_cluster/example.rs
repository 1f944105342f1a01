//! The main job: the example, unchanged, from `kubectl apply` to a trained student.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::{Role, RunPhase};

use crate::cluster::Cluster;
use crate::diary::Kind;
use crate::experiment::{debug, with};
use crate::namespace::Namespace;
use crate::store::{Store, assert_same};

const NAME: &str = "rte-mrpc-bam";
/// Half of the demo's.
const ROWS: usize = 800;

fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/rte-mrpc-bam.yaml")
}

/// What `kubectl get` shows while an experiment runs: all different answers, in order.
fn watch_with_kubectl(namespace: &Namespace, over: &AtomicBool) -> (Vec<String>, Vec<String>) {
    let mut looks = (Vec::new(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        for (kind, looks) in [("bam", &mut looks.0), ("bamruns", &mut looks.1)] {
            let said = namespace.try_kubectl(&["get", kind]).1;
            if looks.last() != Some(&said) {
                looks.push(said);
            }
        }
        std::thread::sleep(Duration::from_millis(700));
    }
    looks
}

/// Applies the example, waits as a user does, and checks the whole story.
fn trains_teachers_and_student(namespace: &Namespace) {
    let over = AtomicBool::new(false);
    let example = example();
    let (experiments, runs) = std::thread::scope(|scope| {
        let looks = scope.spawn(|| watch_with_kubectl(namespace, &over));
        namespace.kubectl(&["apply", "-f", example.to_str().unwrap()]);
        // The real data took 11 minutes on two cores, and more than 20 on two that were half as fast. How long it takes is no
        // matter of this test.
        let wait = ["wait", "--for=condition=Complete", "bamexperiment/rte-mrpc-bam", "--timeout=45m"];
        let (well, said) = namespace.try_kubectl(&wait);
        over.store(true, Ordering::Relaxed);
        assert!(well, "{said}");
        looks.join().unwrap()
    });
    namespace.took("Complete");

    // What kubectl showed on the way.
    let shown = |looks: &[String], words: &[&str]| {
        let there = looks.iter().flat_map(|look| look.lines()).any(|line| words.iter().all(|word| line.contains(word)));
        assert!(there, "kubectl never showed {words:?}: {looks:#?}");
    };
    shown(&experiments, &["NAME", "PHASE", "TEACHERS", "STUDENTS", "PROGRESS", "AGE"]);
    shown(&experiments, &[NAME, "CheckingInputs"]);
    shown(&experiments, &[NAME, "TrainingTeachers", "0/2", "0/1"]);
    shown(&experiments, &[NAME, "TrainingTeachers", "1/2", "0/1"]);
    shown(&experiments, &[NAME, "TrainingStudent", "2/2", "0/1"]);
    shown(&runs, &["Inputs", "rte,mrpc", "Running"]);
    for (role, tasks) in [("Teacher", "rte"), ("Teacher", "mrpc"), ("Student", "rte,mrpc")] {
        shown(&runs, &[role, tasks, "Running"]);
    }
    let percents: BTreeSet<u32> = experiments
        .iter()
        .flat_map(|look| look.lines())
        .filter_map(|line| line.split_once(" %")?.0.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(percents.len() > 4 && percents.iter().all(|percent| *percent <= 100), "progress was {percents:?}");
    let last = namespace.kubectl(&["get", "bam"]);
    shown(&[last], &[NAME, "Complete", "2/2", "1/1", "100 %"]);

    let status = namespace.complete(NAME);
    let teachers = ["rte", "mrpc"].map(|task| namespace.run_of(NAME, Role::Teacher, task).name);
    let names = [teachers[0].as_str(), teachers[1].as_str()];
    assert!(namespace.diary.read(|seen| seen.overlapped(&names)), "the teachers were not trained at the same time");
    let phases = namespace.diary.read(|seen| seen.phases(NAME));
    use ExperimentPhase::{CheckingInputs, Complete, TrainingStudent, TrainingTeachers};
    let phases: Vec<_> = phases.into_iter().filter(|phase| *phase != ExperimentPhase::Pending).collect();
    assert_eq!(phases, [CheckingInputs, TrainingTeachers, TrainingStudent, Complete]);

    // The status holds every run's dev scores.
    for run in status.runs.iter().filter(|run| run.role != Role::Inputs) {
        assert_eq!(run.phase, RunPhase::Succeeded);
        assert_eq!(
            run.results.iter().map(|result| &result.task).collect::<Vec<_>>(),
            run.tasks.iter().collect::<Vec<_>>()
        );
        for result in &run.results {
            let score = result.metrics[&result.main_metric];
            assert!(result.majority.is_none_or(|majority| score > majority - 20.0) && score <= 100.0, "{result:?}");
        }
    }
    assert_eq!(status.scores.keys().collect::<Vec<_>>(), ["mrpc", "rte"]);
    println!("dev: {:?}", status.scores);
    tells_its_story(namespace);
    keeps_no_jobs(namespace);
}

fn tells_its_story(namespace: &Namespace) {
    let events = namespace.events("BamExperiment", NAME);
    let at = |reason: &str, note: &str| {
        let found = events.iter().position(|(its, says)| its == reason && says.contains(note));
        found.unwrap_or_else(|| panic!("no event {reason} {note:?}: {events:#?}"))
    };
    let story = [
        vec![at("CheckingInputs", "")],
        vec![at("RunStarted", "inputs")],
        vec![at("RunSucceeded", "inputs")],
        vec![at("TrainingTeachers", "")],
        vec![at("RunStarted", "teacher rte"), at("RunStarted", "teacher mrpc")],
        vec![
            at("RunSucceeded", "teacher rte is done: rte accuracy"),
            at("RunSucceeded", "teacher mrpc is done: mrpc "),
        ],
        vec![at("TrainingStudent", "")],
        vec![at("RunStarted", "student")],
        vec![at("RunSucceeded", "student is done: rte accuracy")],
        vec![at("Complete", "all runs are done")],
    ];
    for pair in story.windows(2) {
        assert!(pair[0].iter().max() < pair[1].iter().min(), "out of order: {events:#?}");
    }
    assert_eq!(events.len(), 12, "something was told twice: {events:#?}");
}

/// Jobs are there while they run; a run's status is what stays.
fn keeps_no_jobs(namespace: &Namespace) {
    namespace.within(30, "no Job is left", |seen| seen.all(Kind::Job).is_empty().then_some(()));
    for (title, attempts) in namespace.attempts(NAME) {
        assert_eq!(attempts, 1, "{title}");
    }
}

/// Pods that the strictest policy would refuse are not made (the namespace enforces it), and these do without any rights.
fn asks_for_no_rights(namespace: &Namespace) {
    namespace.diary.read(|seen| {
        let pods: Vec<_> =
            seen.pages.iter().filter(|page| page.kind == Kind::Pod).filter_map(|page| page.object.as_ref()).collect();
        assert!(!pods.is_empty());
        for pod in pods {
            let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
            assert_eq!(spec["automountServiceAccountToken"], false);
            assert_eq!(spec["restartPolicy"], "Never");
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
            assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
            assert!(pod["spec"]["volumes"].as_array().unwrap().iter().all(|volume| volume["hostPath"].is_null()));
        }
    });
}

#[test]
fn the_example_trains_in_the_cluster_to_the_bytes_of_a_laptop() {
    let Some(namespace) = Namespace::new("the example") else { return };
    // The real data below are as many as they are. This goes the whole way twice.
    namespace.store.shorten(ROWS);
    trains_teachers_and_student(&namespace);
    asks_for_no_rights(&namespace);

    // Both take as many threads as the machine has, so that even the order of additions is the same.
    let inputs = PathBuf::from(std::env::var_os("BAM_TEST_BAM_DIR").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let here = Store::with_demo(folder.path().join("bam_dir"), &inputs);
    here.shorten(ROWS);
    let began = Instant::now();
    here.run_here(&fs::read_to_string(example()).unwrap());
    println!("bam run: {:.1} s", began.elapsed().as_secs_f64());
    let artifacts = namespace.store.artifacts();
    assert_same(&artifacts, &here.artifacts());
    let weights = artifacts.keys().filter(|name| name.contains("/model/") && name.ends_with(".safetensors")).count();
    let targets = artifacts.keys().filter(|name| name.contains("/targets/")).count();
    assert!(weights >= 3 && targets >= 2, "{:?}", artifacts.keys());
}

#[test]
fn the_example_trains_on_the_real_data() {
    if Cluster::find("the real data").is_none() {
        return;
    }
    let Some(glue) = std::env::var_os("BAM_GLUE_DIR").map(PathBuf::from) else {
        println!("SKIPPED: no real data: BAM_GLUE_DIR is not set");
        return;
    };
    let Some(namespace) = Namespace::new("the real data") else { return };
    namespace.store.take_tasks(&glue);
    trains_teachers_and_student(&namespace);
    let status = namespace.complete(NAME);
    // It learned something: MRPC is well above the most frequent class after one epoch, even of this small model.
    let teacher = namespace.run_of(NAME, Role::Teacher, "mrpc");
    assert!(teacher.results[0].rows == 408, "not the real MRPC: {teacher:?}");
    assert!(status.scores["mrpc"].median > 68.4, "{:?}", status.scores);
}

#[test]
fn an_experiment_that_is_to_be_forgotten_goes_with_its_runs_and_its_models_stay() {
    let Some(namespace) = Namespace::new("forgotten") else { return };
    namespace.apply(&with(debug("brief", &["rte"]), "ttlSecondsAfterFinished", 3));
    namespace.complete("brief");
    namespace.within(60, "nothing is left", |seen| {
        let left = [Kind::Experiment, Kind::Run, Kind::Job, Kind::Pod].map(|kind| seen.all(kind).len());
        (left == [0; 4]).then_some(())
    });
    let models = namespace.store.artifacts().into_keys().filter(|name| name.ends_with("model/model.safetensors"));
    assert_eq!(models.count(), 2, "a teacher and a student");
}
