//! Fermion's store: objects with a revisioned log that can be watched, and append-only facts, in one
//! database: SQLite in a directory of one server's own, or PostgreSQL, which several servers share.
//!
//! It knows nothing of kinds, of HTTP or of who may do what. An object is a name and a JSON text.
//!
//! What holds, always:
//! - A [`Store::commit`] that answered is on disk, whatever happens to the process or the machine next.
//! - Revisions count writes: each write takes the next one, without gaps, and they become visible in
//!   order. [`Store::revision`] never names something a reader or watcher cannot see yet.
//! - A [`Watch`] sees every event after the revision it started from, once, in order, whichever server
//!   wrote it.
//! - A list is true at one revision, also when it is read page by page. What any server acknowledged
//!   before a get or a list began is in it.
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
//! let mut watch = store.watch(Scope::all("pods"), 0).await?;
//! assert_eq!(watch.next().await.expect("it goes on")?.revision, 1);
//! # store.close().await;
//! # Ok::<(), fermion_store::Error>(()) }).unwrap();
//! ```
//!
//! Start reading at `batch.rs`, which works out what a commit does, and go on to `sqlite/writer.rs` and
//! `postgres/writer.rs`, which make it last: everything else serves what they commit. `hub.rs` carries
//! events to watchers; what a list is asked for becomes SQL in `sql.rs`; the tables are in `schema.rs`
//! of each database.

mod backend;
mod batch;
mod commit;
mod compaction;
mod draft;
mod error;
mod event;
mod extent;
mod fact;
mod filter;
mod hub;
mod labels;
mod lease;
mod list;
mod migration;
mod object;
mod options;
mod postgres;
mod request;
mod sql;
mod sqlite;
mod transfer;
mod watch;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::commit::{Commit, Expect, Write};
pub use self::error::{Class, Error};
pub use self::event::{Event, EventKind};
pub use self::fact::{FACTS_PER_PAGE_MAX, Fact, FactPage, FactQuery, StoredFact};
pub use self::filter::{FieldTerm, Filter, LabelIs, LabelTerm, Order};
pub use self::lease::{Fence, Leadership};
pub use self::list::{ListQuery, Page};
pub use self::object::{Key, Scope, Stored};
pub use self::options::Options;
pub use self::transfer::{Copied, Place, Verified, copy, verify};
pub use self::watch::Watch;

use self::backend::{Backend, Running};
use self::hub::Hub;
use self::lease::LeaseChange;
use self::request::{Message, QUEUE_BYTES_MAX, Request};

