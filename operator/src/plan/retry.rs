//! Who pays for an attempt that failed, and when the next one starts.
//!
//! | how it ended | who pays |
//! |---|---|
//! | 64, 65, 66 | nobody: another try would end the same way |
//! | 70, 82, any other code or crash | the application's budget |
//! | 75, a kill, no exit status | the infrastructure's budget |
//! | 80, or killed for memory | a rung of the ladder: less memory, the same science |
//! | 81, or the runner went away | nobody if the training got further, else the infrastructure's budget |

use std::fmt;

use bam_crds::config::MICRO_BATCH_TOKENS;
use bam_crds::experiment::FailurePolicy;
use bam_crds::run::{AttemptRecord, Failures, HISTORY};
use bam_crds::{BamRunSpec, BamRunStatus, Digest, ExitReason, RunReport, log};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::size::shorten;
use super::status::time;

/// How an attempt ended, as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// When it was seen.
    pub at: Timestamp,
    /// The exit code, 128 + n for a signal n; absent if nobody saw it.
    pub code: Option<i32>,
    /// What happened to it, if that is known.
    pub disruption: Option<Disruption>,
    /// Its last word, if there is one.
    pub report: Option<RunReport>,
    /// Optimizer steps that were safe at its end; if it had no last word, those that it spoke of last.
    pub steps: u64,
    /// What else is known, where it had no last word: who stopped it, or the end of its log.
    pub note: String,
    /// The end of its log, as far as that is known; of a bounded number of its lines.
    pub log: String,
    /// How long it held a machine.
    pub held: Held,
}

/// How long an attempt held a machine, as far as anybody saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Before its trainer ran.
    pub idle: SignedDuration,
    /// While its trainer ran.
    pub ran: SignedDuration,
}

/// What can happen to an attempt from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// The system killed it because memory ran out.
    OutOfMemory,
    /// What had started it went away before it ended: on a laptop `bam` itself.
    RunnerGone,
}

/// Who pays for an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// Nobody.
    Nobody,
    /// The program's budget.
    Application,
    /// The budget of machine, network and store.
    Infrastructure,
    /// The out-of-memory ladder.
    Memory,
}

/// First pause after a failure; it doubles with every failure of the same budget.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
/// Letters that are kept of what earlier attempts said than the last one.
const EARLIER: usize = 256;
/// Longest pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

impl Ending {
    /// It is over, and nobody saw how.
    pub fn unseen(at: Timestamp) -> Self {
        let (note, log) = (String::new(), String::new());
        Self { at, code: None, disruption: None, report: None, steps: 0, note, log, held: Held::default() }
    }

    /// How it ended in the words of the contract; none if that says nothing about it.
    pub fn reason(&self) -> Option<ExitReason> {
        match (self.disruption, self.code) {
            (Some(Disruption::OutOfMemory), _) => Some(ExitReason::OutOfMemory),
            (_, Some(code)) => ExitReason::from_code(code),
            (_, None) => self.report.as_ref().map(|report| report.reason),
        }
    }

    /// Who pays, if `before` steps were safe already and the run can be cut into smaller batches or not.
    pub fn payer(&self, before: u64, has_batches: bool) -> Payer {
        let advanced = self.steps > before;
        match self.reason() {
            Some(ExitReason::BadConfig | ExitReason::BadData | ExitReason::MissingInput) => Payer::Nobody,
            Some(ExitReason::Internal | ExitReason::Diverged) => Payer::Application,
            Some(ExitReason::OutOfMemory) if has_batches => Payer::Memory,
            Some(ExitReason::Checkpointed) if advanced => Payer::Nobody,
            // A 0 comes here only if its work is not to be seen in the store.
            Some(
                ExitReason::Checkpointed
                | ExitReason::StoreUnavailable
                | ExitReason::OutOfMemory
                | ExitReason::Completed,
            ) => Payer::Infrastructure,
            None => match self.code {
                None if advanced && self.disruption == Some(Disruption::RunnerGone) => Payer::Nobody,
                None | Some(SIGTERM | SIGKILL) => Payer::Infrastructure,
                Some(_) => Payer::Application,
            },
        }
    }

