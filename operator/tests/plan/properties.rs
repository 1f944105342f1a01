//! What holds in every world.

use bam_crds::experiment::{BamExperiment, ExperimentPhase};
use bam_crds::run::RunPhase;
use proptest::prelude::*;

use crate::build;
use crate::world::{Fate, Slip, State, World};

const TASKS: [&str; 8] = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst", "sts"];

fn experiments() -> impl Strategy<Value = BamExperiment> {
    (1..=4_usize, any::<bool>(), 1..=3_u32, prop::option::of(1..=4_u32), 0..=2_u32).prop_map(
        |(tasks, distill, trials, limit, retries)| {
            let tasks = &TASKS[..tasks];
            let mut experiment = if distill { build::distilled(tasks) } else { build::experiment(tasks) };
            experiment.spec.trials = trials;
            experiment.spec.max_parallel_runs = limit;
            experiment.spec.failure_policy.application_retries = Some(retries);
            experiment
        },
    )
}

/// Ways to end that say nothing against the experiment: it must get over all of them.
fn mishaps() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Completes),
        1 => Just(Fate::Exits(137)),
        1 => Just(Fate::Exits(75)),
        1 => Just(Fate::RunsOutOfMemory),
        1 => (0..50_u64).prop_map(Fate::Checkpoints),
        1 => Just(Fate::Vanishes),
        1 => Just(Fate::CompletesAndTeacherIsLost),
    ]
}

/// The OOM ladder from 2048 word pieces down to one row of 128, and without kept activations: a run that runs out of memory once more has failed.
const RUNGS: usize = 5;

/// Mishaps of which one run alone can get over all.
fn bearable() -> impl Strategy<Value = Vec<Fate>> {
    let is_bearable =
        |fates: &Vec<Fate>| fates.iter().filter(|fate| matches!(fate, Fate::RunsOutOfMemory)).count() <= RUNGS;
    prop::collection::vec(mishaps(), 0..8).prop_filter("more than the OOM ladder has rungs", is_bearable)
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => mishaps(),
        1 => prop::sample::select(vec![64, 65, 66, 70, 82, 101, 134, 139, 1, 2]).prop_map(Fate::Exits),
    ]
}

fn slips() -> impl Strategy<Value = Slip> {
    prop_oneof![
        3 => Just(Slip::Nothing),
        1 => Just(Slip::Dropped),
        1 => Just(Slip::Doubled),
        1 => Just(Slip::Stale),
    ]
}

fn check(state: &State) -> Result<(), TestCaseError> {
    if let Some(limit) = state.experiment.spec.max_parallel_runs {
        prop_assert!(state.most_at_once <= limit as usize, "{} at once, of {limit}", state.most_at_once);
    }
    for (hash, times) in &state.trained {
        let lost = state.lost.get(hash).copied().unwrap_or_default();
        prop_assert!(*times <= 1 + lost, "{hash} was trained {times} times and lost {lost} times");
    }
    if state.lost.is_empty() {
        prop_assert!(state.too_early.is_empty(), "too early: {:?}", state.too_early);
    }
    for run in &state.status.runs {
        let says = !run.message.is_empty() || matches!(run.phase, RunPhase::Running | RunPhase::Succeeded);
        prop_assert!(says, "{run:?} says nothing");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_ends_whatever_happens(
        experiment in experiments(),
        fates in prop::collection::vec(fates(), 0..30),
        slips in prop::collection::vec(slips(), 0..200),
        sees_store in any::<bool>(),
    ) {
        let mut world = World::new(experiment).with_fates(fates).with_slips(slips);
        world.sees_store = sees_store;
        check(&world.run())?;
    }

    #[test]
    fn it_gets_over_everything_that_is_not_its_fault(
        experiment in experiments(),
        fates in bearable(),
        slips in prop::collection::vec(slips(), 0..200),
    ) {
        let state = World::new(experiment).with_fates(fates).with_slips(slips).run();
        check(&state)?;
        prop_assert_eq!(state.status.phase, ExperimentPhase::Complete, "{:#?}", state.status);
        prop_assert_eq!(&state.status.waiting_for, "");
    }

    #[test]
    fn it_does_the_same_again(
        experiment in experiments(),
        fates in prop::collection::vec(fates(), 0..20),
        slips in prop::collection::vec(slips(), 0..50),
    ) {
        let run = || World::new(experiment.clone()).with_fates(fates.clone()).with_slips(slips.clone()).run();
        let (one, other) = (run(), run());
        prop_assert_eq!(one.status, other.status);
        prop_assert_eq!(one.started, other.started);
    }
}

#[test]
fn a_quiet_world_costs_few_writes() {
    let mut experiment = build::distilled(&TASKS);
    experiment.spec.trials = 3;
    experiment.spec.max_parallel_runs = Some(2);
    let state = World::new(experiment).run();
    assert_eq!(state.status.phase, ExperimentPhase::Complete);
    assert_eq!(state.started.len(), 1 + 8 + 3);
    // A run: about to start, running, done. The experiment: what its runs do.
    assert!(state.publishes <= 8 * 12, "{} writes", state.publishes);
}
