//! Following the log.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::hub::{Hub, Taken};
use crate::list::body;
use crate::object::{Key, Scope, Stored};
use crate::readers::Readers;
use crate::schema::Extent;

/// Events read from disk at once.
const CHUNK_EVENTS_MAX: usize = 256;
/// Bytes of bodies after which a read from disk stops.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Every event of a scope after some revision, in order and without gaps.
///
/// A reader may be as slow as it likes: what has left memory is read from disk. Only when the log
/// itself has been compacted past the reader does the stream give [`Error::Compacted`]; it ends after
/// any error. It ends with [`Error::Closed`] when the store is closed.
pub struct Watch {
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    scope: Arc<Scope>,
    watcher: u64,
    /// Everything up to here is in `ready` or has been handed out.
    position: u64,
    ready: VecDeque<Arc<Event>>,
    reading: Option<BoxFuture<'static, Result<Chunk, Error>>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(hub: Arc<Hub>, readers: Arc<Readers>, scope: Scope, since: u64) -> Result<Self, Error> {
        hub.extent().check(since)?;
        let watcher = hub.register();
        Ok(Self { hub, readers, scope: Arc::new(scope), watcher, position: since, ready: VecDeque::new(), reading: None, ended: false })
    }

    /// The revision up to which everything in the scope has been handed out: a new watch from here
    /// misses nothing and repeats nothing. It moves on with the store even while the scope is quiet.
    pub fn progress(&self) -> u64 {
        if let Some(next) = self.ready.front() {
            return next.revision - 1;
        }
        if self.ended || self.reading.is_some() {
            return self.position;
        }
        self.hub.newest_if_quiet_since(&self.scope, self.position).unwrap_or(self.position)
    }
}

impl Stream for Watch {
    type Item = Result<Arc<Event>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(reading) = &mut this.reading {
                let read = ready!(reading.as_mut().poll(context));
                this.reading = None;
                match read {
                    Ok(chunk) => {
                        this.ready = chunk.events;
                        this.position = chunk.through;
                    }
                    Err(error) => {
                        this.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                continue;
            }
            let waker = context.waker();
            match this.hub.take(&this.scope, this.position, this.watcher, waker, &mut this.ready) {
                Taken::Waiting(newest) => {
                    this.position = newest;
                    return Poll::Pending;
                }
                Taken::Through(revision) => this.position = revision,
                Taken::OnDisk(newest) => {
                    let (readers, scope, after) = (this.readers.clone(), this.scope.clone(), this.position);
                    this.reading = Some(Box::pin(async move { readers.scan(move |c| Chunk::read(c, &scope, after, newest)).await }));
                }
                Taken::Closed => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.unregister(&self.scope, self.watcher);
    }
}

/// Events read from disk.
struct Chunk {
    events: VecDeque<Arc<Event>>,
    /// Everything of the scope up to here is in `events`.
    through: u64,
}

impl Chunk {
    fn read(connection: &mut Connection, scope: &Scope, after: u64, newest: u64) -> Result<Self, Error> {
        let database = |source| Error::database("read its log", source);
        let transaction = connection.transaction().map_err(database)?;
        Extent::read(&transaction)?.check(after)?;

        let mut sql = "SELECT log.revision, log.namespace, log.name, log.deleted, log.body, \
                       log.previous, before.body \
                       FROM log INDEXED BY log_by_resource \
                       LEFT JOIN log AS before ON before.revision = log.previous \
                       WHERE log.resource = ? AND log.revision > ? AND log.revision <= ?"
            .to_owned();
        let mut values: Vec<SqlValue> = vec![scope.resource.to_string().into(), (after as i64).into(), (newest as i64).into()];
        if let Some(namespace) = &scope.namespace {
            sql.push_str(" AND log.namespace = ?");
            values.push(namespace.to_string().into());
        }
        if let Some(name) = &scope.name {
            sql.push_str(" AND log.name = ?");
            values.push(name.to_string().into());
        }
        sql.push_str(" ORDER BY log.revision");

        let mut statement = transaction.prepare_cached(&sql).map_err(database)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(database)?;
        let mut events = VecDeque::new();
        let mut bytes = 0;
        while let Some(row) = rows.next().map_err(database)? {
            let event = event(row, scope).map_err(database)?;
            let through = event.revision;
            bytes += event.object.body.len();
            bytes += event.previous.as_ref().map_or(0, |previous| previous.body.len());
            events.push_back(Arc::new(event));
            if events.len() >= CHUNK_EVENTS_MAX || bytes >= CHUNK_BYTES_MAX {
                return Ok(Self { events, through });
            }
        }
        Ok(Self { events, through: newest })
    }
}

fn event(row: &rusqlite::Row<'_>, scope: &Scope) -> rusqlite::Result<Event> {
    let revision = row.get::<_, i64>(0)? as u64;
    let key = Key { resource: scope.resource.clone(), namespace: row.get(1)?, name: row.get(2)? };
    let deleted: bool = row.get(3)?;
    let previous = match row.get::<_, Option<i64>>(5)? {
        Some(previous) => Some(Arc::new(Stored { key: key.clone(), revision: previous as u64, body: body(row, 6)? })),
        None => None,
    };
    let kind = match (deleted, &previous) {
        (true, _) => EventKind::Deleted,
        (false, None) => EventKind::Added,
        (false, Some(_)) => EventKind::Modified,
    };
    let object = Arc::new(Stored { key, revision, body: body(row, 4)? });
    Ok(Event { revision, kind, object, previous })
}
