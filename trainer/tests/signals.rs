//! SIGTERM at every moment of a trainer's life: it is never lost, and never waited for.

mod common;

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bam_crds::report::Stage;
use bam_crds::{ExitReason, Progress, RunConfig, RunReport};
use bam_trainer::model::{BertConfig, Model};
use common::{Fixture, PRETRAINED};
use tch::Device;

/// More steps than anybody waits for.
const LONG: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "2000", "learningRate": "1e-3"}"#;

/// Nobody waits longer for an end. Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(10);

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(child: &Child, signal: i32) {
    // SAFETY: a signal to a child of ours that was not waited for, so its pid is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// The exit code, if the child ends soon.
fn code(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < SOON {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it had not ended after {SOON:?}");
}

fn report(path: &Path) -> RunReport {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Does the process hold SIGTERM back?
fn holds(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGTERM - 1) != 0
}

/// Trains until there is a checkpoint, and is killed then.
fn train_a_little(fixture: &Fixture, config: &RunConfig) {
    let mut child = start(&mut fixture.train_command(config, "before").0);
    let seals = fixture.run_folder(config).join("checkpoints/before");
    let is_seal = |entry: io::Result<fs::DirEntry>| entry.unwrap().path().extension().is_some_and(|it| it == "json");
    while !fs::read_dir(&seals).is_ok_and(|mut entries| entries.any(is_seal)) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before there was a checkpoint");
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A file that is opened and never answers, as on a mount that hangs.
fn hang(path: &Path) {
    fs::remove_file(path).unwrap();
    make_fifo(path);
}

/// Waits until somebody opens such a file; it goes on not to answer while what is returned lives.
fn opened(path: &Path) -> fs::File {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        match fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(writer) => return writer,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "nobody reads yet, or it is another error")
            }
        }
        sleep(Duration::from_millis(5));
    }
    panic!("nobody opened {} for a minute", path.display());
}

fn make_fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_at_the_first_moment_is_not_lost() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], LONG, &[]);
    let (mut command, path) = fixture.train_command(&config, "first");
    let pending = || {
        // SAFETY: all of them are async-signal-safe. A blocked signal is still waiting after `exec`.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::kill(libc::getpid(), libc::SIGTERM);
        }
        Ok(())
    };
    // SAFETY: the closure does what may be done between `fork` and `exec`.
    unsafe { command.pre_exec(pending) };
    assert_eq!(code(&mut start(&mut command)), Some(81));
    assert_eq!(report(&path).reason, ExitReason::Checkpointed);
}

#[test]
fn from_the_moment_that_it_holds_signals_back_none_is_lost() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte", "mrpc"], LONG, &[]);
    for attempt in 0..20 {
        let (mut command, path) = fixture.train_command(&config, &format!("attempt-{attempt}"));
        let mut child = start(&mut command);
        while !holds(&child) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it held signals back");
        }
        // From before `main` into the training.
        sleep(Duration::from_millis(attempt * 35));
        kill(&child, libc::SIGTERM);
        assert_eq!(code(&mut child), Some(81), "attempt {attempt}");
        let report = report(&path);
        assert_eq!(report.reason, ExitReason::Checkpointed);
        assert!(report.message.starts_with("stopped by a signal"), "{}", report.message);
    }
}

#[test]
fn a_mount_that_hangs_holds_up_no_check_of_the_inputs() {
    let fixture = Fixture::new();
    let (mut command, path) = fixture.inputs_command(&["rte"]);
    let rows = fixture.path("glue_data/rte/dev.tsv");
    hang(&rows);
    let mut child = start(&mut command);
    let _silent = opened(&rows);
    kill(&child, libc::SIGTERM);
    assert_eq!(code(&mut child), Some(81));
    assert_eq!(report(&path).message, "stopped by a signal while it prepared; start again");
}

