//! What is done to the operator, one thing after the other, and what is looked at meanwhile.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::Options;
use crate::bare::{Record, Replayed};
use crate::control_plane::ControlPlane;
use crate::kubelet::Kubelet;
use crate::load::{self, A_NAMESPACE, Complete};
use crate::measure::percentile;
use crate::operator::Operator;
use crate::report::Report;
use crate::wire::Wire;

/// Everything that the operator lists when it starts and that there is much of.
const LISTED: [&str; 4] =
    ["/apis/bam.dev/v1alpha1/bamexperiments", "/apis/bam.dev/v1alpha1/bamruns", "/apis/batch/v1/jobs", "/api/v1/pods"];
/// So many times experiments are made and deleted.
const ROUNDS: usize = 5;
/// Objects of each kind that are touched to see what a pass costs in which there is nothing to do.
const TOUCHED: usize = 500;

/// One control plane with the load on it.
pub struct Bench<'a> {
    options: &'a Options,
    wire: Wire,
    kubeconfig: PathBuf,
    log: PathBuf,
    kubelet: Arc<Kubelet>,
    complete: Arc<Complete>,
    cpu: Box<dyn Fn() -> f64 + 'a>,
}

type Done<T> = Result<T, Box<dyn Error>>;

impl<'a> Bench<'a> {
    /// With a kubelet, which begins to work.
    pub async fn new(plane: &'a ControlPlane, options: &'a Options) -> Done<Self> {
        let wire = Wire(plane.client("admin").await?);
        Ok(Self {
            options,
            kubeconfig: plane.kubeconfig(ControlPlane::operator())?,
            log: options.folder.join("bam-operator.log"),
            kubelet: Kubelet::start(Wire(plane.client("admin").await?), Duration::ZERO),
            complete: Complete::watch(wire.clone(), options.active),
            wire,
            cpu: Box::new(|| plane.cpu_seconds()),
        })
    }

    /// An operator that has nothing to do.
    pub async fn start_operator(&self, report: &mut Report) -> Done<Operator> {
        let mut operator = self.operator()?;
        operator.ready().await?;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let idle = operator.memory().now;
        report.goal("memory, idle", "20 MiB", format!("{idle:.1} MiB"), idle <= 20.0);
        Ok(operator)
    }

    fn operator(&self) -> Done<Operator> {
        Operator::start(&self.options.operator, &self.kubeconfig, &self.log)
    }

    /// All experiments, from the first to the end of the last.
    pub async fn load(&self, operator: &Operator, report: &mut Report) -> Done<(Arc<Record>, Duration)> {
        let all = self.options.experiments;
        // From the middle, where as many are active as may be.
        let record = Record::start(&self.wire, load::namespace(all / 2));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let cpu = [operator.cpu_seconds(), (self.cpu)()];
        let took = load::run(&self.wire, &self.complete, all, 0).await?;
        let seconds = took.as_secs_f64();
        report.goal("all complete", "900 s (of 10,000)", format!("{seconds:.0} s"), seconds <= 900.0);
        report.note("processor time, operator", format!("{:.0} s", operator.cpu_seconds() - cpu[0]));
        report.note("processor time, API server and etcd", format!("{:.0} s", (self.cpu)() - cpu[1]));
        let memory = operator.memory();
        report.note("memory, under load (peak)", format!("{:.0} ({:.0}) MiB", memory.now, memory.peak));
        operator.quiet(1.0).await?;
        let mut waits = self.kubelet.waits();
        for (share, most) in [(0.5, 0.2), (0.99, 1.0)] {
            // Where no student was seen to wait, nothing was measured.
            let wait = percentile(&mut waits, share).map_or(f64::NAN, |wait| wait.as_secs_f64());
            let what = format!("last teacher done -> student's Job, p{:.0}", share * 100.0);
            report.goal(&what, &format!("{most} s"), format!("{wait:.3} s"), wait <= most);
        }
        self.writes(operator, report).await?;
        Ok((record, took))
    }

    async fn writes(&self, operator: &Operator, report: &mut Report) -> Done<()> {
        let (metrics, _) = operator.metrics().await?;
        let sum = |verb: &str, kind: &str| {
            let labels = [format!("verb=\"{verb}\""), format!("kind=\"{kind}\""), "result=\"ok\"".to_owned()];
            metrics.sum("bam_api_requests_total", &labels.each_ref().map(String::as_str))
        };
        let runs = sum("create", "bamruns");
        let all = self.options.experiments as f64;
        report.note("runs", runs);
        let jobs = sum("create", "jobs") / runs;
        report.goal("Jobs made per run", "1", format!("{jobs:.3}"), (jobs - 1.0).abs() < 1e-9);
        let patches = sum("patch", "bamruns/status") / runs;
        report.goal("status patches per run", "4", format!("{patches:.2}"), patches <= 4.0);
        report.note("status patches per experiment", format!("{:.2}", sum("patch", "bamexperiments/status") / all));
        report.note("live looks per experiment", format!("{:.2}", sum("get", "bamexperiments") / all));
        let conflicts = metrics.sum("bam_api_requests_total", &["result=\"conflict\""]);
        report.note("conflicts", conflicts);
        let passes = metrics.sum("controller_runtime_reconcile_total", &[]);
        report.note("passes per run", format!("{:.2}", passes / runs));
        let counts = self.kubelet.counts();
        let failures = counts.failures.load(Ordering::Relaxed);
        report.note("the kubelet's writes (failed)", format!("{} ({failures})", counts.writes.load(Ordering::Relaxed)));
        Ok(())
    }

