//! The reader on small files made for one property each, and on random bytes.

use super::*;
use crate::task::find;
use proptest::prelude::*;

fn read(task: &str, split: Split, bytes: &[u8]) -> Result<Vec<Row>, DataError> {
    let task = find(task).unwrap();
    parse(task, task.layout(split).unwrap(), Path::new("file.tsv"), bytes, None)
}

const RTE: &str = "index\tsentence1\tsentence2\tlabel\n";

fn rte(rows: &str) -> Result<Vec<Row>, DataError> {
    read("rte", Split::Train, format!("{RTE}{rows}").as_bytes())
}

#[test]
fn texts_stand_as_they_are_in_the_file() {
    let rows = rte("7\tHe said \"no\"\\t\t 'b' \tnot_entailment\n9\ta\tb\tentailment\n").unwrap();
    let first = Row {
        eid: 0,
        text_a: "He said \"no\"\\t".into(),
        text_b: Some(" 'b' ".into()),
        label: Label::Class(1),
        line: 2,
    };
    assert_eq!(rows[0], first);
    assert_eq!((rows[1].eid, rows[1].line, rows[1].label), (1, 3, Label::Class(0)));
}

#[test]
fn line_ends_and_byte_order_marks_of_any_system_are_accepted() {
    let plain = rte("0\ta\tb\tentailment\n1\tc\td\tentailment\n").unwrap();
    for (case, bytes) in [
        ("no newline at the end", "I\tA\tB\tL\n0\ta\tb\tentailment\n1\tc\td\tentailment"),
        ("CR LF", "I\tA\tB\tL\r\n0\ta\tb\tentailment\r\n1\tc\td\tentailment\r\n"),
        ("CR LF, the last one CR", "I\tA\tB\tL\r\n0\ta\tb\tentailment\r\n1\tc\td\tentailment\r"),
        ("byte order mark", "\u{feff}I\tA\tB\tL\n0\ta\tb\tentailment\n1\tc\td\tentailment\n"),
    ] {
        assert_eq!(read("rte", Split::Train, bytes.as_bytes()).unwrap(), plain, "{case}");
    }
    let cola = read("cola", Split::Train, "\u{feff}gj04\t1\t*\tA text.\n".as_bytes()).unwrap();
    assert_eq!((cola[0].text_a.as_str(), cola[0].line), ("A text.", 1));
}

#[test]
fn labels_of_test_splits_are_not_looked_at() {
    let rows = read("mrpc", Split::Test, b"index\t1\t2\tA\tB\n0\t1\t2\ta\tb\n").unwrap();
    assert_eq!(rows[0].label, Label::None);
}

#[test]
fn mnli_takes_its_gold_label_from_the_last_column_however_many_there_are() {
    for between in ["entailment", "neutral\tneutral\tneutral\tneutral\tneutral"] {
        let line = format!("h\n0\t1\t2\t3\t4\t5\t6\t7\ta\tb\t{between}\tcontradiction\n");
        let rows = read("mnli", Split::Dev, line.as_bytes()).unwrap();
        assert_eq!((rows[0].text_a.as_str(), rows[0].label), ("a", Label::Class(0)));
    }
}

#[test]
fn scores_come_on_the_scale_of_training() {
    let rows = read("sts", Split::Train, b"h\na\tb\t3.8\nc\td\t0\ne\tf\t 5.000\n").unwrap();
    let scores: Vec<Label> = rows.iter().map(|r| r.label).collect();
    assert_eq!(scores, [0.76, 0.0, 1.0].map(Label::Score));
}

