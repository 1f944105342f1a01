//! One attempt as a child process.
//!
//! It dies with `bam` (SIGTERM, upon which a trainer writes a checkpoint), has a process group of its own, so that
//! Ctrl-C reaches `bam` alone, and holds the lock of its run for as long as it lives.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::Error;
use super::ledger::AttemptFolder;

/// A child process that trains or checks.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    out_of_memory_kills: u64,
    /// Held here too, until the end of the attempt is on the disk.
    _lock: File,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 + n for a signal n.
    pub code: i32,
    /// The system killed it because memory ran out.
    pub out_of_memory: bool,
}

impl Child {
    /// Starts `trainer` with these arguments. It must be called on the main thread: the child dies with its thread.
    pub fn start(trainer: &Path, arguments: &[&str], folder: &AttemptFolder, lock: File) -> Result<Self, Error> {
        let log = |path: std::path::PathBuf| File::create(&path).map_err(Error::write(&path));
        let (stdout, stderr) = (log(folder.stdout())?, log(folder.stderr())?);
        let failed = |source| Error::Spawn { trainer: trainer.to_owned(), source };
        // The lock travels as standard input, which a trainer does not read: an open file that is inherited keeps a
        // lock alive.
        let input = lock.try_clone().map_err(failed)?;
        let mut command = Command::new(trainer);
        command.args(arguments).stdin(Stdio::from(input)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        command.process_group(0);
        die_with_parent(&mut command);
        let out_of_memory_kills = out_of_memory_kills();
        let process = command.spawn().map_err(failed)?;
        Ok(Self { process, out_of_memory_kills, _lock: lock })
    }

    /// How it ended, if it has.
    pub fn exit(&mut self) -> Option<Exit> {
        let status = self.process.try_wait().ok().flatten()?;
        let killed = status.signal() == Some(libc::SIGKILL);
        // The counter is of the whole machine: a kill at that time was most likely this one.
        let out_of_memory = killed && out_of_memory_kills() > self.out_of_memory_kills;
        Some(Exit { code: code(status), out_of_memory })
    }

    /// Sends a signal to it and to what it started.
    pub fn signal(&self, signal: i32) {
        let Ok(group) = libc::pid_t::try_from(self.process.id()) else { return };
        // SAFETY: `kill` has no memory effects. The process is a child that nobody has waited for (`exit` takes it out
        // of use when it is over), so its id is not anybody else's.
        unsafe { libc::kill(-group, signal) };
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Has the child get SIGTERM when the thread that starts it ends, however that happens.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let hook = move || {
        // SAFETY: both calls are async-signal-safe and touch no memory.
        unsafe {
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: the hook allocates nothing and calls only what may be called between fork and exec.
    unsafe { command.pre_exec(hook) };
}

/// How many processes this machine's kernel has killed for want of memory.
fn out_of_memory_kills() -> u64 {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}
