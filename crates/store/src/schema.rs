//! Tables, and how older databases are brought up to date.
//!
//! - `log` holds every version of every object that is still kept, once; its rowid is the revision.
//!   `previous` is the revision of the version it replaced, null where there was none.
//! - `objects` names the newest version of each object that exists. Bodies stay in `log`, so that a
//!   write carries its body to disk once.
//! - `facts` is append-only.
//! - `marks` holds numbers of the store itself: `compacted`, the revision up to which the log has been
//!   compacted.

use rusqlite::{Connection, OptionalExtension};

use crate::error::Error;

/// Each entry brings the schema from the version before it to its own (its index + 1).
/// Entries are never changed once released, only added.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        resource TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        previous INTEGER,
        deleted INTEGER NOT NULL,
        at_us INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    -- Entries are (resource, rowid), so a watcher of one resource reads only its part of the log.
    CREATE INDEX log_by_resource ON log (resource);

    CREATE TABLE objects (
        resource TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (resource, namespace, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE facts (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        namespace TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (kind, idempotency_key)
    ) STRICT;
    CREATE INDEX facts_by_kind ON facts (kind);
    CREATE INDEX facts_by_namespace ON facts (kind, namespace);

    CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO marks (name, value) VALUES ('compacted', 0);
"];

/// Brings the database up to date, one transaction for each version.
pub(crate) fn migrate(connection: &Connection, now_us: i64) -> Result<(), Error> {
    migrate_with(connection, MIGRATIONS, now_us)
}

fn migrate_with(connection: &Connection, migrations: &[&str], now_us: i64) -> Result<(), Error> {
    let database = |source| Error::database("bring its schema up to date", source);
    let known = migrations.len() as u32;
    let found = version(connection).map_err(database)?;
    if found > known {
        return Err(Error::SchemaTooNew { found, known });
    }
    for (index, sql) in migrations.iter().enumerate().skip(found as usize) {
        let transaction = connection.unchecked_transaction().map_err(database)?;
        transaction
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS schema_versions \
                 (version INTEGER PRIMARY KEY, applied_at_us INTEGER NOT NULL) STRICT;",
            )
            .map_err(database)?;
        transaction.execute_batch(sql).map_err(database)?;
        transaction
            .execute("INSERT INTO schema_versions (version, applied_at_us) VALUES (?, ?)", (index as u32 + 1, now_us))
            .map_err(database)?;
        transaction.commit().map_err(database)?;
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    let exists =
        connection.query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_versions'", [], |_| Ok(())).optional()?;
    if exists.is_none() {
        return Ok(0);
    }
    connection.query_row("SELECT ifnull(max(version), 0) FROM schema_versions", [], |row| row.get(0))
}

/// The first and last revisions that can be asked for, as the connection's transaction sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The log has been compacted up to here; states at this revision and later are known.
    pub(crate) compacted: u64,
    /// The newest revision.
    pub(crate) newest: u64,
}

impl Extent {
    pub(crate) fn read(connection: &Connection) -> Result<Self, Error> {
        let database = |source| Error::database("read its newest revision", source);
        connection
            .prepare_cached("SELECT value, (SELECT max(revision) FROM log) FROM marks WHERE name = 'compacted'")
            .map_err(database)?
            .query_row([], |row| {
                let compacted = row.get::<_, i64>(0)? as u64;
                let logged = row.get::<_, Option<i64>>(1)?.unwrap_or(0) as u64;
                // Compaction may have removed the entry of the newest revision, if it was a deletion.
                Ok(Self { compacted, newest: logged.max(compacted) })
            })
            .map_err(database)
    }

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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn memory() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn older_database_is_brought_up_to_date_and_keeps_its_rows() {
        let connection = memory();
        let first = ["CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (7)"];
        migrate_with(&connection, &first, 1).unwrap();
        let both = [first[0], "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 8"];
        migrate_with(&connection, &both, 2).unwrap();
        migrate_with(&connection, &both, 3).unwrap();
        let row: (i64, i64) = connection.query_row("SELECT x, y FROM a", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(row, (7, 8));
        assert_eq!(version(&connection).unwrap(), 2);
    }

    #[test]
    fn failed_migration_leaves_the_older_version_whole() {
        let connection = memory();
        let good = "CREATE TABLE a (x INTEGER) STRICT";
        assert!(migrate_with(&connection, &[good, "CREATE TABLE b (x); nonsense"], 1).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(connection.prepare("SELECT * FROM b").is_err());
    }

    #[test]
    fn newer_database_is_refused() {
        let connection = memory();
        migrate_with(&connection, &["SELECT 1", "SELECT 2"], 1).unwrap();
        let error = migrate_with(&connection, &["SELECT 1"], 1).unwrap_err();
        assert!(matches!(error, Error::SchemaTooNew { found: 2, known: 1 }));
    }
}
