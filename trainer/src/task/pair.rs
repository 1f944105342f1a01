//! Tasks about two sentences with a class: MNLI, MRPC, QNLI, QQP and RTE.

use super::{Column::Left, Column::Right, Metric, Split, Task, classification, pair_layout};

/// Labels of MNLI, in the reference's (alphabetical) order.
const NLI: [&str; 3] = ["contradiction", "entailment", "neutral"];
/// Labels of QNLI and RTE.
const ENTAILMENT: [&str; 2] = ["entailment", "not_entailment"];
/// Labels of MRPC and QQP.
const PARAPHRASE: [&str; 2] = ["0", "1"];

/// MNLI, MRPC, QNLI, QQP and RTE.
pub(super) fn tasks() -> Vec<Task> {
    // MRPC and QQP report F1 too: GLUE does, and the reference's own F1 scorer is wrong and unused.
    let f1 = [Metric::Accuracy, Metric::F1];
    vec![
        mnli(),
        task("mrpc", &PARAPHRASE, &f1, [3, 4, 0], [3, 4]),
        task("qnli", &ENTAILMENT, &[Metric::Accuracy], [1, 2, 3], [1, 2]),
        task("qqp", &PARAPHRASE, &f1, [3, 4, 5], [1, 2]),
        task("rte", &ENTAILMENT, &[Metric::Accuracy], [1, 2, 3], [1, 2]),
    ]
}

/// Train and dev hold text a, text b and label in the columns `labelled`, test the texts in `test`.
fn task(name: &str, labels: &[&str], metrics: &[Metric], labelled: [usize; 3], test: [usize; 2]) -> Task {
    let [a, b, label] = labelled.map(Left);
    Task {
        name: name.into(),
        kind: classification(labels),
        // Saying A after B is the same as B after A; the reference leaves QQP out.
        unordered: name == "mrpc",
        metrics: metrics.to_vec(),
        layouts: vec![
            pair_layout(Split::Train, "train.tsv", [a, b], Some(label)),
            pair_layout(Split::Dev, "dev.tsv", [a, b], Some(label)),
            pair_layout(Split::Test, "test.tsv", test.map(Left), None),
        ],
    }
}

/// MNLI measures on the matched dev set only, and answers GLUE's diagnostic set as well.
fn mnli() -> Task {
    let texts = [Left(8), Left(9)];
    // The gold label is the last column; single annotators' labels may stand before it.
    let gold = Some(Right(0));
    Task {
        name: "mnli".into(),
        kind: classification(&NLI),
        unordered: false,
        metrics: vec![Metric::Accuracy],
        layouts: vec![
            pair_layout(Split::Train, "train.tsv", texts, gold),
            pair_layout(Split::Dev, "dev_matched.tsv", texts, gold),
            pair_layout(Split::TestMatched, "test_matched.tsv", texts, None),
            pair_layout(Split::TestMismatched, "test_mismatched.tsv", texts, None),
            pair_layout(Split::Diagnostic, "diagnostic.tsv", [Left(1), Left(2)], None),
        ],
    }
}
