//! The BAM training program: one configuration in, one trained model in the artifact store out.
//!
//! The way of a run: [`prepare`] (files to rows, everything checked) → [`train`] (optimizer steps, resumable) →
//! [`evaluate`] → targets and model into the [`store`], the manifest last; [`run`] is that sentence. [`reference`] is the
//! command line of the reference on top of it, [`inputs`] the check before it, [`fetch`] what brings the inputs.
//! Where the store is an object store, [`remote`] keeps a working copy of what is used.

pub mod base;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod digest;
pub mod distill;
mod durable;
pub mod ending;
pub mod evaluate;
pub mod failure;
pub mod fetch;
pub mod inputs;
pub mod interrupt;
pub mod journal;
mod log;
mod losses;
pub mod metrics;
pub mod model;
pub mod model_files;
pub mod needs;
pub mod optim;
mod parallel;
pub mod pickle;
pub mod prepare;
pub mod random;
mod rates;
pub mod receive;
pub mod reference;
pub mod remote;
pub mod report;
pub mod run;
pub mod serve;
pub mod store;
pub mod submission;
pub mod task;
mod tensorboard;
mod termination;
mod trace;
pub mod train;
pub mod unpickle;
