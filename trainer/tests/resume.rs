//! Stopped at any moment and started again, a run ends with the bytes of one that was never touched.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bam_crds::report::Stage;
use bam_crds::{ExitReason, Progress, RunConfig, RunReport};
use bam_trainer::random::Stream;
use common::Fixture;

const SHORT: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "1", "learningRate": "1e-3"}"#;

/// Nobody waits longer for the next word of a trainer. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a run is at when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Preparing,
    Training,
    WritingACheckpoint,
    Evaluating,
    WritingTargets,
    Saving,
}

use Moment::{Evaluating, Preparing, Saving, Training, WritingACheckpoint, WritingTargets};

/// One run is stopped so often, in this order: each attempt gets as far as that.
const STOPS: [Moment; 10] = [
    Preparing,
    Training,
    WritingACheckpoint,
    Training,
    WritingACheckpoint,
    Preparing,
    Evaluating,
    WritingTargets,
    Evaluating,
    Saving,
];

impl Moment {
    fn of(stage: Stage) -> Self {
        match stage {
            Stage::Fetching | Stage::Preparing => Preparing,
            Stage::Training => Training,
            Stage::Evaluating => Evaluating,
            Stage::WritingTargets => WritingTargets,
            Stage::Saving => Saving,
        }
    }

    /// The moment whose first progress line comes before this one.
    fn begins_with(self) -> Self {
        if self == WritingACheckpoint { Training } else { self }
    }
}

/// A trainer at work, and what it says of its stages and when.
struct Attempt {
    child: Child,
    said: Receiver<(Instant, Moment)>,
    /// What was heard last of that.
    heard: Moment,
    /// Dropped: its words are listened to again.
    hold: Option<Sender<()>>,
}

impl Attempt {
    /// From the first word of `held` on nobody listens to it: it can say one more, and waits with the one after that. So it
    /// gets no further than the first word of the next stage, however long it takes the test to send its signal.
    fn start(command: &mut Command, held: Option<Moment>) -> Self {
        let (reader, writer) = pipe_of_one_line();
        let child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        // The writer's end in here has to go, or there is no end of the lines.
        command.stdout(Stdio::null());
        let ((sender, said), (hold, held_back)) = (channel(), channel());
        thread::spawn(move || {
            // A kill may cut the last line.
            let lines = BufReader::new(reader).lines().map_while(Result::ok);
            for progress in lines.filter_map(|line| serde_json::from_str::<Progress>(&line).ok()) {
                let moment = Moment::of(progress.stage);
                let _ = sender.send((Instant::now(), moment));
                if held.is_some_and(|held| moment >= held) {
                    let _: Result<(), _> = held_back.recv();
                }
            }
        });
        Self { child, said, heard: Preparing, hold: held.map(|_| hold) }
    }

    /// Waits for the first word of a moment, or for the end.
    fn reaches(&mut self, moment: Moment) {
        while self.heard < moment {
            match self.said.recv_timeout(PATIENCE) {
                Ok((_, now)) => self.heard = now,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("nothing was heard of {moment:?}"),
            }
        }
    }

    /// Waits until a file of a checkpoint is being written, or none will be any more. Is one?
    fn writes_into(&mut self, checkpoints: &Path) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() && self.heard <= Training && Instant::now() < deadline {
            self.heard = self.said.try_iter().last().map_or(self.heard, |(_, moment)| moment);
            if has_unfinished(checkpoints) {
                return true;
            }
            thread::sleep(Duration::from_micros(100));
        }
        false
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child of ours that was not waited for, so its pid is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// How it ended, and what it said last.
    fn ended(mut self) -> (ExitStatus, Moment) {
        drop(self.hold.take());
        let status = self.child.wait().unwrap();
        (status, self.said.iter().last().map_or(self.heard, |(_, moment)| moment))
    }
}

/// A pipe that holds one line: who writes the next one waits until that is read.
fn pipe_of_one_line() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let fd = writer.as_raw_fd();
    // SAFETY: the descriptor is open. Each line is one write, which is one packet, which has a page of its own.
    let set = unsafe { [libc::fcntl(fd, libc::F_SETFL, libc::O_DIRECT), libc::fcntl(fd, libc::F_SETPIPE_SZ, 4096)] };
    assert_eq!(set, [0, 4096], "{}", std::io::Error::last_os_error());
    (reader, writer)
}

fn has_unfinished(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|kind| kind == "partial"))
}

/// A student of two tasks, its trained teachers, and what becomes of it if nobody disturbs it.
struct Undisturbed {
    fixture: Fixture,
    config: RunConfig,
    files: Vec<(String, Vec<u8>)>,
    /// How long it was at what, about.
    lengths: BTreeMap<Moment, Duration>,
}