/// The store. Clones share one database; when the last one goes, the database is closed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Arc<Hub>,
    backend: Arc<Backend>,
    room: Arc<Semaphore>,
    // These two in this order: what runs ends when its channel does, and is waited for.
    sender: mpsc::Sender<Message>,
    _running: Running,
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
        let sqlite::Opened { database, hub, sender, writer } = sqlite::open(directory, options)?;
        Ok(Self::of(hub, Backend::Sqlite(database), sender, Running::Thread { _thread: writer }))
    }

    /// Connects to the store in a PostgreSQL database, whose tables are made if they are missing. Any
    /// number of servers may.
    ///
    /// `url` is as libpq's: `postgres://user:password@host,host/database?parameters`, with the parameters
    /// `sslmode` (`disable`, `require`, `verify-full`) and `sslrootcert` (a file) for TLS. Whatever is
    /// required is verified. Without `sslmode`, TLS is required unless the host is this machine. A
    /// password that it does not hold is taken from `PGPASSWORD`, or from the file that `PGPASSFILE` names.
    pub async fn connect(url: &str, options: Options) -> Result<Self, Error> {
        let postgres::Opened { database, hub, sender, tasks } = postgres::open(url, options).await?;
        Ok(Self::of(hub, Backend::Postgres(database), sender, Running::Tasks { _tasks: tasks }))
    }

    fn of(hub: Arc<Hub>, backend: Backend, sender: mpsc::Sender<Message>, running: Running) -> Self {
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
        Self { inner: Arc::new(Inner { hub, backend: Arc::new(backend), room, sender, _running: running }) }
    }

    /// Applies a commit, all of it or nothing, and returns when it is on disk. There is one [`Stored`]
    /// for each write, in order; for a deletion it is the object's last body with
    /// `metadata.resourceVersion` set to the revision of the deletion.
    ///
    /// Dropping the returned future does not take back a commit that was already handed over.
    pub async fn commit(&self, mut commit: Commit) -> Result<Vec<Stored>, Error> {
        if commit.writes.is_empty() && commit.facts.is_empty() {
            return Ok(Vec::new());
        }
        commit.fence = commit.fence.or_else(Fence::present);
        let (mut request, answer) = Request::prepare(commit)?;
        let room = self.inner.room.clone().acquire_many_owned(request.room_needed()).await;
        request.take_room(room.map_err(|_| Error::Closed)?);
        self.send(Message::Commit(request)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The newest version of an object, whichever server wrote it. With SQLite it runs on the caller's
    /// thread: it takes microseconds.
    pub async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let stored = self.inner.backend.get(key).await?;
        if let Some(stored) = &stored {
            self.visible(stored.revision).await;
        }
        Ok(stored)
    }

    /// The last change of an object that this store has seen, if that is still in memory. Unlike [`get`],
    /// it asks nobody: another server may have changed the object since. A write that expects its revision
    /// finds that out.
    ///
    /// [`get`]: Self::get
    pub fn last_seen(&self, key: &Key) -> Option<Arc<Event>> {
        self.inner.hub.last_seen(key)
    }

    /// A page of objects, all as they were at one revision. Without a revision asked for, everything is
    /// in it that any server acknowledged before.
    pub async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        query.check()?;
        let page = self.inner.backend.list(query).await?;
        self.visible(page.revision).await;
        Ok(page)
    }

    /// All events of `scope` after the revision `since`, whichever server wrote them.
    ///
    /// [`Error::Compacted`] if the log does not reach back so far, [`Error::Future`] if there is no
    /// such revision yet.
    pub async fn watch(&self, scope: Scope, since: u64) -> Result<Watch, Error> {
        // Another server may have shown the caller a revision that has not come here yet.
        if since > self.revision() && self.inner.backend.newest().await?.is_some_and(|newest| since <= newest) {
            self.visible(since).await;
        }
        Watch::new(self.inner.hub.clone(), self.inner.backend.clone(), scope, since)
    }

    /// Whether the database can be reached, without asking it: PostgreSQL answered within the last ten
    /// seconds, and has not lost what it acknowledged. SQLite is always there.
    pub fn is_reached(&self) -> bool {
        self.inner.backend.is_reached()
    }

    /// The newest revision that readers and watchers of this store can see.
    pub fn revision(&self) -> u64 {
        self.inner.hub.extent().newest
    }

    /// The oldest revision that can be listed at or watched from.
    pub fn oldest_revision(&self) -> u64 {
        self.inner.hub.extent().compacted
    }

    /// A page of recorded facts, in the order they were recorded.
    pub async fn facts(&self, query: FactQuery) -> Result<FactPage, Error> {
        self.inner.backend.facts(query).await
    }

    /// Takes the lease on `name` if it is free or has run out, or renews it if `holder` has it; for `ttl`
    /// from now, by the database's clock. `None` if another holds it.
    ///
    /// Each life of a process needs a holder of its own.
    pub async fn lead(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Leadership>, Error> {
        self.change_lease(LeaseChange::take(name, holder, ttl)?).await
    }

    /// Gives up a lease, if it is still the one with this token.
    pub async fn resign(&self, fence: Fence) -> Result<(), Error> {
        self.change_lease(LeaseChange::Release(fence)).await.map(drop)
    }

    async fn change_lease(&self, change: LeaseChange) -> Result<Option<Leadership>, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Lease(change, reply)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Cuts the log: only events after `keep_after` and the state at that revision stay. Returns when
    /// done. The store also does this by itself, as [`Options`] say.
    pub async fn compact(&self, keep_after: u64) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Compact(keep_after, reply)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Finishes what was handed over before and closes files and connections; with SQLite it copies the
    /// write-ahead log into the database and gives up the directory. Other clones get [`Error::Closed`]
    /// from then on.
    pub async fn close(self) {
        self.inner.backend.close().await;
        let (reply, answer) = oneshot::channel();
        // Either way it is closed: by this message, or by an earlier one.
        if self.send(Message::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Waits until a revision that a reader found in the database can be watched from.
    async fn visible(&self, revision: u64) {
        if self.revision() < revision {
            self.inner.backend.hurry();
            self.inner.hub.visible(revision).await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        self.inner.sender.send(message).await.map_err(|_| Error::Closed)
    }
}
