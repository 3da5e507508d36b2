//! The store in a SQLite database: one process, one directory.

mod error;
mod facts;
mod leases;
mod lock;
mod log;
mod objects;
mod readers;
pub(crate) mod schema;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::mpsc;

pub(crate) use self::lock::DirectoryLock;
use self::readers::Readers;
use self::writer::Writer;
pub(crate) use self::writer::WriterThread;
use crate::error::Error;
use crate::fact::{FactPage, FactQuery};
use crate::hub::Hub;
use crate::list::{ListQuery, Page};
use crate::object::{Key, Scope, Stored};
use crate::options::Options;
use crate::request::Message;
use crate::watch::Chunk;

/// The database's file in the store's directory. SQLite keeps two more beside it.
pub(crate) const DATABASE_FILE: &str = "store.db";
/// Bytes of a page of the database. Objects are mostly one to four kilobytes; twice SQLite's default
/// holds several on a page, which measures about a fifth faster to read and no slower to write.
const PAGE_BYTES: u32 = 8 << 10;
/// Pages of the write-ahead log after which it is copied into the database: 16 MiB.
const CHECKPOINT_PAGES: u32 = 2_048;
/// Bytes the write-ahead log is cut back to after it had to grow.
const LOG_BYTES_KEPT: u32 = 64 << 20;
/// How long the writer waits for the locks it shares with readers.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements the writer keeps: more than it has.
const STATEMENTS_MAX: usize = 32;

/// What is read from.
pub(crate) struct Database {
    readers: Readers,
}

/// A store that was just opened.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sender: mpsc::Sender<Message>,
    pub(crate) writer: WriterThread,
}

/// Opens the database in `directory` and starts its writer.
pub(crate) fn open(directory: &Path, options: Options) -> Result<Opened, Error> {
    create_directory(directory)?;
    let lock = DirectoryLock::acquire(directory)?;
    let path = directory.join(DATABASE_FILE);
    let connection = open_for_writing(&path)?;
    schema::migrate(&connection, (options.now)().as_microsecond())?;
    sync_directory(directory)?;

    let extent = schema::extent(&connection)?;
    let hub = Arc::new(Hub::new(extent, &options));
    let (sender, writer) = Writer::start(connection, lock, hub.clone(), extent, options).map_err(|source| Error::File {
        attempted: "start a thread for",
        path: directory.to_owned(),
        source,
    })?;
    Ok(Opened { database: Database { readers: Readers::new(path) }, hub, sender, writer })
}

impl Database {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.readers.point(|connection| objects::get(connection, key)).await
    }

    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        self.readers.scan(move |connection| objects::page(connection, &query)).await
    }

    pub(crate) async fn chunk(&self, scope: Arc<Scope>, after: u64, newest: u64) -> Result<Chunk, Error> {
        self.readers.scan(move |connection| log::chunk(connection, &scope, after, newest)).await
    }

    pub(crate) async fn facts(&self, query: FactQuery) -> Result<FactPage, Error> {
        self.readers.scan(move |connection| facts::read(connection, &query)).await
    }

    /// Waits for running reads and refuses further ones.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
    }
}

pub(crate) fn create_directory(directory: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists()).collect();
    // What is kept here includes secrets: nobody else may look.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| Error::File {
        attempted: "create the data directory",
        path: directory.to_owned(),
        source,
    })?;
    for created in missing {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes sure that the names in a directory survive a power failure, not only what they name.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|source| Error::File {
        attempted: "flush the directory",
        path: directory.to_owned(),
        source,
    })
}

pub(crate) fn open_for_writing(database: &Path) -> Result<Connection, Error> {
    // SQLite gives the files it puts beside this one the same permissions.
    OpenOptions::new().create(true).append(true).mode(0o600).open(database).map_err(|source| Error::File {
        attempted: "open the database",
        path: database.to_owned(),
        source,
    })?;
    let failed = |source| Error::sqlite("open it", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // Takes effect only while the database is empty.
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(Error::File {
            attempted: "keep a write-ahead log (is it on a network file system?) for",
            path: database.to_owned(),
            source: std::io::ErrorKind::Unsupported.into(),
        });
    }
    // FULL flushes the write-ahead log at every commit: an answer means it is on disk.
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(failed)?;
    plan_once(&connection).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Plans a statement when it is prepared, and not anew for the values of every run, which takes
/// several times as long as reading one object does. The plans of this store's statements do not
/// depend on values.
fn plan_once(connection: &Connection) -> rusqlite::Result<bool> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
}
