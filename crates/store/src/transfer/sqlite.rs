//! Reading and writing whole stores in SQLite.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, params};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Chunk, Chunks, Copied, Row, cut_short, not_empty};
use crate::error::Error;
use crate::object::{Key, Stored};
use crate::sqlite::{DATABASE_FILE, DirectoryLock, create_directory, open_for_writing, schema, sync_directory};

fn reading(source: rusqlite::Error) -> Error {
    Error::sqlite("read all of it", source)
}

fn writing(source: rusqlite::Error) -> Error {
    Error::sqlite("write the copy", source)
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Closed),
    })
}

/// Reads a database file, which a server may be working on.
pub(super) async fn read(path: PathBuf, sender: mpsc::Sender<Chunk>) -> Result<Vec<String>, Error> {
    blocking(move || read_all(&path, &sender)).await
}

fn read_all(path: &Path, sender: &mpsc::Sender<Chunk>) -> Result<Vec<String>, Error> {
    if !path.is_file() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(Error::File { attempted: "find the database", path: path.to_owned(), source });
    }
    // Not read-only, as a reader has to be able to map the index of the write-ahead log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(reading)?;
    connection.busy_timeout(crate::sqlite::BUSY_TIMEOUT).map_err(reading)?;
    connection.pragma_update(None, "query_only", true).map_err(reading)?;
    let transaction = connection.transaction().map_err(reading)?;
    let has_leases = schema::check(&transaction)?;
    let mut chunks = Chunks::default();
    let mut send = |row: Row| match chunks.push(row) {
        // Whoever takes the rows has ended with an error of its own.
        Some(chunk) => sender.blocking_send(chunk).map_err(|_| Error::Closed),
        None => Ok(()),
    };
    send(Row::Extent(schema::extent(&transaction)?))?;
    let sql = "SELECT revision, resource, namespace, name, previous, deleted, at_us, body FROM log ORDER BY revision";
    each(
        &transaction,
        sql,
        |row| {
            let key = Key::new(row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?);
            let stored = Stored { key, revision: row.get::<_, i64>(0)? as u64, body: Bytes::from(row.get::<_, Vec<u8>>(7)?) };
            let previous = row.get::<_, Option<i64>>(4)?.map(|previous| previous as u64);
            Ok(Row::Version { stored, previous, deleted: row.get(5)?, at_us: row.get(6)? })
        },
        &mut send,
    )?;
    let sql = "SELECT resource, namespace, name, revision FROM objects";
    each(
        &transaction,
        sql,
        |row| Ok(Row::Object { resource: row.get(0)?, namespace: row.get(1)?, name: row.get(2)?, revision: row.get::<_, i64>(3)? as u64 }),
        &mut send,
    )?;
    let sql = "SELECT id, kind, idempotency_key, namespace, at_us, body FROM facts ORDER BY id";
    each(
        &transaction,
        sql,
        |row| {
            let (id, kind, idempotency_key) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Row::Fact { id, kind, idempotency_key, namespace: row.get(3)?, at_us: row.get(4)?, body: row.get(5)? })
        },
        &mut send,
    )?;
    if has_leases {
        each(&transaction, "SELECT name, token FROM leases", |row| Ok(Row::Lease { name: row.get(0)?, token: row.get(1)? }), &mut send)?;
    }
    send(Row::End)?;
    sender.blocking_send(chunks.take()).map_err(|_| Error::Closed)?;
    damage(&transaction)
}

fn each(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Row>,
    send: &mut impl FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare(sql).map_err(reading)?;
    let mut rows = statement.query([]).map_err(reading)?;
    while let Some(row) = rows.next().map_err(reading)? {
        send(read(row).map_err(reading)?)?;
    }
    Ok(())
}

/// What SQLite finds wrong with its own file.
fn damage(connection: &Connection) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)").map_err(reading)?;
    let found = statement.query_map([], |row| row.get::<_, String>(0)).map_err(reading)?;
    let found: Vec<String> = found.collect::<rusqlite::Result<_>>().map_err(reading)?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}

