use std::collections::BTreeMap;

use bam_crds::config::{InputsReport, ModelIdentity, TaskInputs};
use bam_crds::report::TaskResult;
use bam_crds::{Digest, ExitReason};
use proptest::prelude::*;

use super::*;
use crate::task;

fn parsed(report: &RunReport) -> RunReport {
    let message = message(report);
    assert!(message.len() <= LONGEST, "{} bytes", message.len());
    serde_json::from_slice(&message).unwrap()
}

fn digest(of: &str) -> Digest {
    Digest::of_bytes(of.as_bytes())
}

/// What a check finds of tasks whose files have as many rows as numbers have digits.
fn inputs(tasks: &[&str]) -> InputsReport {
    let model =
        ModelIdentity { config: digest("config"), vocabulary: digest("words"), weights: Some(digest("weights")) };
    let task = |name: &&str| {
        let (train, dev) = (digest(name), digest(&format!("{name} dev")));
        (
            (*name).to_owned(),
            TaskInputs {
                train,
                train_rows: u32::MAX,
                unordered: true,
                dev,
                dev_rows: u32::MAX,
                targets: Default::default(),
            },
        )
    };
    InputsReport { model, tasks: tasks.iter().map(task).collect() }
}

fn results(tasks: &[&str]) -> Vec<TaskResult> {
    let result = |name: &&str| TaskResult {
        task: (*name).to_owned(),
        main_metric: "pearson".to_owned(),
        metrics: ["loss", "mse", "pearson", "spearman"].map(|name| (name.to_owned(), 100.0 / 7.0)).into(),
        majority: Some(100.0 / 3.0),
        rows: u32::MAX,
    };
    tasks.iter().map(result).collect()
}

fn ended(reason: ExitReason) -> RunReport {
    let steps = u64::from(u32::MAX);
    RunReport {
        science_hash: Some(digest("science")),
        total_steps: steps,
        saved_steps: steps,
        resumed_from: steps,
        skipped_steps: steps,
        seconds: 1e6 / 7.0,
        ..RunReport::new(reason, "")
    }
}

#[test]
fn what_all_tasks_of_glue_report_is_not_shortened() {
    let names = task::names();
    assert_eq!(names.len(), 9);
    let checked = RunReport { inputs: Some(inputs(&names)), ..RunReport::new(ExitReason::Completed, "") };
    let trained = RunReport { results: results(&names), ..ended(ExitReason::Completed) };
    for report in [checked, trained] {
        assert_eq!(parsed(&report), report);
    }
}

#[test]
fn a_sentence_that_is_too_long_loses_its_end_and_but_for_the_log_nothing_else_is_lost() {
    for unit in ["x", "ß", "🦀", "\n", "\u{1}", "\"quoted\" "] {
        let report = RunReport {
            message: unit.repeat(5000),
            log: vec!["a line".to_owned()],
            missing: vec![digest("a")],
            changed: vec![digest("b")],
            results: results(&["rte"]),
            ..ended(ExitReason::BadData)
        };
        let short = parsed(&report);
        let kept = short.message.strip_suffix('…').unwrap();
        assert!(report.message.starts_with(kept) && kept.len() > 400, "{unit:?}: {} bytes", kept.len());
        assert!(message(&report).len() > LONGEST - 12, "{unit:?}: there was room for more");
        assert_eq!(short.log, Vec::<String>::new());
        assert_eq!(RunReport { message: report.message.clone(), log: report.log.clone(), ..short }, report);
    }
}

#[test]
fn then_metrics_go_then_scores_then_teachers() {
    let many: Vec<String> = (0..20).map(|number| format!("task-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let only_main = parsed(&RunReport { results: results(&many), ..ended(ExitReason::Completed) });
    assert_eq!(only_main.results.len(), 20);
    assert!(only_main.results.iter().all(|result| result.metrics.keys().eq(["pearson"])));

    let hashes = |many: usize| (0..many).map(|number| digest(&number.to_string())).collect::<Vec<_>>();
    let report = RunReport { results: results(&many), missing: hashes(50), ..ended(ExitReason::MissingInput) };
    let no_scores = parsed(&report);
    assert_eq!((no_scores.results.len(), &no_scores.missing), (0, &report.missing));

    let report = RunReport { missing: hashes(300), inputs: Some(inputs(&["rte"])), ..report };
    let fewer = parsed(&report);
    assert_eq!(fewer.missing, report.missing[..TEACHERS]);
    assert_eq!(fewer.inputs, report.inputs);
}

prop_compose! {
    fn any_result()(
        task in ".{0,80}",
        metrics in prop::collection::btree_map(".{0,20}", (0u32..800).prop_map(|eighths| f64::from(eighths) / 8.0), 0..6),
        majority in prop::option::of((0u32..800).prop_map(|eighths| f64::from(eighths) / 8.0)),
        rows: u32,
    ) -> TaskResult {
        let main_metric = metrics.keys().next().cloned().unwrap_or_default();
        TaskResult { task, main_metric, metrics, majority, rows }
    }
}

prop_compose! {
    fn any_report()(
        reason in prop::sample::select(&ExitReason::ALL[..]),
        message in prop_oneof!["(?s).{0,200}", "(?s).{0,9000}", "[\u{0}-\u{1f}\"\\\\]{0,3000}"],
        numbers: [u64; 4],
        seconds in (0u32..u32::MAX).prop_map(|eighths| f64::from(eighths) / 8.0),
        results in prop::collection::vec(any_result(), 0..40),
        teachers in prop::collection::vec(any::<u64>(), 0..200),
        missing in 0usize..200,
        tasks in prop::option::of(prop::collection::vec("[a-z]{1,63}", 0..33)),
        log in prop::collection::vec(".{0,80}", 0..10),
    ) -> RunReport {
        let mut teachers: Vec<Digest> = teachers.iter().map(|teacher| digest(&teacher.to_string())).collect();
        let changed = teachers.split_off(missing.min(teachers.len()));
        let [total_steps, saved_steps, resumed_from, skipped_steps] = numbers;
        let tasks: Option<Vec<&str>> = tasks.as_ref().map(|tasks| tasks.iter().map(String::as_str).collect());
        RunReport {
            message, log, total_steps, saved_steps, resumed_from, skipped_steps, seconds, results, missing: teachers,
            changed, inputs: tasks.map(|tasks| inputs(&tasks)), ..ended(reason)
        }
    }
}

proptest! {
    #[test]
    fn any_report_fits_and_says_how_it_ended(report in any_report()) {
        let short = parsed(&report);
        // Steps, time and hash too: only these fields may ever lose something.
        let restored = RunReport {
            message: report.message.clone(),
            log: report.log.clone(),
            results: report.results.clone(),
            missing: report.missing.clone(),
            changed: report.changed.clone(),
            inputs: report.inputs.clone(),
            ..short.clone()
        };
        prop_assert_eq!(restored, report.clone());
        prop_assert!(report.missing.starts_with(&short.missing) && report.changed.starts_with(&short.changed));
        if serde_json::to_vec(&report).unwrap().len() <= LONGEST {
            prop_assert_eq!(short, report);
        }
    }
}

#[test]
fn a_metric_that_is_not_the_main_one_is_what_goes() {
    let mut report = RunReport { results: results(&["rte"]), ..ended(ExitReason::Completed) };
    keep_main_metrics(&mut report);
    assert_eq!(report.results[0].metrics, BTreeMap::from([("pearson".to_owned(), 100.0 / 7.0)]));
}
