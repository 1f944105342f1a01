//! The end of a log: the few lines that a report and a status keep of it.
//!
//! They are bounded, in order, and free of what a terminal would obey. What stands in a log stands here too, for everybody who may
//! read runs: a trainer writes no secret into it.

use std::collections::VecDeque;

use crate::report::Progress;

/// Lines that are kept.
pub const LINES: usize = 10;
/// Bytes of them all.
pub const BYTES: usize = 1024;
/// Bytes of one line.
const LINE_BYTES: usize = 256;

/// The last lines of a log that is still being written.
#[derive(Clone, Debug, Default)]
pub struct Tail(VecDeque<String>);

impl Tail {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// One more line. Of lines of progress that follow each other the last one stays: the others would drown the rest.
    pub fn push(&mut self, line: &str) {
        let line = printable(line);
        if line.is_empty() {
            return;
        }
        if is_progress(&line) && self.0.back().is_some_and(|last| is_progress(last)) {
            self.0.pop_back();
        }
        self.0.push_back(line);
        if self.0.len() > LINES {
            self.0.pop_front();
        }
    }

    /// The lines, the last one last: at most [`LINES`] and [`BYTES`].
    pub fn lines(&self) -> Vec<String> {
        let mut room = BYTES;
        let fits = |line: &&String| {
            let rest = room.checked_sub(line.len());
            room = rest.unwrap_or_default();
            rest.is_some()
        };
        let mut lines: Vec<_> = self.0.iter().rev().take_while(fits).cloned().collect();
        lines.reverse();
        lines
    }
}

/// The last lines of a text.
pub fn tail(text: &str) -> Vec<String> {
    let mut tail = Tail::new();
    text.lines().for_each(|line| tail.push(line));
    tail.lines()
}

/// Is this a line of progress, and no sentence for a person?
pub fn is_progress(line: &str) -> bool {
    serde_json::from_str::<Progress>(line).is_ok()
}

/// What a terminal shows of a line, without colours: of what was written over it the last, and no control characters.
fn printable(line: &str) -> String {
    let line = line.trim_end();
    let last = line.rsplit('\r').next().unwrap_or_default();
    let mut shown = String::new();
    let mut letters = last.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // ECMA-48: ESC [ parameters, and a letter from @ to ~ that ends them.
            '\u{1b}' if letters.next_if_eq(&'[').is_some() => {
                let _ = letters.by_ref().find(|end| ('@'..='~').contains(end));
            }
            '\t' => shown.push(' '),
            letter if letter.is_control() => {}
            letter => shown.push(letter),
        }
    }
    if shown.len() > LINE_BYTES {
        shown.truncate(shown.floor_char_boundary(LINE_BYTES - '…'.len_utf8()));
        shown.push('…');
    }
    shown.truncate(shown.trim_end().len());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_in_their_order() {
        let text: String = (1..=14).map(|number| format!("line {number}\n\n")).collect();
        let lines = tail(&text);
        assert_eq!((lines.len(), lines[0].as_str(), lines[9].as_str()), (LINES, "line 5", "line 14"));
        assert_eq!(tail(""), Vec::<String>::new());
    }

    #[test]
    fn they_are_short_whatever_is_written() {
        for unit in ["x", "ß", "🦀", "🦀x"] {
            let lines = tail(&format!("{}\n", unit.repeat(1000)).repeat(20));
            let bytes: usize = lines.iter().map(String::len).sum();
            assert!(
                (4..=LINES).contains(&lines.len()) && bytes <= BYTES,
                "{unit}: {} lines, {bytes} bytes",
                lines.len()
            );
            assert!(lines.iter().all(|line| line.ends_with('…') && line.starts_with(unit)), "{unit}: {lines:?}");
        }
    }

    #[test]
    fn nothing_in_them_moves_a_cursor() {
        for (written, shown) in [
            ("\u{1b}[1;31merror\u{1b}[0m: no\tspace", "error: no space"),
            ("  1 %\r 50 %\r100 %\r\n", "100 %"),
            ("a\u{7}b\u{8}c\u{0}d\u{9b}2Je", "abcd2Je"),
            ("ends in the middle \u{1b}[12", "ends in the middle"),
            ("    indented", "    indented"),
        ] {
            assert_eq!(tail(written), [shown], "{written:?}");
        }
        assert_eq!(tail("\u{1b}[2J\n\r\n \n"), Vec::<String>::new());
    }

    #[test]
    fn progress_does_not_drown_what_else_was_said() {
        let progress = |done: u32| format!("{{\"stage\":\"Training\",\"done\":{done},\"total\":99}}");
        let many: String = (1..=40).map(|done| progress(done) + "\n").collect();
        let lines = tail(&format!("warning: the disk is slow\n{many}what follows\n{}\n", progress(41)));
        assert_eq!(lines, ["warning: the disk is slow", &progress(40), "what follows", &progress(41)]);
    }
}
