//! Tasks about two sentences with a class: MNLI, MRPC, QNLI, QQP, RTE and WNLI.

use super::{Column::Left, Column::Right, Metric, Split, Task, classification, glue_data, pair_layout};

/// Labels of MNLI, in the reference's (alphabetical) order.
const NLI: [&str; 3] = ["contradiction", "entailment", "neutral"];
/// Labels of QNLI and RTE.
const ENTAILMENT: [&str; 2] = ["entailment", "not_entailment"];
/// Labels of MRPC and QQP.
const PARAPHRASE: [&str; 2] = ["0", "1"];

/// MNLI, MRPC, QNLI, QQP, RTE and WNLI.
pub(super) fn tasks() -> Vec<Task> {
    // MRPC and QQP report F1 too: GLUE does, and the reference's own F1 scorer is wrong and unused.
    let f1 = [Metric::Accuracy, Metric::F1];
    vec![
        mnli(),
        task("mrpc", &PARAPHRASE, &f1, [3, 4, 0], [3, 4]),
        task("qnli", &ENTAILMENT, &[Metric::Accuracy], [1, 2, 3], [1, 2]),
        task("qqp", &PARAPHRASE, &f1, [3, 4, 5], [1, 2]),
        task("rte", &ENTAILMENT, &[Metric::Accuracy], [1, 2, 3], [1, 2]),
        // The reference and the paper leave it out: its dev set contradicts its training set.
        task("wnli", &["0", "1"], &[Metric::Accuracy], [1, 2, 3], [1, 2]),
    ]
}

/// Train and dev hold text a, text b and label in the columns `labelled`, test the texts in `test`.
fn task(name: &str, labels: &[&str], metrics: &[Metric], labelled: [usize; 3], test: [usize; 2]) -> Task {
    let labelled = |split, file: &str| {
        let [a, b, label] = labelled.map(Left);
        pair_layout(split, file, [a, b], Some(label))
    };
    Task {
        name: name.into(),
        folder: glue_data(name),
        kind: classification(labels),
        // Saying A after B is the same as B after A; the reference leaves QQP out.
        unordered: name == "mrpc",
        metrics: metrics.to_vec(),
        layouts: vec![
            labelled(Split::Train, "train.tsv"),
            labelled(Split::Dev, "dev.tsv"),
            pair_layout(Split::Test, "test.tsv", test.map(Left), None),
        ],
    }
}

/// MNLI is judged by the matched dev set, as in the reference. It answers GLUE's diagnostic set as well, whose gold labels
/// come in another file with other columns.
fn mnli() -> Task {
    let labelled = |split, file: &str| {
        // The gold label is the last column; single annotators' labels may stand before it.
        pair_layout(split, file, [Left(8), Left(9)], Some(Right(0)))
    };
    let unlabelled = |split, file: &str| pair_layout(split, file, [Left(8), Left(9)], None);
    Task {
        name: "mnli".into(),
        folder: glue_data("mnli"),
        kind: classification(&NLI),
        unordered: false,
        metrics: vec![Metric::Accuracy],
        layouts: vec![
            labelled(Split::Train, "train.tsv"),
            labelled(Split::Dev, "dev_matched.tsv"),
            labelled(Split::DevMismatched, "dev_mismatched.tsv"),
            pair_layout(Split::DiagnosticGold, "diagnostic-full.tsv", [Left(5), Left(6)], Some(Left(7))),
            unlabelled(Split::TestMatched, "test_matched.tsv"),
            unlabelled(Split::TestMismatched, "test_mismatched.tsv"),
            pair_layout(Split::Diagnostic, "diagnostic.tsv", [Left(1), Left(2)], None),
        ],
    }
}
