//! The task that predicts a number: STS-B, how alike two sentences are from 0 to 5.

use super::{Column::Right, Kind, Metric, Split, Task, glue_data, pair_layout};

/// STS-B. Columns count from the right, as in the reference, so it does not matter how many
/// descriptive columns stand before the texts.
pub(super) fn sts() -> Task {
    let labelled = |split, file: &str| pair_layout(split, file, [Right(2), Right(1)], Some(Right(0)));
    Task {
        name: "sts".into(),
        folder: glue_data("sts"),
        kind: Kind::Regression { min: 0.0, max: 5.0 },
        unordered: true,
        metrics: vec![Metric::Pearson, Metric::Spearman, Metric::Mse],
        layouts: vec![
            labelled(Split::Train, "train.tsv"),
            labelled(Split::Dev, "dev.tsv"),
            pair_layout(Split::Test, "test.tsv", [Right(1), Right(0)], None),
        ],
    }
}