#[test]
fn a_mount_that_hangs_holds_up_no_training_and_what_was_saved_is_still_told() {
    let fixture = Fixture::new();
    let mut config = fixture.config(&["rte"], LONG, &[]);
    config.execution.save_checkpoints_steps = Some(1);
    train_a_little(&fixture, &config);
    let rows = fixture.path("glue_data/rte/dev.tsv");
    hang(&rows);
    let (mut command, path) = fixture.train_command(&config, "after");
    let mut child = start(&mut command);
    let _silent = opened(&rows);
    kill(&child, libc::SIGTERM);
    assert_eq!(code(&mut child), Some(81));
    let report = report(&path);
    assert_eq!(report.science_hash, Some(config.science_hash));
    assert!(report.saved_steps > 0, "{report:#?}");
    let said = format!("stopped by a signal while it prepared; start again to go on after step {}", report.saved_steps);
    assert_eq!(report.message, said);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], LONG, &[]);
    // The report is never read at the other end, so the first signal's work takes for ever: once in the training, once
    // before it.
    for preparing in [false, true] {
        let (mut command, path) = fixture.train_command(&config, "first");
        let _ = fs::remove_file(&path);
        make_fifo(&path);
        if preparing {
            hang(&fixture.path("glue_data/rte/dev.tsv"));
        }
        let mut child = start(&mut command);
        sleep(Duration::from_millis(1000));
        kill(&child, libc::SIGTERM);
        sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none());
        kill(&child, libc::SIGTERM);
        let ended = code(&mut child).unwrap_or(128 + libc::SIGTERM);
        assert_eq!(ended, 128 + libc::SIGTERM, "preparing: {preparing}");
    }
}

/// Puts BERT-base with random weights in place of the tiny model, and rows of 128 word pieces in place of the short ones.
fn grow_to_bert_base(fixture: &Fixture) {
    let shape = serde_json::json!({ "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2 });
    let config: BertConfig = serde_json::from_value(shape).unwrap();
    let parameters = Model::random(config, Vec::new(), 7, Device::Cpu);
    parameters.save(&fixture.path(&format!("pretrained_models/{PRETRAINED}"))).unwrap();
    let row = |row: u32| format!("{row}\t{}\t{}\tentailment\n", "the man ".repeat(32), "a dog ".repeat(32));
    let text = "index\tsentence1\tsentence2\tlabel\n".to_owned() + &(0..96).map(row).collect::<String>();
    fs::write(fixture.path("glue_data/rte/train.tsv"), text).unwrap();
}

#[test]
#[ignore = "takes minutes: scripts/test.sh long"]
fn sigterm_in_the_middle_of_a_step_of_bert_base_has_its_checkpoint_on_disk_within_twenty_seconds() {
    let fixture = Fixture::new();
    grow_to_bert_base(&fixture);
    let mut config = fixture.config(&["rte"], r#"{"maxSeqLength": 128, "trainBatchSize": 32}"#, &[]);
    config.execution.threads = None;
    let (mut command, path) = fixture.train_command(&config, "first");
    command.env_remove("OMP_NUM_THREADS").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut steps = BufReader::new(child.stdout.take().unwrap()).lines().filter_map(|line| {
        let progress: Progress = serde_json::from_str(&line.unwrap()).unwrap();
        (progress.stage == Stage::Training).then(|| (Instant::now(), progress.done))
    });
    let (begin, _) = steps.next().expect("it trains");
    // The first step says how long one is, and there is nothing to save before it.
    let (first, done) = steps.next().unwrap();
    assert_eq!(done, 1);
    let step = first - begin;
    sleep(step / 4);
    let asked = Instant::now();
    kill(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(81));
    let took = asked.elapsed();
    println!("a step of 32 x 128 took {step:?}; from SIGTERM to the exit with a checkpoint {took:?}");
    // Steps are not equally long on a busy machine, and the first one is the longest: perhaps the second one is done.
    assert!((1..=2).contains(&report(&path).saved_steps), "{:?}", report(&path));
    assert!(took < Duration::from_secs(20), "{took:?}");
}
