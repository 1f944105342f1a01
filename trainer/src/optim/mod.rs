//! The optimizer: BERT's Adam with decoupled weight decay, its schedule, and layer-wise learning rates.

mod adam_weight_decay;
mod gradients;
mod kernel;
mod layerwise;
mod schedule;
mod skipped;

pub use adam_weight_decay::{AdamWeightDecay, CLIP_NORM, Outcome, Settings};
pub use gradients::Gradients;
pub use layerwise::Depth;
pub use schedule::LearningRates;
pub use skipped::Skipped;
