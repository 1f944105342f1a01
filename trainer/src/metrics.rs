//! Scores of a split. As in the reference's reports, all but `mse` are percentages. A score that is
//! undefined for the rows at hand (the correlation of a constant, anything of no rows) is `None`,
//! never NaN; Matthews' is 0 there, as in scikit-learn.

use crate::data::rows::Label;
use crate::task::{Metric, Task};

/// The scores of a task on its dev split in the reference's order, without its loss. `logits` is
/// [rows, outputs], row by row; `labels` are the rows' gold labels.
///
/// # Panics
/// If there are not as many rows of logits as labels, or a label is of another kind than the task.
pub fn evaluate(task: &Task, logits: &[f32], labels: &[Label]) -> Vec<(&'static str, Option<f64>)> {
    evaluate_by(task, &task.metrics, logits, labels)
}

/// The same by other metrics than those of the dev split.
///
/// # Panics
/// As [`evaluate`].
pub fn evaluate_by(
    task: &Task,
    metrics: &[Metric],
    logits: &[f32],
    labels: &[Label],
) -> Vec<(&'static str, Option<f64>)> {
    let outputs = task.outputs();
    assert_eq!(logits.len(), labels.len() * outputs, "a row of logits for every label");
    if task.is_regression() {
        let golds: Vec<f32> = labels.iter().map(|label| score_of(*label)).collect();
        return metrics.iter().map(|m| (m.name(), of_scores(*m, logits, &golds))).collect();
    }
    let golds = classes_of(labels);
    let predictions: Vec<usize> = logits.chunks_exact(outputs).map(argmax).collect();
    metrics.iter().map(|m| (m.name(), of_classes(*m, &predictions, &golds))).collect()
}

/// The main metric on the dev rows of always answering the training rows' most frequent class (of
/// several, the first): a run that does not beat it has learned nothing. 0 for Matthews, `None`
/// for a regression or without rows.
pub fn majority_baseline(task: &Task, dev: &[Label], train: &[Label]) -> Option<f64> {
    if task.is_regression() || train.is_empty() {
        return None;
    }
    let mut counts = vec![0.0_f32; task.outputs()];
    for class in classes_of(train) {
        counts[class] += 1.0;
    }
    let golds = classes_of(dev);
    of_classes(task.main_metric(), &vec![argmax(&counts); golds.len()], &golds)
}

/// Position of the largest logit; of several, the first.
pub fn argmax(logits: &[f32]) -> usize {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, better)
}

/// A metric of predicted and gold classes; `None` for one that is about numbers.
pub fn of_classes(metric: Metric, predictions: &[usize], golds: &[usize]) -> Option<f64> {
    if golds.is_empty() {
        return None;
    }
    let fraction = match metric {
        Metric::Accuracy => accuracy(predictions, golds),
        Metric::F1 => f1(predictions, golds),
        Metric::Mcc => mcc(predictions, golds),
        Metric::Pearson | Metric::Spearman | Metric::Mse => return None,
    };
    Some(100.0 * fraction)
}

/// A metric of predicted and gold numbers; `None` for one that is about classes.
pub fn of_scores(metric: Metric, predictions: &[f32], golds: &[f32]) -> Option<f64> {
    let [x, y] = [predictions, golds].map(|v| v.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
    match metric {
        Metric::Pearson => correlation(&x, &y).map(|r| 100.0 * r),
        Metric::Spearman => correlation(&ranks(&x)?, &ranks(&y)?).map(|r| 100.0 * r),
        Metric::Mse => {
            let sum: f64 = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum();
            Some(sum / x.len() as f64).filter(|mse| mse.is_finite())
        }
        Metric::Accuracy | Metric::F1 | Metric::Mcc => None,
    }
}

fn accuracy(predictions: &[usize], golds: &[usize]) -> f64 {
    let right = predictions.iter().zip(golds).filter(|(p, g)| p == g).count();
    right as f64 / golds.len() as f64
}

/// 2 TP / (2 TP + FP + FN) of class 1; 0 if it is neither predicted nor there.
fn f1(predictions: &[usize], golds: &[usize]) -> f64 {
    let positives = |classes: &[usize]| classes.iter().filter(|c| **c == 1).count();
    let both = predictions.iter().zip(golds).filter(|(p, g)| **p == 1 && **g == 1).count();
    match positives(predictions) + positives(golds) {
        0 => 0.0,
        either => 2.0 * both as f64 / either as f64,
    }
}

/// Matthews correlation for any number of classes: the covariance of predictions and golds as
/// one-hot vectors over their deviations; 0 if one of them is constant.
fn mcc(predictions: &[usize], golds: &[usize]) -> f64 {
    let classes = predictions.iter().chain(golds).max().map_or(0, |c| c + 1);
    let count = |of: &[usize]| {
        let mut counts = vec![0.0; classes];
        of.iter().for_each(|class| counts[*class] += 1.0);
        counts
    };
    let (p, g) = (count(predictions), count(golds));
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let rows = golds.len() as f64;
    let right = accuracy(predictions, golds) * rows;
    let covariance = right * rows - dot(&p, &g);
    let spread = (rows * rows - dot(&p, &p)) * (rows * rows - dot(&g, &g));
    if spread > 0.0 { covariance / spread.sqrt() } else { 0.0 }
}

/// Pearson's correlation, of two rows at least and neither side constant.
fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let constant = |v: &[f64]| v.iter().all(|a| *a == v[0]);
    if x.len() < 2 || constant(x) || constant(y) {
        return None;
    }
    let [dx, dy] = [x, y].map(|v| {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        v.iter().map(|a| a - mean).collect::<Vec<f64>>()
    });
    let norm = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let product: f64 = dx.iter().zip(&dy).map(|(a, b)| a * b).sum();
    let r = product / (norm(&dx) * norm(&dy));
    // Rounding may carry a perfect correlation past 1.
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Ranks from 1; equal values share the mean of their ranks. `None` if one is not a number.
fn ranks(values: &[f64]) -> Option<Vec<f64>> {
    if values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    // `chunk_by` compares with ==, so that 0 and -0 are one value.
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = start as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|i| ranks[*i] = mean);
        start += equal.len();
    }
    Some(ranks)
}

