//! SIGTERM and SIGINT: the loops look here, write a checkpoint and end with exit code 81.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bam_crds::ExitReason;

use crate::failure::Failure;

/// Whether somebody asked the process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches SIGTERM and SIGINT from here on. A second one ends the process at once.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub fn catch() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            // In this order: the second signal finds the flag set.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
            signal_hook::flag::register(signal, asked.clone())?;
        }
        Ok(Self(asked))
    }

    /// Was it asked to end?
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends a stage that has nothing to save.
    ///
    /// # Errors
    /// If it was asked to end.
    pub fn check(&self) -> Result<(), Failure> {
        match self.is_set() {
            true => Err(Failure::new(ExitReason::Checkpointed, "stopped by a signal; start again to go on")),
            false => Ok(()),
        }
    }
}