impl Undisturbed {
    fn new() -> Self {
        let fixture = Fixture::new();
        let teachers = ["rte", "mrpc"].map(|task| {
            let config = fixture.config(&[task], SHORT, &[]);
            assert_eq!(fixture.train(&config, task).reason, ExitReason::Completed);
            config.science_hash
        });
        let mut config = fixture.config(&["rte", "mrpc"], SHORT, &teachers.each_ref());
        // Many checkpoints, and small micro-batches: there is time to hit something.
        config.execution.save_checkpoints_steps = Some(1);
        config.execution.micro_batch_tokens = Some(40);
        let mut undisturbed = Self { fixture, config, files: Vec::new(), lengths: BTreeMap::new() };

        let store = undisturbed.another_store();
        let begin = Instant::now();
        let attempt = Attempt::start(&mut undisturbed.command(&store, "undisturbed"), None);
        let said: Vec<_> = attempt.said.iter().collect();
        let end = Instant::now();
        assert!(attempt.ended().0.success());
        undisturbed.files = undisturbed.files_in(&store);
        let first_of = |moment: Moment| said.iter().find(|(_, now)| *now >= moment).map_or(end, |(at, _)| *at);
        let moments = [Training, Evaluating, WritingTargets, Saving];
        let starts = [begin].into_iter().chain(moments.map(first_of)).chain([end]).collect::<Vec<_>>();
        let lengths = starts.windows(2).map(|pair| pair[1] - pair[0]);
        undisturbed.lengths = [Preparing].into_iter().chain(moments).zip(lengths).collect();
        undisturbed
    }

    /// A store with the data and the teachers.
    fn another_store(&self) -> Fixture {
        let store = Fixture::new();
        copy(&self.fixture.path("runs"), &store.path("runs"));
        store
    }

    /// The student's configuration in a store.
    fn config_in(&self, store: &Fixture) -> RunConfig {
        let mut config = self.config.clone();
        config.execution.store = store.store().display().to_string();
        config
    }

    fn command(&self, store: &Fixture, attempt: &str) -> Command {
        let (mut command, _) = store.train_command(&self.config_in(store), attempt);
        command.arg("--trace").arg(store.path("trace.jsonl"));
        command
    }

    /// Weights, targets, results; and the trace: loss, gradient norm, learning rate and lambda of every step.
    fn files_in(&self, store: &Fixture) -> Vec<(String, Vec<u8>)> {
        let mut files = store.artifacts(&self.config);
        files.push(("the trace".to_owned(), fs::read(store.path("trace.jsonl")).unwrap()));
        files
    }

    /// Starts an attempt and stops it at about this moment. What was it at? Nothing, if it was done before.
    fn stop(&self, store: &Fixture, name: &str, aim: Moment, how: &mut How) -> Option<Moment> {
        let begins_with = aim.begins_with();
        // Who waits to be heard writes no checkpoints.
        let held = (aim != WritingACheckpoint).then_some(aim);
        let mut attempt = Attempt::start(&mut self.command(store, name), held);
        if begins_with != Preparing {
            attempt.reaches(begins_with);
        }
        // A training is stopped several times, and goes on each time.
        let parts = STOPS.iter().filter(|stop| stop.begins_with() == Training).count() as u32 + 1;
        let length = self.lengths[&begins_with] / if begins_with == Training { parts } else { 1 };
        let length = length.as_micros() as u64;
        thread::sleep(Duration::from_micros(how.random.below(length + 1)) / how.haste);
        let checkpoints = store.run_folder(&self.config).join("checkpoints").join(name);
        let writing = aim == WritingACheckpoint && attempt.writes_into(&checkpoints);
        attempt.signal(how.signal);
        let (status, last) = attempt.ended();
        if status.success() {
            return None;
        }
        let asked = how.signal == libc::SIGTERM && status.code() == Some(81);
        // Before `main` there is nobody who could answer.
        let died = status.signal() == Some(how.signal) && (how.signal == libc::SIGKILL || last == Preparing);
        assert!(asked || died, "{status:?} at {last:?}");
        // A kill leaves what was being written.
        let torn = writing && (asked || has_unfinished(&checkpoints));
        Some(if torn { WritingACheckpoint } else { last })
    }
}

