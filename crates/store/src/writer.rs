//! The one thread that writes.
//!
//! Requests wait in a bounded channel. The writer takes as many as are waiting, applies them in one
//! transaction, and answers them all when it is on disk: one flush serves the whole batch.

mod batch;
mod compaction;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::{io, thread};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::commit::{Commit, Expect, Write};
use crate::draft::Draft;
use crate::error::Error;
use crate::event::Event;
use crate::hub::Hub;
use crate::lock::DirectoryLock;
use crate::object::{Key, Stored};
use crate::options::Options;
use crate::schema::Extent;

use self::batch::Batch;
use self::compaction::Compaction;

/// Requests that wait for the writer; further callers wait to get in.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 1_024;
/// Bytes of objects that wait for the writer; further callers wait to get in.
pub(crate) const QUEUE_BYTES_MAX: u32 = 64 << 20;
/// Requests in one transaction.
const BATCH_REQUESTS_MAX: usize = 256;
/// Bytes after which no further request joins a transaction.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Writes and facts in one commit.
const COMMIT_WRITES_MAX: usize = 10_000;
/// Bytes of one object or one fact.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What a request costs beside its bodies, so that empty ones are bounded too.
const REQUEST_OVERHEAD_BYTES: usize = 256;

pub(crate) enum Message {
    Commit(Request),
    /// Compact, and answer when done.
    Compact(u64, oneshot::Sender<Result<(), Error>>),
    /// End, and answer when the files are closed.
    Stop(oneshot::Sender<()>),
}

/// A commit, serialised and waiting.
pub(crate) struct Request {
    steps: Vec<Step>,
    facts: Vec<FactRow>,
    bytes: usize,
    reply: oneshot::Sender<Result<Vec<Stored>, Error>>,
    /// Its share of [`QUEUE_BYTES_MAX`], given back when the request is answered.
    room: Option<OwnedSemaphorePermit>,
}

/// A [`Write`], serialised.
enum Step {
    Put { key: Key, expect: Expect, draft: Draft },
    Delete { key: Key, expect: Expect },
}

/// A [`crate::Fact`], serialised.
struct FactRow {
    kind: &'static str,
    idempotency_key: String,
    namespace: String,
    at_us: i64,
    body: Vec<u8>,
}

type Reply = oneshot::Receiver<Result<Vec<Stored>, Error>>;

impl Request {
    /// Checks and serialises a commit on the caller's side.
    pub(crate) fn prepare(commit: Commit) -> Result<(Self, Reply), Error> {
        let count = commit.writes.len() + commit.facts.len();
        if count > COMMIT_WRITES_MAX {
            return Err(Error::Invalid {
                what: format!("a commit of {count} writes and facts"),
                reason: format!("at most {COMMIT_WRITES_MAX} can happen together"),
            });
        }
        let mut bytes = 0;
        let mut measure = |what: &dyn std::fmt::Display, len: usize| {
            bytes += len + REQUEST_OVERHEAD_BYTES;
            if len <= BODY_BYTES_MAX {
                return Ok(());
            }
            Err(Error::Invalid { what: what.to_string(), reason: format!("it is {len} bytes, and {BODY_BYTES_MAX} is the most") })
        };

        let mut steps = Vec::with_capacity(commit.writes.len());
        for write in commit.writes {
            check_key(write.key())?;
            steps.push(match write {
                Write::Put { key, expect, object } => {
                    let draft = Draft::new(object).map_err(|reason| invalid(&key, reason))?;
                    measure(&key, draft.len())?;
                    Step::Put { key, expect, draft }
                }
                Write::Delete { key, expect: Expect::Absent } => {
                    return Err(invalid(&key, "a deletion cannot expect that there is no object"));
                }
                Write::Delete { key, expect } => {
                    measure(&key, 0)?;
                    Step::Delete { key, expect }
                }
            });
        }
        let mut facts = Vec::with_capacity(commit.facts.len());
        for fact in commit.facts {
            let body = serde_json::to_vec(&fact.body).expect("a JSON value serialises into memory");
            measure(&format_args!("fact {}", fact.idempotency_key), body.len())?;
            facts.push(FactRow {
                kind: fact.kind,
                idempotency_key: fact.idempotency_key,
                namespace: fact.namespace,
                at_us: fact.at.as_microsecond(),
                body,
            });
        }
        let (reply, answer) = oneshot::channel();
        Ok((Self { steps, facts, bytes, reply, room: None }, answer))
    }

    /// The request's share of the queue, in bytes.
    pub(crate) fn room_needed(&self) -> u32 {
        u32::try_from(self.bytes).unwrap_or(u32::MAX).min(QUEUE_BYTES_MAX)
    }

    pub(crate) fn take_room(&mut self, room: OwnedSemaphorePermit) {
        self.room = Some(room);
    }
}

fn invalid(key: &Key, reason: &str) -> Error {
    Error::Invalid { what: key.to_string(), reason: reason.to_owned() }
}

fn check_key(key: &Key) -> Result<(), Error> {
    if key.resource.is_empty() || key.name.is_empty() {
        return Err(invalid(key, "its resource and its name must not be empty"));
    }
    Ok(())
}

