//! A deterministic simulation: the real operator (watches, caches, planner, API calls) against a model of the API server
//! and of everything behind it, in virtual time, through random schedules of faults.
//!
//! `BAM_SIM_SEED=7` replays one schedule and prints its history; `BAM_SIM_SCHEDULES=100000` lives through so many.

mod acts;
mod api_server;
#[path = "../common/findings.rs"]
mod findings;
mod history;
mod kubelet;
mod life;
mod operator;
mod properties;
mod random;
mod schedule;
mod shrink;
mod trainer;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use history::What;
use life::live;
use properties::violation;
use schedule::{Act, Millis, Schedule, When};

/// Schedules in `make test`.
const SCHEDULES: u64 = 10_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

#[test]
fn every_property_holds_in_every_schedule() {
    if let Some(seed) = setting("BAM_SIM_SEED") {
        return replay(seed);
    }
    let (schedules, first) = (setting("BAM_SIM_SCHEDULES").unwrap_or(SCHEDULES), setting("BAM_SIM_FIRST").unwrap_or(0));
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + schedules || failed.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    if violation(&live(&Schedule::random(seed))).is_some() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        u64::MAX => println!("{schedules} schedules, from seed {first} on"),
        seed => fail(seed),
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..20 {
        let schedule = Schedule::random(seed);
        let (one, other) = (live(&schedule).history, live(&schedule).history);
        let different = one.0.iter().zip(&other.0).find(|(one, other)| one.to_string() != other.to_string());
        assert_eq!(one.fingerprint(), other.fingerprint(), "seed {seed}: {different:?}");
    }
}

/// How long nobody led, at the only change of leaders.
fn hand_over(act: Act) -> Millis {
    let experiments = vec![Schedule::random(0).experiments[0].clone()];
    let acts = vec![(When::At(0), Act::Submit(0)), (When::At(30_000), act)];
    let life = live(&Schedule { seed: 0, elects: true, experiments, acts });
    let leaders: Vec<_> = life.history.0.iter().filter(|entry| matches!(entry.what, What::Leads)).collect();
    let [_, second] = leaders[..] else { panic!("two lead, one after the other: {leaders:?}") };
    assert_eq!(violation(&life).map(|it| it.message), None);
    second.at - 30_000
}

#[test]
fn the_next_operator_leads_within_2_s_of_a_stop_and_15_s_of_a_crash() {
    for (act, limit) in [(Act::Replace, 2_000), (Act::Crash(10), 15_000), (Act::Crash(1_900), 15_000)] {
        let took = hand_over(act.clone());
        assert!(took <= limit, "{act:?}: {took} ms");
    }
}

fn replay(seed: u64) {
    let schedule = Schedule::random(seed);
    let life = live(&schedule);
    println!("{schedule}\n{}", life.history);
    if violation(&life).is_some() {
        fail(seed);
    }
}

/// Says what does not hold, and in which history, as small as can be.
fn fail(seed: u64) {
    let schedule = Schedule::random(seed);
    let first = violation(&live(&schedule)).expect("it did not hold a moment ago");
    let (smallest, violation) = shrink::shrink(schedule, &first);
    let history = live(&smallest).history;
    panic!(
        "seed {seed}: {}\n{}\n\nThe smallest schedule in which it does not hold:\n{smallest}\nIts history:\n{history}\n\
         {}: {}\nBAM_SIM_SEED={seed} cargo test -p bam-operator --test simulation",
        first.property, first.message, violation.property, violation.message
    );
}
