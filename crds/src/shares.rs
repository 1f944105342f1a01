//! How much each task counts: the paper lets a task's influence grow with the size of its training
//! set to the power 0.75. The reference reaches that by repeating the rows of small tasks, by
//! weighing losses, or by both.

/// Training rows of the eight tasks as the reference has them written down: MRPC's and STS's with
/// their swapped copies, even when `double_unordered` is off. With repeats these count, not the
/// rows of the files.
const SIZES: [(&str, usize); 8] = [
    ("cola", 8_551),
    ("mnli", 392_702),
    ("mrpc", 7_336),
    ("qnli", 108_436),
    ("qqp", 363_869),
    ("sst", 67_349),
    ("sts", 11_498),
    ("rte", 2_490),
];

/// Larger exponents (and smaller ones below zero) count as this one: a size of 32 bits to a higher power leaves the
/// range of `f64`, and far below it a task is all of the training or nothing.
const LARGEST_EXPONENT: f64 = 30.0;

/// What a task brings to the training set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// How many times its rows stand in the training set.
    pub multiple: usize,
    /// Factor of its rows' losses.
    pub weight: f64,
}

/// The share of each task, in the order given. `tasks` are names and training rows (swapped copies
/// included, padding not); `exponent` is `task_weight_exponent`.
///
/// `dataset_multiples` repeats small tasks. A task that is not in the reference's table of sizes
/// (there: a `KeyError`) joins the table with its real size.
///
/// All weights are finite. A multiple is at most `usize::MAX`, and `rows * multiple` may be more than that: whoever
/// makes a training set of it checks the size.
pub fn shares(tasks: &[(&str, usize)], exponent: f64, dataset_multiples: bool) -> Vec<Share> {
    let exponent = exponent.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT);
    if dataset_multiples { repeated(tasks, exponent) } else { weighted(tasks, exponent) }
}

/// Repeats, and weights for what the rounding of the repeats leaves over. Both come from all tasks
/// of the table, not only from those that are trained: a weight is the same in every company.
fn repeated(tasks: &[(&str, usize)], exponent: f64) -> Vec<Share> {
    let mut table = SIZES.to_vec();
    let own = tasks.iter().filter(|(name, _)| SIZES.iter().all(|(known, _)| known != name));
    table.extend(own.map(|(name, rows)| (*name, (*rows).max(1))));

    let total: f64 = table.iter().map(|(_, size)| mass(*size, exponent)).sum();
    // Of GLUE the largest is MNLI, and it is MNLI in the reference: it stands once, the others in
    // proportion. A larger task of one's own takes its place, or it would stand zero times.
    let largest = table.iter().map(|(_, size)| *size).max().unwrap_or(1);
    let scale = largest as f64 / (mass(largest, exponent) / total);

    let share = |size: usize| {
        let influence = mass(size, exponent) / total;
        let multiple = ((influence * scale + 0.01) / size as f64).round_ties_even();
        // From an exponent of about 1.137 on a small task comes to zero times. The reference would drop it and divide
        // its influence by zero, which leaves all other tasks the weight 0; here it stands once.
        let multiple = multiple.max(1.0);
        // The cast saturates.
        (multiple as usize, influence / (size as f64 * multiple))
    };
    let all: f64 = table.iter().map(|(_, size)| share(*size).1).sum();
    let of = |(name, rows): &(&str, usize)| {
        let size = table.iter().find(|(known, _)| known == name).map_or(*rows, |(_, size)| *size);
        let (multiple, ratio) = share(size);
        Share { multiple, weight: table.len() as f64 * ratio / all }
    };
    tasks.iter().map(of).collect()
}

/// Weights alone, from the real numbers of rows: the mean weight of a training row is 1, so that a
/// single task has the weight 1. A negative exponent turns weights off.
fn weighted(tasks: &[(&str, usize)], exponent: f64) -> Vec<Share> {
    let unweighted = Share { multiple: 1, weight: 1.0 };
    if exponent < 0.0 {
        return vec![unweighted; tasks.len()];
    }
    let sizes: Vec<f64> = tasks.iter().map(|(_, rows)| (*rows).max(1) as f64).collect();
    let total: f64 = sizes.iter().sum();
    let value = |size: &f64| size.powf(exponent - 1.0);
    let mean: f64 = sizes.iter().map(|size| value(size) * size / total).sum();
    sizes.iter().map(|size| Share { weight: value(size) / mean, ..unweighted }).collect()
}

fn mass(size: usize, exponent: f64) -> f64 {
    (size as f64).powf(exponent)
}

