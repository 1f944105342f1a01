//! `bam` itself, as a person runs it, with a fake trainer that honours the contract and trains nothing.

mod bam;
mod commands;
mod interruptions;
mod runs;