    /// What a status remembers of it.
    pub fn record(&self, number: u32, started_at: Timestamp) -> AttemptRecord {
        let said = self.report.as_ref().map(|report| report.message.clone()).filter(|said| !said.is_empty());
        let said = said.unwrap_or_else(|| self.note.clone());
        let reason = self.reason();
        let has_failed = !matches!(reason, Some(ExitReason::Completed | ExitReason::Checkpointed));
        let mut log = if has_failed { log::tail(&self.log) } else { Vec::new() };
        log.retain(|line| !said.contains(line.trim()));
        AttemptRecord {
            number,
            reason,
            exit_code: self.code,
            message: said,
            log,
            started_at: time(started_at),
            finished_at: time(self.at),
            saved_steps: self.steps,
        }
    }
}

/// 128 + SIGTERM.
pub const SIGTERM: i32 = 143;
/// 128 + SIGKILL.
pub const SIGKILL: i32 = 137;

/// Adds an ended attempt to the books: who pays, and until when the next one waits.
pub fn charge(failures: &mut Failures, payer: Payer, run: &str) -> Option<SignedDuration> {
    let count = match payer {
        Payer::Nobody => return None,
        Payer::Memory => {
            failures.out_of_memory += 1;
            return None;
        }
        Payer::Application => &mut failures.application,
        Payer::Infrastructure => &mut failures.infrastructure,
    };
    *count += 1;
    Some(pause(run, *count))
}

/// Adds a record to a bounded history.
pub fn remember(history: &mut Vec<AttemptRecord>, record: AttemptRecord) {
    // All of a long sentence is kept of the last one.
    history.iter_mut().for_each(|earlier| shorten(&mut earlier.message, EARLIER));
    if !record.log.is_empty() {
        history.iter_mut().for_each(|earlier| earlier.log.clear());
    }
    history.push(record);
    let surplus = history.len().saturating_sub(HISTORY);
    history.drain(..surplus);
}

/// The pause before the next attempt: doubling, and up to a quarter longer by the run's name, so that runs which fail
/// together do not come back together.
fn pause(run: &str, failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let digest = Digest::of(&(run, failures));
    let share = digest.as_str().bytes().next().unwrap_or_default() % 16;
    let jitter = pause.as_millis() * i128::from(share) / 64;
    // Whole seconds: a status keeps no more.
    SignedDuration::from_secs((pause.as_millis() + jitter).div_euclid(1000) as i64)
}

/// A rung of the out-of-memory ladder: the same science with less memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Upper bound on the word pieces of a micro-batch.
    pub micro_batch_tokens: u32,
    /// A layer's activations are computed again for its gradients, instead of being kept.
    pub activation_checkpointing: bool,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "micro-batches of {} word pieces", self.micro_batch_tokens)?;
        f.write_str(if self.activation_checkpointing { " and activation checkpointing" } else { "" })
    }
}

/// The rung of the attempt after so many that ran out of memory: half the micro-batch each time, down to one row of full length,
/// and then activation checkpointing, which takes one more forward pass.
///
/// # Errors
/// If even that was too much: a sentence for a person.
pub fn rung(spec: &BamRunSpec, out_of_memory: u32) -> Result<Option<Rung>, String> {
    // A check of the inputs has no batches.
    let Some(config) = spec.config.as_ref().filter(|_| out_of_memory > 0) else {
        return Ok(None);
    };
    let floor = config.science.hyperparameters.max_seq_length;
    let given = config.execution.micro_batch_tokens.unwrap_or(MICRO_BATCH_TOKENS);
    let halved = |times: u32| given.checked_shr(times).unwrap_or_default();
    // A bound is tried once: the one that was cut off at one row of full length is the last.
    let rungs = (1..).take_while(|times| halved(times - 1) > floor).map(|times| (halved(times).max(floor), false));
    let rungs = rungs.chain([(floor, true)]);
    let mut rungs = rungs
        .map(|(micro_batch_tokens, activation_checkpointing)| Rung { micro_batch_tokens, activation_checkpointing });
    rungs.nth(out_of_memory as usize - 1).map(Some).ok_or_else(|| {
        format!(
            "ran out of memory even with micro-batches of one row ({floor} word pieces) and activation checkpointing: use a \
             machine with more memory, a shorter maxSeqLength, or a smaller model"
        )
    })
}

