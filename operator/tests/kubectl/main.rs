//! `kubectl bam` as a person calls it, against a server that answers as an API server does. What only a real one can say is
//! in `tests/e2e_cluster/wishes.rs`.
//!
//! What it prints is compared with `tests/golden/kubectl`; `UPDATE_GOLDEN=1 cargo test --test kubectl` writes that anew.

mod commands;
mod errors;
mod lab;
mod logs;
mod server;
mod watch;
