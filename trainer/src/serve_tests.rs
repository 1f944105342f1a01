use std::net::Shutdown;
use std::time::Duration;

use bam_crds::Progress;

use super::*;
use crate::data::batches::Example;
use crate::failure::Steps;
use crate::journal::StepRecord;
use crate::report::Reporter;

fn server() -> (SocketAddr, Reporter) {
    let reporter = Reporter::for_a_person();
    let address = start("127.0.0.1:0".parse().unwrap(), reporter.board()).unwrap();
    (address, reporter)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// All that comes back. An end by reset counts as an end.
fn rest(mut client: TcpStream) -> String {
    let mut said = Vec::new();
    let _ = client.read_to_end(&mut said);
    String::from_utf8(said).unwrap()
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut client = connect(address);
    client.write_all(request.as_bytes()).unwrap();
    rest(client)
}

fn get(address: SocketAddr, target: &str) -> String {
    ask(address, &format!("GET {target} HTTP/1.1\r\nHost: here\r\n\r\n"))
}

fn body(said: &str) -> &str {
    said.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn each_request_gets_its_answer() {
    let (address, _reporter) = server();
    let table = [
        ("the health of a trainer that lives is good", "GET /healthz HTTP/1.1\r\n\r\n", "200 OK"),
        ("old clients are answered too", "GET /healthz HTTP/1.0\r\n\r\n", "200 OK"),
        ("a query changes nothing", "GET /progress?pretty=1 HTTP/1.1\r\n\r\n", "200 OK"),
        ("metrics are there", "GET /metrics HTTP/1.1\r\nAccept: */*\r\n\r\n", "200 OK"),
        ("another path is not found", "GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("a longer path is another path", "GET /progress/ HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("nothing can be changed", "POST /progress HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("a line of two words is no request", "GET /progress\r\n\r\n", "400 Bad Request"),
        ("a path begins with a slash", "GET progress HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("another protocol is refused", "GET /progress GOPHER\r\n\r\n", "400 Bad Request"),
        ("broken text is refused", "\u{fffd} \r\n\r\n", "400 Bad Request"),
        ("nothing at all is refused", "\r\n\r\n", "400 Bad Request"),
    ];
    for (sentence, request, status) in table {
        let said = ask(address, request);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{sentence}: {said:?}");
        let length = format!("\r\nContent-Length: {}\r\n", body(&said).len());
        assert!(said.contains(&length), "{sentence}: {said:?}");
    }
}

#[test]
fn progress_is_what_was_said_last_and_at_first_that_nothing_is_known() {
    let (address, reporter) = server();
    let progress = |said: &str| serde_json::from_str::<Progress>(body(said)).unwrap();
    let said = get(address, "/progress");
    assert!(said.contains("\r\nContent-Type: application/json\r\n"), "{said}");
    let nothing = Progress::new(Stage::Preparing, 0, 0);
    assert_eq!(progress(&said), nothing);

    reporter.steps(Steps { total: 10, saved: 3, resumed_from: 3, skipped: 0 });
    reporter.stage(Stage::Training, 3, 10);
    reporter.stepped(&step());
    let training = Progress { resumed_from: 3, loss: Some(0.5), ..Progress::new(Stage::Training, 4, 10) };
    assert_eq!(progress(&get(address, "/progress")), training);
}

/// The fourth of ten, of six rows and two that are padding.
fn step() -> StepRecord<'static> {
    let row = |row| Example::Row { task: 0, row };
    let examples = (0..6).map(row).chain([Example::Padding; 2]).collect();
    StepRecord {
        step: 3,
        examples,
        loss: 0.5,
        task_losses: vec![("rte", 0.125)],
        norm: 2.0,
        learning_rate: 1e-4,
        lambda: 0.3,
        dropout_seed: None,
        tokens: 90,
        took: Duration::from_millis(8),
        waited: Duration::from_millis(2),
    }
}

#[test]
fn what_is_measured_over_a_time_stands_in_the_metrics_when_there_was_enough_of_it() {
    let reporter = Reporter::for_a_person();
    let mut known = reporter.board().read();
    let text = |known: &Known| metrics(known, SystemTime::now());
    assert!(!text(&known).contains("_per_second") && !text(&known).contains("data_wait"), "{}", text(&known));
    known.progress.rows_per_second = Some(48.0);
    known.training.tokens_per_second = Some(720.0);
    known.training.data_wait_ratio = Some(0.25);
    known.training.task_losses.insert("mine\\\"s".to_owned(), 1.0);
    for line in [
        "bam_trainer_examples_per_second 48",
        "bam_trainer_tokens_per_second 720",
        "bam_trainer_data_wait_ratio 0.25",
        r#"bam_trainer_task_loss{task="mine\\\"s"} 1"#,
    ] {
        assert!(text(&known).lines().any(|said| said == line), "{line} is not in {}", text(&known));
    }
}

#[test]
fn metrics_tell_what_is_known_and_leave_out_the_rest() {
    let (address, reporter) = server();
    let lines = || body(&get(address, "/metrics")).lines().map(str::to_owned).collect::<Vec<_>>();
    let at_first = lines();
    assert!(at_first.contains(&"bam_trainer_stage{stage=\"Preparing\"} 1".to_owned()), "{at_first:#?}");
    assert!(!at_first.iter().any(|line| line.contains("loss")), "{at_first:#?}");

    reporter.steps(Steps { total: 10, saved: 3, resumed_from: 0, skipped: 1 });
    reporter.stage(Stage::Training, 3, 10);
    reporter.stepped(&step());
    reporter.checkpoint(Duration::from_millis(1500));
    let training = lines();
    for line in [
        "# TYPE bam_trainer_steps_done gauge",
        "bam_trainer_steps_done 4",
        "bam_trainer_steps 10",
        "bam_trainer_steps_saved 3",
        "bam_trainer_steps_skipped 1",
        "bam_trainer_loss 0.5",
        "bam_trainer_task_loss{task=\"rte\"} 0.125",
        "bam_trainer_checkpoint_seconds 1.5",
        "bam_trainer_stage{stage=\"Training\"} 1",
        "bam_trainer_stage{stage=\"Preparing\"} 0",
    ] {
        assert!(training.contains(&line.to_owned()), "{line} is not in {training:#?}");
    }

    reporter.stage(Stage::Evaluating, 0, 200);
    let evaluating = lines();
    assert!(evaluating.contains(&"bam_trainer_steps_done 4".to_owned()), "rows that are scored are no steps");
    assert!(!evaluating.iter().any(|line| line.contains("loss")), "{evaluating:#?}");
    assert_eq!([f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-9].map(number), ["+Inf", "-Inf", "NaN", "0.000000001"]);

    for stage in Stage::ALL {
        reporter.stage(stage, 0, 0);
        let now: Vec<_> = lines().into_iter().filter(|line| line.starts_with("bam_trainer_stage{")).collect();
        let others = now.iter().filter(|line| line.ends_with("} 0")).count();
        assert!(now.contains(&format!("bam_trainer_stage{{stage=\"{stage:?}\"}} 1")), "{stage:?}: {now:#?}");
        assert_eq!((now.len(), others), (Stage::ALL.len(), Stage::ALL.len() - 1), "{now:#?}");
    }
}

#[test]
fn clients_that_never_ask_are_left_after_a_while_and_others_get_their_answer() {
    let (address, _reporter) = server();
    let silent: Vec<TcpStream> = (0..2 * CONNECTIONS).map(|_| connect(address)).collect();
    let begin = Instant::now();
    assert!(get(address, "/healthz").ends_with("ok\n"));
    assert!(begin.elapsed() < 4 * PATIENCE, "{:?}", begin.elapsed());
    for client in silent {
        assert_eq!(rest(client), "");
    }
}

#[test]
fn a_byte_now_and_then_buys_no_more_time() {
    let (address, _reporter) = server();
    let mut client = connect(address);
    let begin = Instant::now();
    // Until the other end is gone.
    while client.write_all(b"G").is_ok() && begin.elapsed() < 10 * PATIENCE {
        thread::sleep(PATIENCE / 10);
    }
    assert!(begin.elapsed() < 2 * PATIENCE, "{:?}", begin.elapsed());
}

#[test]
fn a_request_without_an_end_is_cut_off_at_its_longest() {
    let (address, _reporter) = server();
    let mut client = connect(address);
    let longest = b"GET /progress HTTP/1.1\r\n".iter().chain(b"X: y\r\n".iter().cycle());
    let exactly: Vec<u8> = longest.copied().take(LONGEST_REQUEST).collect();
    client.write_all(&exactly).unwrap();
    assert!(rest(client).starts_with("HTTP/1.1 431 "));

    // One that goes on and on is reset rather than read.
    let mut client = connect(address);
    let begin = Instant::now();
    while client.write_all(&exactly).is_ok() && begin.elapsed() < 10 * PATIENCE {}
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert!(get(address, "/healthz").ends_with("ok\n"));
}

#[test]
fn clients_that_go_away_at_once_do_no_harm() {
    let (address, _reporter) = server();
    for number in 0..200 {
        let mut client = connect(address);
        match number % 3 {
            0 => drop(client),
            1 => client.shutdown(Shutdown::Write).unwrap(),
            _ => drop(client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")),
        }
    }
    assert!(get(address, "/healthz").ends_with("ok\n"));
}

#[test]
fn an_address_that_is_taken_is_an_error_and_no_more() {
    let (address, _reporter) = server();
    let error = start(address, Reporter::for_a_person().board()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
