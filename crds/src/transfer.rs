//! How a run that was trained elsewhere gets into a store that only pods reach: what `kubectl bam push` and `bam-trainer receive`
//! say to each other over a pod's standard streams.
//!
//! ```text
//! client                                          receiver
//! {"runs": [MANIFEST, …]}\n             -->
//!                                       <--       {"wants": [HASH, …]}\n
//! the files of the first of these, one
//! after another without anything between
//! (names and sizes are the manifest's)  -->
//!                                       <--       {"placed": HASH}\n, or {"damaged": …}\n
//! those of the second one               -->
//! ```
//!
//! The receiver says nothing before it is spoken to: whoever attaches to a pod does not hear what was said before. It ends when
//! it has everything that it wants.

use serde::{Deserialize, Serialize};

use crate::identity::Digest;
use crate::store::Manifest;

/// Bytes that a line has at most.
pub const LONGEST_LINE: u64 = 64 << 20;

/// The client's first and only line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Runs that are whole where the client is; teachers stand before those who learn from them.
    pub runs: Vec<Manifest>,
}

/// A line of the receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// These of the offered runs are not whole in the store: send them, in this order.
    Wants(Vec<Digest>),
    /// The run that was just sent is in the store.
    Placed(Digest),
    /// The run that was just sent is not what its manifest says, and does not count.
    Damaged {
        /// The run.
        run: Digest,
        /// Its files whose content is another one.
        files: Vec<String>,
    },
}
