//! BERT's tokenizer by the rules of November 2018, which are the reference's.
//!
//! Written here rather than taken from a library, because the libraries moved on: they call words
//! over 100 characters unknown (the reference: over 200), protect a literal `[SEP]` in a text, and
//! some normalise to NFC first. Text goes through in one pass and without an allocation per row;
//! words of ASCII letters, nearly all of GLUE, take a short way.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

/// Words of more characters than this are `[UNK]` as a whole.
const LONGEST_WORD: usize = 200;

/// What fills the places after a row's last piece. The reference writes a literal 0, whatever the
/// vocabulary says; attention never looks there.
pub const PAD_ID: u32 = 0;

/// The id of the last vocabulary line that holds a given piece, by piece.
type Ids = HashMap<Box<str>, u32, BuildHasherDefault<PieceHasher>>;

/// A vocabulary and the way texts are cut into its pieces.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// Pieces that may begin a word.
    begins: Ids,
    /// Pieces that may continue a word, without their `##`.
    continues: Ids,
    /// Bytes of the longest piece: a longer match need not be looked for.
    longest: usize,
    lower: bool,
    lines: usize,
    unknown: u32,
    cls: u32,
    sep: u32,
}

const TAKE_THE_MODELS: &str = "take the vocab.txt that came with the model";

/// Why a vocabulary cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabError {
    /// The file could not be read.
    #[error("{}: the vocabulary cannot be read: {source}; check that the store is mounted and readable", .path.display())]
    Read {
        /// The file as it was opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not UTF-8.
    #[error("{}:{line}: the line is not UTF-8; {TAKE_THE_MODELS}", .path.display())]
    NotUtf8 {
        /// The file as it was opened.
        path: PathBuf,
        /// Line from 1.
        line: usize,
    },
    /// Pieces that every BERT vocabulary has are not there.
    #[error("{}: the vocabulary has no {}; {TAKE_THE_MODELS}", .path.display(), .missing.join(", "))]
    MissingPieces {
        /// The file as it was opened.
        path: PathBuf,
        /// The absent ones of `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]`.
        missing: Vec<&'static str>,
    },
}

impl VocabError {
    /// Whether the file was not there at all (exit code 66), rather than wrong (65).
    pub fn is_missing_input(&self) -> bool {
        matches!(self, VocabError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether reading itself failed, so that another attempt may fare better (exit code 75).
    pub fn may_pass(&self) -> bool {
        matches!(self, VocabError::Read { .. }) && !self.is_missing_input()
    }
}

/// Buffers that a thread keeps from one text to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The characters since the last space.
    word: String,
    /// The same, lower-cased and without accents.
    folded: String,
}

impl Tokenizer {
    /// Reads a `vocab.txt`: one piece a line, its id is the line's number from 0, and a piece that
    /// stands twice has the later id. `lower` is the reference's `do_lower_case`.
    ///
    /// # Errors
    /// See [`VocabError`].
    pub fn from_vocab(path: &Path, lower: bool) -> Result<Tokenizer, VocabError> {
        let bytes = std::fs::read(path).map_err(|source| VocabError::Read { path: path.into(), source })?;
        Tokenizer::from_bytes(&bytes, path, lower)
    }

    /// [`from_vocab`](Tokenizer::from_vocab) of bytes at hand; `path` is for messages only.
    ///
    /// # Errors
    /// All but [`VocabError::Read`].
    pub fn from_bytes(bytes: &[u8], path: &Path, lower: bool) -> Result<Tokenizer, VocabError> {
        let text = std::str::from_utf8(bytes).map_err(|e| VocabError::NotUtf8 {
            path: path.into(),
            line: bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1,
        })?;
        let (mut begins, mut continues) = (Ids::default(), Ids::default());
        let (mut lines, mut longest) = (0, 0);
        for (id, line) in text.split_terminator('\n').enumerate() {
            let piece = line.trim_matches(is_python_space);
            begins.insert(piece.into(), id as u32);
            if let Some(rest) = piece.strip_prefix("##") {
                continues.insert(rest.into(), id as u32);
            }
            longest = longest.max(piece.len());
            lines = id + 1;
        }
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
        let [Some(_), Some(unknown), Some(cls), Some(sep)] = special.map(|s| begins.get(s).copied()) else {
            let missing = special.into_iter().filter(|s| !begins.contains_key(*s)).collect();
            return Err(VocabError::MissingPieces { path: path.into(), missing });
        };
        Ok(Tokenizer { begins, continues, longest, lower, lines, unknown, cls, sep })
    }

    /// Whether texts are lower-cased and lose their accents.
    pub fn lower_cases(&self) -> bool {
        self.lower
    }

    /// Lines of the vocabulary: ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.lines
    }

    /// Id of `[CLS]`, which opens every row.
    pub fn cls(&self) -> u32 {
        self.cls
    }

    /// Id of `[SEP]`, which closes every text of a row.
    pub fn sep(&self) -> u32 {
        self.sep
    }

