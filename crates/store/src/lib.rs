//! Fermion's store: objects with a revisioned log that can be watched, and append-only facts, in one
//! SQLite database.
//!
//! It knows nothing of kinds, of HTTP or of who may do what. An object is a name and a JSON text.
//!
//! What holds, always:
//! - A [`Store::commit`] that answered is on disk, whatever happens to the process or the machine next.
//! - Revisions count writes: each write takes the next one, without gaps, and they become visible in
//!   order. [`Store::revision`] never names something a reader or watcher cannot see yet.
//! - A [`Watch`] sees every event after the revision it started from, once, in order.
//! - A list is true at one revision, also when it is read page by page.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! use fermion_store::{Commit, Expect, Key, ListQuery, Options, Scope, Store, Write};
//! use futures::StreamExt;
//!
//! let store = Store::open(directory.path(), Options::default())?;
//! let key = Key::new("pods", "default", "hello");
//! let object = serde_json::json!({"metadata": {"name": "hello"}});
//! store.commit(Commit::of(Write::Put { key, expect: Expect::Absent, object })).await?;
//!
//! let page = store.list(ListQuery::all(Scope::all("pods"))).await?;
//! assert_eq!(page.items[0].body, r#"{"metadata":{"name":"hello","resourceVersion":"1"}}"#);
//!
//! let mut watch = store.watch(Scope::all("pods"), 0)?;
//! assert_eq!(watch.next().await.expect("it goes on")?.revision, 1);
//! # store.close().await;
//! # Ok::<(), fermion_store::Error>(()) }).unwrap();
//! ```
//!
//! Start reading at `writer.rs`: everything else serves what it commits. `hub.rs`
//! carries events to watchers, `list.rs` and `watch.rs` read the tables that `schema.rs` describes.

mod commit;
mod draft;
mod error;
mod event;
mod fact;
mod hub;
mod list;
mod lock;
mod object;
mod options;
mod readers;
mod schema;
mod watch;
mod writer;

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::commit::{Commit, Expect, Write};
pub use self::error::{Class, Error};
pub use self::event::{Event, EventKind};
pub use self::fact::{FACTS_PER_PAGE_MAX, Fact, FactPage, FactQuery, StoredFact};
pub use self::list::{ListQuery, Page};
pub use self::object::{Key, Scope, Stored};
pub use self::options::Options;
pub use self::watch::Watch;

use self::hub::Hub;
use self::lock::DirectoryLock;
use self::readers::Readers;
use self::schema::Extent;
use self::writer::{Message, QUEUE_BYTES_MAX, Request, Writer, WriterThread};

/// The database's file in the store's directory. SQLite keeps two more beside it.
const DATABASE_FILE: &str = "store.db";
/// Bytes of a page of the database. Objects are mostly one to four kilobytes; twice SQLite's default
/// holds several on a page, which measures about a fifth faster to read and no slower to write.
const PAGE_BYTES: u32 = 8 << 10;
/// Pages of the write-ahead log after which it is copied into the database: 16 MiB.
const CHECKPOINT_PAGES: u32 = 2_048;
/// Bytes the write-ahead log is cut back to after it had to grow.
const LOG_BYTES_KEPT: u32 = 64 << 20;
/// How long the writer waits for the locks it shares with readers.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements the writer keeps: more than it has.
const STATEMENTS_MAX: usize = 32;

