//! When to cut the log, and how far.

use std::time::Duration;

use crate::extent::Extent;
use crate::options::Options;

/// Log entries looked at in one transaction, so that a writer that comes meanwhile waits milliseconds.
pub(crate) const STEP_REVISIONS: u64 = 500;

/// What is to be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    No,
    /// Up to this revision.
    Now(u64),
    /// Up to this revision, if it was written at least so long ago.
    IfWrittenBefore(u64, Duration),
}

/// How far the next step goes. `requested` is what somebody asked for; zero if nobody did.
pub(crate) fn due(extent: Extent, requested: u64, options: &Options) -> Due {
    let Extent { compacted, newest } = extent;
    let step = compacted + STEP_REVISIONS;
    if requested > compacted {
        return Due::Now(step.min(requested));
    }
    if step > newest.saturating_sub(options.keep_revisions_min) {
        return Due::No;
    }
    if step <= newest.saturating_sub(options.keep_revisions_max) {
        return Due::Now(step);
    }
    Due::IfWrittenBefore(step, options.keep_for)
}
