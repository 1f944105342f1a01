//! The task that predicts a number: STS-B, how alike two sentences are from 0 to 5.

use super::{Column::Right, Kind, Metric, Split, Task, pair_layout};

/// STS-B. Columns count from the right, as in the reference, so it does not matter how many
/// descriptive columns stand before the texts.
pub(super) fn sts() -> Task {
    let labelled = [Right(2), Right(1)];
    Task {
        name: "sts".into(),
        kind: Kind::Regression { min: 0.0, max: 5.0 },
        unordered: true,
        metrics: vec![Metric::Pearson, Metric::Spearman, Metric::Mse],
        layouts: vec![
            pair_layout(Split::Train, "train.tsv", labelled, Some(Right(0))),
            pair_layout(Split::Dev, "dev.tsv", labelled, Some(Right(0))),
            pair_layout(Split::Test, "test.tsv", [Right(1), Right(0)], None),
        ],
    }
}