/// How runs are stopped, and when.
struct How {
    signal: i32,
    random: Stream,
    /// Where nothing holds a run up (it says nothing more while it saves), a test on a busy machine may come too late.
    haste: u32,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Stops runs at random moments, of each kind one at least, and `BAM_TEST_MOMENTS` (20) with both signals together.
fn stopped_at_random_moments(signal: i32) {
    let seed = number_in("BAM_TEST_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into());
    let wanted = number_in("BAM_TEST_MOMENTS").unwrap_or(20).div_ceil(2);
    println!("BAM_TEST_SEED={seed}");
    let mut how = How { signal, random: Stream::new(seed, &format!("stops/{signal}")), haste: 1 };
    let undisturbed = Undisturbed::new();
    let mut hit: BTreeMap<Moment, u64> = BTreeMap::new();
    for run in 0u64.. {
        if hit.values().sum::<u64>() >= wanted && STOPS.iter().all(|moment| hit.contains_key(moment)) {
            break;
        }
        assert!(run < 20 + wanted, "seed {seed}: after {run} runs it was stopped at no more than {hit:?}");
        let store = undisturbed.another_store();
        let mut moments = Vec::new();
        for (attempt, aim) in STOPS.into_iter().enumerate() {
            how.haste = if hit.contains_key(&aim) { 1 } else { 1 << run.min(20) };
            let Some(moment) = undisturbed.stop(&store, &format!("attempt-{attempt}"), aim, &mut how) else { break };
            moments.push(moment);
            *hit.entry(moment).or_default() += 1;
        }
        let report = store.train(&undisturbed.config_in(&store), "last");
        assert_eq!(report.reason, ExitReason::Completed, "seed {seed}, stopped at {moments:?}: {}", report.message);
        for (found, expected) in undisturbed.files_in(&store).iter().zip(&undisturbed.files) {
            assert!(found == expected, "seed {seed}, stopped at {moments:?}: the bytes of {} differ", expected.0);
        }
        assert_eq!(undisturbed.files_in(&store).len(), undisturbed.files.len());
    }
    println!("stopped at {hit:?}");
}

#[test]
fn killed_at_random_moments_it_ends_with_the_bytes_of_a_run_that_was_never_touched() {
    stopped_at_random_moments(libc::SIGKILL);
}

#[test]
fn told_to_end_at_random_moments_it_ends_with_the_bytes_of_a_run_that_was_never_touched() {
    stopped_at_random_moments(libc::SIGTERM);
}

/// Trains until there are two checkpoints and kills it then. Returns the newest one's file of tensors.
fn two_checkpoints(fixture: &Fixture, config: &RunConfig) -> PathBuf {
    let (mut command, _) = fixture.train_command(config, "first");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoints = fixture.run_folder(config).join("checkpoints/first");
    loop {
        let files = fs::read_dir(&checkpoints).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut sealed: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
        sealed.sort();
        if sealed.len() >= 2 {
            child.kill().unwrap();
            child.wait().unwrap();
            return sealed.pop().unwrap().with_extension("safetensors");
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before there were two checkpoints");
    }
}

#[test]
fn a_checkpoint_that_is_damaged_in_whatever_way_is_named_and_the_one_before_it_is_used() {
    let fixture = Fixture::new();
    let mut config = fixture.config(&["rte", "mrpc"], SHORT, &[]);
    fixture.train(&config, "undisturbed");
    let expected = fixture.artifacts(&config);
    fs::remove_dir_all(fixture.run_folder(&config)).unwrap();

    config.execution.save_checkpoints_steps = Some(1);
    let newest = two_checkpoints(&fixture, &config);
    let whole = fs::read(&newest).unwrap();
    let kept = fixture.path("kept");
    copy(&fixture.run_folder(&config), &kept);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let seal = newest.with_extension("json");
    let torn = fs::read(&seal).unwrap()[..20].to_vec();
    for (damage, file, content, why) in [
        ("flipped", &newest, flipped, "its content has changed".to_owned()),
        ("truncated", &newest, whole[..whole.len() / 2].to_vec(), format!("bytes instead of {}", whole.len())),
        ("torn", &seal, torn, format!("{}: EOF", seal.file_name().unwrap().display())),
    ] {
        let _ = fs::remove_dir_all(fixture.run_folder(&config));
        copy(&kept, &fixture.run_folder(&config));
        fs::write(file, content).unwrap();
        let (mut command, report) = fixture.train_command(&config, damage);
        let output = command.output().unwrap();
        let said = common::text(&output);
        assert!(output.status.success(), "{damage}: {said}");
        let named = format!("warning: {} is skipped: ", newest.display());
        let line = said.lines().find(|line| line.starts_with(&named)).unwrap_or_else(|| panic!("{damage}: {said}"));
        assert!(line.contains(&why), "{damage}: {line}");
        let report: RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        assert!(report.resumed_from > 0, "{damage}: the one before it was not used");
        assert!(fixture.artifacts(&config) == expected, "{damage}: bytes differ");
    }
}
