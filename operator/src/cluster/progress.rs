//! Live progress, asked of the trainers themselves. Nothing depends on it, and nothing that they say is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bam_crds::Progress;
use bam_crds::run::RunProgress;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::cache::Key;
use super::job::PORT;
use super::metrics::Metrics;
use super::observe::Seen;
use crate::pace::Pace;

/// How long a trainer has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LONGEST: usize = 4096;
/// Trainers that are asked at the same time.
const AT_ONCE: usize = 16;
/// Trainers that are asked in one round; the others have their turn in the next ones.
const A_ROUND: usize = 256;

/// Of progress at most this many statuses are written in a second, of runs and of the experiments that own them.
const WRITES_A_SECOND: u32 = 20;

/// More steps or rows nobody has, and nobody waits longer.
const MOST_UNITS: u64 = 1 << 48;
const MOST_SECONDS: f64 = 1e9;

/// What running trainers said last, by run.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeMap<Key, (RunProgress, Pace)>>);

impl Told {
    /// What the trainer of a run said last.
    pub fn by(&self, namespace: &str, run: &str) -> Option<RunProgress> {
        self.lock().get(&(namespace.to_owned(), run.to_owned())).map(|(progress, _)| progress.clone())
    }

    /// The trainer of a run says this now. Is it something else than before?
    fn hear(&self, run: &Key, said: RunProgress) -> bool {
        let mut all = self.lock();
        let (before, mut pace) = all.remove(run).map_or((None, Pace::default()), |(said, pace)| (Some(said), pace));
        let is_other = before
            .as_ref()
            .is_none_or(|before| (before.stage, before.done, before.total) != (said.stage, said.done, said.total));
        // Where nothing goes on, time alone is no news.
        let seconds_left = match is_other {
            true => pace.seconds_left(said.stage, said.done, said.total).map(|left| left.min(MOST_SECONDS) as u64),
            false => before.and_then(|before| before.seconds_left),
        };
        all.insert(run.clone(), (RunProgress { seconds_left, ..said }, pace));
        is_other
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, (RunProgress, Pace)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks all running trainers, again and again, and says whose progress is another one than before.
pub async fn follow(
    seen: Arc<Seen>,
    told: Arc<Told>,
    metrics: Arc<Metrics>,
    every: Duration,
    changed: impl Fn(&str, &str),
) {
    let mut round = tokio::time::interval(every);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = 0;
    loop {
        round.tick().await;
        let mut running: Vec<(Key, String)> = seen
            .pods
            .all()
            .into_iter()
            // Of several hosts the first one speaks for all.
            .filter(|(_, pod)| pod.index == 0)
            .filter_map(|((namespace, _), pod)| {
                let address = pod.address.clone()?;
                Some(((namespace, pod.run.clone()), address))
            })
            .collect();
        let alive: BTreeSet<Key> = running.iter().map(|(run, _)| run.clone()).collect();
        told.lock().retain(|run, _| alive.contains(run));
        let surplus = running.len().saturating_sub(A_ROUND);
        if surplus > 0 {
            turn = (turn + A_ROUND) % running.len();
            running.rotate_left(turn);
            running.truncate(A_ROUND);
            (0..surplus).for_each(|_| metrics.progress_pull("skipped"));
        }
        let mut further = Vec::new();
        let mut answers = stream::iter(running)
            .map(|(run, address)| async move { (run, ask(&host(&address)).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((run, answer)) = answers.next().await {
            match answer {
                Ok(progress) => {
                    metrics.progress_pull("ok");
                    if told.hear(&run, progress) {
                        further.push(run);
                    }
                }
                Err(result) => metrics.progress_pull(result),
            }
        }
        spread(&seen, further, &changed).await;
    }
}

/// Says whose progress is another one, no faster than statuses may be written of it.
async fn spread(seen: &Seen, further: Vec<Key>, changed: &impl Fn(&str, &str)) {
    for (namespace, run) in further {
        changed(&namespace, &run);
        let owners = seen.runs.get(&namespace, &run).map_or(0, |facts| facts.owners.len());
        let writes = u32::try_from(1 + owners).unwrap_or(u32::MAX);
        tokio::time::sleep(Duration::from_secs(1).saturating_mul(writes) / WRITES_A_SECOND).await;
    }
}

fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") }
}

async fn ask(host: &str) -> Result<RunProgress, &'static str> {
    let answer = tokio::time::timeout(PATIENCE, fetch(host)).await.map_err(|_| "timeout")?;
    let progress: Progress = answer.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or("error")?;
    // Numbers that a status can hold.
    let total = progress.total.min(MOST_UNITS);
    let resumed_from = progress.resumed_from.min(total);
    Ok(RunProgress { resumed_from, ..RunProgress::new(progress.stage, progress.done.min(total), total) })
}

async fn fetch(host: &str) -> Option<Bytes> {
    let stream = TcpStream::connect(host).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = hyper::Request::get("/progress").header(HOST, host).body(Empty::<Bytes>::new()).ok()?;
    let answer = async {
        let response = sender.send_request(request).await.ok().filter(|response| response.status().is_success())?;
        Limited::new(response.into_body(), LONGEST).collect().await.ok().map(|body| body.to_bytes())
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use bam_crds::report::Stage;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cluster::facts::{Facts, RunFacts};

    /// A trainer that answers each question with these bytes, again and again if it is `endless`.
    async fn trainer(answer: Vec<u8>, endless: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                while stream.write_all(&answer).await.is_ok() && endless {}
            }
        });
        host
    }

    fn http(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn what_a_hostile_trainer_answers_is_cut_to_size_or_not_heard() {
        let fine = r#"{"stage":"Training","done":3,"total":9}"#;
        let long = format!(r#"{{"stage":"Training","done":3,"total":9,"x":"{}"}}"#, "y".repeat(LONGEST));
        let huge = format!(r#"{{"stage":"Training","done":{0},"total":{0},"resumedFrom":{0}}}"#, u64::MAX);
        let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let header = b"HTTP/1.1 200 OK\r\n".iter().chain(b"x: y\r\n".repeat(200_000).iter()).copied().collect();
        let (ok, no) = (|done, total| Ok((done, total)), Err("error"));
        type Said = Result<(u64, u64), &'static str>;
        let table: Vec<(&str, Vec<u8>, bool, Said)> = vec![
            ("what a trainer says", http("200 OK", fine), false, ok(3, 9)),
            ("more than a status can hold", http("200 OK", &huge), false, ok(MOST_UNITS, MOST_UNITS)),
            ("more than all", http("200 OK", r#"{"stage":"Training","done":10,"total":9}"#), false, ok(9, 9)),
            ("less than nothing", http("200 OK", r#"{"stage":"Training","done":-1,"total":9}"#), false, no),
            ("another stage", http("200 OK", r#"{"stage":"Conquering","done":1,"total":9}"#), false, no),
            ("too much", http("200 OK", &long), false, no),
            (
                "a body without an end",
                [endless, b"fa0\r\n".to_vec(), vec![b' '; 0xfa0], b"\r\n".to_vec()].concat(),
                true,
                no,
            ),
            ("headers without an end", header, true, no),
            ("an error", http("500 Internal Server Error", fine), false, no),
            ("somewhere else", http("302 Found\r\nlocation: http://127.0.0.1/", fine), false, no),
            ("no JSON", http("200 OK", "<html>"), false, no),
            ("no HTTP", b"hello\n".repeat(100), false, no),
            ("nothing, and hangs up", Vec::new(), false, no),
        ];
        for (what, answer, endless, expected) in table {
            let said = ask(&trainer(answer, endless).await).await;
            assert_eq!(said.map(|it| (it.done, it.total)), expected, "{what}");
        }
        assert_eq!(ask("127.0.0.1:1").await, Err("error"), "nobody listens");
    }

    #[tokio::test]
    async fn a_trainer_that_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        // The operator's time is stopped, and goes on by itself when nothing else can happen.
        tokio::time::pause();
        assert_eq!(ask(&host).await, Err("timeout"));
    }

    #[test]
    fn an_estimate_is_no_news_where_nothing_goes_on() {
        let told = Told::default();
        let run = ("lab".to_owned(), "run-1".to_owned());
        let said = |done| RunProgress::new(Stage::Training, done, 100);
        assert!(told.hear(&run, said(10)));
        assert!(!told.hear(&run, said(10)));
        assert_eq!(told.by("lab", "run-1").unwrap().seconds_left, None);
        assert!(told.hear(&run, said(60)));
        let left = told.by("lab", "run-1").unwrap().seconds_left;
        assert!(left.is_some());
        assert!(!told.hear(&run, said(60)));
        assert_eq!(told.by("lab", "run-1").unwrap().seconds_left, left);
    }

    #[tokio::test(start_paused = true)]
    async fn of_progress_no_more_statuses_are_written_in_a_second_than_may_be() {
        let seen = Seen::default();
        // Each run has an experiment that tells of it too.
        let run = serde_json::json!({
            "apiVersion": "bam.dev/v1alpha1", "kind": "BamRun",
            "metadata": { "ownerReferences": [{ "apiVersion": "v", "kind": "k", "name": "exp", "uid": "e" }] },
            "spec": { "role": "Inputs" },
        });
        let names: Vec<_> = (0..200).map(|number| format!("run-{number}")).collect();
        for name in &names {
            let mut run = run.clone();
            run["metadata"]["name"] = name.as_str().into();
            run["metadata"]["namespace"] = "lab".into();
            let run: <RunFacts as Facts>::Object = serde_json::from_value(run).unwrap();
            seen.runs.apply(kube::runtime::watcher::Event::Apply(run));
        }
        let moments = Mutex::new(Vec::new());
        let further = names.into_iter().map(|name| ("lab".to_owned(), name)).collect();
        spread(&seen, further, &|_, _| moments.lock().unwrap().push(tokio::time::Instant::now())).await;
        let moments = moments.into_inner().unwrap();
        assert_eq!(moments.len(), 200);
        for window in moments.windows(1 + WRITES_A_SECOND as usize / 2) {
            let took = *window.last().unwrap() - window[0];
            assert!(took >= Duration::from_secs(1), "{} runs in {took:?}", window.len());
        }
    }
}
