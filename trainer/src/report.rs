//! What a trainer says while it works: a progress bar or plain lines for a person, JSON lines for a program.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use bam_crds::Progress;
use bam_crds::report::Stage;
use indicatif::{ProgressBar, ProgressStyle};

/// A program gets at most one line in this time, a stage's first and last one not counted.
const PACE: Duration = Duration::from_millis(500);
/// Rates are over about this time.
const WINDOW: Duration = Duration::from_secs(5);

/// A log for a person gets a line this often.
const PLAIN_PACE: Duration = Duration::from_secs(10);

/// Says what is going on.
#[derive(Debug)]
pub struct Reporter {
    voice: Voice,
    state: RefCell<State>,
}

#[derive(Debug)]
enum Voice {
    Bar(ProgressBar),
    Json,
    Plain,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    said: Instant,
    rows: u64,
    window: (Instant, u64),
    /// When the stage began, and what was done by then.
    begin: (Instant, u64),
}

impl Reporter {
    /// A bar if standard output is a terminal, else JSON lines.
    pub fn detect() -> Self {
        Self::new(Voice::Json)
    }

    /// A bar if standard output is a terminal, else a plain line now and then on standard error.
    pub fn for_a_person() -> Self {
        Self::new(Voice::Plain)
    }

    fn new(without_terminal: Voice) -> Self {
        let now = Instant::now();
        let progress = Progress { stage: Stage::Preparing, done: 0, total: 0, loss: None, rows_per_second: None };
        let state = State { progress, said: now, rows: 0, window: (now, 0), begin: (now, 0) };
        let voice = match std::io::stdout().is_terminal() {
            true => Voice::Bar(ProgressBar::new(0).with_style(style())),
            false => without_terminal,
        };
        Self { voice, state: RefCell::new(state) }
    }

    /// A stage of `total` units begins, `done` of which were done by an earlier attempt.
    pub fn stage(&self, stage: Stage, done: u64, total: u64) {
        let mut state = self.state.borrow_mut();
        state.progress = Progress { stage, done, total, loss: None, rows_per_second: None };
        state.rows = 0;
        state.window = (Instant::now(), 0);
        state.begin = (Instant::now(), done);
        match &self.voice {
            Voice::Bar(bar) => {
                bar.set_message(format!("{stage:?}"));
                bar.set_length(total);
                bar.set_position(done);
                bar.reset_eta();
            }
            Voice::Json => state.say(),
            Voice::Plain => {}
        }
    }

    /// `done` units of the stage are done; `rows` more rows went through, with this loss if it is known.
    pub fn advance(&self, done: u64, rows: u64, loss: Option<f64>) {
        let mut state = self.state.borrow_mut();
        state.progress.done = done;
        state.progress.loss = loss.or(state.progress.loss);
        state.count(rows);
        let last = done == state.progress.total;
        match &self.voice {
            Voice::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(state.sentence());
            }
            Voice::Json if last || state.said.elapsed() >= PACE => state.say(),
            Voice::Plain if last || state.said.elapsed() >= PLAIN_PACE => {
                state.said = Instant::now();
                write_line(&state.line());
            }
            Voice::Json | Voice::Plain => {}
        }
    }

    /// A line that is worth keeping, for a person.
    pub fn note(&self, text: &str) {
        match &self.voice {
            Voice::Bar(bar) => bar.suspend(|| write_line(text)),
            Voice::Json | Voice::Plain => write_line(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Voice::Bar(bar) = &self.voice {
            bar.finish_and_clear();
        }
    }
}

impl State {
    fn count(&mut self, rows: u64) {
        self.rows += rows;
        let (since, before) = self.window;
        let elapsed = since.elapsed();
        if elapsed >= PACE {
            self.progress.rows_per_second = Some((self.rows - before) as f64 / elapsed.as_secs_f64());
        }
        if elapsed >= WINDOW {
            self.window = (Instant::now(), self.rows);
        }
    }

    fn sentence(&self) -> String {
        let rate = self.progress.rows_per_second.map(|rate| format!("  {rate:.0} rows/s"));
        let loss = self.progress.loss.map(|loss| format!("  loss {loss:.4}"));
        format!("{:?}{}{}", self.progress.stage, rate.unwrap_or_default(), loss.unwrap_or_default())
    }

    /// As the reference logs: `120/234 = 51.3%, 2.1 steps/s, elapsed 57, ETA 54, loss 12.3456`.
    fn line(&self) -> String {
        let Progress { stage, done, total, loss, .. } = &self.progress;
        let (since, before) = self.begin;
        let elapsed = since.elapsed().as_secs_f64();
        let rate = (done - before) as f64 / elapsed.max(1e-3);
        let left = (total - done) as f64 / rate.max(1e-9);
        let (percent, unit) = (100.0 * *done as f64 / (*total).max(1) as f64, unit(*stage));
        let (elapsed, left) = (clock(elapsed as u64), clock(left as u64));
        let loss = loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
        format!("{stage:?}: {done}/{total} = {percent:.1}%, {rate:.1} {unit}/s, elapsed {elapsed}, ETA {left}{loss}")
    }

    fn say(&mut self) {
        self.said = Instant::now();
        let line = serde_json::to_string(&self.progress).expect("progress is plain data");
        // Nobody may be listening any more, and that is no reason to stop training.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// To standard error. Nobody may be listening any more, and that is no reason to stop training.
fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a stage counts.
fn unit(stage: Stage) -> &'static str {
    if stage == Stage::Training { "steps" } else { "rows" }
}

/// Seconds as the reference writes them: H:MM:SS without what is zero in front.
fn clock(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} {percent}%  {elapsed} + {eta}  {msg}")
        .expect("the template is a constant")
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn durations_are_written_as_the_reference_writes_them() {
        for (seconds, text) in [(0, "0"), (59, "59"), (65, "1:05"), (3600, "1:00:00"), (3661, "1:01:01")] {
            assert_eq!(clock(seconds), text);
        }
    }
}
