//! Plans and runs BAM experiments.
//!
//! [`plan`] decides, purely. A [`platform::Platform`] looks and acts, and [`platform::drive`] is the loop between them.
//! [`manifest`] reads what people write. [`local`] is the platform of a single machine: attempts are subprocesses, and a
//! ledger of files remembers. [`cluster`] is that of Kubernetes: attempts are Jobs, and the API server remembers.

pub mod attempt;
pub mod cli;
pub mod cluster;
pub mod local;
pub mod manifest;
mod pace;
pub mod plan;
pub mod platform;
