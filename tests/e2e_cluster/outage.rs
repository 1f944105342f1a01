//! What happens to a cluster in a year: `make test-long`. Each of these tests has it for itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bam_crds::ExitReason;
use bam_crds::experiment::ExperimentPhase;
use bam_crds::run::Role;
use serde_json::Value;

use crate::cluster::Script;
use crate::diary::Kind;
use crate::experiment::{debug, slow, with};
use crate::faults::{disturbed, ends_as_if_nothing_had_been};
use crate::namespace::Namespace;
use crate::shared_teachers::Dice;
use crate::store::{Artifacts, Store, assert_same};

/// What becomes of experiments that nobody disturbs: trained on this machine.
fn undisturbed(experiments: &[Value]) -> Artifacts {
    let inputs = std::env::var_os("BAM_TEST_BAM_DIR").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::with_demo(folder.path().join("bam_dir"), inputs.as_ref());
    for experiment in experiments {
        store.run_here(&experiment.to_string());
    }
    store.artifacts()
}

/// One whose student takes a minute and more.
fn patient() -> Value {
    with(disturbed(), "hyperparameters/numTrainEpochs", "240")
}

/// Until the student is at work, with a checkpoint.
fn student_works(namespace: &Namespace) -> String {
    let student = namespace.run_of("disturbed", Role::Student, "rte").name;
    let works = |progress: &bam_crds::run::RunProgress| progress.total > 20 && progress.done > 5;
    namespace.run_when(&student, "trains", |status| status.progress.as_ref().is_some_and(works));
    student
}

#[test]
#[ignore = "long: make test-long"]
fn the_operator_killed_fifty_times_during_ten_experiments_changes_nothing() {
    let Some(namespace) = Namespace::alone("fifty kills") else { return };
    let experiment = |seed: usize| slow(with(debug(&format!("killed-{seed}"), &["rte", "mrpc"]), "seed", seed));
    let mut applied: Vec<_> = (1..=10).map(experiment).collect();
    applied.iter().for_each(|it| namespace.apply(it));
    let is_open = |seen: &crate::diary::Seen, seed: usize| {
        seen.experiment(&format!("killed-{seed}")).is_none_or(|status| status.phase != ExperimentPhase::Complete)
    };
    let (mut dice, mut kills) = (Dice::new(), 0);
    while kills < 50 {
        std::thread::sleep(Duration::from_millis(300 + dice.below(3000)));
        kills += namespace.kill_operator();
        // There is always something to be killed in the middle of.
        let open = namespace.diary.read(|seen| (1..=applied.len()).filter(|seed| is_open(seen, *seed)).count());
        if open < 3 {
            applied.push(experiment(applied.len() + 1));
            namespace.apply(applied.last().unwrap());
        }
    }
    println!("{kills} kills during {} experiments", applied.len());
    for experiment in &applied {
        let name = experiment["metadata"]["name"].as_str().unwrap();
        namespace.complete(name);
        for (title, attempts) in namespace.attempts(name) {
            assert_eq!(attempts, 1, "{name}: {title} was tried more than once");
        }
    }
    assert_same(&namespace.store.artifacts(), &undisturbed(&applied));
    namespace.took("complete");
    namespace.operator_is_back();
}

#[test]
#[ignore = "long: make test-long"]
fn etcd_stopped_for_half_a_minute_changes_nothing() {
    let Some(script) = Script::find("etcd stopped") else { return };
    let Some(namespace) = Namespace::alone("etcd stopped") else { return };
    namespace.apply(&disturbed());
    for phase in [ExperimentPhase::TrainingTeachers, ExperimentPhase::TrainingStudent] {
        namespace.wait_for("disturbed", phase);
        script.run(&["stop", "etcd"]);
        std::thread::sleep(Duration::from_secs(30));
        script.run(&["start", "etcd"]);
        namespace.operator_is_back();
    }
    ends_as_if_nothing_had_been(&namespace, &[]);
    namespace.eventually(90, "the operator is ready", || namespace.operator_is_ready().then_some(()));
}

/// Its kubelet says nothing, as when a machine's network is gone; what runs there goes on.
#[test]
#[ignore = "long: make test-long"]
fn a_node_that_does_not_answer_is_named_and_what_ran_there_goes_on_when_it_is_back() {
    let Some(script) = Script::find("a silent node") else { return };
    let Some(namespace) = Namespace::alone("a silent node") else { return };
    namespace.apply(&patient());
    let student = student_works(&namespace);
    script.run(&["stop", "kubelet"]);
    let began = Instant::now();
    let said = namespace.within(150, "it says which node does not answer", |seen| {
        seen.experiment("disturbed").map(|status| status.waiting_for).filter(|it| it.contains("does not answer"))
    });
    println!("after {:.0} s: {said}", began.elapsed().as_secs_f64());
    let status = namespace.diary.read(|seen| seen.run_status(&student).unwrap());
    assert_eq!(status.conditions[0].reason, "NodeSilent", "{status:#?}");
    script.run(&["start", "kubelet"]);
    // What it says of itself goes when the node is back, whether the student is done by then or not.
    namespace.run_when(&student, "is heard of again", |status| status.waiting_for.is_empty());
    namespace.complete("disturbed");
    assert!(namespace.attempts("disturbed").iter().all(|(_, attempts)| *attempts == 1));
    assert_same(&namespace.store.artifacts(), &undisturbed(&[patient()]));
    namespace.operator_is_back();
}

