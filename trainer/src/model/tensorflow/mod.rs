//! TensorFlow's checkpoints in their second format ("tensor bundle"), as Google published BERT: an index, which is a sorted
//! [`table`] of protocol buffers by variable name, and one data file with the values.
//!
//! Whatever the bytes are, reading ends with a value or an error: lengths are compared with what is there before anything
//! is reserved for them, and every checksum is looked at.

mod bundle;
mod message;
mod table;
mod wire;

pub use bundle::TensorBundle;