/// The store. Clones share one database; when the last one goes, the database is closed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    room: Arc<Semaphore>,
    // These two in this order: the thread ends when its channel does, and is waited for.
    sender: mpsc::Sender<Message>,
    _writer: WriterThread,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `directory`, which is created if it is missing, and takes an exclusive lock
    /// on it. A second opener gets [`Error::Locked`].
    pub fn open(directory: &Path, options: Options) -> Result<Self, Error> {
        create_directory(directory)?;
        let lock = DirectoryLock::acquire(directory)?;
        let database = directory.join(DATABASE_FILE);
        let connection = open_for_writing(&database)?;
        schema::migrate(&connection, (options.now)().as_microsecond())?;
        sync_directory(directory)?;

        let extent = Extent::read(&connection)?;
        let hub = Arc::new(Hub::new(extent, &options));
        let readers = Arc::new(Readers::new(database));
        let (sender, writer) = Writer::start(connection, lock, hub.clone(), extent, options).map_err(|source| Error::File {
            attempted: "start a thread for",
            path: directory.to_owned(),
            source,
        })?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
        Ok(Self { inner: Arc::new(Inner { hub, readers, room, sender, _writer: writer }) })
    }

    /// Applies a commit, all of it or nothing, and returns when it is on disk. There is one [`Stored`]
    /// for each write, in order; for a deletion it is the object's last body with
    /// `metadata.resourceVersion` set to the revision of the deletion.
    ///
    /// Dropping the returned future does not take back a commit that was already handed over.
    pub async fn commit(&self, commit: Commit) -> Result<Vec<Stored>, Error> {
        if commit.writes.is_empty() && commit.facts.is_empty() {
            return Ok(Vec::new());
        }
        let (mut request, answer) = Request::prepare(commit)?;
        let room = self.inner.room.clone().acquire_many_owned(request.room_needed()).await;
        request.take_room(room.map_err(|_| Error::Closed)?);
        self.send(Message::Commit(request)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The newest version of an object. Runs on the caller's thread: it takes microseconds.
    pub async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let stored = self.inner.readers.point(|connection| list::get(connection, key)).await?;
        if let Some(stored) = &stored {
            self.inner.hub.visible(stored.revision).await;
        }
        Ok(stored)
    }

    /// A page of objects, all as they were at one revision.
    pub async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        let page = self.inner.readers.scan(move |c| list::page(c, &query)).await?;
        self.inner.hub.visible(page.revision).await;
        Ok(page)
    }

    /// All events of `scope` after the revision `since`.
    ///
    /// [`Error::Compacted`] if the log does not reach back so far, [`Error::Future`] if there is no
    /// such revision yet.
    pub fn watch(&self, scope: Scope, since: u64) -> Result<Watch, Error> {
        Watch::new(self.inner.hub.clone(), self.inner.readers.clone(), scope, since)
    }

    /// The newest revision that readers and watchers can see.
    pub fn revision(&self) -> u64 {
        self.inner.hub.extent().newest
    }

    /// The oldest revision that can be listed at or watched from.
    pub fn oldest_revision(&self) -> u64 {
        self.inner.hub.extent().compacted
    }

    /// A page of recorded facts, in the order they were recorded.
    pub async fn facts(&self, query: FactQuery) -> Result<FactPage, Error> {
        self.inner.readers.scan(move |c| fact::read(c, &query)).await
    }

    /// Cuts the log: only events after `keep_after` and the state at that revision stay. Returns when
    /// done. The writer also does this by itself, as [`Options`] say.
    pub async fn compact(&self, keep_after: u64) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Compact(keep_after, reply)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Finishes what was handed over before, copies the write-ahead log into the database, closes the
    /// files and gives up the directory. Other clones get [`Error::Closed`] from then on.
    pub async fn close(self) {
        self.inner.readers.close().await;
        let (reply, answer) = oneshot::channel();
        // Either way it is closed: by this message, or by an earlier one.
        if self.send(Message::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        self.inner.sender.send(message).await.map_err(|_| Error::Closed)
    }
}

fn create_directory(directory: &Path) -> Result<(), Error> {
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
fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|source| Error::File {
        attempted: "flush the directory",
        path: directory.to_owned(),
        source,
    })
}

fn open_for_writing(database: &PathBuf) -> Result<Connection, Error> {
    // SQLite gives the files it puts beside this one the same permissions.
    OpenOptions::new().create(true).append(true).mode(0o600).open(database).map_err(|source| Error::File {
        attempted: "open the database",
        path: database.clone(),
        source,
    })?;
    let failed = |source| Error::database("open it", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // Takes effect only while the database is empty.
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(Error::File {
            attempted: "keep a write-ahead log (is it on a network file system?) for",
            path: database.clone(),
            source: std::io::ErrorKind::Unsupported.into(),
        });
    }
    // FULL flushes the write-ahead log at every commit: an answer means it is on disk.
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}
