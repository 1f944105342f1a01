//! Who may teach whom: teachers that have to be good enough, several trials of a student, students that teach the next ones,
//! runs and files that are named, and teachers whose artifacts are gone.

use std::fs;

use bam_crds::config::TaskIdentity;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::Role;
use serde_json::json;

use crate::diary::Kind;
use crate::experiment::{debug, with};
use crate::namespace::Namespace;
use crate::store::assert_same;

/// What a run learns of a task from whom.
fn lessons(namespace: &Namespace, run: &str, task: &str) -> TaskIdentity {
    let config = namespace.diary.read(|seen| seen.run(run)).unwrap().spec.config.unwrap();
    config.science.tasks.into_iter().find(|it| it.name == task).unwrap()
}

fn science(namespace: &Namespace, run: &str) -> String {
    let run = namespace.diary.read(|seen| seen.run(run)).unwrap();
    run.spec.config.unwrap().science_hash.to_string()
}

/// How often a run was tried.
fn tries(namespace: &Namespace, run: &str) -> usize {
    namespace.diary.read(|seen| seen.ever(Kind::Job, run).len())
}

#[test]
fn no_student_learns_from_teachers_below_the_bar_unless_told_to_and_then_the_best_one_teaches_all_trials() {
    let Some(namespace) = Namespace::new("a quality gate") else { return };
    // A random model does not reach this on the first lines of the data.
    let gate = |then: &str| json!({ "min": "99.5", "bestOf": 2, "onFailure": then });
    namespace.apply(&with(debug("strict", &["rte"]), "distill/qualityGate", gate("Fail")));
    let status = namespace.wait_for("strict", ExperimentPhase::Failed);
    let failed = status.conditions.iter().find(|it| it.type_ == "Failed").unwrap();
    println!("{}: {}", failed.reason, failed.message);
    assert!(failed.message.contains("99.5"), "{}", failed.message);
    let of_role = |status: &bam_crds::BamExperimentStatus, role| {
        let runs = status.runs.iter().filter(|run| run.role == role).map(|run| run.name.clone());
        runs.collect::<Vec<_>>()
    };
    let teachers = of_role(&status, Role::Teacher);
    assert_eq!(teachers.len(), 2, "{:#?}", status.runs);
    let trained = namespace.store.manifests();
    assert_eq!(trained.len(), 2, "a student was trained: {trained:?}");

    let lenient = with(debug("lenient", &["rte"]), "distill/qualityGate", gate("Continue"));
    namespace.apply(&with(lenient, "trials", 2));
    let status = namespace.complete("lenient");
    assert_eq!(of_role(&status, Role::Teacher), teachers, "the teachers are shared");
    assert!(teachers.iter().all(|teacher| tries(&namespace, teacher) == 1));
    let students = of_role(&status, Role::Student);
    let taught: Vec<_> = students.iter().map(|student| lessons(&namespace, student, "rte").teachers).collect();
    assert_eq!(taught.len(), 2);
    assert!(taught[0].len() == 1 && taught[0] == taught[1], "{taught:?}");
    // Every trial counts, and they are different ones.
    let scores = &status.scores["rte"];
    assert_eq!(scores.trials, 2);
    assert!(scores.standard_deviation.is_some(), "{scores:?}");
    assert_eq!(namespace.store.manifests().len(), 4);
}

#[test]
fn runs_and_files_teach_generation_after_generation_and_what_is_lost_is_trained_once_more() {
    let Some(namespace) = Namespace::new("generations") else { return };
    let learns = |name: &str, teachers| with(debug(name, &["rte", "mrpc"]), "distill/teachers", teachers);
    namespace.apply(&debug("first", &["rte", "mrpc"]));
    namespace.complete("first");
    let first = namespace.run_of("first", Role::Student, "rte").name;
    let targets = format!("runs/{}/targets/mrpc.safetensors", science(&namespace, &first));

    namespace.apply(&learns("second", json!({ "rte": { "run": first }, "mrpc": { "targets": targets } })));
    namespace.complete("second");
    let second = namespace.run_of("second", Role::Student, "rte").name;
    let hash = |run: &str| science(&namespace, run);
    let teachers = |run: &str, task: &str| {
        let mut teachers: Vec<_> = lessons(&namespace, run, task).teachers.iter().map(ToString::to_string).collect();
        teachers.sort();
        teachers
    };
    assert_eq!(teachers(&second, "rte"), [hash(&first)]);
    let of_file = lessons(&namespace, &second, "mrpc");
    assert_eq!((of_file.teachers.len(), of_file.target_files.len()), (0, 1), "{of_file:?}");

    let both = json!({ "ensemble": [{ "experiment": "second" }, { "run": first }] });
    namespace.apply(&learns("third", json!({ "rte": both, "mrpc": { "experiment": "second" } })));
    namespace.complete("third");
    let third = namespace.run_of("third", Role::Student, "rte").name;
    let mut expected = [hash(&first), hash(&second)];
    expected.sort();
    assert_eq!(teachers(&third, "rte"), expected);
    assert_eq!(teachers(&third, "mrpc"), [hash(&second)]);
    namespace.took("three generations");

    // Somebody tidies up, and another student wants to learn.
    let teacher = namespace.run_of("first", Role::Teacher, "rte").name;
    let before = namespace.store.artifacts();
    fs::remove_dir_all(namespace.store.folder.join("runs").join(hash(&teacher))).unwrap();
    namespace.apply(&with(debug("again", &["rte", "mrpc"]), "seed", 7));
    namespace.complete("again");
    assert_eq!(tries(&namespace, &teacher), 2, "it is trained once more, and once only");
    let after = namespace.store.artifacts().into_iter().filter(|(name, _)| before.contains_key(name));
    assert_same(&after.collect(), &before);
    namespace.took("complete");
}
