//! The command line of `bam-operator`.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Trains BAM experiments on a Kubernetes cluster: teachers first, then the student that learns from them.
#[derive(Clone, Debug, Parser)]
#[command(name = "bam-operator", version)]
pub struct Settings {
    /// Image of the trainer, where an experiment names none.
    #[arg(long, env = "BAM_TRAINER_IMAGE", value_name = "IMAGE")]
    pub trainer_image: String,
    /// When nodes pull it: Always, IfNotPresent or Never.
    #[arg(long, env = "BAM_TRAINER_IMAGE_PULL_POLICY", value_name = "POLICY", default_value = "IfNotPresent")]
    pub trainer_image_pull_policy: String,
    /// The only namespace to look at [default: all].
    #[arg(long, env = "BAM_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Lease in the operator's own namespace: of several operators with the same one, one works at a time [default: none, this
    /// one works alone].
    #[arg(long, env = "BAM_LEASE", value_name = "NAME")]
    pub lease: Option<String>,
    /// Tell why runs wait in queues of Kueue: its Workloads are watched, as soon as it is installed.
    #[arg(long, env = "BAM_KUEUE")]
    pub kueue: bool,
    /// Where /healthz, /readyz and /metrics are answered.
    #[arg(long, env = "BAM_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Seconds between two looks at the trainers' progress.
    #[arg(long, env = "BAM_PROGRESS_SECONDS", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub progress_seconds: u64,
    /// How log lines are written.
    #[arg(long, env = "BAM_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: an object a line.
    Json,
}
