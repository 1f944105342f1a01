//! From files of text to the rows of a training step, and a run's logits from and to disk.
//!
//! Plain data and threads: nothing here knows of tensors or devices. The way of a row:
//! [`rows`] (file to [`rows::Row`]) → [`tokenize`] (text to piece ids) → [`features`] (ids of a pair,
//! with `[CLS]` and `[SEP]`; those of large files are kept by [`feature_cache`]) → [`batches`] (which row is learned from at which step).
//! [`targets`] are a teacher's logits, which [`align`] hands to a student row by row.
//! [`bam_crds::shares`] says how often and how much a task counts, [`micro`] cuts a step to fit the memory.

pub mod align;
pub mod batches;
pub mod feature_cache;
pub mod features;
pub mod lessons;
pub mod micro;
pub mod rows;
pub mod targets;
pub mod tokenize;

mod csv;
mod fault;
mod jsonl;
mod reader;
mod tsv;

pub use fault::{DataError, Fault, FaultKind};
