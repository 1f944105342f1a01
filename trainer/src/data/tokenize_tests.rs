//! Rules one by one on a vocabulary made for them. What another implementation says of hundreds of
//! awkward texts stands in `tests/parity_data.rs`.

use super::*;
use proptest::prelude::*;

const PIECES: [&str; 24] = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##aff",
    "##able",
    "a",
    "##a",
    "café",
    "cafe",
    "中",
    "[",
    "]",
    "sep",
    "!",
    "$",
    "εργος",
    "A",
    "##!",
    "run",
    "##run",
    "b",
    "##b",
];

fn tokenizer(lower: bool) -> Tokenizer {
    Tokenizer::from_bytes(PIECES.join("\n").as_bytes(), Path::new("vocab.txt"), lower).unwrap()
}

fn pieces(text: &str, lower: bool) -> Vec<&'static str> {
    tokenizer(lower).encode(text).into_iter().map(|id| PIECES[id as usize]).collect()
}

#[test]
fn texts_are_cut_by_the_rules_of_november_2018() {
    let cases: [(&str, &str, &[&str]); 18] = [
        ("the longest piece first", "unaffable", &["un", "##aff", "##able"]),
        ("a word that does not come out even is unknown as a whole", "unaffablex a", &["[UNK]", "a"]),
        ("a special token in a text has no protection", "[SEP]", &["[", "sep", "]"]),
        ("accents go with the case", "CAFÉ café", &["cafe", "cafe"]),
        ("a lone accent is nothing", "\u{301} a", &["a"]),
        ("ideographs are words of their own", "a中b", &["a", "中", "b"]),
        ("symbols of ASCII split, those beyond do not", "a$a a€a", &["a", "$", "a", "[UNK]"]),
        ("what continues a word cannot begin one", "able", &["[UNK]"]),
        ("punctuation never continues a word", "a!", &["a", "!"]),
        (
            "controls, formats and unassigned code points are dropped",
            "a\u{0}\u{7f}\u{ad}\u{200b}\u{378}b\u{fffd}",
            &["a", "##b"],
        ),
        (
            "tabs, line ends and exotic spaces part words",
            "a\tb\rb\nb\u{a0}b\u{3000}b\u{2028}b",
            &["a", "b", "b", "b", "b", "b", "b"],
        ),
        ("vertical tab, form feed and U+0085 are controls", "a\u{b}\u{c}\u{85}b", &["a", "##b"]),
        ("a sigma at the end of a word has its own form", "ΕΡΓΟΣ", &["εργος"]),
        ("a sigma knows its word across punctuation", "ΕΡΓΟΣ!", &["εργος", "!"]),
        ("no text", "", &[]),
        ("nothing but what is dropped", " \u{200b}\t", &[]),
        ("a hash is punctuation, so nobody writes a continuation", "##a", &["[UNK]", "[UNK]", "a"]),
        ("pieces repeat", "runrunrun", &["run", "##run", "##run"]),
    ];
    for (case, text, expected) in cases {
        assert_eq!(pieces(text, true), expected, "{case}");
    }
}

#[test]
fn without_lower_casing_case_and_accents_stay() {
    assert_eq!(pieces("A café cafe\u{301}", false), ["A", "café", "[UNK]"]);
}

#[test]
fn a_word_of_two_hundred_characters_is_cut_and_one_more_is_unknown() {
    assert_eq!(pieces(&"a".repeat(200), true).len(), 200);
    assert_eq!(pieces(&"a".repeat(201), true), ["[UNK]"]);
    // Characters count, not bytes, and only after accents are gone.
    assert_eq!(pieces(&"á".repeat(200), true).len(), 200);
    assert_eq!(pieces(&"é".repeat(201), true), ["[UNK]"]);
}

#[test]
fn vocabularies_are_read_line_by_line() {
    let read = |text: &str| Tokenizer::from_bytes(text.as_bytes(), Path::new("v"), true).unwrap();
    let tokenizer = read("[PAD]\r\n[UNK]\n [CLS] \n[SEP]\n\na\nb\na\n");
    assert_eq!(tokenizer.encode("a b"), [7, 6], "a piece that stands twice has the later id");
    assert_eq!((tokenizer.cls(), tokenizer.sep(), tokenizer.vocab_size()), (2, 3, 8));
    assert_eq!(read("[PAD]\n[UNK]\n[CLS]\n[SEP]\na").vocab_size(), 5);
}

#[test]
fn a_vocabulary_that_cannot_be_used_says_why() {
    let error = |bytes: &[u8]| Tokenizer::from_bytes(bytes, Path::new("vocab.txt"), true).unwrap_err();
    assert_eq!(
        error(b"[PAD]\n[CLS]\na\n").to_string(),
        "vocab.txt: the vocabulary has no [UNK], [SEP]; take the vocab.txt that came with the model"
    );
    assert_eq!(
        error(b"[PAD]\n\xff\n").to_string(),
        "vocab.txt:2: the line is not UTF-8; take the vocab.txt that came with the model"
    );
    let missing = Tokenizer::from_vocab(Path::new("no/such/vocab.txt"), true).unwrap_err();
    assert!(missing.is_missing_input() && !missing.may_pass());
    assert!(missing.to_string().starts_with("no/such/vocab.txt: the vocabulary cannot be read"));
}

proptest! {
    #[test]
    fn any_text_becomes_known_ids_and_texts_join_at_spaces(a: String, b: String, lower: bool) {
        let tokenizer = tokenizer(lower);
        let joined = tokenizer.encode(&format!("{a} {b}"));
        prop_assert!(joined.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        prop_assert_eq!(joined, [tokenizer.encode(&a), tokenizer.encode(&b)].concat());
    }

    #[test]
    fn ascii_takes_the_short_way_to_the_same_pieces(text in "[ -~]{0,40}") {
        // Accents make a word take the long way, and are gone at its end.
        let tokenizer = tokenizer(true);
        let long: String = text.chars().flat_map(|c| [c, '\u{301}']).collect();
        prop_assert_eq!(tokenizer.encode(&text), tokenizer.encode(&long));
    }
}
