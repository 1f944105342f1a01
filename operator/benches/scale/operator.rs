//! The real `bam-operator` as a process beside this one.

use std::error::Error;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{self, Memory, Metrics};

/// A running operator.
pub struct Operator {
    process: Child,
    address: String,
    /// When it was started.
    pub since: Instant,
}

impl Operator {
    /// Starts one.
    pub fn start(program: &Path, kubeconfig: &Path, log: &Path) -> Result<Self, Box<dyn Error>> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = File::options().create(true).append(true).open(log)?;
        let process = Command::new(program)
            .args(["--trainer-image", "localhost/bam-trainer:scale", "--listen", &address])
            .env("KUBECONFIG", kubeconfig)
            // A line for each action would be a file of a gigabyte.
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { process, address, since: Instant::now() })
    }

    /// Its memory.
    pub fn memory(&self) -> Memory {
        measure::memory(self.process.id())
    }

    /// Seconds of processor time that it took so far.
    pub fn cpu_seconds(&self) -> f64 {
        measure::cpu_seconds(self.process.id())
    }

    /// Its metrics, and how long it took to get them.
    pub async fn metrics(&self) -> Result<(Metrics, Duration), reqwest::Error> {
        let begin = Instant::now();
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let took = begin.elapsed();
        Ok((Metrics::parse(&text), took))
    }

    /// Waits until it has seen everything once.
    pub async fn ready(&mut self) -> Result<Duration, Box<dyn Error>> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("the operator ended ({status}); its log says why").into());
            }
            let answer = reqwest::get(format!("http://{}/readyz", self.address)).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(self.since.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until at least so many passes were made in all, and none more for a while. When the last one was seen.
    pub async fn quiet(&self, passes: f64) -> Result<Instant, Box<dyn Error>> {
        let (mut known, mut since) = (-1.0, Instant::now());
        loop {
            let (metrics, _) = self.metrics().await?;
            let now = metrics.sum("controller_runtime_reconcile_total", &[]);
            if now != known {
                (known, since) = (now, Instant::now());
            } else if now >= passes && since.elapsed() > Duration::from_secs(3) {
                return Ok(since);
            } else if since.elapsed() > Duration::from_secs(120) {
                return Err(format!("the operator made {now} passes of {passes}, and makes no more").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells it to stop, and waits for its end.
    pub async fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        let pid = i32::try_from(self.process.id())?;
        // SAFETY: a signal to a child that was not waited for, whose number is therefore still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let begin = Instant::now();
        while self.process.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_secs(20) {
                self.process.kill()?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
