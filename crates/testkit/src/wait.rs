//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a test waits for something that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits up to a minute until `look` finds something.
///
/// # Panics
/// When it does not, with `what` and the last reason.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    eventually_within(SOON, what, look)
}

/// Waits until `look` finds something.
///
/// # Panics
/// When `limit` is over, with `what` and the last reason.
pub fn eventually_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) => assert!(begun.elapsed() < limit, "waited {limit:?} for {what}; at last: {reason}"),
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
