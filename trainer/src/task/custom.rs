//! A task of one's own: what its owner says of it, as a [`Task`].

use bam_crds::task::{Column as Said, DataFormat, TaskMetric};
use bam_crds::{CustomTask, TaskFiles};

use super::{Column, Kind, Layout, Metric, Split, Task};

/// The task. That `custom` has no [problems](CustomTask::problems) was looked at before.
pub(super) fn task(name: &str, custom: &CustomTask, files: &TaskFiles) -> Task {
    let layout = |split: Split, file: &String| Layout {
        split,
        file: file.clone(),
        format: custom.format,
        header: custom.header && custom.format != DataFormat::Jsonl,
        even: true,
        text_a: column(custom.format, &custom.text_a),
        text_b: custom.text_b.as_ref().map(|text| column(custom.format, text)),
        label: split.has_labels().then(|| column(custom.format, &custom.label)),
    };
    let test = files.test.iter().map(|file| layout(Split::Test, file));
    Task {
        name: name.to_owned(),
        folder: String::new(),
        kind: match &custom.range {
            Some(range) => Kind::Regression { min: range.min.0, max: range.max.0 },
            None => Kind::Classification { labels: custom.labels.clone() },
        },
        unordered: custom.unordered,
        metrics: metrics(custom.main_metric()),
        layouts: [layout(Split::Train, &files.train), layout(Split::Dev, &files.dev)].into_iter().chain(test).collect(),
    }
}

fn column(format: DataFormat, said: &Said) -> Column {
    match said.position().filter(|_| format != DataFormat::Jsonl) {
        None => Column::Named { name: said.0.clone(), index: None },
        Some(position) if position < 0 => Column::Right(position.unsigned_abs() as usize - 1),
        Some(position) => Column::Left(position.unsigned_abs() as usize),
    }
}

/// The one that the task is judged by, and those that belong to it.
fn metrics(main: TaskMetric) -> Vec<Metric> {
    match main {
        TaskMetric::Accuracy => vec![Metric::Accuracy],
        TaskMetric::F1 => vec![Metric::F1, Metric::Accuracy],
        TaskMetric::Matthews => vec![Metric::Mcc, Metric::Accuracy],
        TaskMetric::Pearson => vec![Metric::Pearson, Metric::Spearman, Metric::Mse],
        TaskMetric::Spearman => vec![Metric::Spearman, Metric::Pearson, Metric::Mse],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(custom: &str) -> Task {
        let files = TaskFiles { train: "a/train".into(), dev: "a/dev".into(), test: Some("b/test".into()) };
        task("own", &serde_json::from_str(custom).unwrap(), &files)
    }

    #[test]
    fn names_and_positions_become_columns() {
        let named = |name: &str| Column::Named { name: name.into(), index: None };
        let pair = of(r#"{"format": "CSV", "textA": 0, "textB": "other", "label": -1, "labels": ["no", "yes"]}"#);
        let [train, dev, test] =
            [Split::Train, Split::Dev, Split::Test].map(|split| pair.layout(split).unwrap().clone());
        assert_eq!((&train.text_a, &train.text_b), (&Column::Left(0), &Some(named("other"))));
        assert_eq!(train.label, Some(Column::Right(0)));
        assert_eq!((dev.file.as_str(), dev.header, test.label), ("a/dev", true, None));
        assert_eq!(pair.file(Split::Test), "b/test");
        // In JSON also a name of digits is a name.
        let json = of(r#"{"format": "JSONL", "textA": 0, "label": "1", "range": {"min": -1, "max": "1"}}"#);
        let train = json.layout(Split::Train).unwrap();
        assert_eq!((&train.text_a, &train.label, train.header), (&named("0"), &Some(named("1")), false));
    }

    #[test]
    fn the_metric_that_was_asked_for_is_the_main_one() {
        let answers = r#""format": "TSV", "textA": 0, "label": 1, "labels": ["no", "yes"]"#;
        for (metric, all) in [
            ("Accuracy", &[Metric::Accuracy][..]),
            ("F1", &[Metric::F1, Metric::Accuracy]),
            ("Matthews", &[Metric::Mcc, Metric::Accuracy]),
        ] {
            assert_eq!(of(&format!(r#"{{{answers}, "metric": "{metric}"}}"#)).metrics, all);
        }
        let scores = r#""format": "TSV", "textA": 0, "label": 1, "range": {"min": 1, "max": 5}"#;
        assert_eq!(of(&format!("{{{scores}}}")).main_metric(), Metric::Pearson);
        assert_eq!(of(&format!(r#"{{{scores}, "metric": "Spearman"}}"#)).main_metric(), Metric::Spearman);
    }

    #[test]
    fn scores_of_any_range_are_learned_from_0_to_1() {
        for (range, score, target) in
            [("-1, \"max\": 1", 0.0, 0.5), ("1, \"max\": 5", 1.0, 0.0), ("-2, \"max\": 0", 0.0, 1.0)]
        {
            let task = of(&format!(r#"{{"format": "TSV", "textA": 0, "label": 1, "range": {{"min": {range}}}}}"#));
            assert_eq!(task.target(score), Some(target), "{range}");
        }
    }
}
