//! What a person sees while runs are under way: bars on a terminal, lines elsewhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use bam_crds::report::Stage;
use bam_crds::run::{Role, RunPhase};
use bam_crds::{BamExperimentStatus, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{describe, logging};
use crate::local::Screen;
use crate::pace::Pace;
use crate::plan::status::title;
use crate::plan::why::duration;

/// Bars where a person sits before a terminal and did not ask for `plain` lines. Starts the log, which goes with them.
pub fn open(plain: bool) -> Box<dyn Screen> {
    if plain || !std::io::stderr().is_terminal() {
        logging::start("info", None);
        return Box::new(Lines::default());
    }
    let bars = Bars::default();
    logging::start("warn", Some(&bars.bars));
    Box::new(bars)
}

/// A line per change of state, and one per tenth of the steps.
#[derive(Debug, Default)]
struct Lines {
    runs: RefCell<BTreeMap<String, Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    title: String,
    phase: Option<RunPhase>,
    stage: Option<Stage>,
    tenths: u64,
    pace: Pace,
}

impl Screen for Lines {
    fn experiment(&self, status: &BamExperimentStatus) {
        let trials = describe::trials(status);
        let mut runs = self.runs.borrow_mut();
        for summary in &status.runs {
            let shown = runs.entry(summary.name.clone()).or_default();
            shown.title = title(summary, trials);
            let before = shown.phase.replace(summary.phase);
            if before == Some(summary.phase) {
                continue;
            }
            let (run, title, message) = (&summary.name, &shown.title, &summary.message);
            match summary.phase {
                // What waits from the beginning waits for what is shown.
                RunPhase::Pending if before.is_none() => {}
                RunPhase::Pending => tracing::info!(run, "{title} {message}"),
                RunPhase::Running => tracing::info!(run, "{title} is under way"),
                RunPhase::Succeeded => tracing::info!(run, "{title} is done"),
                // All of a long list is said at the end.
                RunPhase::Failed => {
                    tracing::error!(run, "{title} failed: {}", message.lines().next().unwrap_or_default());
                }
            }
        }
    }

    fn progress(&self, run: &str, progress: &Progress) {
        let mut runs = self.runs.borrow_mut();
        let Some(shown) = runs.get_mut(run) else { return };
        let tenths = progress.done * 10 / progress.total.max(1);
        let eta = shown.pace.seconds_left(progress.stage, progress.done, progress.total);
        if shown.stage == Some(progress.stage) && shown.tenths == tenths {
            return;
        }
        (shown.stage, shown.tenths) = (Some(progress.stage), tenths);
        let numbers = numbers(progress, eta);
        let stage = progress.stage.words();
        let count = match progress.total {
            0 => String::new(),
            total => format!(" {} of {total}", progress.done),
        };
        tracing::info!(run, "{}: {stage}{count}{numbers}", shown.title);
    }
}

/// A bar per run.
#[derive(Debug, Default)]
struct Bars {
    bars: MultiProgress,
    runs: RefCell<BTreeMap<String, (ProgressBar, RunPhase, Pace)>>,
}

impl Bars {
    fn add(&self, title: String) -> ProgressBar {
        let style = "{prefix:<16} {bar:16.cyan/dim} {pos:>6}/{len:<6} {wide_msg}";
        // The template is a constant of this file, and the default style is not worse than none.
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        // A bar of nothing would look full: one that has not begun is 0 of 1.
        self.bars.add(ProgressBar::new(1).with_style(style).with_prefix(title))
    }
}

impl Screen for Bars {
    fn experiment(&self, status: &BamExperimentStatus) {
        let trials = describe::trials(status);
        let mut runs = self.runs.borrow_mut();
        for run in &status.runs {
            // A check of the inputs has nothing to count.
            if run.role == Role::Inputs && run.phase == RunPhase::Succeeded && !runs.contains_key(&run.name) {
                continue;
            }
            let new = || (self.add(title(run, trials)), RunPhase::Pending, Pace::default());
            let (bar, phase, _) = runs.entry(run.name.clone()).or_insert_with(new);
            *phase = run.phase;
            match run.phase {
                RunPhase::Pending => bar.set_message(run.message.clone()),
                RunPhase::Running => {}
                RunPhase::Succeeded => {
                    let length = bar.length().unwrap_or_default().max(1);
                    bar.set_length(length);
                    bar.set_position(length);
                    bar.set_message("done");
                }
                RunPhase::Failed => bar.set_message(format!("failed: {}", run.message)),
            }
        }
    }

    fn progress(&self, run: &str, progress: &Progress) {
        let mut runs = self.runs.borrow_mut();
        let Some((bar, phase, pace)) = runs.get_mut(run) else { return };
        if phase.is_final() {
            return;
        }
        let eta = pace.seconds_left(progress.stage, progress.done, progress.total);
        bar.set_length(progress.total.max(1));
        bar.set_position(progress.done);
        bar.set_message(format!("{}{}", progress.stage.words(), numbers(progress, eta)));
    }

    /// Leaves the bars as they are.
    fn finish(&self) {
        let runs = self.runs.borrow();
        runs.values().for_each(|(bar, ..)| bar.abandon());
        if !runs.is_empty() {
            // The last bar fills its line, and leaves the cursor on it.
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn numbers(progress: &Progress, eta: Option<f64>) -> String {
    let loss = progress.loss.map(|loss| format!(", loss {loss:.3}"));
    let speed = progress.rows_per_second.map(|rows| format!(", {rows:.0} rows/s"));
    let eta = eta.map(|seconds| format!(", {} left", duration(seconds.round() as u64)));
    [loss, speed, eta].into_iter().flatten().collect()
}
