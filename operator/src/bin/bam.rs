//! `bam`: experiments without a cluster.

use std::process::ExitCode;

// One thread, the main one: child processes end when the thread ends that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    bam_operator::cli::main().await
}