/// Why the budgets allow no further attempt, if they do not.
pub fn spent(failures: &Failures, policy: &FailurePolicy) -> Option<String> {
    let failures_of = |count: u32| if count == 1 { "1 failure".to_owned() } else { format!("{count} failures") };
    if failures.application > policy.application_retries {
        let failures = failures_of(failures.application);
        return Some(format!("{failures}, and failurePolicy.applicationRetries is {}", policy.application_retries));
    }
    (failures.infrastructure > policy.infrastructure_retries).then(|| {
        let failures = failures_of(failures.infrastructure);
        format!(
            "{failures} of machine or store, and failurePolicy.infrastructureRetries is {}",
            policy.infrastructure_retries
        )
    })
}

/// How an attempt ended, to continue "the last attempt …".
pub fn describe(record: &AttemptRecord) -> String {
    let how = match (record.reason, record.exit_code) {
        (Some(ExitReason::Completed), _) => "ended well, but left no whole manifest in the store".to_owned(),
        (Some(ExitReason::BadConfig), _) => "could not use its configuration".to_owned(),
        (Some(ExitReason::BadData), _) => "found data that do not fit".to_owned(),
        (Some(ExitReason::MissingInput), _) => "missed an input".to_owned(),
        (Some(ExitReason::Internal), _) => "had an internal error".to_owned(),
        (Some(ExitReason::StoreUnavailable), _) => "could not read or write the store".to_owned(),
        (Some(ExitReason::OutOfMemory), _) => "ran out of memory".to_owned(),
        (Some(ExitReason::Checkpointed), _) => {
            format!("was stopped at step {}", record.saved_steps)
        }
        (Some(ExitReason::Diverged), _) => "diverged".to_owned(),
        (None, None) => "went away without an exit status".to_owned(),
        (None, Some(SIGTERM)) => "was stopped before it had a checkpoint".to_owned(),
        (None, Some(SIGKILL)) => "was killed".to_owned(),
        (None, Some(code @ 129..=159)) => format!("crashed (signal {})", code - 128),
        (None, Some(101)) => "panicked (exit code 101)".to_owned(),
        (None, Some(code)) => format!("failed (exit code {code})"),
    };
    if record.message.is_empty() { how } else { format!("{how}: {}", record.message) }
}

/// The last lines of the log of the last attempt that failed, if they are known.
pub fn last_log(status: &BamRunStatus) -> Vec<String> {
    let mut failed = status.history.iter().rev().filter(|record| !record.log.is_empty());
    failed.next().map(|record| record.log.clone()).unwrap_or_default()
}

/// The policy in plain words, a line each.
pub fn in_words(policy: &FailurePolicy) -> Vec<String> {
    let retries = |count: u32| match count {
        0 => "not tried again".to_owned(),
        1 => "tried once more".to_owned(),
        count => format!("tried up to {count} more times"),
    };
    let pending = policy
        .pending_deadline_seconds
        .map(|seconds| format!("an attempt that is not at work {seconds} s after its beginning: not tried again"));
    let pause = match (policy.application_retries, policy.infrastructure_retries) {
        (0, 0) => None,
        _ => Some(format!(
            "before such another try: a pause of {} s, twice as long after each failure, at most {} min",
            FIRST_PAUSE.as_secs(),
            LONGEST_PAUSE.as_mins()
        )),
    };
    let always = [
        format!("a crash, an internal error or a diverged loss: {}", retries(policy.application_retries)),
        format!("a kill, a lost machine or an unreachable store: {}", retries(policy.infrastructure_retries)),
    ];
    let others = [
        "out of memory: tried again with half the micro-batch, down to one row, then activation checkpointing; what is learned \
             stays the same"
            .to_owned(),
        "stopped after a checkpoint: goes on where it was, at no cost".to_owned(),
        "bad options, data that do not fit or are missing: not tried again".to_owned(),
    ];
    always.into_iter().chain(pause).chain(others).chain(pending).collect()
}
