//! Memory that the start has taken and needs no more.

use std::time::Duration;

/// How long after it is ready the server is still starting: controllers read everything there is
/// once.
const START: Duration = Duration::from_secs(10);

/// Gives back what the start took, when it is over. Schemas are taken apart then and every object
/// is read once, which is freed in small pieces all over the heap; the C library keeps those until it
/// is told.
pub(super) async fn give_back_after_start() {
    tokio::time::sleep(START).await;
    // Looks through the whole heap, which must not hold up requests on this thread.
    let given = tokio::task::spawn_blocking(trim).await;
    tracing::debug!(given = given.is_ok_and(|given| given), "gave memory of the start back");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() -> bool {
    #[allow(
        unsafe_code,
        reason = "the C library offers this in no other way; it takes a number and may be called at any time by any thread"
    )]
    // SAFETY: malloc_trim(3) has no preconditions and touches free memory only.
    unsafe {
        libc::malloc_trim(0) == 1
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() -> bool {
    false
}
