//! The part of history that can be asked for.

use crate::error::Error;

/// The first and last revisions that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The log has been compacted up to here; states at this revision and later are known.
    pub(crate) compacted: u64,
    /// The newest revision.
    pub(crate) newest: u64,
}

impl Extent {
    /// Refuses a revision whose state, or whose following events, are not all known.
    pub(crate) fn check(self, revision: u64) -> Result<(), Error> {
        if revision < self.compacted {
            return Err(Error::Compacted { oldest: self.compacted });
        }
        if revision > self.newest {
            return Err(Error::Future { requested: revision, newest: self.newest });
        }
        Ok(())
    }
}
