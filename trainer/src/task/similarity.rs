//! The task that predicts a number: STS-B, how alike two sentences are from 0 to 5.

use super::{Column, Column::Right, Kind, Layout, Metric, Split, Task};

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
            layout(Split::Train, "train.tsv", labelled, Some(Right(0))),
            layout(Split::Dev, "dev.tsv", labelled, Some(Right(0))),
            layout(Split::Test, "test.tsv", [Right(1), Right(0)], None),
        ],
    }
}

fn layout(split: Split, file: &str, [text_a, text_b]: [Column; 2], label: Option<Column>) -> Layout {
    Layout { split, file: file.into(), header: true, text_a, text_b: Some(text_b), label }
}
