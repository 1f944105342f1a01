//! How rows are cut and laid out.

use super::*;
use crate::data::rows::Label;
use proptest::prelude::*;
use std::path::Path;

fn tokenizer() -> Tokenizer {
    let vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\nd\n";
    Tokenizer::from_bytes(vocab.as_bytes(), Path::new("vocab.txt"), true).unwrap()
}

fn features(a: &str, b: Option<&str>, longest: usize) -> (Vec<u32>, u16) {
    let tokenizer = tokenizer();
    let mut maker = Maker::new(&tokenizer, longest);
    let (ids, second) = maker.features(a, b);
    (ids.to_vec(), second)
}

#[test]
fn a_pair_is_cut_as_in_the_reference() {
    for ((a, b, limit), kept) in [
        ((10, 10, 15), (8, 7)),
        ((100, 60, 125), (65, 60)),
        ((60, 100, 125), (60, 65)),
        ((200, 5, 125), (120, 5)),
        ((200, 200, 125), (63, 62)),
        ((3, 4, 125), (3, 4)),
        ((1, 1, 1), (1, 0)),
        ((5, 5, 0), (0, 0)),
    ] {
        assert_eq!(truncate_pair(a, b, limit), kept, "{a}, {b} within {limit}");
    }
}

#[test]
fn rows_are_laid_out_with_cls_and_sep() {
    let (cls, sep) = (2, 3);
    for (case, a, b, longest, ids, second) in [
        ("a single text", "a b", None, 8, vec![cls, 4, 5, sep], 4),
        ("a pair", "a b", Some("c"), 8, vec![cls, 4, 5, sep, 6, sep], 4),
        ("an empty second text is none", "a", Some(""), 8, vec![cls, 4, sep], 3),
        ("nor is one without pieces", "a", Some("\u{200b}"), 8, vec![cls, 4, sep], 3),
        ("a single text is cut", "a b c d", None, 4, vec![cls, 4, 5, sep], 4),
        ("a single text with an empty second is cut like one", "a b c d", Some(" "), 4, vec![cls, 4, 5, sep], 4),
        ("a pair is cut", "a b", Some("c d"), 6, vec![cls, 4, 5, sep, 6, sep], 4),
        ("a pair whose second text is cut to nothing", "a", Some("b"), 4, vec![cls, 4, sep], 3),
        ("no text at all", "", None, 8, vec![cls, sep], 2),
        ("a first text without pieces", "", Some("a"), 8, vec![cls, sep, 4, sep], 2),
    ] {
        assert_eq!(features(a, b, longest), (ids, second), "{case}");
    }
}

#[test]
fn segments_begin_after_the_first_sep() {
    for (a, b, segments) in [("a b", Some("c"), &[0, 0, 0, 0, 1, 1][..]), ("a", None, &[0, 0, 0])] {
        let (ids, second) = features(a, b, 8);
        assert_eq!(Features { ids: &ids, second }.segment_ids().collect::<Vec<_>>(), segments);
    }
}

#[test]
fn threads_keep_the_order() {
    let letters = ["a", "b", "c", "d"];
    let rows: Vec<Row> = (0..5000)
        .map(|i| Row {
            eid: i,
            text_a: letters[i as usize % 4].into(),
            text_b: (i % 3 == 0).then(|| letters[i as usize / 4 % 4].into()),
            label: Label::None,
            line: i + 1,
        })
        .collect();
    let tokenizer = tokenizer();
    let alone = featurise(&tokenizer, &rows, 8, 1);
    for threads in [0, 2, 3, 64] {
        assert_eq!(featurise(&tokenizer, &rows, 8, threads), alone, "{threads} threads");
    }
    let mut begin = 0;
    for (row, (end, second)) in rows.iter().zip(alone.ends.iter().zip(&alone.seconds)) {
        let ids = alone.ids[begin..*end as usize].to_vec();
        assert_eq!((ids, *second), features(&row.text_a, row.text_b.as_deref(), 8));
        begin = *end as usize;
    }
    assert_eq!(featurise(&tokenizer, &[], 8, 2), Table::default());
}

proptest! {
    #[test]
    fn a_cut_pair_fits_exactly_and_the_longer_text_pays(
        a in 0usize..300,
        b in 0usize..300,
        limit in 0usize..300,
    ) {
        let (x, y) = truncate_pair(a, b, limit);
        prop_assert_eq!(x + y, (a + b).min(limit));
        prop_assert!(x <= a && y <= b);
        // A text that lost a piece was the longer one then, or the second of two equal ones.
        prop_assert!(x == a || x >= y);
        prop_assert!(y == b || y + 1 >= x);
    }
}