/// A file system of its own below a store's folder; it goes when this does.
struct Mount(PathBuf);

impl Mount {
    fn over(folder: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
#[ignore = "long: make test-long"]
fn a_full_volume_is_named_and_what_was_trained_goes_on_when_there_is_room() {
    let Some(namespace) = Namespace::without_claim("a full volume") else { return };
    let Some(mount) = Mount::over(&namespace.store.folder, "1g") else {
        println!("SKIPPED: no file system of its own: only root can mount one");
        return;
    };
    let inputs = std::env::var_os("BAM_TEST_BAM_DIR").unwrap();
    // The store is its folder's, which is removed with the namespace.
    std::mem::forget(Store::with_demo(namespace.store.folder.clone(), inputs.as_ref()));
    namespace.make_claim();
    namespace.apply(&patient());
    let student = student_works(&namespace);

    let filler = namespace.store.folder.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let status = namespace.run_when(&student, "has failed for want of room", |status| !status.history.is_empty());
    let record = &status.history[0];
    assert_eq!(record.reason, Some(ExitReason::StoreUnavailable), "{record:?}");
    assert!(record.message.contains("no space is left"), "{record:?}");
    let said = namespace.within(60, "the experiment says so", |seen| {
        seen.experiment("disturbed").map(|status| status.waiting_for).filter(|it| it.contains("no space is left"))
    });
    println!("{said}");

    drop(file);
    fs::remove_file(filler).unwrap();
    namespace.complete("disturbed");
    let history = namespace.diary.read(|seen| seen.run_status(&student).unwrap()).history;
    assert!(history.last().is_some_and(|last| last.saved_steps > record.saved_steps), "{history:#?}");
    assert_same(&namespace.store.artifacts(), &undisturbed(&[patient()]));
    namespace.took("complete");
    drop(namespace);
    drop(mount);
}

#[test]
#[ignore = "long: make test-long"]
fn uninstalled_and_installed_again_in_the_middle_it_goes_on() {
    let Some(script) = Script::find("uninstalled") else { return };
    let Some(namespace) = Namespace::alone("uninstalled") else { return };
    namespace.apply(&patient());
    student_works(&namespace);
    script.run(&["undeploy"]);
    let names = |kind| namespace.diary.read(|seen| seen.all(kind).len());
    assert_eq!(names(Kind::Pod), 1, "what trains goes on");
    std::thread::sleep(Duration::from_secs(20));
    script.run(&["deploy"]);
    namespace.operator_is_back();
    namespace.complete("disturbed");
    assert!(namespace.attempts("disturbed").iter().all(|(_, attempts)| *attempts == 1));
    assert_same(&namespace.store.artifacts(), &undisturbed(&[patient()]));
    namespace.took("complete");
}

/// Other versions may train other bytes: nothing is compared but that nothing is trained twice.
#[test]
#[ignore = "long: make test-long"]
fn an_older_version_upgraded_in_the_middle_goes_on_and_tries_nothing_twice() {
    let Some(previous) = std::env::var_os("BAM_TEST_PREVIOUS_SCRIPT") else {
        println!(
            "SKIPPED: no older version: BAM_TEST_PREVIOUS_SCRIPT is not set (BAM_PREVIOUS=ref make test-long sets it)"
        );
        return;
    };
    let Some(script) = Script::find("upgraded") else { return };
    let Some(namespace) = Namespace::alone("upgraded") else { return };
    let previous = Script(previous);
    previous.run(&["deploy"]);
    namespace.apply(&patient());
    namespace.wait_for("disturbed", ExperimentPhase::TrainingTeachers);
    // CRDs, rights and operator, while teachers train and again while the student does.
    script.run(&["deploy"]);
    student_works(&namespace);
    previous.run(&["deploy"]);
    namespace.operator_is_back();
    script.run(&["deploy"]);
    namespace.operator_is_back();
    namespace.complete("disturbed");
    for (title, attempts) in namespace.attempts("disturbed") {
        assert_eq!(attempts, 1, "{title} was tried more than once");
    }
    namespace.took("complete");
}