#[test]
fn every_problem_is_one_sentence_with_its_place_and_what_to_do() {
    let header = "h\n";
    let cases: [(&str, &str, &str); 14] = [
        (
            "rte",
            "0\ta\tb\tyes\n",
            "file.tsv:2, column 4: \"yes\" is no label of rte; write \"entailment\" or \
             \"not_entailment\"",
        ),
        (
            "rte",
            "0\ta\tb\tentailmnt\n",
            "file.tsv:2, column 4: \"entailmnt\" is no label of rte; write \"entailment\" or \
             \"not_entailment\" (did you mean \"entailment\"?)",
        ),
        (
            "rte",
            "0\ta\tb\tentailment \n",
            "file.tsv:2, column 4: \"entailment \" is no label of rte; write \"entailment\" or \
             \"not_entailment\" (did you mean \"entailment\"?)",
        ),
        (
            "mnli",
            "0\t1\t2\t3\t4\t5\t6\t7\ta\tb\t-\n",
            "file.tsv:2, the last column: \"-\" is no label of mnli; write \"contradiction\" or \
             \"entailment\" or \"neutral\"",
        ),
        (
            "rte",
            "0\ta\tb\n",
            "file.tsv:2, column 4: the label is missing: the row has 3 fields between TABs and \
             needs at least 4; restore the row (often a line break or a lost TAB inside it)",
        ),
        (
            "rte",
            "0\n",
            "file.tsv:2, column 2: the text is missing: the row has 1 field between TABs and \
             needs at least 2; restore the row (often a line break or a lost TAB inside it)",
        ),
        (
            "sts",
            "a\t1.0\n",
            "file.tsv:2, column 3 from the end: the text is missing: the row has 2 fields \
             between TABs and needs at least 3; restore the row (often a line break or a lost \
             TAB inside it)",
        ),
        ("sts", "a\tb\tgood\n", "file.tsv:2, the last column: \"good\" is no score from 0.0 to 5.0; correct it"),
        ("sts", "a\tb\t5.1\n", "file.tsv:2, the last column: \"5.1\" is no score from 0.0 to 5.0; correct it"),
        ("sts", "a\tb\tnan\n", "file.tsv:2, the last column: \"nan\" is no score from 0.0 to 5.0; correct it"),
        (
            "rte",
            "\n0\ta\tb\tentailment\n",
            "file.tsv:2: the line is blank; remove it, or restore the row that stood here",
        ),
        (
            "rte",
            "0\ta\rb\tb\tentailment\n",
            "file.tsv:2: a carriage return stands inside the line; remove it (lines end with LF \
             or CR LF)",
        ),
        ("rte", "", "file.tsv: the file holds no rows, only its header or nothing; replace it"),
        (
            "sts",
            "a\tb\tThis sentence is far too long to be a score, so it is cut.\n",
            "file.tsv:2, the last column: \"This sentence is far too long to be a sc...\" is no \
             score from 0.0 to 5.0; correct it",
        ),
    ];
    for (task, rows, message) in cases {
        let error = read(task, Split::Train, format!("{header}{rows}").as_bytes()).unwrap_err();
        assert_eq!(error.faults[0].to_string(), message, "{task} {rows:?}");
    }
    let error = read("rte", Split::Train, b"h\n0\ta\xff\tb\tentailment\n").unwrap_err();
    assert_eq!(error.to_string(), "file.tsv:2: byte 4 of the line is not UTF-8; convert the file to UTF-8");
    let error = read("cola", Split::Train, b"").unwrap_err();
    assert_eq!(error.to_string(), "file.tsv: the file holds no rows; replace it");
}

#[test]
fn all_problems_of_a_file_are_told_and_many_are_counted() {
    let bad: String = (0..25).map(|i| format!("{i}\ta\tb\tmaybe\n")).collect();
    let error = rte(&format!("0\ta\n\n0\ta\tb\tentailment\n{bad}")).unwrap_err();
    // A short row lacks two fields, and both are named.
    let kinds: Vec<FaultKind> = error.faults.iter().take(4).map(|f| f.kind).collect();
    use FaultKind::{BlankLine, MissingColumn, UnknownLabel};
    assert_eq!(kinds, [MissingColumn, MissingColumn, BlankLine, UnknownLabel]);
    assert_eq!((error.faults.len(), error.more), (20, 8));
    assert!(error.to_string().ends_with("\n... and 8 more problems"));
    assert!(!error.is_missing_input() && !error.may_pass());
}

#[test]
fn faults_of_several_files_make_one_error() {
    let mut error = rte("0\ta\tb\tno\n").unwrap_err();
    let other: String = (0..30).map(|i| format!("{i}\ta\tb\tno\n")).collect();
    error.merge(rte(&other).unwrap_err());
    assert_eq!((error.faults.len(), error.more), (20, 11));
}

#[test]
fn a_missing_file_or_split_is_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_split(find("mnli").unwrap(), dir.path(), Split::Dev, true, None).unwrap_err();
    assert!(error.is_missing_input());
    let message = error.to_string();
    assert!(message.ends_with("dev_matched.tsv: the file of mnli's dev split is missing; put it there"), "{message}");
    let error = read_split(find("rte").unwrap(), dir.path(), Split::Diagnostic, true, None).unwrap_err();
    assert_eq!(error.faults[0].kind, FaultKind::NoSuchSplit);
    // A folder where a file should be can be opened but not read.
    std::fs::create_dir(dir.path().join("train.tsv")).unwrap();
    let error = read_split(find("rte").unwrap(), dir.path(), Split::Train, true, None).unwrap_err();
    assert!(error.may_pass());
}

