//! A teacher that several experiments need is trained once, belongs to all of them, and goes with the last.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bam_crds::BamExperiment;
use bam_crds::experiment::{ExperimentPhase, RunSummary};
use bam_crds::run::Role;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};

use crate::cluster::RUNTIME;
use crate::diary::Kind;
use crate::experiment::{debug, slow, with};
use crate::namespace::Namespace;

/// Two that need the same teacher of RTE: the first one has only that task.
fn one() -> serde_json::Value {
    debug("one", &["rte"])
}

fn two() -> serde_json::Value {
    debug("two", &["rte", "mrpc"])
}

/// How often a run was tried: by its Jobs, whether they are gone or not.
fn tries(namespace: &Namespace, run: &str) -> usize {
    namespace.diary.read(|seen| seen.ever(Kind::Job, run).len())
}

/// The names of a run's owners.
fn owners(namespace: &Namespace, run: &str) -> Vec<String> {
    let run = namespace.diary.read(|seen| seen.run(run)).unwrap_or_else(|| panic!("{run} is gone"));
    let mut owners: Vec<_> = run.metadata.owner_references.into_iter().flatten().map(|owner| owner.name).collect();
    owners.sort();
    owners
}

fn owned_by(namespace: &Namespace, run: &str, expected: &[&str]) {
    namespace.within(10, &format!("{run} is owned by {expected:?}"), |seen| {
        let owners = seen.run(run)?.metadata.owner_references.unwrap_or_default();
        let mut owners: Vec<_> = owners.iter().map(|owner| owner.name.as_str()).collect();
        owners.sort_unstable();
        (owners == expected).then_some(())
    });
}

#[test]
fn a_second_experiment_trains_no_teacher_that_the_first_one_trained() {
    let Some(namespace) = Namespace::new("shared teachers") else { return };
    namespace.apply(&one());
    namespace.complete("one");
    let teacher = namespace.run_of("one", Role::Teacher, "rte");
    let trained = namespace.store.manifests();

    // What it asks for otherwise does not count, and it says so.
    namespace.apply(&with(two(), "compute/saveCheckpointsSteps", 1));
    namespace.complete("two");
    let joined = namespace.run_of("two", Role::Teacher, "rte");
    assert_eq!(joined.name, teacher.name);
    assert_eq!(
        joined.shared,
        "is shared with experiment one, which made it; what is said here of saveCheckpointsSteps does not count"
    );
    assert_eq!(teacher.shared, "");
    assert_eq!(tries(&namespace, &teacher.name), 1);
    let now = namespace.store.manifests();
    assert!(trained.iter().all(|(run, written)| now[run] == *written), "a run was trained again");
    let told = namespace.events("BamExperiment", "two");
    assert!(told.iter().any(|(reason, note)| reason == "RunShared" && note.contains("experiment one")), "{told:#?}");
    assert_eq!(owners(&namespace, &teacher.name), ["one", "two"]);
}

#[test]
fn two_that_begin_at_once_train_their_common_teacher_once() {
    let Some(namespace) = Namespace::new("at once") else { return };
    for name in ["a", "b", "c"] {
        let seed = u32::from(name.as_bytes()[0]);
        namespace.apply(&with(debug(name, &["rte"]), "seed", seed));
    }
    let teachers: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            namespace.complete(name);
            namespace.run_of(name, Role::Teacher, "rte").name
        })
        .into();
    assert!(teachers.iter().all(|teacher| *teacher == teachers[0]), "{teachers:?}");
    assert_eq!(tries(&namespace, &teachers[0]), 1);
    assert_eq!(owners(&namespace, &teachers[0]), ["a", "b", "c"]);
    let students = ["a", "b", "c"].map(|name| namespace.run_of(name, Role::Student, "rte").name);
    assert!(students[0] != students[1] && students[1] != students[2], "{students:?}");
}

/// While the common teacher is in training, its maker goes.
fn deleting_the_first_takes_nothing_from_the_second(cascade: &str) {
    let Some(namespace) = Namespace::new(cascade) else { return };
    namespace.apply(&slow(one()));
    let teacher = namespace.run_of("one", Role::Teacher, "rte").name;
    namespace.apply(&slow(two()));
    owned_by(&namespace, &teacher, &["one", "two"]);
    namespace.kubectl(&["delete", "bam", "one", &format!("--cascade={cascade}")]);
    // Also if its runs are to stay: then they are nobody's, or the second one's alone.
    owned_by(&namespace, &teacher, &["two"]);
    namespace.complete("two");
    let uids = namespace.diary.read(|seen| seen.run_uids(&teacher));
    assert_eq!(uids.len(), 1, "{teacher} was removed, and made again");
    assert_eq!(tries(&namespace, &teacher), 1);
    assert!(namespace.run_of("two", Role::Teacher, "rte").name == teacher);

    // What was the first one's alone is gone with it; at last, all of it.
    namespace.kubectl(&["delete", "bam", "two", "--wait=false"]);
    let mine = |seen: &crate::diary::Seen| {
        let left = |kind| seen.all(kind).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        [left(Kind::Run), left(Kind::Job), left(Kind::Pod)].concat()
    };
    if cascade == "orphan" {
        // The first one's own runs were to stay.
        namespace.within(60, "the second one's runs are gone", |seen| {
            let left = mine(seen);
            (!left.contains(&teacher)).then_some(())
        });
    } else {
        namespace.within(60, "nothing is left", |seen| mine(seen).is_empty().then_some(()));
    }
}

#[test]
fn deleting_the_first_in_the_background_takes_nothing_from_the_second() {
    deleting_the_first_takes_nothing_from_the_second("background");
}

