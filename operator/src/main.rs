//! `bam-operator`: experiments on a Kubernetes cluster.

use std::process::ExitCode;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    bam_operator::cluster::main().await
}