#[test]
fn swapped_copies_follow_with_the_ids_that_follow() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("train.tsv", "h\n1\t7\t8\ta\tb\n0\t7\t8\tc\td\n");
    write("dev.tsv", "h\n1\t7\t8\ta\tb\n");
    let mrpc = find("mrpc").unwrap();
    let texts = |rows: &[Row]| -> Vec<(u32, String, String, Label, u32)> {
        let of = |r: &Row| (r.eid, r.text_a.clone(), r.text_b.clone().unwrap(), r.label, r.line);
        rows.iter().map(of).collect()
    };
    let rows = read_split(mrpc, dir.path(), Split::Train, true, None).unwrap();
    let row = |eid, a: &str, b: &str, class, line| (eid, a.into(), b.into(), Label::Class(class), line);
    let expected = [row(0, "a", "b", 1, 2), row(1, "c", "d", 0, 3), row(2, "b", "a", 1, 2), row(3, "d", "c", 0, 3)];
    assert_eq!(texts(&rows), expected);
    assert_eq!(read_split(mrpc, dir.path(), Split::Train, false, None).unwrap().len(), 2);
    assert_eq!(read_split(mrpc, dir.path(), Split::Dev, true, None).unwrap().len(), 1);
}

#[test]
fn debug_mode_reads_fifty_lines_and_looks_at_no_more() {
    let rows: String = (0..60).map(|i| format!("{i}\ta\tb\tentailment\n")).collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train.tsv"), format!("h\n{rows}broken\n")).unwrap();
    let read = |lines| read_split(find("rte").unwrap(), dir.path(), Split::Train, true, lines);
    assert_eq!(read(Some(DEBUG_LINES)).unwrap().len(), 49);
    assert_eq!(read(None).unwrap_err().faults[0].line, Some(62));
    std::fs::write(dir.path().join("train.tsv"), "x\t1\t*\ta\n".repeat(60)).unwrap();
    assert_eq!(read_split(find("cola").unwrap(), dir.path(), Split::Train, true, Some(DEBUG_LINES)).unwrap().len(), 50);
}

#[test]
fn a_row_hash_is_of_the_texts_and_never_changes() {
    let row = |a: &str, b: Option<&str>| Row {
        eid: 0,
        text_a: a.into(),
        text_b: b.map(String::from),
        label: Label::None,
        line: 1,
    };
    let hash = |a, b| row_hash(&row(a, b));
    // From Python: sha256(len(a).to_bytes(8, "little") + a + ...).digest()[:8], big endian.
    assert_eq!(hash("a", Some("b")), GOLDEN_PAIR);
    assert_eq!(hash("héllo", None), GOLDEN_SINGLE);
    let texts = [("ab", Some("")), ("a", Some("b")), ("", Some("ab")), ("ab", None), ("b", Some("a"))];
    let distinct: std::collections::HashSet<u64> = texts.iter().map(|(a, b)| hash(a, *b)).collect();
    assert_eq!(distinct.len(), texts.len());
    assert_eq!(row_hash(&Row { eid: 9, label: Label::Class(1), line: 4, ..row("a", Some("b")) }), GOLDEN_PAIR);
}

const GOLDEN_PAIR: u64 = 0xcf6ab613e3942391;
const GOLDEN_SINGLE: u64 = 0x75f80a028c0bcf47;

/// Lines that look like a task's, with random damage.
fn nearly_tsv() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        4 => "[a-z ]{0,8}",
        2 => Just("entailment".to_string()),
        2 => "[0-5]\\.[0-9]",
        1 => any::<String>(),
    ];
    let line = prop::collection::vec(field, 0..6).prop_map(|fields| fields.join("\t").into_bytes());
    let end = prop_oneof![
        8 => Just(&b"\n"[..]),
        1 => Just(&b"\r\n"[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\xff\n"[..]),
    ];
    prop::collection::vec((line, end), 0..40)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end.to_vec()].concat()).collect())
}

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_rows_or_faults_that_name_their_lines(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..400), nearly_tsv()],
        task in prop::sample::select(crate::task::names()),
        split in prop::sample::select(vec![Split::Train, Split::Dev, Split::Test]),
        debug in prop::option::of(1usize..20),
    ) {
        let task = find(task).unwrap();
        let layout = task.layout(split).or(task.layout(Split::TestMatched)).unwrap();
        let lines = bytes.split(|b| *b == b'\n').count();
        match parse(task, layout, Path::new("f"), &bytes, debug) {
            Ok(rows) => {
                prop_assert!(!rows.is_empty());
                for (i, row) in rows.iter().enumerate() {
                    prop_assert_eq!(row.eid as usize, i);
                    prop_assert_eq!(row.line as usize, i + 1 + usize::from(layout.header));
                    prop_assert_eq!(row.label == Label::None, layout.label.is_none());
                }
            }
            Err(error) => {
                prop_assert!(!error.faults.is_empty() && error.faults.len() <= 20);
                for fault in &error.faults {
                    let line = fault.line.unwrap_or(usize::MAX);
                    prop_assert!(fault.kind == FaultKind::NoRows || (1..=lines).contains(&line));
                    prop_assert!(!fault.to_string().contains('\n'), "{}", fault);
                }
            }
        }
    }
}
