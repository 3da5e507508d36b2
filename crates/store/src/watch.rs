//! Following the log.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;

use crate::backend::Backend;
use crate::error::Error;
use crate::event::Event;
use crate::hub::{Hub, Taken};
use crate::object::Scope;

/// Events read from the database at once.
pub(crate) const CHUNK_EVENTS_MAX: usize = 256;
/// Bytes of bodies after which a read from the database stops.
pub(crate) const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Every event of a scope after some revision, in order and without gaps.
///
/// A reader may be as slow as it likes: what has left memory is read from disk. Only when the log
/// itself has been compacted past the reader does the stream give [`Error::Compacted`]; it ends after
/// any error. It ends with [`Error::Closed`] when the store is closed.
pub struct Watch {
    hub: Arc<Hub>,
    backend: Arc<Backend>,
    scope: Arc<Scope>,
    watcher: u64,
    /// Everything up to here is in `ready` or has been handed out.
    position: u64,
    ready: VecDeque<Arc<Event>>,
    reading: Option<BoxFuture<'static, Result<Chunk, Error>>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(hub: Arc<Hub>, backend: Arc<Backend>, scope: Scope, since: u64) -> Result<Self, Error> {
        hub.extent().check(since)?;
        let watcher = hub.register();
        Ok(Self { hub, backend, scope: Arc::new(scope), watcher, position: since, ready: VecDeque::new(), reading: None, ended: false })
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
                    let (backend, scope, after) = (this.backend.clone(), this.scope.clone(), this.position);
                    this.reading = Some(Box::pin(async move { backend.chunk(scope, after, newest).await }));
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

/// Events read from the database.
pub(crate) struct Chunk {
    pub(crate) events: VecDeque<Arc<Event>>,
    /// Everything of the scope up to here is in `events`.
    pub(crate) through: u64,
}

/// Gathers events that are read until there are enough of them.
pub(crate) struct ChunkBuilder {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl ChunkBuilder {
    pub(crate) fn new() -> Self {
        Self { events: VecDeque::new(), bytes: 0 }
    }

    /// Adds an event, and says whether that is enough.
    pub(crate) fn add(&mut self, event: Event) -> bool {
        self.bytes += event.object.body.len() + event.previous.as_ref().map_or(0, |previous| previous.body.len());
        self.events.push_back(Arc::new(event));
        self.events.len() >= CHUNK_EVENTS_MAX || self.bytes >= CHUNK_BYTES_MAX
    }

    /// What was gathered before there was enough of it.
    pub(crate) fn partial(self) -> Chunk {
        let through = self.events.back().map_or(0, |event| event.revision);
        Chunk { events: self.events, through }
    }

    /// All there is up to `newest`.
    pub(crate) fn complete(self, newest: u64) -> Chunk {
        Chunk { events: self.events, through: newest }
    }
}
