//! How the C library keeps memory that was freed.

/// Lets all threads allocate from one arena.
///
/// The C library of GNU/Linux gives each thread an arena of its own, up to eight for each core, and what is freed in one is of no use in
/// another. Here connections, the disk and sums are served by different threads, so each arena keeps what its busiest moment took: with
/// hundreds of parties that is several times what is in use. Elsewhere this does nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library has no other way to set this")]
pub(super) fn share_arenas() {
    // SAFETY: `mallopt` reads two integers. It is called before any other thread is started.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    if set == 0 {
        tracing::warn!("the number of memory arenas could not be set; more memory will be used");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn share_arenas() {}
