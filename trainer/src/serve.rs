//! Progress and metrics over HTTP, for whoever asks. Nothing depends on it.
//!
//! A handful of threads take one connection each, and give it a few seconds and a few kilobytes: whatever a client does,
//! it costs that and no more, and the training nothing. It is written on `std::net` because a request is one line that
//! matters, and because small servers at hand (`tiny_http`) have no such bounds.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bam_crds::report::Stage;

use crate::report::{Board, Known};

/// Connections at a time; others wait in the system's queue, which is bounded too.
const CONNECTIONS: usize = 4;
/// A client gets this long for its request, and as long to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest request.
const LONGEST_REQUEST: usize = 8 * 1024;
/// Pause of a thread between two clients: thousands that ask as fast as they can take a hundredth of a core.
const BREATH: Duration = Duration::from_millis(20);
/// Pause when no connection can be taken, for lack of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(200);
/// Memory of a thread's stack; the request lies on the heap.
const STACK: usize = 256 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Serves what is on the board until the process ends. Returns the address, whose port is chosen if 0 was asked for.
///
/// # Errors
/// If the address cannot be listened at, or the system refuses a thread.
pub fn start(address: SocketAddr, board: &Board) -> io::Result<SocketAddr> {
    let listener = Arc::new(TcpListener::bind(address)?);
    let started = SystemTime::now();
    for _ in 0..CONNECTIONS {
        let (listener, board) = (listener.clone(), board.clone());
        let serve = move || {
            loop {
                let pause = match listener.accept() {
                    Ok((client, _)) => {
                        // What becomes of a client is its own business.
                        let _ = serve_one(client, &board, started);
                        BREATH
                    }
                    Err(_) => PAUSE,
                };
                thread::sleep(pause);
            }
        };
        thread::Builder::new().name("serve".into()).stack_size(STACK).spawn(serve)?;
    }
    listener.local_addr()
}

fn serve_one(mut client: TcpStream, board: &Board, started: SystemTime) -> io::Result<()> {
    let answer = match head(&mut client)? {
        Some(head) => answer(&head, &board.read(), started),
        None => Answer::said("431 Request Header Fields Too Large"),
    };
    client.set_write_timeout(Some(PATIENCE))?;
    client.write_all(answer.to_http().as_bytes())
}

/// All of a request up to its empty line; nothing if it is too long.
fn head(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = vec![0; LONGEST_REQUEST];
    let mut filled = 0;
    while filled < bytes.len() {
        // The time is for the whole of it: a byte now and then buys no more.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left))?;
        let read = match client.read(&mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            read => read?,
        };
        let new = filled.saturating_sub(3);
        filled += read;
        if bytes[new..filled].windows(4).any(|end| end == b"\r\n\r\n") {
            bytes.truncate(filled);
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn ok(kind: &'static str, body: String) -> Self {
        Self { status: "200 OK", kind, body }
    }

    fn said(status: &'static str) -> Self {
        Self { status, kind: TEXT, body: format!("{status}\n") }
    }

    fn to_http(&self) -> String {
        let Self { status, kind, body } = self;
        let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n{body}"
        )
    }
}

fn answer(head: &[u8], known: &Known, started: SystemTime) -> Answer {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&str> = std::str::from_utf8(line).unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Answer::said("400 Bad Request") };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Answer::said("400 Bad Request");
    }
    if method != "GET" {
        return Answer::said("405 Method Not Allowed");
    }
    match target.split('?').next().unwrap_or_default() {
        "/progress" => Answer::ok(JSON, serde_json::to_string(&known.progress).expect("progress is plain data")),
        "/metrics" => Answer::ok(METRICS, metrics(known, started)),
        "/healthz" => Answer::ok(TEXT, "ok\n".to_owned()),
        _ => Answer::said("404 Not Found"),
    }
}

/// In Prometheus' text format. By hand: a registry would keep numbers that are all at hand anyway, and would go on telling
/// those that are not known any more.
fn metrics(known: &Known, started: SystemTime) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, samples: &[(String, f64)]| {
        if samples.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {}", number(*value));
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let perhaps = |value: Option<f64>| value.map(one).unwrap_or_default();
    let (steps, progress) = (known.steps, &known.progress);
    gauge("bam_trainer_steps", "Optimizer steps of the whole run; 0 until that is known.", &one(steps.total as f64));
    gauge("bam_trainer_steps_done", "Optimizer steps that are done.", &one(known.steps_done as f64));
    gauge("bam_trainer_steps_saved", "Optimizer steps that are safe in a checkpoint.", &one(steps.saved as f64));
    let skipped = one(steps.skipped as f64);
    gauge("bam_trainer_steps_skipped", "Optimizer steps that were skipped: a gradient was not finite.", &skipped);
    gauge("bam_trainer_loss", "Weighted sum of the losses of the last step's rows.", &perhaps(progress.loss));
    let training = &known.training;
    let by_task = |(task, loss): (&String, &f64)| (format!("{{task=\"{}\"}}", escaped(task)), *loss);
    let losses: Vec<_> = training.task_losses.iter().map(by_task).collect();
    gauge("bam_trainer_task_loss", "Mean loss of a task's rows, in the last step that had some.", &losses);
    let rows = perhaps(progress.rows_per_second);
    gauge("bam_trainer_examples_per_second", "Examples per second of this stage, lately; padding is none.", &rows);
    let tokens = perhaps(training.tokens_per_second);
    gauge("bam_trainer_tokens_per_second", "Real word pieces per second of training, lately.", &tokens);
    let waited = perhaps(training.data_wait_ratio);
    gauge("bam_trainer_data_wait_ratio", "Share of a step's time in which it waited for its rows, lately.", &waited);
    let checkpoint = perhaps(known.checkpoint_seconds);
    gauge("bam_trainer_checkpoint_seconds", "Seconds that the last checkpoint took to write.", &checkpoint);
    let stages = Stage::ALL.map(|stage| (format!("{{stage=\"{stage:?}\"}}"), f64::from(stage == progress.stage)));
    gauge("bam_trainer_stage", "1 for what the trainer is doing, 0 for the rest.", &stages);
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    gauge("process_start_time_seconds", "When the process began, in seconds since 1970.", &one(started));
    text
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Prometheus writes infinity as Go does.
fn number(value: f64) -> String {
    if value.is_infinite() { format!("{}Inf", if value > 0.0 { '+' } else { '-' }) } else { value.to_string() }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
