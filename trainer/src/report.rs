//! What a trainer says while it works: a progress bar or plain lines for a person, JSON lines for a program.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bam_crds::report::Stage;
use bam_crds::{Digest, Progress, RunReport};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use crate::failure::{Failure, Steps};
use crate::journal::StepRecord;
use crate::log;
use crate::rates::{Counts, Rates, Window};

/// A program gets at most one line in this time, a stage's first and last one not counted.
const PACE: Duration = Duration::from_millis(500);
/// A log for a person gets a line this often.
const PLAIN_PACE: Duration = Duration::from_secs(10);

/// What is known of an attempt at this moment, for other threads to read.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Known>>);

/// What a [`Board`] says.
#[derive(Clone, Debug)]
pub struct Known {
    /// What is going on.
    pub progress: Progress,
    /// The run, once it is known; a check of the inputs has none.
    pub run: Option<Digest>,
    /// How far the training is.
    pub steps: Steps,
    /// Optimizer steps that are done, if not saved.
    pub steps_done: u64,
    /// What else is known of the training, while it goes on.
    pub training: Training,
    /// Seconds that the last checkpoint took to write.
    pub checkpoint_seconds: Option<f64>,
}

/// Numbers of the last optimizer steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Training {
    /// Mean loss of the rows of each task, in the last step that had some.
    pub task_losses: BTreeMap<String, f64>,
    /// Real word pieces per second, lately.
    pub tokens_per_second: Option<f64>,
    /// Share of the steps' time in which they waited for their rows, lately.
    pub data_wait_ratio: Option<f64>,
}

/// Says what is going on.
#[derive(Debug)]
pub struct Reporter {
    voice: Voice,
    board: Board,
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
    said: Instant,
    window: Window,
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
        let state = State { said: now, window: Window::new(), begin: (now, 0) };
        let voice = match std::io::stdout().is_terminal() {
            true => Voice::Bar(ProgressBar::new(0)),
            false => without_terminal,
        };
        Self { voice, board: Board::new(), state: RefCell::new(state) }
    }

    /// Where other threads can read what it says.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The bar, if there is one.
    pub fn bar(&self) -> Option<&ProgressBar> {
        match &self.voice {
            Voice::Bar(bar) => Some(bar),
            Voice::Json | Voice::Plain => None,
        }
    }

    /// A run begins, of which earlier attempts seem to have saved so many steps.
    pub fn run(&self, science_hash: &Digest, saved: u64) {
        self.board.change(|known| {
            known.run = Some(science_hash.clone());
            known.steps = Steps { saved, ..Steps::default() };
            known.steps_done = saved;
        });
    }

    /// How far the training is.
    pub fn steps(&self, steps: Steps) {
        self.board.change(|known| known.steps = steps);
    }

    /// A stage of `total` units begins, `done` of which were done by an earlier attempt.
    pub fn stage(&self, stage: Stage, done: u64, total: u64) {
        let progress = self.board.progress(|known| *known = Progress::new(stage, done, total));
        self.board.change(|known| known.training = Training::default());
        let mut state = self.state.borrow_mut();
        state.window = Window::new();
        state.begin = (Instant::now(), done);
        match &self.voice {
            Voice::Bar(bar) => {
                bar.set_style(style(stage));
                bar.set_message(stage.words());
                bar.set_length(total);
                bar.set_position(done);
                bar.reset_eta();
            }
            Voice::Json => state.say(&progress),
            Voice::Plain => {}
        }
    }

    /// `done` units of the stage are done; `rows` more rows went through.
    pub fn advance(&self, done: u64, rows: u64) {
        let rates = self.state.borrow_mut().window.add(Counts { rows, ..Counts::default() });
        self.say(done, rates, None);
    }

    /// An optimizer step is done. One that was skipped leaves the losses of those before it standing.
    pub fn stepped(&self, record: &StepRecord<'_>) {
        let StepRecord { tokens, took, waited, .. } = *record;
        let rates = self.state.borrow_mut().window.add(Counts { rows: record.rows(), tokens, steps: took, waited });
        self.board.change(|known| {
            let losses = record.task_losses.iter().filter(|(_, loss)| loss.is_finite());
            known.training.task_losses.extend(losses.map(|(task, loss)| ((*task).to_owned(), *loss)));
            if let Some(rates) = rates {
                known.training.tokens_per_second = Some(rates.tokens);
                known.training.data_wait_ratio = rates.data_wait;
            }
        });
        self.say(record.step + 1, rates, Some(record.loss).filter(|loss| loss.is_finite()));
    }

    /// A checkpoint took so long to write.
    pub fn checkpoint(&self, took: Duration) {
        self.board.change(|known| known.checkpoint_seconds = Some(took.as_secs_f64()));
    }

    /// Says how far the stage is, if it is time to say something.
    fn say(&self, done: u64, rates: Option<Rates>, loss: Option<f64>) {
        let mut state = self.state.borrow_mut();
        let progress = self.board.progress(|known| {
            known.done = done;
            known.loss = loss.or(known.loss);
            known.rows_per_second = rates.map(|rates| rates.rows).or(known.rows_per_second);
        });
        let last = done == progress.total;
        match &self.voice {
            Voice::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(sentence(&progress));
            }
            Voice::Json if last || state.said.elapsed() >= PACE => state.say(&progress),
            Voice::Plain if last || state.said.elapsed() >= PLAIN_PACE => {
                state.said = Instant::now();
                log::line(&state.line(&progress));
            }
            Voice::Json | Voice::Plain => {}
        }
    }

    /// A line that is worth keeping, for a person.
    pub fn note(&self, text: &str) {
        match self.bar() {
            Some(bar) => bar.suspend(|| log::line(text)),
            None => log::line(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = self.bar() {
            bar.finish_and_clear();
        }
    }
}

impl Board {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Known {
            progress: Progress::new(Stage::Preparing, 0, 0),
            run: None,
            steps: Steps::default(),
            steps_done: 0,
            training: Training::default(),
            checkpoint_seconds: None,
        })))
    }

    /// What is known now.
    pub fn read(&self) -> Known {
        self.change(|known| known.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        // Whoever panicked while holding it left numbers, which are right or old.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn progress(&self, change: impl FnOnce(&mut Progress)) -> Progress {
        self.change(|known| {
            change(&mut known.progress);
            known.progress.resumed_from = known.steps.resumed_from;
            if known.progress.stage == Stage::Training {
                known.steps_done = known.progress.done;
            }
            known.progress.clone()
        })
    }
}

