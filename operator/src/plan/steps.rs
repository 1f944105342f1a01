//! How many optimizer steps a training will take, told from its options and the rows of its data.
//!
//! An estimate for plans and for the progress of an experiment. The trainer's own count is the one that holds.

use std::collections::BTreeMap;

use bam_crds::config::TaskInputs;
use bam_crds::{Hyperparameters, Science};

/// Training rows as the reference has them written down: its repeats of small tasks follow from these, not from the
/// files.
const SIZES: [(&str, f64); 8] = [
    ("cola", 8_551.0),
    ("mnli", 392_702.0),
    ("mrpc", 7_336.0),
    ("qnli", 108_436.0),
    ("qqp", 363_869.0),
    ("rte", 2_490.0),
    ("sst", 67_349.0),
    ("sts", 11_498.0),
];
/// What `debug` leaves of a file: 50 lines, most often with a header.
const DEBUG_ROWS: u64 = 49;
/// The largest of them, which stands once.
const LARGEST: f64 = 392_702.0;
/// Tasks whose rows are added again with their sentences swapped (`doubleUnordered`).
const UNORDERED: [&str; 2] = ["mrpc", "sts"];

/// The steps of a training on these files; none if a file's rows are not known.
pub(super) fn of(science: &Science, inputs: &BTreeMap<String, TaskInputs>) -> Option<u64> {
    let options = &science.hyperparameters;
    let rows = science
        .tasks
        .iter()
        .map(|task| {
            let rows = u64::from(inputs.get(&task.name)?.train_rows);
            let own = if options.debug { rows.min(DEBUG_ROWS) } else { rows };
            let copies = if options.double_unordered && UNORDERED.contains(&task.name.as_str()) { 2 } else { 1 };
            Some(own * copies * multiple(&task.name, options))
        })
        .sum::<Option<u64>>()?;
    let per_epoch = rows.div_ceil(u64::from(options.train_batch_size).max(1));
    Some((per_epoch as f64 * options.num_train_epochs) as u64)
}

fn multiple(task: &str, options: &Hyperparameters) -> u64 {
    let size = SIZES.iter().find(|(name, _)| *name == task);
    match size {
        Some((_, size)) if options.dataset_multiples => {
            let influence = LARGEST * (size / LARGEST).powf(options.task_weight_exponent);
            ((influence + 0.01) / size).round_ties_even() as u64
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_crds::config::{ModelIdentity, TaskIdentity};
    use bam_crds::{Digest, HyperparameterOverrides};

    fn steps(tasks: &[(&str, u32)]) -> Option<u64> {
        let digest = Digest::of_bytes(b"");
        let files = |rows| TaskInputs { train: digest.clone(), train_rows: rows, dev: digest.clone(), dev_rows: 1 };
        let identity = |name: &str| TaskIdentity {
            name: name.to_owned(),
            train: digest.clone(),
            dev: digest.clone(),
            teachers: Vec::new(),
        };
        let science = Science {
            semantics_version: 1,
            model: ModelIdentity { config: digest.clone(), vocabulary: digest.clone(), weights: None },
            tasks: tasks.iter().map(|(name, _)| identity(name)).collect(),
            hyperparameters: HyperparameterOverrides::default().resolve(tasks.len()),
            distillation: Default::default(),
            seed: 1,
            precision: Default::default(),
        };
        of(&science, &tasks.iter().map(|(name, rows)| ((*name).to_owned(), files(*rows))).collect())
    }

    #[test]
    fn steps_equal_the_reference() {
        assert_eq!(steps(&[("rte", 2490)]), Some(234));
        assert_eq!(steps(&[("mrpc", 3668)]), Some(690));
        assert_eq!(steps(&[("sts", 5749)]), Some(1080));
        assert_eq!(steps(&[("mnli", 392_702)]), Some(36_816));
        assert_eq!(steps(&[("rte", 2490), ("mrpc", 3668)]), Some(1500));
    }
}
