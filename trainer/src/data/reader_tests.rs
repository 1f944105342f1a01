//! Files of tasks that are not GLUE's, in all three formats, whole and broken.

use std::path::Path;

use bam_crds::TaskFiles;
use proptest::prelude::*;
use serde_json::json;

use super::super::rows::{Label, Row, parse};
use crate::data::{DataError, FaultKind};
use crate::task::{self, Split, Task};

/// A task about two texts with the labels `no` and `yes`, by the names of its columns.
fn named(format: &str) -> Task {
    let said = json!({"format": format, "textA": "a", "textB": "b", "label": "label", "labels": ["no", "yes"]});
    task(said)
}

fn task(said: serde_json::Value) -> Task {
    let files = TaskFiles { train: "train".into(), dev: "dev".into(), test: Some("test".into()) };
    task::one("own", Some(&serde_json::from_value(said).unwrap()), Some(&files)).unwrap()
}

fn read(task: &Task, split: Split, bytes: &[u8]) -> Result<Vec<Row>, DataError> {
    parse(task, task.layout(split).unwrap(), Path::new("f"), bytes, None)
}

fn faults(task: &Task, text: &str) -> Vec<String> {
    let error = read(task, Split::Train, text.as_bytes()).unwrap_err();
    error.faults.iter().map(ToString::to_string).collect()
}

fn row(eid: u32, a: &str, b: &str, class: u16, line: u32) -> Row {
    Row { eid, text_a: a.into(), text_b: Some(b.into()), label: Label::Class(class), line }
}

#[test]
fn the_same_rows_are_read_from_every_format() {
    let expected = [row(0, "a man, a plan", "he said \"no\"", 1, 2), row(1, "", "ü", 0, 3)];
    for (format, text) in [
        ("TSV", "b\tid\tlabel\ta\nhe said \"no\"\t7\tyes\ta man, a plan\nü\t8\tno\t\n"),
        ("CSV", "b,id,label,a\n\"he said \"\"no\"\"\",7,yes,\"a man, a plan\"\nü,8,no,\n"),
        ("CSV", "\u{feff}b,id,label,a\r\n\"he said \"\"no\"\"\",7,yes,\"a man, a plan\"\r\nü,8,no,\"\""),
        (
            "JSONL",
            "{\"a\": \"a man, a plan\", \"b\": \"he said \\\"no\\\"\", \"label\": \"yes\"}\r\n{\"label\": \"no\", \"b\": \
             \"\\u00fc\", \"a\": \"\", \"more\": [1, {}]}",
        ),
    ] {
        let rows = read(&named(format), Split::Dev, text.as_bytes()).unwrap();
        // JSON has no header, so its lines count from 1.
        let up = u32::from(format == "JSONL");
        let lines: Vec<Row> = rows.into_iter().map(|row| Row { line: row.line + up, ..row }).collect();
        assert_eq!(lines, expected, "{text}");
    }
}

#[test]
fn a_text_in_quotes_may_have_lines_and_the_next_row_knows_its_own() {
    let text = "a,b,label\n\"two\nlines\",\"and\r\nmore\",yes\n\n\r\nx,y,no\r\n\nz,z,maybe\n";
    let error = faults(&named("CSV"), text);
    assert_eq!(error, ["f:9, column \"label\": \"maybe\" is no label of own; write \"no\" or \"yes\""]);
    let rows = read(&named("CSV"), Split::Train, text.replace("maybe", "yes").as_bytes()).unwrap();
    assert_eq!(rows, [row(0, "two\nlines", "and\r\nmore", 1, 2), row(1, "x", "y", 0, 7), row(2, "z", "z", 1, 9)]);
}

#[test]
fn columns_by_position_need_no_header_and_count_from_either_end() {
    let said = |format| json!({"format": format, "header": false, "textA": -1, "label": "0", "labels": ["0", "1"]});
    for (format, text) in [("TSV", "1\tx\tone\n0\tx\tnone\n"), ("CSV", "1,x,one\n0,x,none")] {
        let rows = read(&task(said(format)), Split::Train, text.as_bytes()).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.text_a.as_str(), row.text_b.is_none(), row.label)).collect();
        assert_eq!(found, [("one", true, Label::Class(1)), ("none", true, Label::Class(0))], "{format}");
    }
}

