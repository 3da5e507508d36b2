//! Settings of a store, each with a default that suits a single machine.

use std::time::Duration;

use jiff::Timestamp;

/// Revisions that are always kept in the log.
const KEEP_REVISIONS_MIN: u64 = 100_000;
/// Revisions beyond which the log is cut, however young they are.
const KEEP_REVISIONS_MAX: u64 = 400_000;
/// How long revisions between the two bounds are kept: long enough for a client that lost its
/// connection to come back and resume its watch.
const KEEP_FOR: Duration = Duration::from_mins(15);
/// Events kept in memory for watchers.
const RECENT_EVENTS_MAX: usize = 8_192;
/// Bytes of object bodies kept in memory for watchers.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// How a store is kept. `Options::default()` is right for a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The newest revisions that automatic compaction never removes.
    pub keep_revisions_min: u64,
    /// Revisions older than the newest `keep_revisions_max` are removed at any age.
    pub keep_revisions_max: u64,
    /// Revisions between the two bounds are removed once they are older than this.
    pub keep_for: Duration,
    /// Events kept in memory; a watcher further behind reads the log from disk.
    pub recent_events_max: usize,
    /// Bytes of bodies kept in memory for watchers.
    pub recent_bytes_max: usize,
    /// The clock. It stamps log entries, so that compaction knows their age.
    pub now: fn() -> Timestamp,
    /// For the test of the history checker alone: makes the store show events in a wrong order.
    #[doc(hidden)]
    pub out_of_order: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_revisions_min: KEEP_REVISIONS_MIN,
            keep_revisions_max: KEEP_REVISIONS_MAX,
            keep_for: KEEP_FOR,
            recent_events_max: RECENT_EVENTS_MAX,
            recent_bytes_max: RECENT_BYTES_MAX,
            now: Timestamp::now,
            out_of_order: false,
        }
    }
}
