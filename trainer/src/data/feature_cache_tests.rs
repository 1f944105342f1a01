//! A cache is right, or it is not used.

use super::*;
use crate::data::rows::Label;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn tokenizer(lower: bool) -> Tokenizer {
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nA\nB\n";
    Tokenizer::from_bytes(vocabulary.as_bytes(), Path::new("vocab.txt"), lower).unwrap()
}

/// As many rows as are worth a file; row 7 has these texts.
fn rows(text_a: &str, text_b: Option<&str>) -> Vec<Row> {
    let row = |number: usize| {
        let (text_a, text_b) =
            if number == 7 { (text_a, text_b) } else { ("a b", number.is_multiple_of(3).then_some("b")) };
        let text_b = text_b.map(str::to_owned);
        Row { eid: number as u32, text_a: text_a.into(), text_b, label: Label::None, line: number as u32 + 1 }
    };
    (0..WORTH_A_FILE).map(row).collect()
}

struct Place {
    folder: TempDir,
    tokenizer: Tokenizer,
    vocabulary: Digest,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, tokenizer: tokenizer(true), vocabulary: Digest::of_bytes(b"one") }
    }

    fn cache(&self) -> FeatureCache<'_> {
        FeatureCache {
            folder: self.folder.path().join("deep"),
            tokenizer: &self.tokenizer,
            vocabulary: &self.vocabulary,
            max_seq_length: 8,
            threads: 2,
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.folder.path().join("deep"));
        folder.map_or(Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
    }
}

fn all(table: &FeatureTable) -> Vec<(Vec<u32>, u16)> {
    let row = |row| (table.row(row).ids.to_vec(), table.row(row).second);
    (0..table.len()).map(row).collect()
}

#[test]
fn what_was_made_once_is_found_the_next_time() {
    let place = Place::new();
    let rows = rows("b", Some("a"));
    let made = place.cache().features(&rows);
    assert!(matches!(made, FeatureTable::Made(_)));
    let found = place.cache().features(&rows);
    assert!(matches!(found, FeatureTable::Mapped(_)));
    assert_eq!(all(&found), all(&made));
    assert_eq!(found.row(7), Features { ids: &[2, 5, 3, 4, 3], second: 3 });
    assert_eq!((found.length(7), found.len()), (5, WORTH_A_FILE));
}

#[test]
fn few_rows_are_not_kept() {
    let place = Place::new();
    let table = place.cache().features(&rows("a", None)[..WORTH_A_FILE - 1]);
    assert_eq!(table.len(), WORTH_A_FILE - 1);
    assert_eq!(place.files(), Vec::<PathBuf>::new());
    assert!(place.cache().features(&[]).is_empty());
}

#[test]
fn whatever_features_follow_from_names_the_file() {
    let place = Place::new();
    let cache = place.cache();
    let key = |text_a, text_b| cache.key(&rows(text_a, text_b));
    let first = key("a b", None);
    assert_eq!(first, key("a b", None));
    let cased = tokenizer(false);
    let vocabulary = Digest::of_bytes(b"another");
    let others = [
        ("another text", key("a c", None)),
        ("a second text", key("a b", Some("b"))),
        ("an empty second text", key("a b", Some(""))),
        ("a text that moved to the second", key("a", Some(" b"))),
        ("a row less", cache.key(&rows("a b", None)[1..])),
        ("another length", FeatureCache { max_seq_length: 9, ..place.cache() }.key(&rows("a b", None))),
        ("upper case", FeatureCache { tokenizer: &cased, ..place.cache() }.key(&rows("a b", None))),
        ("another vocabulary", FeatureCache { vocabulary: &vocabulary, ..place.cache() }.key(&rows("a b", None))),
    ];
    for (number, (name, key)) in others.iter().enumerate() {
        assert_ne!(*key, first, "{name}");
        assert!(others[..number].iter().all(|(_, other)| other != key), "{name}");
    }
    let more_threads = FeatureCache { threads: 1, ..place.cache() };
    assert_eq!(more_threads.key(&rows("a b", None)), first, "threads change nothing");
}

#[test]
fn a_damaged_file_is_made_again() {
    let place = Place::new();
    let rows = rows("a", None);
    let expected = all(&place.cache().features(&rows));
    let path = place.files().remove(0);
    let whole = fs::read(&path).unwrap();
    for damaged in [&b""[..], &whole[..50], &whole[..whole.len() - 1]] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, damaged).unwrap();
        assert_eq!(all(&place.cache().features(&rows)), expected);
        assert!(fs::read(&path).unwrap() == whole, "and stands there whole again");
    }
}

#[test]
fn a_folder_that_cannot_be_written_costs_only_time() {
    let place = Place::new();
    fs::write(place.folder.path().join("deep"), "in the way").unwrap();
    assert_eq!(place.cache().features(&rows("a", None)).len(), WORTH_A_FILE);
}

proptest! {
    #[test]
    fn no_byte_of_a_file_can_change_unnoticed(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let key = [7; 32];
        let table = Table { ids: vec![1, 2, 3, 4, 5], ends: vec![2, 5], seconds: vec![2, 1] };
        let file = tempfile::tempfile().unwrap();
        write(&file, &key, &table).unwrap();
        // SAFETY: nobody else has the file.
        let mut bytes = unsafe { Mmap::map(&file).unwrap() }.to_vec();
        prop_assert_eq!(check(&bytes, &key, 2), Some(5));
        prop_assert_eq!(check(&bytes, &[8; 32], 2), None);
        prop_assert_eq!(check(&bytes, &key, 3), None);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        prop_assert_eq!(check(&bytes, &key, 2), None);
    }
}
