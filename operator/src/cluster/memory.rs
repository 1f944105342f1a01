//! Memory that was freed goes back to the system. glibc's allocator keeps it, and under load that is several times what is
//! in use.

#[cfg(target_env = "gnu")]
use std::time::Duration;

/// It is given back this often.
#[cfg(target_env = "gnu")]
const EVERY: Duration = Duration::from_secs(10);
/// Blocks of so many bytes are the system's own, and go back to it at once.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;
/// Heaps: each is shared by threads, and what is freed in one is of no use to another.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Few heaps, and no large blocks in them.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: numbers, for parameters that the allocator knows and that may be set at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back what was freed, again and again.
pub async fn give_back() {
    #[cfg(target_env = "gnu")]
    loop {
        tokio::time::sleep(EVERY).await;
        // SAFETY: it looks at nothing but what is free, under the allocator's own locks.
        unsafe {
            libc::malloc_trim(0);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    std::future::pending::<()>().await;
}