/// The running writer. Dropping it waits until the thread has ended, which it does once every sender
/// of its channel is gone: drop those first.
pub(crate) struct WriterThread(Option<JoinHandle<()>>);

impl Drop for WriterThread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the database ended by a panic");
        }
    }
}

pub(crate) struct Writer {
    connection: Connection,
    hub: Arc<Hub>,
    receiver: mpsc::Receiver<Message>,
    /// A message taken from the channel that could not join a batch.
    deferred: Option<Message>,
    compaction: Compaction,
    extent: Extent,
    options: Options,
    // Last, so that the directory is given up after the files are closed.
    lock: DirectoryLock,
}

impl Writer {
    /// Starts the writer on a database that is open, migrated and locked.
    pub(crate) fn start(
        connection: Connection,
        lock: DirectoryLock,
        hub: Arc<Hub>,
        extent: Extent,
        options: Options,
    ) -> io::Result<(mpsc::Sender<Message>, WriterThread)> {
        let (sender, receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let writer =
            Self { connection, hub: hub.clone(), receiver, deferred: None, compaction: Compaction::default(), extent, options, lock };
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            // Also when it panics: nobody must wait for events that will not come.
            let _closed = CloseOnDrop(hub);
            writer.run();
        })?;
        Ok((sender, WriterThread(Some(thread))))
    }

    fn run(mut self) {
        let mut stopped = None;
        while let Some(message) = self.next_message() {
            match message {
                Message::Commit(request) => self.commit_with_others(request),
                Message::Compact(keep_after, reply) => {
                    self.compaction.request(keep_after, self.extent, reply);
                }
                Message::Stop(reply) => {
                    stopped = Some(reply);
                    break;
                }
            }
            if self.compaction_is_urgent() {
                self.compact_a_step();
            }
        }
        let Self { connection, receiver, lock, .. } = self;
        // Requests that came after the stop are answered by the end of their channel.
        drop(receiver);
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "cannot empty the write-ahead log; the next start will");
        }
        drop(connection);
        drop(lock);
        if let Some(reply) = stopped {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// The next message. While there is none, compacts in small steps, then sleeps.
    fn next_message(&mut self) -> Option<Message> {
        if let Some(message) = self.deferred.take() {
            return Some(message);
        }
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Some(message),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    if !self.compact_a_step() {
                        return self.receiver.blocking_recv();
                    }
                }
            }
        }
    }

    /// Commits a request together with those that wait behind it.
    fn commit_with_others(&mut self, first: Request) {
        let mut bytes = first.bytes;
        let mut requests = vec![first];
        while requests.len() < BATCH_REQUESTS_MAX && bytes < BATCH_BYTES_MAX {
            match self.receiver.try_recv() {
                Ok(Message::Commit(request)) => {
                    bytes += request.bytes;
                    requests.push(request);
                }
                Ok(other) => {
                    self.deferred = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        match self.commit(&requests) {
            Ok(outcomes) => answer(requests, outcomes),
            Err(error) if requests.len() == 1 => answer(requests, vec![Err(error)]),
            // One of them may be too large for a disk that has room for the others.
            Err(error) => {
                tracing::warn!(%error, requests = requests.len(), "a batch failed; trying each alone");
                for request in requests {
                    let outcomes = self.commit(std::slice::from_ref(&request)).unwrap_or_else(|e| vec![Err(e)]);
                    answer(vec![request], outcomes);
                }
            }
        }
    }

    /// Applies requests in one transaction. A request that is refused changes nothing and does not
    /// affect the others; it is answered with them, since what it was refused for may be one of their
    /// writes. On an error nothing of any of them has happened.
    fn commit(&mut self, requests: &[Request]) -> Result<Vec<Result<Vec<Stored>, Error>>, Error> {
        let database = |source| Error::database("write", source);
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(database)?;
        let now_us = (self.options.now)().as_microsecond();
        let mut batch = Batch::new(&self.connection, &self.hub, self.extent.newest, now_us);
        let applied = requests.iter().map(|request| batch.apply(request)).collect::<Result<Vec<_>, Error>>().and_then(|outcomes| {
            self.connection.execute_batch("COMMIT").map_err(database)?;
            Ok((outcomes, batch.into_events()))
        });
        match applied {
            Ok((outcomes, events)) => {
                self.published(&events);
                Ok(outcomes)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn published(&mut self, events: &[Arc<Event>]) {
        if let Some(last) = events.last() {
            self.extent.newest = last.revision;
            self.hub.publish(events);
        }
    }

    fn roll_back(&self) {
        // After some errors SQLite has rolled back by itself.
        if self.connection.is_autocommit() {
            return;
        }
        if let Err(error) = self.connection.execute_batch("ROLLBACK") {
            tracing::error!(%error, "cannot roll back");
        }
    }
}

fn answer(requests: Vec<Request>, outcomes: Vec<Result<Vec<Stored>, Error>>) {
    debug_assert_eq!(requests.len(), outcomes.len(), "every request has one outcome");
    for (request, outcome) in requests.into_iter().zip(outcomes) {
        // The caller may have stopped waiting; what is written stays written.
        let _ = request.reply.send(outcome);
    }
}

struct CloseOnDrop(Arc<Hub>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
