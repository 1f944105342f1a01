//! The operator under load: a real API server and etcd, a fake kubelet, the real `bam-operator`.
//!
//! ```text
//! load --experiments--> API server <--watches, writes--> bam-operator
//!                           ^
//!                        kubelet
//! ```
//!
//! `tests/bench_operator/run.sh` gives it the programs that it needs.

mod control_plane;
mod kubelet;
mod load;
mod measure;
mod operator;
mod trainer;
mod wire;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use control_plane::{ControlPlane, Programs};
use kubelet::Kubelet;
use load::Complete;
use operator::Operator;
use wire::Wire;

/// Measures the operator.
#[derive(Debug, Parser)]
struct Options {
    /// Experiments in all.
    #[arg(long, default_value_t = 10_000)]
    experiments: usize,
    /// Experiments that are active at once.
    #[arg(long, default_value_t = 1000)]
    active: usize,
    /// The folder with kube-apiserver.
    #[arg(long)]
    kubernetes: PathBuf,
    /// etcd.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// bam-operator.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_bam-operator"))]
    operator: PathBuf,
    /// A folder for what is written meanwhile; it is emptied.
    #[arg(long, default_value = "target/bench-operator")]
    folder: PathBuf,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let programs = Programs { kubernetes: options.kubernetes.clone(), etcd: options.etcd.clone() };
    let plane = ControlPlane::start(&programs, &options.folder.join("operator")).await?;
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    for kind in ["bamexperiments", "bamruns", "bamprofiles", "clusterbamprofiles"] {
        plane.install(&crds.join(format!("{kind}.bam.dev.yaml"))).await?;
    }
    let wire = Wire(plane.client("admin").await?);
    load::prepare(&wire, options.experiments).await?;
    let log = options.folder.join("bam-operator.log");
    let kubeconfig = plane.kubeconfig(ControlPlane::operator())?;
    let mut operator = Operator::start(&options.operator, &kubeconfig, &log)?;
    operator.ready().await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    println!("idle: {:?}", operator.memory());
    let kubelet = Kubelet::start(Wire(plane.client("admin").await?), Duration::ZERO);
    let complete = Complete::watch(wire.clone(), options.active);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let took = load::run(&wire, &complete, options.experiments, 0).await?;
    println!("took {took:?}; memory {:?}, cpu {}, control plane cpu {}", operator.memory(), operator.cpu_seconds(), plane.cpu_seconds());
    operator.quiet(1.0).await?;
    println!("at rest: {:?}", operator.memory());
    let mut waits = kubelet.waits();
    println!("{} waits, p50 {:?} p99 {:?}", waits.len(), measure::percentile(&mut waits, 0.5), measure::percentile(&mut waits, 0.99));
    let (metrics, scrape) = operator.metrics().await?;
    println!("{} series, {scrape:?}", metrics.series());
    for name in ["bam_api_requests_total", "controller_runtime_reconcile_total", "bam_actions_total"] {
        metrics.of(name).for_each(|(series, value)| println!("  {series} {value}"));
    }
    println!("kubelet {:?}", kubelet.counts());
    operator.stop().await?;
    Ok(())
}
