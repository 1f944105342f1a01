//! What this process says on standard error, and the end of all that it said: a report of a failure tells that too.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bam_crds::log::Tail;

/// As there is one standard error, there is one of these.
static TAIL: Mutex<Tail> = Mutex::new(Tail::new());

/// Writes a line (or several) to standard error. Nobody may be listening any more, and that is no reason to stop training.
pub fn line(text: &str) {
    remember(text);
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Keeps in mind what was said elsewhere.
pub fn remember(text: &str) {
    text.lines().for_each(|line| lock().push(line));
}

/// The last lines.
pub fn tail() -> Vec<String> {
    lock().lines()
}

fn lock() -> MutexGuard<'static, Tail> {
    // Whoever panicked while holding it left lines.
    TAIL.lock().unwrap_or_else(PoisonError::into_inner)
}