    /// The piece ids of a text, without `[CLS]` and `[SEP]`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut Scratch::default(), &mut ids);
        ids
    }

    /// Appends the piece ids of a text to `ids`.
    pub fn encode_into(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        scratch.word.clear();
        for c in text.chars() {
            match class(c) {
                Class::Dropped => {}
                Class::Space => self.end_of_word(scratch, ids),
                Class::Ideograph => {
                    self.end_of_word(scratch, ids);
                    scratch.word.push(c);
                    self.end_of_word(scratch, ids);
                }
                Class::Letter => scratch.word.push(c),
            }
        }
        self.end_of_word(scratch, ids);
    }

    /// Folds what stands between two spaces, cuts it at punctuation, and cuts that into pieces.
    fn end_of_word(&self, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let Scratch { word, folded } = scratch;
        if self.lower && word.is_ascii() {
            word.make_ascii_lowercase();
        } else if self.lower {
            // Lower-casing sees the whole word, for a sigma at its end has another form.
            folded.clear();
            folded.extend(word.to_lowercase().nfd().filter(|c| !is_mark(*c)));
            std::mem::swap(word, folded);
        }
        let mut rest = word.as_str();
        while !rest.is_empty() {
            let cut = rest.find(is_punctuation).unwrap_or(rest.len());
            let (before, after) = rest.split_at(cut);
            self.pieces(before, ids);
            let mark = after.chars().next().map_or(0, char::len_utf8);
            self.pieces(&after[..mark], ids);
            rest = &after[mark..];
        }
        word.clear();
    }

    /// WordPiece: the longest piece that begins the word, then the longest that goes on, and so
    /// forth. A word that does not come out even is `[UNK]`, all of it.
    fn pieces(&self, word: &str, ids: &mut Vec<u32>) {
        let (length, before) = (word.len(), ids.len());
        if length > LONGEST_WORD && word.chars().count() > LONGEST_WORD {
            return ids.push(self.unknown);
        }
        let mut start = 0;
        while start < length {
            let known = if start == 0 { &self.begins } else { &self.continues };
            let mut end = word.floor_char_boundary((start + self.longest).min(length));
            let id = loop {
                if end == start {
                    break None;
                }
                if let Some(id) = known.get(&word[start..end]) {
                    break Some(*id);
                }
                end = word.floor_char_boundary(end - 1);
            };
            let Some(id) = id else {
                ids.truncate(before);
                return ids.push(self.unknown);
            };
            ids.push(id);
            start = end;
        }
    }
}

/// What a character is to the first pass over a text.
enum Class {
    /// Not text: controls, formats, unassigned, private use, U+FFFD.
    Dropped,
    /// Parts words.
    Space,
    /// A word by itself.
    Ideograph,
    /// Anything else, punctuation included.
    Letter,
}

fn class(c: char) -> Class {
    use GeneralCategory as G;
    match c {
        ' ' | '\t' | '\n' | '\r' => Class::Space,
        '!'..='~' => Class::Letter,
        '\u{fffd}' => Class::Dropped,
        _ if is_ideograph(c) => Class::Ideograph,
        _ => match get_general_category(c) {
            G::Control | G::Format | G::Surrogate | G::PrivateUse | G::Unassigned => Class::Dropped,
            G::SpaceSeparator | G::LineSeparator | G::ParagraphSeparator => Class::Space,
            _ => Class::Letter,
        },
    }
}

/// The blocks of Chinese characters that BERT takes one by one. Not Hangul nor Kana.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{20000}'..='\u{2A6DF}'
        | '\u{2A700}'..='\u{2B73F}' | '\u{2B740}'..='\u{2B81F}' | '\u{2B820}'..='\u{2CEAF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}')
        && get_general_category(c) != GeneralCategory::Unassigned
}

/// All of ASCII that is no letter, digit or space counts, `$` and `^` too; beyond, category P.
fn is_punctuation(c: char) -> bool {
    use GeneralCategory as G;
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    matches!(
        get_general_category(c),
        G::ConnectorPunctuation
            | G::DashPunctuation
            | G::OpenPunctuation
            | G::ClosePunctuation
            | G::InitialPunctuation
            | G::FinalPunctuation
            | G::OtherPunctuation
    )
}

/// Accents: category Mn.
fn is_mark(c: char) -> bool {
    !c.is_ascii() && get_general_category(c) == GeneralCategory::NonspacingMark
}

/// What Python's `str.strip` strips: Unicode's white space and four old separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// FNV-1a. The keys come from a vocabulary file that its owner chose, so nobody floods the table,
/// and pieces are short: this is several times as fast as the standard hasher.
#[derive(Debug, Clone, Copy)]
struct PieceHasher(u64);

impl Default for PieceHasher {
    fn default() -> Self {
        PieceHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for PieceHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[path = "tokenize_tests.rs"]
mod tests;