#[test]
fn numbers_and_booleans_of_json_are_labels_and_scores() {
    let classes = task(json!({"format": "JSONL", "textA": "t", "label": "l", "labels": ["0", "1", "true"]}));
    let text = "{\"t\": \"x\", \"l\": 1}\n{\"t\": \"x\", \"l\": true}\n{\"t\": \"x\", \"l\": \"0\"}\n";
    let labels = |rows: Vec<Row>| rows.iter().map(|row| row.label).collect::<Vec<_>>();
    assert_eq!(labels(read(&classes, Split::Dev, text.as_bytes()).unwrap()), [1, 2, 0].map(Label::Class));
    let scores = task(json!({"format": "JSONL", "textA": "t", "label": "l", "range": {"min": 1, "max": 5}}));
    let text = "{\"t\": \"x\", \"l\": 1}\n{\"t\": \"x\", \"l\": 4.0}\n{\"t\": \"x\", \"l\": \"5\"}\n";
    assert_eq!(labels(read(&scores, Split::Dev, text.as_bytes()).unwrap()), [0.0, 0.75, 1.0].map(Label::Score));
}

#[test]
fn a_test_file_needs_no_labels() {
    for (format, text) in [("TSV", "a\tb\nx\ty\n"), ("CSV", "a,b\nx,y\n"), ("JSONL", "{\"a\": \"x\", \"b\": \"y\"}")] {
        let rows = read(&named(format), Split::Test, text.as_bytes()).unwrap();
        assert_eq!((rows[0].text_a.as_str(), rows[0].label), ("x", Label::None), "{format}");
    }
}

#[test]
fn every_problem_is_one_sentence_with_its_place_and_what_to_do() {
    for (format, text, sentences) in [
        (
            "CSV",
            "a,B,lable\nx,y,yes\n",
            &[
                "f:1, column \"b\": is not in the header, which has \"a\", \"B\", \"lable\" (did you mean \"B\"?)",
                "f:1, column \"label\": is not in the header, which has \"a\", \"B\", \"lable\" (did you mean \"lable\"?)",
            ][..],
        ),
        ("TSV", "a\tb\tlabel\ta\nx\ty\tyes\tz\n", &["f:1, column \"a\": stands twice in the header; rename one"]),
        (
            "CSV",
            "a,b,label\none, two,three,yes\nx,y\n",
            &[
                "f:2: the row has 4 fields and the first line 3; put a text with a comma, a quote or a line end into quotes",
                "f:3: the row has 2 fields and the first line 3; put a text with a comma, a quote or a line end into quotes",
            ],
        ),
        (
            "TSV",
            "a\tb\tlabel\nx\t\ty\tyes\n",
            &["f:2: the row has 4 fields and the first line 3; take a TAB or a line end out of its texts"],
        ),
        (
            "CSV",
            "a,b,label\nx,\"y,yes\nz,z,no\n",
            &["f:2: a quote is opened in this row and never closed; close it (a quote in a text is written \"\")"],
        ),
        ("CSV", "", &["f: the file holds no rows, only its header or nothing; replace it"]),
        ("CSV", "a,b,label\n\n", &["f: the file holds no rows, only its header or nothing; replace it"]),
        (
            "JSONL",
            "[1]\n\n{\"a\": 1}\n",
            &[
                "f:1: the line is no JSON object: invalid type: sequence, expected a map at character 0; correct it",
                "f:2: the line is blank; remove it, or restore the row that stood here",
                "f:3, column \"a\": 1 is no text; put it into quotes",
                "f:3, column \"b\": the second text is missing in the object, which has \"a\"",
                "f:3, column \"label\": the label is missing in the object, which has \"a\"",
            ],
        ),
        (
            "JSONL",
            "{\"a\": \"x\", \"b\": \"y\", \"label\": null}\n{\"a\": \"x\", \"b\": \"y\", \"label\": \"maybe\"",
            &[
                "f:1, column \"label\": null is no label; write a text or a number",
                "f:2: the line is no JSON object: EOF while parsing an object at character 37; correct it",
            ],
        ),
        ("JSONL", "", &["f: the file holds no rows; replace it"]),
    ] {
        assert_eq!(faults(&named(format), text), sentences, "{text}");
    }
    let error = read(&named("CSV"), Split::Train, b"a,b,label\nx,\xff,yes\n").unwrap_err();
    assert_eq!(error.to_string(), "f:2: field 2 of the row is not UTF-8; convert the file to UTF-8");
    let error = read(&named("CSV"), Split::Train, b"a\xff,b,label\nx,y,yes\n").unwrap_err();
    assert_eq!(error.faults.len(), 1, "without names there is no telling of the rows: {error}");
}

