//! Tables, and how older databases are brought up to date.
//!
//! - `log` holds every version of every object that is still kept, once; its rowid is the revision.
//!   `previous` is the revision of the version it replaced, null where there was none.
//! - `objects` names the newest version of each object that exists. Bodies stay in `log`, so that a
//!   write carries its body to disk once.
//! - `labels` finds objects by the labels of their newest version. Triggers of `objects` keep it, which
//!   programs that do not know it set off as well (see [`crate::labels`]).
//! - `facts` is append-only.
//! - `leases` says who leads, under which token.
//! - `marks` holds numbers of the store itself: `compacted`, the revision up to which the log has been
//!   compacted.
//!
//! See [`crate::migration`] for what a change of the schema must keep.

use rusqlite::{Connection, OptionalExtension};

use crate::error::Error;
use crate::extent::Extent;
use crate::migration::{Applied, Step, pending};

/// Steps are never changed once released, only added.
const STEPS: &[Step] = &[
    Step::Break(
        "
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
    ",
    ),
    Step::Addition(
        "
    CREATE TABLE leases (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        token INTEGER NOT NULL,
        expires_at_us INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    ),
    Step::Addition(include_str!("labels.sql")),
];

/// The step that added leases.
const LEASES: u32 = 1;

/// Brings the database up to date, one transaction for each step.
pub(crate) fn migrate(connection: &Connection, now_us: i64) -> Result<(), Error> {
    migrate_with(connection, STEPS, now_us)
}

fn migrate_with(connection: &Connection, steps: &[Step], now_us: i64) -> Result<(), Error> {
    let database = |source| Error::sqlite("bring its schema up to date", source);
    let applied = applied(connection).map_err(database)?;
    for pending in pending(steps, &applied)? {
        let transaction = connection.unchecked_transaction().map_err(database)?;
        transaction
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS schema_versions \
                 (version INTEGER PRIMARY KEY, applied_at_us INTEGER NOT NULL) STRICT; \
                 CREATE TABLE IF NOT EXISTS schema_additions \
                 (step INTEGER PRIMARY KEY, applied_at_us INTEGER NOT NULL) STRICT;",
            )
            .map_err(database)?;
        transaction.execute_batch(pending.sql).map_err(database)?;
        transaction.execute(pending.record("(?, ?)").as_str(), (pending.number, now_us)).map_err(database)?;
        transaction.commit().map_err(database)?;
    }
    Ok(())
}

/// Refuses a database of a newer program, and one that holds no store. Says whether it has leases,
/// which one that no server has opened since they were added has not.
pub(crate) fn check(connection: &Connection) -> Result<bool, Error> {
    let applied = applied(connection).map_err(|source| Error::sqlite("read its schema", source))?;
    if applied.version == 0 {
        return Err(Error::Corrupt { what: "there is no store in it".to_owned(), source: None });
    }
    pending(STEPS, &applied).map(|pending| pending.iter().all(|step| step.number != LEASES))
}

fn applied(connection: &Connection) -> rusqlite::Result<Applied> {
    let exists = |table: &str| {
        let found = connection.query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [table], |_| Ok(()));
        found.optional().map(|found| found.is_some())
    };
    let mut applied = Applied::default();
    if exists("schema_versions")? {
        applied.version = connection.query_row("SELECT ifnull(max(version), 0) FROM schema_versions", [], |row| row.get(0))?;
    }
    if exists("schema_additions")? {
        let mut statement = connection.prepare("SELECT step FROM schema_additions")?;
        applied.additions = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    }
    Ok(applied)
}

/// Reads the extent, as the connection's transaction sees it.
pub(crate) fn extent(connection: &Connection) -> Result<Extent, Error> {
    let database = |source| Error::sqlite("read its newest revision", source);
    connection
        .prepare_cached("SELECT value, (SELECT max(revision) FROM log) FROM marks WHERE name = 'compacted'")
        .map_err(database)?
        .query_row([], |row| {
            let compacted = row.get::<_, i64>(0)? as u64;
            let logged = row.get::<_, Option<i64>>(1)?.unwrap_or(0) as u64;
            // Compaction may have removed the entry of the newest revision, if it was a deletion.
            Ok(Extent { compacted, newest: logged.max(compacted) })
        })
        .map_err(database)
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
        let first = [Step::Break("CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (7)")];
        migrate_with(&connection, &first, 1).unwrap();
        let both = [first[0], Step::Addition("ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 8")];
        migrate_with(&connection, &both, 2).unwrap();
        migrate_with(&connection, &both, 3).unwrap();
        let row: (i64, i64) = connection.query_row("SELECT x, y FROM a", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(row, (7, 8));
        assert_eq!(applied(&connection).unwrap(), Applied { version: 1, additions: [1].into() });
    }

    #[test]
    fn failed_migration_leaves_the_older_version_whole() {
        let connection = memory();
        let steps = [Step::Break("CREATE TABLE a (x INTEGER) STRICT"), Step::Break("CREATE TABLE b (x); nonsense")];
        assert!(migrate_with(&connection, &steps, 1).is_err());
        assert_eq!(applied(&connection).unwrap().version, 1);
        assert!(connection.prepare("SELECT * FROM b").is_err());
    }

    #[test]
    fn database_of_a_newer_program_is_opened_after_additions_and_refused_after_a_break() {
        let connection = memory();
        let newer = [Step::Break("SELECT 1"), Step::Addition("CREATE TABLE b (x)"), Step::Break("SELECT 2")];
        migrate_with(&connection, &newer[..2], 1).unwrap();
        migrate_with(&connection, &newer[..1], 2).unwrap();
        migrate_with(&connection, &newer, 3).unwrap();
        let error = migrate_with(&connection, &newer[..1], 4).unwrap_err();
        assert!(matches!(error, Error::SchemaTooNew { found: 2, known: 1 }));
    }
}
