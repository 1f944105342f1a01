//! What people say of tasks of their own.

use bam_crds::config::InputsConfig;
use bam_crds::task::{Bound, Column, FILE_PATTERN, GLUE_TASKS, TASK_NAME_PATTERN, name_problem};
use bam_crds::{CustomTask, TaskFiles};
use serde_json::{Value, json};

fn task(said: Value) -> CustomTask {
    let mut whole = json!({"format": "CSV", "textA": "a", "label": "b", "labels": ["no", "yes"]});
    let fields = whole.as_object_mut().unwrap();
    for (name, value) in said.as_object().unwrap() {
        fields.insert(name.clone(), value.clone());
    }
    fields.retain(|_, value| !value.is_null());
    serde_json::from_value(whole).unwrap()
}

#[test]
fn every_problem_names_its_field() {
    let scores = json!({"labels": null, "range": {"min": 0, "max": 5}});
    let with = |mut said: Value, more: Value| {
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task(said)
    };
    for (task, fields) in [
        (task(json!({})), &[][..]),
        (task(scores.clone()), &[]),
        (task(json!({"metric": "F1", "textB": 3, "unordered": true})), &[]),
        (task(json!({"header": false, "textA": 0, "label": -1})), &[]),
        (task(json!({"header": false, "format": "JSONL"})), &[]),
        (task(json!({"header": false})), &["textA", "label"]),
        (task(json!({"labels": null})), &["labels"]),
        (task(json!({"range": {"min": 0, "max": 5}})), &["labels"]),
        (task(json!({"labels": ["one"]})), &["labels"]),
        (task(json!({"labels": ["one", "one"]})), &["labels"]),
        (task(json!({"labels": ["one", ""]})), &["labels"]),
        (task(json!({"labels": ["a", "b", "c"], "metric": "F1"})), &["metric"]),
        (task(json!({"metric": "Pearson"})), &["metric"]),
        (with(scores.clone(), json!({"metric": "Accuracy"})), &["metric"]),
        (with(scores, json!({"range": {"min": 5, "max": "5.0"}})), &["range"]),
        (task(json!({"unordered": true})), &["unordered"]),
    ] {
        let found: Vec<_> = task.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(found, fields, "{task:?}");
    }
}

#[test]
fn a_path_stays_in_the_store() {
    for (path, good) in [
        ("a", true),
        ("tweets/2024/train.v1_b-2.csv", true),
        ("_a/0", true),
        ("", false),
        ("/a", false),
        ("a/", false),
        ("a//b", false),
        ("..", false),
        ("a/../b", false),
        ("a/.b", false),
        ("a b", false),
        ("a\\b", false),
        ("a\n", false),
        ("ä", false),
    ] {
        let files = TaskFiles { train: path.into(), dev: "dev".into(), test: Some(path.into()) };
        let found: Vec<_> = files.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(found, if good { &[][..] } else { &["train", "test"] }, "{path:?}");
    }
    let long = TaskFiles { train: "a".repeat(254), dev: "a".repeat(253), test: None };
    assert_eq!(long.problems().len(), 1);
    assert!(FILE_PATTERN.starts_with('^') && FILE_PATTERN.ends_with('$'));
}

#[test]
fn a_name_is_one_that_files_can_have_and_not_one_of_glue_s() {
    for (name, good) in [("own", true), ("a", true), ("my_task-2", true), ("0", true)] {
        assert_eq!(name_problem(name).is_none(), good, "{name}");
    }
    for name in ["", "a/b", "..", "-a", "a_", "A", "a.b", "ä", &"a".repeat(64)].into_iter().chain(GLUE_TASKS) {
        assert!(name_problem(name).is_some(), "{name}");
    }
    assert!(TASK_NAME_PATTERN.starts_with('^') && TASK_NAME_PATTERN.ends_with('$'));
}

#[test]
fn a_column_is_a_position_where_it_is_written_like_one() {
    for (said, position) in
        [(json!(3), Some(3)), (json!("-1"), Some(-1)), (json!("text"), None), (json!("03"), None), (json!("+1"), None)]
    {
        let column: Column = serde_json::from_value(said).unwrap();
        assert_eq!(column.position(), position, "{column:?}");
    }
    assert_eq!(Column::from("12345").position(), None);
}

#[test]
fn what_means_the_same_is_written_the_same() {
    let written = |task: &CustomTask| serde_json::to_string(&task.canonical()).unwrap();
    let one = task(json!({"metric": "Accuracy", "header": true, "unordered": false, "textA": 0}));
    assert_eq!(written(&one), r#"{"format":"CSV","textA":"0","label":"b","labels":["no","yes"]}"#);
    let range =
        |min: Value, max: Value| task(json!({"labels": null, "range": {"min": min, "max": max}, "metric": "Pearson"}));
    let expected = r#"{"format":"CSV","textA":"a","label":"b","range":{"min":"0","max":"0.5"}}"#;
    for (min, max) in [(json!(0), json!("0.50")), (json!("-0"), json!(0.5)), (json!("0.0"), json!("0.5"))] {
        assert_eq!(written(&range(min, max)), expected);
    }
    assert_ne!(one.canonical(), task(json!({"textA": 0, "labels": ["yes", "no"]})).canonical());
    assert!(serde_json::from_value::<Bound>(json!("high")).is_err());
}

#[test]
fn a_check_of_the_inputs_says_all_that_is_wrong_with_its_tasks() {
    let config: InputsConfig = serde_json::from_value(json!({
        "tasks": ["rte", "own", "other", "../bad"],
        "custom": {
            "own": {"format": "CSV", "textA": "a", "label": "b"},
            "other": {"format": "CSV", "textA": "a", "label": "b", "labels": ["x", "y"]},
            "../bad": {"format": "CSV", "textA": "a", "label": "b", "labels": ["x", "y"]},
        },
        "maxSeqLength": 128,
        "execution": {
            "store": "/bam", "pretrained": "tiny",
            "files": {"own": {"train": "../a", "dev": "b"}, "../bad": {"train": "a", "dev": "b"}},
        },
    }))
    .unwrap();
    let problems = config.problems();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[0].starts_with("task \"../bad\" is no name for a task"));
    assert_eq!(problems[1], "task other: execution.files does not say where its rows are");
    assert!(problems[2].starts_with("task own: labels or range"));
    assert!(problems[3].starts_with("task own: train is \"../a\", which is no path in the store"));
}
