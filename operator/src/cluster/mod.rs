//! The platform of a Kubernetes cluster.

pub mod metrics;
pub mod serve;
