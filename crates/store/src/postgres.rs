//! The store in a PostgreSQL database that several servers share.
//!
//! What a single writer thread gives SQLite, a lock gives here: a server's writer takes the row of the
//! newest revision, and keeps it until its transaction ends. So transactions of all servers end in the
//! order of the revisions they took, and whoever sees a revision sees all before it. The lock is held
//! for one round trip and the commit; one transaction carries all requests that waited.
//!
//! - `writer.rs` gathers requests, tries again what failed in passing, and finds out what became of a
//!   commit whose answer was lost; `transaction.rs` is one attempt.
//! - `feed.rs` publishes to the hub in order, whoever wrote: its own server's events as they are
//!   committed, others' from the log, when PostgreSQL notifies or the time for a look has come.
//! - Reads go to the database, always to the primary, so that they are never behind; `reader.rs` makes
//!   one query of all gets that wait.

mod address;
mod compaction;
mod error;
mod facts;
mod feed;
mod leases;
mod log;
mod objects;
mod password;
mod pool;
mod reader;
pub(crate) mod schema;
mod session;
mod tls;
mod transaction;
mod writer;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) use self::address::Address;
use self::feed::Feed;
pub(crate) use self::objects::SNAPSHOT;
use self::pool::{Pauses, Pool};
use self::reader::Asked;
pub(crate) use self::session::Session;
pub(crate) use self::transaction::document;
use self::writer::Writer;
use crate::error::Error;
use crate::extent::Extent;
use crate::fact::{FactPage, FactQuery};
use crate::hub::Hub;
use crate::list::{ListQuery, Page};
use crate::object::{Key, Scope, Stored};
use crate::options::Options;
use crate::request::{Message, QUEUE_REQUESTS_MAX};
use crate::watch::Chunk;

/// Connections for gets, and one to ask how far the log is. Apart from the others, so that long lists
/// never hold up a get.
const POINT_SESSIONS_MAX: usize = reader::READERS + 1;
/// What holds for connections whose statements find rows by their keys: whatever the statistics of
/// tables that were empty a moment ago say, and however many keys there are, the plan is the same one.
const BY_KEY_SETTINGS: &str = "\
    SET enable_hashjoin TO off; SET enable_mergejoin TO off; SET enable_seqscan TO off; \
    SET plan_cache_mode TO force_generic_plan";
/// Connections for lists, facts, watchers that read the log, leases and compaction.
const SCAN_SESSIONS_MAX: usize = 6;
/// How often opening is tried again. Who starts servers starts one again that could not open its store.
const OPEN_RETRIES_MAX: u32 = 5;

/// What the parts of a connected store share.
struct Shared {
    address: Address,
    hub: Arc<Hub>,
    feed: Feed,
    points: Arc<Pool>,
    scans: Arc<Pool>,
    options: Options,
}

/// What is read from.
pub(crate) struct Database {
    shared: Arc<Shared>,
    gets: mpsc::Sender<Asked>,
}

/// The tasks beside the writer; they end when this is dropped.
pub(crate) struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A store that was just connected.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sender: mpsc::Sender<Message>,
    pub(crate) tasks: Tasks,
}

/// Connects, brings the schema up to date, and starts writer, feed and compaction.
pub(crate) async fn open(url: &str, options: Options) -> Result<Opened, Error> {
    let address = Address::parse(url)?;
    let mut pauses = Pauses::default();
    let extent = loop {
        match prepare(&address, &options).await {
            Ok(extent) => break extent,
            Err(Error::Unavailable { .. }) if pauses.made() < OPEN_RETRIES_MAX => pauses.pause().await,
            Err(error) => return Err(error),
        }
    };
    let hub = Arc::new(Hub::new(extent, &options));
    let points = Arc::new(Pool::new(address.clone(), POINT_SESSIONS_MAX, BY_KEY_SETTINGS));
    let scans = Arc::new(Pool::new(address.clone(), SCAN_SESSIONS_MAX, ""));
    let feed = Feed::new(hub.clone(), scans.clone(), &options);
    let shared = Arc::new(Shared { address, hub: hub.clone(), feed, points, scans, options });
    let (sender, receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
    // It ends by itself, when its channel does: a commit that was handed over is finished.
    tokio::spawn(Writer::new(shared.clone(), receiver).run());
    let mut tasks = vec![tokio::spawn(feed::follow(shared.clone())), tokio::spawn(compaction::keep(shared.clone()))];
    let (gets, waiting) = reader::queue();
    tasks.extend((0..reader::READERS).map(|_| tokio::spawn(reader::answer_all(shared.clone(), waiting.clone()))));
    Ok(Opened { database: Database { shared, gets }, hub, sender, tasks: Tasks(tasks) })
}

/// Brings the schema up to date. It may be repeated when its answer was lost.
async fn prepare(address: &Address, options: &Options) -> Result<Extent, Error> {
    let session = Session::open(address).await?;
    schema::migrate(&session, (options.now)().as_microsecond()).await?;
    schema::extent(&session).await
}

impl Database {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        reader::get(&self.gets, key).await
    }

    pub(crate) async fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        let shared = &*self.shared;
        if objects::is_long(query) {
            let read = |session: Arc<Session>| async move {
                let in_memory = shared.feed.has_looked_since(session.opened());
                objects::long_page(&session, query, &shared.hub, in_memory).await
            };
            return shared.scans.read(read).await;
        }
        shared.scans.read(|session| async move { objects::page(&session, query).await }).await
    }

    pub(crate) async fn chunk(&self, scope: &Scope, after: u64, newest: u64) -> Result<Chunk, Error> {
        self.shared.scans.read(|session| async move { log::chunk(&session, scope, after, newest).await }).await
    }

    pub(crate) async fn facts(&self, query: &FactQuery) -> Result<FactPage, Error> {
        self.shared.scans.read(|session| async move { facts::read(&session, query).await }).await
    }

    pub(crate) async fn newest(&self) -> Result<u64, Error> {
        let Extent { newest, .. } = self.shared.points.read(|session| async move { schema::extent(&session).await }).await?;
        Ok(newest)
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.shared.feed.is_reached()
    }

    pub(crate) fn hurry(&self) {
        self.shared.feed.hurry();
    }

    pub(crate) async fn close(&self) {
        self.shared.points.close().await;
        self.shared.scans.close().await;
    }
}