/// Writes a store into a directory that has none.
pub(super) async fn write_directory(directory: PathBuf, receiver: mpsc::Receiver<Chunk>) -> Result<Copied, Error> {
    blocking(move || {
        create_directory(&directory)?;
        let _lock = DirectoryLock::acquire(&directory)?;
        let connection = open_for_writing(&directory.join(DATABASE_FILE))?;
        let copied = write_all(&connection, receiver)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(writing)?;
        sync_directory(&directory)?;
        Ok(copied)
    })
    .await
}

/// Writes a store into a file, which is there only once it is whole.
pub(super) async fn write_file(path: PathBuf, receiver: mpsc::Receiver<Chunk>) -> Result<Copied, Error> {
    blocking(move || {
        let failed = |attempted: &'static str| {
            let path = path.clone();
            move |source| Error::File { attempted, path, source }
        };
        if path.exists() {
            return Err(failed("make a new file at")(std::io::ErrorKind::AlreadyExists.into()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let name = path.file_name().ok_or_else(|| failed("make a file at")(std::io::ErrorKind::InvalidInput.into()))?;
        let partial = Partial(folder.join(format!(".{}.partial-{}", name.display(), std::process::id())));
        let connection = open_for_writing(&partial.0)?;
        let copied = write_all(&connection, receiver)?;
        // One file, without a log beside it. Leaving the log's mode flushes it.
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0)).map_err(writing)?;
        if mode != "delete" {
            return Err(Error::Bug { what: "a backup kept its write-ahead log".to_owned(), source: None });
        }
        connection.close().map_err(|(_, source)| writing(source))?;
        std::fs::File::open(&partial.0).and_then(|file| file.sync_all()).map_err(failed("flush"))?;
        std::fs::rename(&partial.0, &path).map_err(failed("give its name to"))?;
        sync_directory(&folder)?;
        Ok(copied)
    })
    .await
}

/// A file that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove what was left of a backup that failed");
            }
        }
    }
}

fn write_all(connection: &Connection, mut receiver: mpsc::Receiver<Chunk>) -> Result<Copied, Error> {
    schema::migrate(connection, jiff::Timestamp::now().as_microsecond())?;
    let transaction = connection.unchecked_transaction().map_err(writing)?;
    let used = "SELECT EXISTS (SELECT 1 FROM log) OR EXISTS (SELECT 1 FROM facts) OR EXISTS (SELECT 1 FROM marks WHERE value <> 0)";
    if transaction.query_row(used, [], |row| row.get(0)).map_err(writing)? {
        return Err(not_empty());
    }
    let mut copied = Copied::default();
    while let Some(chunk) = receiver.blocking_recv() {
        for row in chunk {
            copied.count(&row);
            if matches!(row, Row::End) {
                transaction.commit().map_err(writing)?;
                return Ok(copied);
            }
            write_row(&transaction, row).map_err(writing)?;
        }
    }
    Err(cut_short())
}

fn write_row(connection: &Connection, row: Row) -> rusqlite::Result<()> {
    let execute = |sql: &str, params: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(params).map(drop);
    match row {
        Row::Extent(extent) => execute("UPDATE marks SET value = ? WHERE name = 'compacted'", params![extent.compacted as i64]),
        Row::Version { stored: Stored { key, revision, body }, previous, deleted, at_us } => execute(
            "INSERT INTO log (revision, resource, namespace, name, previous, deleted, at_us, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                revision as i64,
                key.resource,
                key.namespace,
                key.name,
                previous.map(|previous| previous as i64),
                deleted,
                at_us,
                &*body
            ],
        ),
        Row::Object { resource, namespace, name, revision } => execute(
            "INSERT INTO objects (resource, namespace, name, revision) VALUES (?, ?, ?, ?)",
            params![resource, namespace, name, revision as i64],
        ),
        Row::Fact { id, kind, idempotency_key, namespace, at_us, body } => execute(
            "INSERT INTO facts (id, kind, idempotency_key, namespace, at_us, body) VALUES (?, ?, ?, ?, ?, ?)",
            params![id, kind, idempotency_key, namespace, at_us, body],
        ),
        Row::Lease { name, token } => {
            execute("INSERT INTO leases (name, holder, token, expires_at_us) VALUES (?, '', ?, 0)", params![name, token])
        }
        Row::End => Ok(()),
    }
}