fn classes_of(labels: &[Label]) -> Vec<usize> {
    let class = |label: &Label| match label {
        Label::Class(class) => usize::from(*class),
        other => panic!("{other:?} is not the label of a classification"),
    };
    labels.iter().map(class).collect()
}

fn score_of(label: Label) -> f32 {
    match label {
        Label::Score(score) => score,
        other => panic!("{other:?} is not the label of a regression"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::find;

    fn classes(of: &[u16]) -> Vec<Label> {
        of.iter().map(|c| Label::Class(*c)).collect()
    }

    #[test]
    fn each_task_reports_its_metrics_in_the_references_order() {
        for (name, metrics) in [
            ("cola", vec!["mcc"]),
            ("mnli", vec!["accuracy"]),
            ("mrpc", vec!["accuracy", "f1"]),
            ("qnli", vec!["accuracy"]),
            ("qqp", vec!["accuracy", "f1"]),
            ("rte", vec!["accuracy"]),
            ("sst", vec!["accuracy"]),
            ("sts", vec!["pearson", "spearman", "mse"]),
            ("wnli", vec!["accuracy"]),
        ] {
            let reported = evaluate(find(name).unwrap(), &[], &[]);
            assert_eq!(reported, metrics.into_iter().map(|m| (m, None)).collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn a_small_paraphrase_split_by_hand() {
        // Predictions 1 1 0 0 (a tie goes to class 0) against 1 0 1 0: TP 1, FP 1, FN 1.
        let logits = [0.0, 1.0, -1.0, 3.0, 2.0, 1.0, 0.5, 0.5];
        let scores = evaluate(find("mrpc").unwrap(), &logits, &classes(&[1, 0, 1, 0]));
        assert_eq!(scores, [("accuracy", Some(50.0)), ("f1", Some(50.0))]);
    }

    #[test]
    fn a_small_similarity_split_by_hand() {
        let labels = [0.0, 0.2, 1.0].map(Label::Score);
        let scores = evaluate(find("sts").unwrap(), &[0.1, 0.3, 1.1], &labels);
        let expected = [("pearson", 100.0), ("spearman", 100.0), ("mse", 0.01)];
        for ((name, score), (expected_name, expected)) in scores.into_iter().zip(expected) {
            assert_eq!(name, expected_name);
            assert!((score.unwrap() - expected).abs() < 1e-5, "{name}");
        }
    }

    #[test]
    fn a_prediction_that_is_not_finite_has_no_score() {
        let labels = [0.0, 0.2, 1.0].map(Label::Score);
        for bad in [f32::NAN, f32::INFINITY] {
            let scores = evaluate(find("sts").unwrap(), &[0.1, bad, 0.4], &labels);
            assert_eq!(scores[0], ("pearson", None));
            assert_eq!(scores[2], ("mse", None));
            assert!(scores.iter().all(|(_, score)| score.is_none_or(f64::is_finite)));
        }
    }

    #[test]
    fn the_baseline_answers_the_training_sets_majority() {
        let (cola, rte, sts) = (find("cola").unwrap(), find("rte").unwrap(), find("sts").unwrap());
        let (dev, train) = (classes(&[0, 1, 1, 1]), classes(&[0, 0, 1]));
        assert_eq!(majority_baseline(rte, &dev, &train), Some(25.0));
        assert_eq!(majority_baseline(rte, &dev, &classes(&[1, 0])), Some(25.0), "the first of two equal classes");
        assert_eq!(majority_baseline(cola, &dev, &train), Some(0.0));
        assert_eq!(majority_baseline(rte, &dev, &[]), None);
        assert_eq!(majority_baseline(sts, &[Label::Score(0.5)], &[Label::Score(0.5)]), None);
    }
}
