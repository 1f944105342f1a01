//! Teachers that fit, and those that do not.

use super::*;
use crate::data::rows::Label;
use crate::task::find;
use proptest::prelude::*;

/// Training rows of a pair task with `n` lines, and their swapped copies.
fn rows(n: u32, doubled: bool) -> Vec<Row> {
    let row = |i: u32| Row {
        eid: i,
        text_a: format!("first {i}"),
        text_b: Some(format!("second {i}")),
        label: Label::Class(0),
        line: i + 2,
    };
    let swapped = |i: u32| {
        let Row { text_a, text_b, .. } = row(i);
        Row { eid: n + i, text_a: text_b.unwrap(), text_b: Some(text_a), ..row(i) }
    };
    let copies = (0..if doubled { n } else { 0 }).map(swapped);
    (0..n).map(row).chain(copies).collect()
}

/// What a teacher says of these rows: logits count up from 0.
fn targets(task: &str, rows: &[Row]) -> Targets {
    let task = find(task).unwrap();
    Targets {
        task: task.name.clone(),
        labels: task.labels().to_vec(),
        eids: rows.iter().map(|r| r.eid).collect(),
        row_hashes: rows.iter().map(row_hash).collect(),
        logits: (0..rows.len() * task.outputs()).map(|x| x as f32).collect(),
    }
}

fn faults(targets: &Targets, task: &str, rows: &[Row]) -> Vec<String> {
    let error = align(targets, find(task).unwrap(), rows, "run-1234").unwrap_err();
    error.to_string().lines().map(String::from).collect()
}

#[test]
fn targets_are_found_by_example_id_and_columns_by_label() {
    let rows = rows(2, false);
    let teacher = targets("mnli", &rows);
    let mut shuffled = teacher.clone();
    shuffled.eids.reverse();
    shuffled.row_hashes.reverse();
    shuffled.labels = ["neutral", "contradiction", "entailment"].map(String::from).to_vec();
    // Row 1 first, and the student's columns are the teacher's 1, 2 and 0.
    let task = find("mnli").unwrap();
    assert_eq!(align(&shuffled, task, &rows, "t").unwrap(), [4.0, 5.0, 3.0, 1.0, 2.0, 0.0]);
    assert_eq!(align(&teacher, task, &rows, "t").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_regression_has_one_column_without_a_label() {
    let rows = rows(3, true);
    assert_eq!(
        align(&targets("sts", &rows), find("sts").unwrap(), &rows, "t").unwrap(),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    );
}

#[test]
fn a_teacher_may_know_more_rows_than_the_student() {
    let (all, few) = (rows(4, true), rows(4, false));
    assert_eq!(align(&targets("mrpc", &all), find("mrpc").unwrap(), &few, "t").unwrap().len(), 8);
}

#[test]
fn a_teacher_without_swapped_copies_is_said_once() {
    let message = "the teacher run-1234 has no targets for the 30 swapped copies of mrpc \
                   (eids 30 to 59): it was trained with double_unordered=false; train it with \
                   true, or set false for the student too";
    assert_eq!(faults(&targets("mrpc", &rows(30, false)), "mrpc", &rows(30, true)), [message]);
}

#[test]
fn missing_and_changed_rows_are_named_by_line_and_id() {
    let rows = rows(30, false);
    let mut teacher = targets("rte", &rows[..28]);
    teacher.row_hashes[3] ^= 1;
    teacher.logits[9] = f32::NAN;
    let mut changed = rows.clone();
    changed[12].text_a.push('!');
    assert_eq!(
        faults(&teacher, "rte", &changed),
        [
            "rte/train.tsv:5 (eid 3): the teacher run-1234 saw other texts in this row; train it \
             on this very file",
            "rte/train.tsv:6 (eid 4): the teacher run-1234 has a target here that is not finite; \
             train it again",
            "rte/train.tsv:14 (eid 12): the teacher run-1234 saw other texts in this row; train \
             it on this very file",
            "rte/train.tsv:30 (eid 28): the teacher run-1234 has no targets for this row (it has \
             28 rows); train it on this very file",
            "rte/train.tsv:31 (eid 29): the teacher run-1234 has no targets for this row (it has \
             28 rows); train it on this very file",
        ]
    );
}

#[test]
fn many_faults_are_counted() {
    let told = faults(&targets("rte", &rows(5, false)), "rte", &rows(49, false));
    assert_eq!((told.len(), told[20].as_str()), (21, "... and 24 more rows"));
}

#[test]
fn a_teacher_of_another_task_or_with_other_labels_is_refused_before_any_row() {
    let rows = rows(3, false);
    let other = targets("qnli", &rows);
    assert_eq!(
        faults(&other, "rte", &rows),
        ["the teacher run-1234 has targets of the task qnli, not of rte; name a teacher that \
             learned rte"]
    );
    for labels in
        [vec!["entailment", "no"], vec!["entailment"], vec!["entailment", "not_entailment", "perhaps"], vec![]]
    {
        let labels: Vec<String> = labels.into_iter().map(String::from).collect();
        let logits = vec![0.0; 3 * labels.len().max(1)];
        let told = faults(&Targets { labels, logits, ..targets("rte", &rows) }, "rte", &rows);
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("train the teacher with the student's labels"), "{}", told[0]);
    }
}

proptest! {
    #[test]
    fn aligned_targets_are_the_teachers_own_or_a_fault_for_each_row_without(
        known in prop::collection::vec(any::<bool>(), 1..60),
        doubled: bool,
    ) {
        let rows = rows(known.len() as u32, doubled);
        let has = |row: &&Row| known[row.eid as usize % known.len()];
        let theirs: Vec<Row> = rows.iter().filter(has).cloned().collect();
        let teacher = targets("mrpc", &theirs);
        match align(&teacher, find("mrpc").unwrap(), &rows, "t") {
            Ok(logits) => {
                prop_assert_eq!(theirs.len(), rows.len());
                prop_assert_eq!(logits, teacher.logits);
            }
            Err(error) => {
                prop_assert_eq!(error.faults.len() + error.more, rows.len() - theirs.len());
            }
        }
    }
}
