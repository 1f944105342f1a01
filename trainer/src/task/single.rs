//! Tasks about one sentence: CoLA (is it grammatical?) and SST-2 (is it positive?).

use super::{Column::Left, Layout, Metric, Split, Task, classification};

/// CoLA and SST-2.
pub(super) fn tasks() -> Vec<Task> {
    vec![
        // CoLA's labelled files are the only ones of GLUE without a header.
        task("cola", Metric::Mcc, (Left(3), Left(1)), false),
        task("sst", Metric::Accuracy, (Left(0), Left(1)), true),
    ]
}

/// `labelled` = (text, label) of the train and dev files; test files are `index, sentence`.
fn task(name: &str, metric: Metric, labelled: (super::Column, super::Column), header: bool) -> Task {
    let labelled = |split, file: &str| Layout {
        split,
        file: file.into(),
        header,
        text_a: labelled.0,
        text_b: None,
        label: Some(labelled.1),
    };
    let test = Layout {
        split: Split::Test,
        file: "test.tsv".into(),
        header: true,
        text_a: Left(1),
        text_b: None,
        label: None,
    };
    Task {
        name: name.into(),
        kind: classification(&["0", "1"]),
        unordered: false,
        metrics: vec![metric],
        layouts: vec![labelled(Split::Train, "train.tsv"), labelled(Split::Dev, "dev.tsv"), test],
    }
}
