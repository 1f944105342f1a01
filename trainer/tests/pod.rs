//! What a pod needs of the trainer besides a good run: its report and its progress, come what may.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Stdio};
use std::ptr;

use bam_crds::report::Stage;
use bam_crds::{ExitReason, Progress, RunReport};
use common::Fixture;

const SHORT: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "1", "learningRate": "1e-3"}"#;

/// The address that a trainer says it serves at.
fn address(child: &mut Child) -> String {
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        if let Some(rest) = line.unwrap().strip_prefix("progress and metrics: http://") {
            return rest.split('/').next().unwrap().to_owned();
        }
    }
    panic!("it never said where it serves")
}

fn get(address: &str, target: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    write!(client, "GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    said.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn whoever_asks_hears_how_the_training_is_getting_on() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte", "mrpc"], &SHORT.replace("\"1\"", "\"2000\""), &[]);
    let (mut command, _) = fixture.train_command(&config, "first");
    command.args(["--serve", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let address = address(&mut child);
    let progress = || serde_json::from_str::<Progress>(&get(&address, "/progress")).unwrap();
    let training = loop {
        let said = progress();
        if said.stage == Stage::Training && said.done > 0 {
            break said;
        }
        assert_eq!((said.stage, said.loss), (if said.total == 0 { Stage::Preparing } else { Stage::Training }, None));
    };
    assert!(training.loss.is_some() && training.total > training.done, "{training:?}");
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains(&format!("\nbam_trainer_steps {}\n", training.total)), "{metrics}");

    // Rates are known after half a second of training.
    let measured = |metrics: &str, name: &str| -> Option<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    };
    let metrics = loop {
        let said = get(&address, "/metrics");
        if measured(&said, "bam_trainer_data_wait_ratio").is_some() {
            break said;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended");
    };
    let waited = measured(&metrics, "bam_trainer_data_wait_ratio").unwrap();
    assert!(waited > 0.0 && waited < 0.5, "{metrics}");
    let examples = measured(&metrics, "bam_trainer_examples_per_second").unwrap();
    let tokens = measured(&metrics, "bam_trainer_tokens_per_second").unwrap();
    // The rows of the fixture have 11 to 19 word pieces, of the 32 that are padded to elsewhere.
    assert!(tokens > 9.0 * examples && tokens < 22.0 * examples, "{metrics}");
    for task in ["rte", "mrpc"] {
        let loss = measured(&metrics, &format!("bam_trainer_task_loss{{task=\"{task}\"}}")).unwrap();
        assert!(loss > 0.0 && loss.is_finite(), "{metrics}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Both ends of a terminal: what a program writes to the second one is read from the first.
fn terminal() -> (fs::File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: it fills the two numbers, and wants no name and no settings.
    let opened = unsafe { libc::openpty(&mut ours, &mut its, ptr::null_mut(), ptr::null(), &size) };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were opened just now, and nobody else has them.
    unsafe { (fs::File::from_raw_fd(ours), OwnedFd::from_raw_fd(its)) }
}

#[test]
fn on_a_terminal_there_is_a_bar_and_no_json() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], SHORT, &[]);
    let (mut command, _) = fixture.train_command(&config, "first");
    let (mut ours, its) = terminal();
    command.stdout(its.try_clone().unwrap()).stderr(its).env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    // It holds the terminal's other end open, and nobody would see that the trainer has ended.
    drop(command);
    let mut said = Vec::new();
    // Ends with an error where the last writer is gone.
    let _ = ours.read_to_end(&mut said);
    assert!(child.wait().unwrap().success());
    let said = String::from_utf8_lossy(&said);
    // It is not drawn at every step, and rates are known after half a second.
    for part in ["\u{2588}", "/8 ", "training  loss "] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert!(!said.contains('{'), "{said:?}");
}

#[test]
fn a_port_that_is_taken_is_a_warning_and_no_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let fixture = Fixture::new();
    let (mut command, _) = fixture.inputs_command(&["rte"]);
    let output = command.args(["--serve", &address]).output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("warning: nothing is served at {address}: ")), "{said}");
}

#[test]
fn every_ending_is_reported_even_that_of_arguments_that_make_no_sense() {
    let fixture = Fixture::new();
    let report = fixture.path("report.json");
    let broken = fixture.path("broken.json");
    fs::write(&broken, "{").unwrap();
    let broken = broken.display().to_string();
    let table = [
        ("an option of a later version", vec!["train", "--gpus", "8"], "--gpus"),
        ("an option without its value", vec!["inputs", "--config"], "--config"),
        ("a configuration that is not there", vec!["inputs", "--config", "/nowhere"], "/nowhere: cannot be read"),
        ("half a configuration", vec!["train", "--attempt", "first", "--config", &broken], "broken.json"),
    ];
    for (sentence, arguments, part) in table {
        let _ = fs::remove_file(&report);
        let mut command = fixture.trainer();
        command.arg(arguments[0]).arg("--report").arg(&report).args(&arguments[1..]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{sentence}: {}", common::text(&output));
        let report: RunReport = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!(report.reason, ExitReason::BadConfig, "{sentence}");
        assert!(report.message.contains(part), "{sentence}: {}", report.message);
    }
}

#[test]
fn a_run_that_is_done_is_done_also_if_nobody_can_be_told() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], SHORT, &[]);
    let (mut command, report) = fixture.train_command(&config, "first");
    // A folder stands where the report should go.
    fs::create_dir(&report).unwrap();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    assert!(common::text(&output).contains("warning: no report: "), "{}", common::text(&output));
    assert!(fixture.run_folder(&config).join("manifest.json").exists());
}

#[test]
fn on_several_hosts_of_a_slice_each_of_which_would_train_the_same_it_trains_nothing() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], SHORT, &[]);
    let (mut command, report) = fixture.train_command(&config, "first");
    let ended = command.env("TPU_WORKER_HOSTNAMES", "run-1-1-0.run-1,run-1-1-1.run-1").status().unwrap();
    let report: RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!((ended.code(), report.reason), (Some(report.reason.code()), ExitReason::BadConfig));
    assert!(report.message.contains("started on 2 at once"), "{}", report.message);
    assert!(!fixture.run_folder(&config).exists());

    // Google Kubernetes Engine's name of a host that is alone.
    let (mut command, _) = fixture.train_command(&config, "second");
    assert!(command.env("TPU_WORKER_HOSTNAMES", "localhost").status().unwrap().success());
}
