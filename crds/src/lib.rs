//! The words that operator and trainer share.
//!
//! Plain data: what a person writes ([`experiment`]), what is trained ([`run`], [`config`]), what a trainer says back
//! ([`report`]), where things lie in the artifact store ([`store`]), how they get there from elsewhere ([`transfer`]) and how they
//! are named ([`identity`], [`names`]).
//! Nothing in here reads a file, a clock or the network. Without the `kube` feature it is plain serde, so the trainer
//! stays free of Kubernetes.

pub mod config;
#[cfg(feature = "kube")]
pub mod experiment;
pub mod hyperparameters;
pub mod identity;
pub mod log;
pub mod names;
pub mod nearest;
#[cfg(feature = "kube")]
pub mod placement;
#[cfg(feature = "kube")]
pub mod profile;
pub mod quantity;
pub mod report;
#[cfg(feature = "kube")]
pub mod run;
#[cfg(feature = "kube")]
pub mod schema;
pub mod shares;
pub mod statistics;
pub mod store;
pub mod task;
pub mod transfer;

pub use config::{Execution, Fetch, InputsConfig, RunConfig, Science};
pub use hyperparameters::{HyperparameterOverrides, Hyperparameters};
pub use identity::Digest;
pub use nearest::nearest;
pub use report::{ExitReason, Progress, RunReport};
pub use statistics::Statistics;
pub use store::Manifest;
pub use task::{CustomTask, TaskFiles};

#[cfg(feature = "kube")]
pub use experiment::{BamExperiment, BamExperimentSpec, BamExperimentStatus};
#[cfg(feature = "kube")]
pub use profile::{BamProfile, BamProfileSpec, ClusterBamProfile};
#[cfg(feature = "kube")]
pub use run::{BamRun, BamRunSpec, BamRunStatus};

/// The API group of all resources.
pub const GROUP: &str = "bam.dev";
/// The API version of all resources.
pub const VERSION: &str = "v1alpha1";