/// Optimizer steps for a set of `padded` places: whole batches of an epoch times the epochs, cut to a whole number.
pub fn train_steps(padded: usize, batch: usize, epochs: f64) -> usize {
    ((padded / batch) as f64 * epochs) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_glue(exponent: f64) -> Vec<(&'static str, Share)> {
        let shares = shares(&SIZES, exponent, true);
        SIZES.iter().map(|(name, _)| *name).zip(shares).collect()
    }

    #[test]
    fn multiples_and_weights_equal_the_reference_at_its_default_exponent() {
        let golden = [
            ("cola", 3, 0.863449242823272),
            ("mnli", 1, 0.9950536934235361),
            ("mrpc", 3, 0.8971730283474452),
            ("qnli", 1, 1.3726787864800079),
            ("qqp", 1, 1.0142056602893685),
            ("sst", 2, 0.7731246328669407),
            ("sts", 2, 1.202753758156886),
            ("rte", 4, 0.8815611976125434),
        ];
        for ((name, share), (golden_name, multiple, weight)) in of_glue(0.75).into_iter().zip(golden) {
            assert_eq!(name, golden_name);
            assert_eq!(share.multiple, multiple, "{name}");
            assert!((share.weight - weight).abs() < 1e-14, "{name}: {} and not {weight}", share.weight);
        }
    }

    #[test]
    fn sizes_after_repeating_and_shares_of_the_weighted_mass_equal_the_reference() {
        let golden = [
            (25_653, 0.020300),
            (392_702, 0.358128),
            (22_008, 0.018096),
            (108_436, 0.136418),
            (363_869, 0.338220),
            (134_698, 0.095442),
            (22_996, 0.025349),
            (9_960, 0.008047),
        ];
        let mass: Vec<(usize, f64)> = of_glue(0.75)
            .iter()
            .zip(SIZES)
            .map(|((_, share), (_, size))| (size * share.multiple, (size * share.multiple) as f64 * share.weight))
            .collect();
        let total: f64 = mass.iter().map(|(_, mass)| mass).sum();
        for ((size, mass), (golden_size, fraction)) in mass.into_iter().zip(golden) {
            assert_eq!(size, golden_size);
            assert!((mass / total - fraction).abs() < 5e-7, "{size}: {}", mass / total);
        }
    }

    #[test]
    fn multiples_at_other_exponents_equal_the_reference() {
        for (exponent, golden) in [(1.0, [1, 1, 1, 1, 1, 1, 1, 1]), (0.5, [7, 1, 7, 2, 1, 2, 6, 13])] {
            assert_eq!(
                of_glue(exponent).into_iter().map(|(_, s)| s.multiple).collect::<Vec<_>>(),
                golden,
                "{exponent}"
            );
        }
    }

    #[test]
    fn with_repeats_a_task_has_the_same_share_in_every_company_and_whatever_its_file_holds() {
        let all = shares(&SIZES, 0.75, true);
        assert_eq!(shares(&[("rte", 49), ("mrpc", 3_668)], 0.75, true), [all[7], all[2]]);
    }

    #[test]
    fn weights_without_repeats_equal_the_reference() {
        // (tasks and rows, their weights)
        type Case = (&'static [(&'static str, usize)], &'static [f64]);
        let cases: [Case; 4] = [
            (&[("rte", 2_490), ("mrpc", 7_336)], &[1.2146705056795957, 0.9271361015345974]),
            (&[("rte", 2_490), ("mnli", 392_702)], &[3.487871033357931, 0.98422519143508]),
            (&[("rte", 49), ("mrpc", 98)], &[1.1186546424737671, 0.9406726787631166]),
            (&[("rte", 2_490)], &[1.0]),
        ];
        for (tasks, golden) in cases {
            for (share, weight) in shares(tasks, 0.75, false).iter().zip(golden) {
                assert_eq!(share.multiple, 1);
                assert!((share.weight - weight).abs() < 1e-14, "{tasks:?}: {}", share.weight);
            }
        }
    }

    #[test]
    fn without_repeats_the_mean_weight_of_a_row_is_one_and_a_negative_exponent_turns_weights_off() {
        let tasks = [("a", 7), ("b", 1_000), ("c", 123_456)];
        for exponent in [0.0, 0.3, 0.75, 1.0] {
            let weighted: f64 =
                shares(&tasks, exponent, false).iter().zip(tasks).map(|(s, (_, n))| s.weight * n as f64).sum();
            assert!((weighted / 124_463.0 - 1.0).abs() < 1e-12);
        }
        assert!(shares(&tasks, -0.1, false).iter().all(|s| s.weight == 1.0));
    }

    #[test]
    fn at_any_exponent_every_task_stands_at_least_once_and_every_weight_is_a_positive_number() {
        let own = [("rte", 2_490), ("mnli", 392_702), ("tiny", 1), ("crawl", u32::MAX as usize)];
        let sound = |share: &Share| share.multiple >= 1 && share.weight.is_finite() && share.weight > 0.0;
        for exponent in [1.137, 1.5, 3.0, 10.0, 0.0, -1.0, -10.0, 1e6, -1e6] {
            for multiples in [true, false] {
                for tasks in [&SIZES[..], &SIZES[7..], &own] {
                    let shares = shares(tasks, exponent, multiples);
                    assert!(shares.iter().all(sound), "{exponent}, {multiples}: {shares:?}");
                }
            }
        }
        let multiples: Vec<usize> = of_glue(1.5).into_iter().map(|(_, share)| share.multiple).collect();
        assert_eq!(multiples, [1; 8]);
    }

    #[test]
    fn a_task_without_rows_spoils_no_weight() {
        for multiples in [true, false] {
            let shares = shares(&[("rte", 2_490), ("empty", 0)], 0.75, multiples);
            assert!(shares.iter().all(|share| share.weight.is_finite()), "{shares:?}");
        }
    }

    #[test]
    fn a_task_outside_the_table_joins_it_with_its_real_size() {
        let own = shares(&[("rte", 2_490), ("news", 2_490)], 0.75, true);
        assert_eq!(own[0], own[1]);
        assert_eq!(own[0].multiple, 4);
        // Larger than MNLI by far: it stands once, and RTE more often than in GLUE's company.
        let large = shares(&[("rte", 2_490), ("crawl", 40_000_000)], 0.75, true);
        assert_eq!(large[1].multiple, 1);
        assert_eq!(large[0].multiple, 11);
    }
}