#[test]
fn many_labels_are_not_all_listed() {
    let labels: Vec<String> = (0..300).map(|number| format!("intent {number}")).collect();
    let many = task(json!({"format": "CSV", "textA": "a", "label": "label", "labels": labels}));
    let sentence = &faults(&many, "a,label\nx,intent\n")[0];
    assert!(sentence.contains("write one of \"intent 0\", ") && sentence.contains(" and 290 more"), "{sentence}");
    assert!(sentence.len() < 300, "{sentence}");
}

#[test]
fn debug_mode_reads_so_many_rows_and_the_header() {
    let text = "a,b,label\n".to_owned() + &"x,\"y\nz\",yes\n".repeat(60);
    let task = named("CSV");
    let layout = task.layout(Split::Train).unwrap();
    assert_eq!(parse(&task, layout, Path::new("f"), text.as_bytes(), Some(50)).unwrap().len(), 49);
}

/// What a spreadsheet may hold: any text.
fn any_rows() -> impl Strategy<Value = Vec<(String, String, bool)>> {
    prop::collection::vec(("[ -~\n\r\t\"',üß🦀]{0,12}", any::<String>(), any::<bool>()), 1..20)
}

/// Bytes that look like a format's, with random damage.
fn nearly(format: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let parts = match format {
        "CSV" => &["a,b,label\n", "x", ",", "\"", "\"\"", "\n", "\r\n", "\r", "yes", "no", "\u{feff}", "ü"][..],
        "TSV" => &["a\tb\tlabel\n", "x", "\t", "\"", "\n", "\r\n", "yes", "no", "ü"],
        _ => &[
            "{\"a\": \"x\", \"b\": \"y\", \"label\": \"yes\"}\n",
            "{",
            "}",
            "\"a\"",
            ":",
            ",",
            "[",
            "]",
            "1e999",
            "\n",
            "\\u",
        ],
    };
    let part = prop_oneof![
        12 => prop::sample::select(parts).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

fn any_file() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let one = |format: &'static str| {
        let bytes = prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..300), 3 => nearly(format)];
        bytes.prop_map(move |bytes| (format, bytes))
    };
    prop_oneof![one("TSV"), one("CSV"), one("JSONL")]
}

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_rows_or_faults_that_name_their_lines(
        (format, bytes) in any_file(),
        header in any::<bool>(),
        split in prop::sample::select(vec![Split::Train, Split::Test]),
        debug in prop::option::of(1usize..20),
    ) {
        let task = match header {
            true => named(format),
            false => task(json!({"format": format, "header": false, "textA": 0, "label": -1, "labels": ["no", "yes"]})),
        };
        let layout = task.layout(split).unwrap();
        let lines = bytes.split(|b| *b == b'\n').count();
        match parse(&task, layout, Path::new("f"), &bytes, debug) {
            Ok(rows) => {
                prop_assert!(!rows.is_empty());
                for (i, row) in rows.iter().enumerate() {
                    prop_assert_eq!(row.eid as usize, i);
                    prop_assert!((1..=lines).contains(&(row.line as usize)));
                }
                prop_assert!(rows.is_sorted_by(|one, next| one.line <= next.line));
            }
            Err(error) => {
                prop_assert!(!error.faults.is_empty() && error.faults.len() <= 20);
                for fault in &error.faults {
                    let line = fault.line.unwrap_or(usize::MAX);
                    prop_assert!(fault.kind == FaultKind::NoRows || (1..=lines).contains(&line), "{}", fault);
                    prop_assert!(!fault.to_string().contains('\n'), "{}", fault);
                }
            }
        }
    }

    #[test]
    fn what_other_programs_write_comes_back_row_by_row(rows in any_rows()) {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["a", "b", "label"]).unwrap();
        let mut json = String::new();
        for (a, b, yes) in &rows {
            let label = if *yes { "yes" } else { "no" };
            csv.write_record([a, b, label]).unwrap();
            json += &(json!({"a": a, "b": b, "label": label}).to_string() + "\n");
        }
        for (format, bytes) in [("CSV", csv.into_inner().unwrap()), ("JSONL", json.into_bytes())] {
            let read = read(&named(format), Split::Train, &bytes).unwrap();
            prop_assert_eq!(read.len(), rows.len());
            for (read, (a, b, yes)) in read.iter().zip(&rows) {
                prop_assert_eq!((&read.text_a, read.text_b.as_ref()), (a, Some(b)), "{}", format);
                prop_assert_eq!(read.label, Label::Class(u16::from(*yes)));
            }
        }
    }
}