#[test]
fn deleting_the_first_in_the_foreground_takes_nothing_from_the_second() {
    deleting_the_first_takes_nothing_from_the_second("foreground");
}

#[test]
fn deleting_the_first_without_its_runs_takes_nothing_from_the_second() {
    deleting_the_first_takes_nothing_from_the_second("orphan");
}

#[test]
fn deleting_an_experiment_in_the_middle_leaves_no_runs_jobs_or_pods() {
    let Some(namespace) = Namespace::new("in the middle") else { return };
    for propagation in ["background", "foreground"] {
        let name = format!("ends-{propagation}");
        namespace.apply(&slow(debug(&name, &["rte", "mrpc"])));
        let teacher = namespace.run_of(&name, Role::Teacher, "rte").name;
        namespace.run_when(&teacher, "runs", |status| status.phase == bam_crds::run::RunPhase::Running);
        let began = Instant::now();
        // kubectl waits for the object: no finalizer may hold it up.
        namespace.kubectl(&["delete", "bam", &name, &format!("--cascade={propagation}"), "--timeout=60s"]);
        namespace.within(60, "nothing is left", |seen| {
            let kinds = [Kind::Experiment, Kind::Run, Kind::Job, Kind::Pod];
            kinds.iter().all(|kind| seen.all(*kind).is_empty()).then_some(())
        });
        println!("deleted in the {propagation}: everything gone after {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// Small and random enough for delays.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = u64::from(now.subsec_nanos()) | 1;
        println!("delays from seed {seed}");
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Applies a second experiment at some moment around the deletion of the first one, again and again.
pub fn race(namespace: &Namespace, rounds: u32) {
    let dice = Mutex::new(Dice::new());
    let next = Mutex::new(0..rounds);
    let api: Api<BamExperiment> = Api::namespaced(namespace.client.clone(), &namespace.name);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(round) = next.lock().unwrap().next() else { break };
                    let random = |limit| dice.lock().unwrap().below(limit);
                    let propagation =
                        [PropagationPolicy::Background, PropagationPolicy::Foreground, PropagationPolicy::Orphan];
                    let propagation = propagation[round as usize % 3].clone();
                    // Up to the first one's end, and half a second around.
                    race_once(namespace, &api, round, &propagation, random(7000), random(1000) as i64 - 500);
                }
            });
        }
    });
}

fn race_once(
    namespace: &Namespace,
    api: &Api<BamExperiment>,
    round: u32,
    propagation: &PropagationPolicy,
    deleted_at: u64,
    lag: i64,
) {
    let (first, second) = (format!("first-{round}"), format!("second-{round}"));
    // Every round has a teacher of its own, which no other round can have left in the store.
    let rate = format!("{}e-6", 1000 + round);
    let experiment = |name: &str, seed: u32| -> BamExperiment {
        let experiment = with(debug(name, &["rte"]), "distill/hyperparameters/learningRate", rate.clone());
        serde_json::from_value(with(experiment, "seed", seed)).unwrap()
    };
    let round = format!("round {round}, {propagation:?} after {deleted_at} ms, applied {lag} ms later");
    let made = RUNTIME.block_on(async {
        let made = api.create(&PostParams::default(), &experiment(&first, 1)).await.unwrap();
        let (delete, apply) = match lag {
            0.. => (deleted_at, deleted_at + lag.unsigned_abs()),
            _ => (deleted_at + lag.unsigned_abs(), deleted_at),
        };
        let delete = async {
            tokio::time::sleep(Duration::from_millis(delete)).await;
            let parameters = DeleteParams {
                propagation_policy: Some(propagation.clone()),
                preconditions: Some(Preconditions { uid: made.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            api.delete(&first, &parameters).await.map(drop).unwrap();
        };
        let apply = async {
            tokio::time::sleep(Duration::from_millis(apply)).await;
            api.create(&PostParams::default(), &experiment(&second, 2)).await.map(drop).unwrap();
        };
        tokio::join!(delete, apply);
        made
    });
    let complete = namespace.within(120, &format!("{round}: the second is complete"), |seen| {
        seen.experiment(&second).filter(|status| {
            assert_ne!(status.phase, ExperimentPhase::Failed, "{round}: {status:#?}");
            status.phase == ExperimentPhase::Complete
        })
    });
    let teacher: &RunSummary = complete.runs.iter().find(|run| run.role == Role::Teacher).unwrap();
    let (uids, jobs) = namespace.diary.read(|seen| (seen.run_uids(&teacher.name), seen.ever(Kind::Job, &teacher.name)));
    // One deletion takes at most one run away; what is made again may be trained again. An attempt belongs to its run.
    assert!(uids.len() <= 2, "{round}: made again and again: {uids:?}");
    assert!(jobs.len() <= uids.len(), "{round}: {} attempts of {} runs", jobs.len(), uids.len());
    if *propagation == PropagationPolicy::Orphan {
        assert_eq!(uids.len(), 1, "{round}: nothing was to be removed");
    }
    drop(made);
    println!("{round}: {} run, {} attempts", uids.len(), jobs.len());
    let gone = |name: &str| RUNTIME.block_on(api.delete(name, &DeleteParams::background())).map(drop);
    gone(&second).unwrap();
}

#[test]
fn whenever_the_first_is_deleted_the_second_completes() {
    let Some(namespace) = Namespace::new("a race") else { return };
    race(&namespace, 10);
    namespace.took("ten races");
}

#[test]
#[ignore = "long: make test-long"]
fn whenever_the_first_is_deleted_the_second_completes_a_hundred_times() {
    let Some(namespace) = Namespace::new("a hundred races") else { return };
    race(&namespace, 100);
    namespace.took("a hundred races");
}
