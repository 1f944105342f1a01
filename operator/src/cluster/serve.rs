//! What the operator says over HTTP: `/healthz`, `/readyz` and `/metrics`.
//!
//! Plain text for probes, for Prometheus, and for a person with curl. It reports what others told it, and asks nobody:
//! an answer never waits for the cluster.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::metrics::Metrics;

/// What must be there before the operator can do its work, and why it is not.
#[derive(Debug, Default)]
pub struct Readiness {
    parts: Mutex<BTreeMap<&'static str, Part>>,
    memory: Duration,
}

/// A watch that broke says so again at least this often, until it is whole. When it is, it says nothing until something
/// happens: an old complaint counts no longer.
const MEMORY: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct Part {
    missing: Option<String>,
    said: Instant,
    was_there: bool,
}

impl Readiness {
    /// Waits for all of these.
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let part = || Part { missing: Some("not yet".to_owned()), said: Instant::now(), was_there: false };
        Self { parts: Mutex::new(names.into_iter().map(|name| (name, part())).collect()), memory: MEMORY }
    }

    /// This is missing (`watch of bamruns`), and why (`forbidden: …`). Of no weight if it is not waited for at all.
    pub fn waits(&self, name: &'static str, why: impl Into<String>) {
        self.change(name, |part| {
            part.missing = Some(why.into());
            part.said = Instant::now();
        });
    }

    /// This is there.
    pub fn ready(&self, name: &'static str) {
        self.change(name, |part| {
            part.missing = None;
            part.was_there = true;
        });
    }

    /// A line for each that is missing, by name; empty: ready.
    pub fn missing(&self) -> String {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |part: &&Part| !part.was_there || part.said.elapsed() < self.memory;
        parts.iter().fold(String::new(), |mut lines, (name, part)| {
            if let Some(why) = Some(part).filter(counts).and_then(|part| part.missing.as_ref()) {
                let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
                let _ = writeln!(lines, "{name}: {why}");
            }
            lines
        })
    }

    fn change(&self, name: &'static str, change: impl FnOnce(&mut Part)) {
        if let Some(part) = self.parts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            change(part);
        }
    }
}

/// Whether the main loop still goes round.
#[derive(Debug)]
pub struct Heartbeat {
    since: Instant,
    /// Milliseconds after `since`.
    last: AtomicU64,
    patience: Duration,
}

impl Heartbeat {
    /// A loop that beats at least this often, unless it is stuck. The first beat is now.
    pub fn new(patience: Duration) -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0), patience }
    }

    /// The loop went round once more.
    pub fn beat(&self) {
        let now = self.since.elapsed().as_millis();
        self.last.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago the last beat was, if that is too long.
    pub fn missed(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        Some(self.since.elapsed().saturating_sub(last)).filter(|silence| *silence > self.patience)
    }
}

/// What the probes are told.
#[derive(Debug)]
pub struct Health {
    /// What is missing.
    pub readiness: Readiness,
    /// Whether the main loop lives.
    pub heartbeat: Heartbeat,
}

/// Answers until `shutdown` resolves. Requests that are being answered then have until the process ends.
///
/// # Errors
/// If the listener breaks for good.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(Router::new().route("/metrics", get(exposition)).with_state(metrics));
    let server = pin!(axum::serve(listener, router).into_future());
    tokio::select! {
        result = server => result,
        () = shutdown => Ok(()),
    }
}

async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    match health.heartbeat.missed() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(silence) => {
            let line = format!("the main loop has been stuck for {} s\n", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, line)
        }
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let missing = health.readiness.missing();
    if missing.is_empty() { (StatusCode::OK, "ready\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, missing) }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT_FORMAT)], metrics.render())
}

/// [`prometheus::TEXT_FORMAT`] with its character set, which HTTP would otherwise not know.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};

    use tokio::sync::oneshot;
    use tokio::task::spawn_blocking;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn health() -> Arc<Health> {
        let readiness = Readiness::new(["watch of bamexperiments", "watch of bamruns"]);
        Arc::new(Health { readiness, heartbeat: Heartbeat::new(PATIENCE) })
    }

    /// What a real server says to `GET path`.
    async fn ask(health: &Arc<Health>, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, health.clone(), Arc::new(Metrics::new()), shutdown));
        let request = format!("GET {path} HTTP/1.1\r\nHost: bam\r\nConnection: close\r\n\r\n");
        let answer = spawn_blocking(move || exchange(address, &request)).await.unwrap().unwrap();
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        answer
    }

    fn exchange(address: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        io::read_to_string(&stream)
    }

    #[test]
    fn a_watch_that_broke_and_says_nothing_more_is_whole_again() {
        let parts = || Readiness::new(["watch of pods"]);
        let (patient, forgetful) = (parts(), Readiness { memory: Duration::ZERO, ..parts() });
        assert_eq!(forgetful.missing(), "watch of pods: not yet\n", "it never was");
        for readiness in [&patient, &forgetful] {
            readiness.ready("watch of pods");
            readiness.waits("watch of pods", "connection refused");
        }
        assert_eq!(patient.missing(), "watch of pods: connection refused\n");
        assert_eq!(forgetful.missing(), "");
    }

    #[tokio::test]
    async fn it_is_ready_when_nothing_is_missing_and_says_what_is() {
        let health = health();
        let answer = ask(&health, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nwatch of bamexperiments: not yet\nwatch of bamruns: not yet\n"), "{answer}");

        health.readiness.ready("watch of bamexperiments");
        health.readiness.waits("watch of bamruns", "forbidden:\n  no list");
        let answer = ask(&health, "/readyz").await;
        assert!(answer.ends_with("\r\n\r\nwatch of bamruns: forbidden: no list\n"), "{answer}");

        health.readiness.ready("watch of bamruns");
        let answer = ask(&health, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nready\n"), "{answer}");
    }

    #[tokio::test]
    async fn it_is_healthy_while_its_loop_goes_round() {
        let health = health();
        assert!(ask(&health, "/healthz").await.starts_with("HTTP/1.1 200 "));
        tokio::time::sleep(PATIENCE * 2).await;
        let answer = ask(&health, "/healthz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the main loop has been stuck for 0 s\n"),
            "{answer}"
        );
        health.heartbeat.beat();
        assert!(ask(&health, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn metrics_are_text_in_the_format_that_prometheus_reads() {
        let answer = ask(&health(), "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\nbam_build_info{version=\""), "{answer}");
    }

    #[tokio::test]
    async fn nothing_else_is_there() {
        assert!(ask(&health(), "/").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_does_not_hold_up_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, health(), Arc::new(Metrics::new()), shutdown));
        let mut silent = TcpStream::connect(address).unwrap();
        silent.write_all(b"GET /hea").unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
    }
}
