//! The one thread that writes.
//!
//! Requests wait in a bounded channel. The writer takes as many as are waiting, applies them in one
//! transaction, and answers them all when it is on disk: one flush serves the whole batch.

mod compaction;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::{io, thread};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc;

use self::compaction::Compaction;
use super::lock::DirectoryLock;
use super::objects::body_at;
use super::{facts, leases};
use crate::batch::{Batch, Versions};
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::extent::Extent;
use crate::hub::Hub;
use crate::lease::{Leadership, LeaseChange};
use crate::object::{Key, Stored};
use crate::options::Options;
use crate::request::{Message, Outcome, QUEUE_REQUESTS_MAX, Request, answer, gather};

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
                // Whoever asked may have stopped waiting.
                Message::Lease(change, reply) => drop(reply.send(self.change_lease(&change))),
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
        let (requests, deferred) = gather(first, &mut self.receiver);
        self.deferred = deferred;
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
    fn commit(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Error> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(database)?;
        let applied = self.apply(requests).and_then(|applied| {
            self.connection.execute_batch("COMMIT").map_err(database)?;
            Ok(applied)
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

    /// Applies requests in the open transaction.
    fn apply(&self, requests: &[Request]) -> Result<(Vec<Outcome>, Vec<Arc<Event>>), Error> {
        let now_us = (self.options.now)().as_microsecond();
        let mut batch = Batch::new(OnDisk { connection: &self.connection, hub: &self.hub }, self.extent.newest);
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            if let Some(fence) = &request.fence
                && let Err(refused) = leases::check(&self.connection, fence)?
            {
                outcomes.push(Err(refused));
                continue;
            }
            outcomes.push(match batch.accept(request)? {
                Ok(accepted) => {
                    for event in &batch.events()[accepted.clone()] {
                        record(&self.connection, event, now_us)?;
                    }
                    for fact in &request.facts {
                        facts::record(&self.connection, fact)?;
                    }
                    Ok(batch.stored(accepted))
                }
                Err(refused) => Err(refused),
            });
        }
        Ok((outcomes, batch.into_events()))
    }

    fn change_lease(&self, change: &LeaseChange) -> Result<Option<Leadership>, Error> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(database)?;
        let changed = leases::change(&self.connection, change, (self.options.now)().as_microsecond())
            .and_then(|lease| self.connection.execute_batch("COMMIT").map_err(database).map(|()| lease));
        if changed.is_err() {
            self.roll_back();
        }
        changed
    }

    fn published(&mut self, events: &[Arc<Event>]) {
        if let Some(last) = events.last() {
            self.extent.newest = last.revision;
            if self.options.out_of_order {
                let reversed: Vec<_> = events.iter().rev().cloned().collect();
                self.hub.publish(&reversed);
                return;
            }
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

fn database(source: rusqlite::Error) -> Error {
    Error::sqlite("write", source)
}

/// The versions that a batch meets.
struct OnDisk<'a> {
    connection: &'a Connection,
    hub: &'a Hub,
}

impl Versions for OnDisk<'_> {
    fn newest(&self, key: &Key) -> Result<Option<u64>, Error> {
        let revision = self
            .connection
            .prepare_cached("SELECT revision FROM objects WHERE resource = ? AND namespace = ? AND name = ?")
            .map_err(database)?
            .query_row(params![key.resource, key.namespace, key.name], |row| row.get::<_, i64>(0))
            .optional()
            .map_err(database)?;
        Ok(revision.map(|revision| revision as u64))
    }

    fn load(&self, key: &Key, revision: u64) -> Result<Arc<Stored>, Error> {
        if let Some(stored) = self.hub.recent(revision) {
            return Ok(stored);
        }
        let body = body_at(self.connection, revision)?;
        Ok(Arc::new(Stored { key: key.clone(), revision, body }))
    }
}

/// Writes an event into the open transaction.
fn record(connection: &Connection, event: &Event, now_us: i64) -> Result<(), Error> {
    let Key { resource, namespace, name } = &event.object.key;
    let revision = event.revision as i64;
    let deleted = event.kind == EventKind::Deleted;
    let previous = event.previous.as_ref().map(|previous| previous.revision as i64);
    let body: &[u8] = &event.object.body;
    connection
        .prepare_cached(
            "INSERT INTO log \
             (revision, resource, namespace, name, previous, deleted, at_us, body) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .map_err(database)?
        .execute(params![revision, resource, namespace, name, previous, deleted, now_us, body])
        .map_err(database)?;
    if deleted {
        connection
            .prepare_cached("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?")
            .map_err(database)?
            .execute(params![resource, namespace, name])
            .map_err(database)?;
    } else {
        connection
            .prepare_cached(
                "INSERT INTO objects (resource, namespace, name, revision) VALUES (?, ?, ?, ?) \
                 ON CONFLICT DO UPDATE SET revision = excluded.revision",
            )
            .map_err(database)?
            .execute(params![resource, namespace, name, revision])
            .map_err(database)?;
    }
    Ok(())
}

struct CloseOnDrop(Arc<Hub>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
