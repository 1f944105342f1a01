//! How many optimizer steps a training will take, told from its options and the rows of its data.
//!
//! An estimate for plans and for the progress of an experiment. The trainer's own count is the one that holds.

use std::collections::BTreeMap;

use bam_crds::Science;
use bam_crds::config::TaskInputs;
use bam_crds::shares::{shares, train_steps};

/// What `debug` leaves of a file: 50 lines, most often with a header.
const DEBUG_ROWS: u32 = 49;

/// The steps of a training on these files; none if a file's rows are not known.
pub(super) fn of(science: &Science, inputs: &BTreeMap<String, TaskInputs>) -> Option<u64> {
    let options = &science.hyperparameters;
    let rows = |inputs: &TaskInputs| {
        let own = if options.debug { inputs.train_rows.min(DEBUG_ROWS) } else { inputs.train_rows };
        // A fold may have one row more.
        let own = own - science.fold.map_or(0, |fold| own / fold.of.max(1));
        own as usize * if options.double_unordered && inputs.unordered { 2 } else { 1 }
    };
    let sizes = science.tasks.iter().map(|task| Some((task.name.as_str(), rows(inputs.get(&task.name)?))));
    let sizes = sizes.collect::<Option<Vec<_>>>()?;
    let shares = shares(&sizes, options.task_weight_exponent, options.dataset_multiples);
    // In floating point: an exponent far below 0 asks for more places than there are numbers, and the trainer refuses it.
    let places: f64 = sizes.iter().zip(&shares).map(|((_, rows), share)| *rows as f64 * share.multiple as f64).sum();
    let batch = options.train_batch_size.max(1) as usize;
    let padded = ((places / batch as f64).ceil() as usize).saturating_mul(batch);
    Some(train_steps(padded, batch, options.num_train_epochs) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_crds::config::{Fold, ModelIdentity, TaskIdentity};
    use bam_crds::{Digest, HyperparameterOverrides};

    fn steps(tasks: &[(&str, u32)]) -> Option<u64> {
        steps_without(None, tasks)
    }

    fn steps_without(fold: Option<Fold>, tasks: &[(&str, u32)]) -> Option<u64> {
        let digest = Digest::of_bytes(b"");
        let files = |name: &str, rows| TaskInputs {
            train: digest.clone(),
            train_rows: rows,
            unordered: ["mrpc", "sts"].contains(&name),
            dev: digest.clone(),
            dev_rows: 1,
            targets: Default::default(),
        };
        let identity = |name: &str| TaskIdentity {
            name: name.to_owned(),
            custom: None,
            train: digest.clone(),
            dev: digest.clone(),
            teachers: Vec::new(),
            target_files: Vec::new(),
        };
        let science = Science {
            semantics_version: 1,
            model: ModelIdentity { config: digest.clone(), vocabulary: digest.clone(), weights: None },
            tasks: tasks.iter().map(|(name, _)| identity(name)).collect(),
            hyperparameters: HyperparameterOverrides::default().resolve(tasks.len()),
            distillation: Default::default(),
            seed: 1,
            precision: Default::default(),
            fold,
        };
        of(&science, &tasks.iter().map(|(name, rows)| ((*name).to_owned(), files(name, *rows))).collect())
    }

    #[test]
    fn steps_equal_the_reference() {
        assert_eq!(steps(&[("rte", 2490)]), Some(234));
        assert_eq!(steps(&[("mrpc", 3668)]), Some(690));
        assert_eq!(steps(&[("sts", 5749)]), Some(1080));
        assert_eq!(steps(&[("mnli", 392_702)]), Some(36_816));
        assert_eq!(steps(&[("rte", 2490), ("mrpc", 3668)]), Some(1500));
    }

    #[test]
    fn a_training_without_a_fold_has_the_steps_of_the_rows_that_are_left() {
        let fold = |index| Some(Fold { index, of: 3 });
        for index in 0..3 {
            assert_eq!(steps_without(fold(index), &[("rte", 98)]), steps(&[("rte", 66)]), "fold {index}");
            assert_eq!(steps_without(fold(index), &[("mrpc", 99)]), steps(&[("mrpc", 66)]), "fold {index}");
        }
    }
}
