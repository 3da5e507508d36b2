//! Cutting the log at its old end.
//!
//! Up to the compacted revision only the newest version of each object that exists is kept; after it,
//! everything. So the state at any later revision can be told, and what each later event replaced.

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

use super::Writer;
use crate::compaction::{Due, STEP_REVISIONS, due};
use crate::error::Error;
use crate::extent::Extent;

/// What callers asked to be compacted.
#[derive(Default)]
pub(super) struct Compaction {
    requested: Vec<(u64, oneshot::Sender<Result<(), Error>>)>,
    /// Set when a step failed; nothing is tried again until something else was written.
    failed_at: Option<u64>,
}

impl Compaction {
    pub(super) fn request(&mut self, keep_after: u64, extent: Extent, reply: oneshot::Sender<Result<(), Error>>) {
        if keep_after > extent.newest {
            let refused = Error::Future { requested: keep_after, newest: extent.newest };
            // Here and below: whoever asked may have stopped waiting.
            let _ = reply.send(Err(refused));
        } else if keep_after <= extent.compacted {
            let _ = reply.send(Ok(()));
        } else {
            self.failed_at = None;
            self.requested.push((keep_after, reply));
        }
    }

    fn target(&self) -> u64 {
        self.requested.iter().map(|(target, _)| *target).max().unwrap_or(0)
    }

    fn answer_up_to(&mut self, compacted: u64) {
        for (_, reply) in self.requested.extract_if(.., |(target, _)| *target <= compacted) {
            let _ = reply.send(Ok(()));
        }
    }
}

impl Writer {
    /// Whether a step is due even though requests are waiting.
    pub(super) fn compaction_is_urgent(&self) -> bool {
        !self.compaction.requested.is_empty()
            || self.extent.newest - self.extent.compacted > self.options.keep_revisions_max + STEP_REVISIONS
    }

    /// Compacts a little, if there is something to compact. Says whether it did.
    pub(super) fn compact_a_step(&mut self) -> bool {
        if self.compaction.failed_at == Some(self.extent.newest) {
            return false;
        }
        let through = match self.step_target() {
            Ok(Some(through)) => through,
            Ok(None) => return false,
            Err(error) => return self.compaction_failed(error),
        };
        match compact(&self.connection, self.extent.compacted, through) {
            Ok(()) => {
                self.extent.compacted = through;
                self.hub.set_compacted(through);
                self.compaction.answer_up_to(through);
                true
            }
            Err(error) => {
                self.roll_back();
                self.compaction_failed(error)
            }
        }
    }

    fn compaction_failed(&mut self, error: Error) -> bool {
        if self.compaction.requested.is_empty() {
            tracing::warn!(%error, "cannot compact the log; will try after the next write");
            self.compaction.failed_at = Some(self.extent.newest);
            return false;
        }
        // One who asked learns it; for the next one it is tried again.
        let (_, reply) = self.compaction.requested.remove(0);
        let _ = reply.send(Err(error));
        true
    }

    /// How far the next step goes, if one is due.
    fn step_target(&self) -> Result<Option<u64>, Error> {
        match due(self.extent, self.compaction.target(), &self.options) {
            Due::No => Ok(None),
            Due::Now(through) => Ok(Some(through)),
            Due::IfWrittenBefore(through, age) => {
                let age_us = (self.options.now)().as_microsecond() - written_at_us(&self.connection, through)?;
                Ok(u128::try_from(age_us).is_ok_and(|found| found >= age.as_micros()).then_some(through))
            }
        }
    }
}

fn database(source: rusqlite::Error) -> Error {
    Error::sqlite("compact its log", source)
}

fn written_at_us(connection: &Connection, revision: u64) -> Result<i64, Error> {
    connection
        .prepare_cached("SELECT at_us FROM log WHERE revision = ?")
        .map_err(database)?
        .query_row([revision as i64], |row| row.get(0))
        .optional()
        .map_err(database)?
        .ok_or_else(|| Error::Corrupt { what: format!("revision {revision} is not in the log"), source: None })
}

/// Compacts the log, which is compacted up to `from`, up to `through`.
fn compact(connection: &Connection, from: u64, through: u64) -> Result<(), Error> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(database)?;
    let mut gone: Vec<i64> = Vec::new();
    {
        let mut entries = connection
            .prepare_cached("SELECT revision, previous, deleted FROM log WHERE revision > ? AND revision <= ?")
            .map_err(database)?;
        let mut rows = entries.query([from as i64, through as i64]).map_err(database)?;
        while let Some(row) = rows.next().map_err(database)? {
            // Each entry ends the version before it; a deletion leaves nothing behind.
            gone.extend(row.get::<_, Option<i64>>(1).map_err(database)?);
            if row.get(2).map_err(database)? {
                gone.push(row.get(0).map_err(database)?);
            }
        }
    }
    let mut delete = connection.prepare_cached("DELETE FROM log WHERE revision = ?").map_err(database)?;
    for revision in gone {
        delete.execute([revision]).map_err(database)?;
    }
    connection
        .prepare_cached("UPDATE marks SET value = ? WHERE name = 'compacted'")
        .map_err(database)?
        .execute([through as i64])
        .map_err(database)?;
    connection.execute_batch("COMMIT").map_err(database)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn compacted_log_holds_only_the_objects_that_exist_and_what_came_later() {
        let connection = Connection::open_in_memory().unwrap();
        crate::sqlite::schema::migrate(&connection, 0).unwrap();
        // (revision, what it replaced, whether it is a deletion)
        let log = [
            (1, None, false),    // a
            (2, Some(1), false), // a
            (3, None, false),    // b
            (4, Some(3), true),  // b
            (5, None, false),    // c
            (6, Some(5), false), // c
            (7, Some(2), true),  // a
        ];
        for (revision, previous, deleted) in log {
            connection.execute("INSERT INTO log VALUES (?, 'pods', '', 'x', ?, ?, 0, x'7b7d')", (revision, previous, deleted)).unwrap();
        }
        let kept = || -> Vec<u64> {
            let mut statement = connection.prepare("SELECT revision FROM log").unwrap();
            let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
            rows.map(|revision| revision.unwrap() as u64).collect()
        };
        compact(&connection, 0, 2).unwrap();
        assert_eq!(kept(), [2, 3, 4, 5, 6, 7]);
        compact(&connection, 2, 5).unwrap();
        assert_eq!(kept(), [2, 5, 6, 7]);
        compact(&connection, 5, 7).unwrap();
        assert_eq!(kept(), [6]);
        assert_eq!(crate::sqlite::schema::extent(&connection).unwrap(), Extent { compacted: 7, newest: 7 });
    }
}
