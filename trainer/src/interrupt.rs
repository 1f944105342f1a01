//! SIGTERM and SIGINT: one thread waits for them.
//!
//! They are blocked in every thread from before `main` on, and there is no handler, so none can come too early: a blocked
//! signal waits until somebody takes it. That holds across the program's second start ([`crate::device::cpu_settings`]),
//! and for process 1 of a container, which the kernel spares every signal that it neither handles nor blocks.
//!
//! While steps are trained the loop looks here, and saves before it ends. At any other time there is nothing to save (the
//! store bears a kill at any moment), so the thread ends the process by itself: no read of a large file, and no mount that
//! hangs, makes anybody wait.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, ptr, thread};

/// Whether somebody asked the process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    /// Does the work itself look whether it was asked?
    heeded: Mutex<bool>,
}

/// As long as this lives, the work itself ends the process when it is asked to.
#[derive(Debug)]
#[must_use = "it ends with its scope"]
pub struct Heeding<'a>(&'a Interrupt);

/// Holds both signals back until [`Interrupt::watch`] takes them. It is called before anything else runs, even before the
/// initialisers of libraries, so it must need none of them.
pub extern "C" fn hold() {
    mask(libc::SIG_BLOCK);
}

fn mask(how: i32) {
    // SAFETY: the set is a whole one, and no old mask is asked for.
    unsafe { libc::pthread_sigmask(how, &signals(), ptr::null_mut()) };
}

impl Interrupt {
    /// Takes signals from here on. Asked to end while the work does not heed it, the process ends with the exit code that
    /// `leave` returns. A second signal always ends it at once.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub fn watch(leave: impl Fn() -> u8 + Send + 'static) -> io::Result<Self> {
        hold();
        let interrupt = Self::default();
        let watched = interrupt.clone();
        let watch = move || {
            loop {
                let signal = next();
                if watched.0.asked.swap(true, Ordering::SeqCst) {
                    exit(128 + signal);
                }
                // Held for as long as it takes to leave: the work must not begin to heed meanwhile.
                let heeded = watched.heeded();
                if !*heeded {
                    // Nobody waits for a second signal meanwhile: from now on it is the system that ends the process.
                    mask(libc::SIG_UNBLOCK);
                    exit(leave().into());
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(watch)?;
        Ok(interrupt)
    }

    /// Was it asked to end?
    pub fn is_set(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// From here on the work looks at [`is_set`](Self::is_set), for as long as what is returned lives.
    pub fn heed(&self) -> Heeding<'_> {
        *self.heeded() = true;
        Heeding(self)
    }

    fn heeded(&self) -> MutexGuard<'_, bool> {
        self.0.heeded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Heeding<'_> {
    fn drop(&mut self) {
        *self.0.heeded() = false;
    }
}

fn signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes it a whole set, before anything reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}

/// Waits for a signal.
fn next() -> i32 {
    let mut signal = 0;
    // SAFETY: both point to what the call expects; the signals are blocked.
    while unsafe { libc::sigwait(&signals(), &mut signal) } != 0 {}
    signal
}

/// Not `std::process::exit`: that tears libtorch down while other threads are at work in it.
fn exit(code: i32) -> ! {
    // SAFETY: it only ends the process.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_heeds_for_as_long_as_it_says() {
        let interrupt = Interrupt::default();
        assert!(!*interrupt.heeded());
        let heeding = interrupt.heed();
        assert!(*interrupt.heeded());
        drop(heeding);
        assert!(!*interrupt.heeded());
        assert!(!interrupt.is_set());
    }
}
