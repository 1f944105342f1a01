//! What wakes `bam` up: a child that ended, a person who wants to stop, or the time.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;

/// The signals that matter.
#[derive(Debug)]
pub(super) struct Signals {
    child: Signal,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// What woke it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// A child may have ended, or the time is over.
    Look,
    /// Somebody wants it to stop.
    Stop,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self {
            child: listen(SignalKind::child())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self, at_most: Duration) -> Woken {
        tokio::select! {
            _ = self.interrupt.recv() => Woken::Stop,
            _ = self.terminate.recv() => Woken::Stop,
            _ = self.hang_up.recv() => Woken::Stop,
            _ = self.child.recv() => Woken::Look,
            () = tokio::time::sleep(at_most) => Woken::Look,
        }
    }
}
