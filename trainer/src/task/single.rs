//! Tasks about one sentence: CoLA (is it grammatical?) and SST-2 (is it positive?).

use super::{Column::Left, Layout, Metric, Split, Task, classification, glue_data, glue_layout};

/// CoLA and SST-2.
pub(super) fn tasks() -> Vec<Task> {
    vec![
        // CoLA's labelled files are the only ones of GLUE without a header.
        task("cola", Metric::Mcc, (3, 1), false),
        task("sst", Metric::Accuracy, (0, 1), true),
    ]
}

/// `labelled` = (text, label) of the train and dev files; test files are `index, sentence`.
fn task(name: &str, metric: Metric, labelled: (usize, usize), header: bool) -> Task {
    let labelled =
        |split, file: &str| Layout { header, ..glue_layout(split, file, Left(labelled.0), Some(Left(labelled.1))) };
    let test = glue_layout(Split::Test, "test.tsv", Left(1), None);
    Task {
        name: name.into(),
        folder: glue_data(name),
        kind: classification(&["0", "1"]),
        unordered: false,
        metrics: vec![metric],
        layouts: vec![labelled(Split::Train, "train.tsv"), labelled(Split::Dev, "dev.tsv"), test],
    }
}
