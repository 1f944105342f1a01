//! From files of text to the rows of a training step, and a run's logits from and to disk.
//!
//! Plain data and threads: nothing here knows of tensors or devices. The way of a row:
//! [`tsv`] (file to [`tsv::Row`]) → [`tokenize`] (text to piece ids) → [`features`] (ids of a pair,
//! with `[CLS]` and `[SEP]`) → [`batches`] (which row is learned from at which step).
//! [`targets`] are a teacher's logits, which [`align`] hands to a student row by row.
//! [`bam_crds::shares`] says how often and how much a task counts, [`micro`] cuts a step to fit the memory.

pub mod align;
pub mod batches;
pub mod features;
pub mod lessons;
pub mod micro;
pub mod targets;
pub mod tokenize;
pub mod tsv;

mod fault;

pub use fault::{DataError, Fault, FaultKind};