    /// Nothing is to be done any more: memory, metrics, and what it costs to see that nothing is to be done.
    pub async fn rest(&self, operator: &Operator, report: &mut Report) -> Done<()> {
        let memory = operator.memory().now;
        report.goal("memory, steady", "128 MiB (10,000)", format!("{memory:.1} MiB"), memory <= 128.0);
        let (before, scrape) = operator.metrics().await?;
        report.goal("series of /metrics", "3000", before.series(), before.series() <= 3000);
        let millis = scrape.as_secs_f64() * 1000.0;
        report.goal("a scrape", "50 ms", format!("{millis:.1} ms"), millis <= 50.0);
        self.touch().await?;
        operator.quiet(1.0).await?;
        let (after, _) = operator.metrics().await?;
        let rise = |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
        let (all, quick) = (
            rise("controller_runtime_reconcile_time_seconds_count", &[]),
            rise("controller_runtime_reconcile_time_seconds_bucket", &["le=\"0.001\""]),
        );
        let share = format!("{:.2} % of {all} within 1 ms", quick / all * 100.0);
        report.goal("a pass with nothing to do", "99 % within 1 ms", share, quick >= 0.99 * all && all > 0.0);
        let calls = rise("bam_api_requests_total", &[]);
        report.goal("API calls of these passes", "0", calls, calls == 0.0);
        Ok(())
    }

    /// Changes a label, which means nothing to the operator, of many objects.
    async fn touch(&self) -> Done<()> {
        for kind in ["bamexperiments", "bamruns"] {
            let mut paths = Vec::new();
            let all = format!("/apis/bam.dev/v1alpha1/{kind}");
            let one = |object: &serde_json::Value| {
                let (namespace, name) = (&object["metadata"]["namespace"], &object["metadata"]["name"]);
                let of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                paths.push(format!("/apis/bam.dev/v1alpha1/namespaces/{}/{kind}/{}", of(namespace), of(name)));
            };
            self.wire.list(&all, one).await?;
            for path in paths.iter().take(TOUCHED) {
                self.wire.merge(path, &json!({ "metadata": { "labels": { "touched": "yes" } } })).await?;
            }
        }
        Ok(())
    }

    /// A new operator meets all of it.
    pub async fn restart(&self, operator: &mut Operator, report: &mut Report) -> Done<()> {
        let begin = Instant::now();
        let lists = LISTED.map(|path| self.wire.list(path, |_| {}));
        let counts = try_join_all(lists).await?;
        let list = begin.elapsed().as_secs_f64();
        let objects = counts[0] + counts[1];
        report.note("a bare LIST", format!("{list:.2} s, {} objects", counts.iter().sum::<usize>()));
        operator.stop().await?;
        *operator = self.operator()?;
        let ready = operator.ready().await?.as_secs_f64();
        let caught_up = operator.quiet(objects as f64).await?.duration_since(operator.since).as_secs_f64();
        let most = (1.5 * list).max(10.0);
        report.note("restart until ready", format!("{ready:.2} s"));
        report.goal("restart until caught up", "1.5 LISTs, or 10 s", format!("{caught_up:.2} s"), caught_up <= most);
        let peak = operator.memory().peak;
        report.goal("memory, peak of a full relist", "192 MiB (10,000)", format!("{peak:.1} MiB"), peak <= 192.0);
        Ok(())
    }

    /// Experiments come and go, on top of a fresh start without any.
    pub async fn rounds(&self, operator: &Operator, report: &mut Report) -> Done<()> {
        load::remove(&self.wire, &self.complete, self.options.experiments).await?;
        let mut memories = Vec::new();
        for round in 1..=ROUNDS {
            load::run(&self.wire, &self.complete, self.options.round, round).await?;
            load::remove(&self.wire, &self.complete, self.options.round).await?;
            operator.quiet(1.0).await?;
            memories.push(operator.memory().now);
        }
        let (first, last) = (memories[0], memories[ROUNDS - 1]);
        let all: Vec<_> = memories.iter().map(|memory| format!("{memory:.1}")).collect();
        let what = format!("memory after each of {ROUNDS} rounds of {}", self.options.round);
        report.goal(&what, "within 10 %", format!("{} MiB", all.join(", ")), last <= 1.1 * first);
        Ok(())
    }
}

/// The same writes by a client that does nothing else.
pub async fn bare(
    plane: &ControlPlane,
    options: &Options,
    record: &Record,
    took: Duration,
    report: &mut Report,
) -> Done<()> {
    let wire = Wire(plane.client(ControlPlane::operator()).await?);
    let namespaces = (0..load::namespaces(options.experiments)).map(|number| load::namespace(number * A_NAMESPACE));
    for (what, count) in record.counts() {
        println!("    {what}: {:.2} per experiment", count as f64 / A_NAMESPACE as f64);
    }
    let Replayed { took: bare, writes, failures } = record.replay(&wire, namespaces.collect()).await;
    let writes = format!("{:.0} s, {writes} writes, and {failures} objects not to their end", bare.as_secs_f64());
    report.note("a bare client's time for the same writes", writes);
    report.note("processor time of its API server and etcd", format!("{:.0} s", plane.cpu_seconds()));
    let ratio = took.as_secs_f64() / bare.as_secs_f64();
    // Beside fewer writes it says nothing.
    report.goal("the operator's time beside it", "1.5", format!("{ratio:.2}"), ratio <= 1.5 && failures == 0);
    Ok(())
}