impl Known {
    /// The report of an attempt that ends now and here.
    pub fn report(&self, failure: &Failure) -> RunReport {
        RunReport {
            science_hash: self.run.clone(),
            total_steps: self.steps.total,
            saved_steps: self.steps.saved,
            resumed_from: self.steps.resumed_from,
            skipped_steps: self.steps.skipped,
            missing: failure.missing.clone(),
            changed: failure.changed.clone(),
            ..RunReport::new(failure.reason, failure.message.clone())
        }
    }
}

impl State {
    /// As the reference logs: `120/234 = 51.3%, 2.1 steps/s, elapsed 57, ETA 54, loss 12.3456`.
    fn line(&self, progress: &Progress) -> String {
        let Progress { stage, done, total, loss, .. } = progress;
        let (since, before) = self.begin;
        let elapsed = since.elapsed().as_secs_f64();
        let rate = (done - before) as f64 / elapsed.max(1e-3);
        let left = total.saturating_sub(*done) as f64 / rate.max(1e-9);
        let percent = 100.0 * *done as f64 / (*total).max(1) as f64;
        let (elapsed, left) = (clock(elapsed as u64), clock(left as u64));
        let loss = loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
        if *stage == Stage::Fetching {
            let (done, rate) = (DecimalBytes(*done), DecimalBytes(rate as u64));
            let of = match total {
                0 => String::new(),
                total => format!(" of {} = {percent:.1}%", DecimalBytes(*total)),
            };
            return format!("{}: {done}{of}, {rate}/s, elapsed {elapsed}, ETA {left}", stage.words());
        }
        let (stage, unit) = (stage.words(), unit(*stage));
        format!("{stage}: {done}/{total} = {percent:.1}%, {rate:.1} {unit}/s, elapsed {elapsed}, ETA {left}{loss}")
    }

    fn say(&mut self, progress: &Progress) {
        self.said = Instant::now();
        let line = serde_json::to_string(progress).expect("progress is plain data");
        log::remember(&line);
        // Nobody may be listening any more, and that is no reason to stop training.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// What stands beside the bar.
fn sentence(progress: &Progress) -> String {
    let rate = progress.rows_per_second.map(|rate| format!("  {rate:.0} rows/s"));
    let loss = progress.loss.map(|loss| format!("  loss {loss:.4}"));
    format!("{}{}{}", progress.stage.words(), rate.unwrap_or_default(), loss.unwrap_or_default())
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

fn style(stage: Stage) -> ProgressStyle {
    let template = match stage {
        Stage::Fetching => {
            "{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}  {elapsed} + {eta}  {msg}"
        }
        _ => "{bar:30} {pos}/{len} {percent}%  {elapsed} + {eta}  {msg}",
    };
    ProgressStyle::with_template(template).expect("the template is a constant")
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
