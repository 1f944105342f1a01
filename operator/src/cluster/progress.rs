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

/// More steps or rows nobody has.
const MOST_UNITS: u64 = 1 << 48;

/// What running trainers said last, by run.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeMap<Key, RunProgress>>);

impl Told {
    /// What the trainer of a run said last.
    pub fn by(&self, namespace: &str, run: &str) -> Option<RunProgress> {
        self.lock().get(&(namespace.to_owned(), run.to_owned())).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, RunProgress>> {
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
            .map(|(run, address)| async move { (run, ask(&address).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((run, answer)) = answers.next().await {
            match answer {
                Ok(progress) => {
                    metrics.progress_pull("ok");
                    let before = told.lock().insert(run.clone(), progress.clone());
                    if before != Some(progress) {
                        further.push(run);
                    }
                }
                Err(result) => metrics.progress_pull(result),
            }
        }
        for (namespace, run) in further {
            changed(&namespace, &run);
            let owners = seen.runs.get(&namespace, &run).map_or(0, |facts| facts.owners.len());
            let writes = u32::try_from(1 + owners).unwrap_or(u32::MAX);
            tokio::time::sleep(Duration::from_secs(1).saturating_mul(writes) / WRITES_A_SECOND).await;
        }
    }
}

async fn ask(address: &str) -> Result<RunProgress, &'static str> {
    let answer = tokio::time::timeout(PATIENCE, fetch(address)).await.map_err(|_| "timeout")?;
    let progress: Progress = answer.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or("error")?;
    // Numbers that a status can hold.
    let total = progress.total.min(MOST_UNITS);
    Ok(RunProgress { stage: progress.stage, done: progress.done.min(total), total })
}

async fn fetch(address: &str) -> Option<Bytes> {
    let host = if address.contains(':') { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") };
    let stream = TcpStream::connect(&host).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = hyper::Request::get("/progress").header(HOST, &host).body(Empty::<Bytes>::new()).ok()?;
    let answer = async {
        let response = sender.send_request(request).await.ok()?;
        Limited::new(response.into_body(), LONGEST).collect().await.ok().map(|body| body.to_bytes())
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}
