//! Step counts of the reference, and what an order of training must hold.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Rows and multiples of each task.
type Tasks = &'static [(usize, usize)];

#[test]
fn step_counts_equal_the_reference() {
    // (name, tasks, batch, epochs, [padded, steps, warm-up at a tenth])
    let cases: [(&str, Tasks, usize, f64, [usize; 3]); 9] = [
        ("rte", &[(2_490, 1)], 32, 3.0, [2_496, 234, 23]),
        ("mrpc", &[(7_336, 1)], 32, 3.0, [7_360, 690, 69]),
        ("cola", &[(8_551, 1)], 32, 3.0, [8_576, 804, 80]),
        ("sts", &[(11_498, 1)], 32, 3.0, [11_520, 1_080, 108]),
        ("mnli", &[(392_702, 1)], 32, 3.0, [392_704, 36_816, 3_681]),
        ("rte and mrpc", &[(2_490, 4), (7_336, 3)], 128, 6.0, [32_000, 1_500, 150]),
        ("debug", &[(49, 1), (98, 1)], 32, 3.0, [160, 15, 1]),
        ("parts of an epoch are cut", &[(100, 1)], 32, 1.3, [128, 5, 0]),
        (
            "all eight",
            &[(8_551, 3), (392_702, 1), (7_336, 3), (108_436, 1), (363_869, 1), (67_349, 2), (11_498, 2), (2_490, 4)],
            128,
            6.0,
            [1_080_448, 50_646, 5_064],
        ),
    ];
    for (name, tasks, batch, epochs, [padded, steps, warmup]) in cases {
        let set: usize = tasks.iter().map(|(rows, multiple)| rows * multiple).sum();
        assert_eq!(set.next_multiple_of(batch), padded, "{name}");
        assert_eq!(train_steps(padded, batch, epochs), steps, "{name}");
        assert_eq!((steps as f64 * 0.1) as usize, warmup, "{name}");
    }
}

#[test]
fn a_schedule_counts_and_hands_out_its_steps() {
    let schedule = Schedule::new(&[(49, 1), (98, 1)], 32, 3.0, 0);
    assert_eq!(schedule.steps(), 15);
    let all: Vec<Example> = (0..15).flat_map(|step| schedule.step(step).collect::<Vec<_>>()).collect();
    assert_eq!(all.len(), 480);
    assert!(all.contains(&Example::Padding) && all.contains(&Example::Row { task: 1, row: 97 }));
    assert_eq!(Schedule::new(&[(3, 1)], 32, 0.5, 0).steps(), 0);
}

#[test]
fn the_order_of_a_seed_never_changes() {
    // A run resumes at step n by computing this again, perhaps with a newer trainer.
    let schedule = Schedule::new(&[(60, 2), (30, 1)], 8, 1.0, 42);
    let first: Vec<Example> = schedule.step(0).collect();
    assert_eq!(first, GOLDEN_STEP.map(|(task, row)| Example::Row { task, row }));
    let sum = |acc: u64, place: &u32| acc.wrapping_mul(31).wrapping_add(u64::from(*place));
    assert_eq!(training_order(1000, 300, 32, 7).iter().fold(0, sum), GOLDEN_ORDER);
}

// Computed a second time in Python, from the description of ChaCha8 up.
const GOLDEN_STEP: [(u16, u32); 8] = [(0, 47), (0, 38), (0, 18), (0, 14), (1, 2), (0, 31), (0, 12), (0, 16)];
const GOLDEN_ORDER: u64 = 0xb368_b453_1a6a_4287;

#[test]
fn seeds_and_epochs_differ_but_the_file_keeps_its_order() {
    assert_ne!(training_set(&[(200, 1)], 8, 1), training_set(&[(200, 1)], 8, 2));
    let (n, epochs) = (2_000, 5);
    let order = training_order(n, n / 8 * epochs, 8, 1);
    let mut epoch = order.chunks(n);
    let (first, second) = (epoch.next().unwrap(), epoch.next().unwrap());
    assert_ne!(first, second);
    // Through the buffer a place waits 100 draws on average, so it comes about when it came before.
    let mean_shift: f64 = (0..n as u32)
        .map(|place| {
            let at = |epoch: &[u32]| epoch.iter().position(|p| *p == place).unwrap_or(n) as f64;
            (at(first) - at(second)).abs()
        })
        .sum::<f64>()
        / n as f64;
    assert!(mean_shift < 300.0, "{mean_shift}");
}

#[test]
fn the_wait_in_the_buffer_is_that_of_a_hundred_equal_chances() {
    // Place i can leave from draw i - 99 on, each time with a chance of 1 in 100: 99 more on
    // average.
    let n = 100_000;
    let order = training_order(n, n, 1, 3);
    let waits: Vec<f64> =
        order.iter().enumerate().filter(|(_, p)| **p > 100).map(|(at, p)| at as f64 - (f64::from(*p) - 99.0)).collect();
    assert!(waits.iter().all(|wait| *wait >= 0.0));
    let mean = waits.iter().sum::<f64>() / waits.len() as f64;
    assert!((mean - 99.0).abs() < 3.0, "{mean}");
}

proptest! {
    #[test]
    fn the_training_set_holds_every_row_as_often_as_its_multiple_and_whole_batches(
        tasks in prop::collection::vec((0usize..80, 1usize..4), 1..5),
        batch in 1usize..40,
        seed: u64,
    ) {
        let set = training_set(&tasks, batch, seed);
        prop_assert_eq!(set.len() % batch, 0);
        let mut counts: HashMap<Example, usize> = HashMap::new();
        set.iter().for_each(|example| *counts.entry(*example).or_default() += 1);
        let padding = counts.remove(&Example::Padding).unwrap_or(0);
        prop_assert!(padding < batch);
        prop_assert_eq!(counts.len(), tasks.iter().map(|(rows, _)| rows).sum::<usize>());
        for (example, count) in counts {
            let Example::Row { task, row } = example else { unreachable!("padding was taken out") };
            prop_assert_eq!(count, tasks[usize::from(task)].1);
            prop_assert!((row as usize) < tasks[usize::from(task)].0);
        }
    }

    #[test]
    fn epochs_cover_the_set_give_or_take_the_buffer(
        batches in 1usize..20,
        batch in 1usize..30,
        steps in 0usize..80,
        seed: u64,
    ) {
        let padded = batches * batch;
        let order = training_order(padded, steps, batch, seed);
        prop_assert_eq!(order.len(), steps * batch);
        // What was drawn is what went into the buffer less what is left there: the counts of any
        // two places differ by no more than the buffer can hold of one.
        let mut counts = vec![0usize; padded];
        for (at, place) in order.iter().enumerate() {
            counts[*place as usize] += 1;
            // By draw `at`, the file has been read up to `at + BUFFER`.
            let read = at + BUFFER;
            let times_read = read / padded + usize::from(read % padded > *place as usize);
            prop_assert!(counts[*place as usize] <= times_read);
        }
        let left: usize = (0..padded)
            .map(|place| {
                let read = order.len() + BUFFER;
                read / padded + usize::from(read % padded > place) - counts[place]
            })
            .sum();
        prop_assert_eq!(left, BUFFER);
    }

    #[test]
    fn more_steps_continue_the_same_order(
        padded in 1usize..300,
        steps in 0usize..50,
        more in 0usize..50,
        seed: u64,
    ) {
        let long = training_order(padded, steps + more, 4, seed);
        prop_assert_eq!(&long[..steps * 4], &training_order(padded, steps, 4, seed)[..]);
    }
}
