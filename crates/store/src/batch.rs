//! What a row of requests does, worked out in memory.
//!
//! Nothing here touches a database: whoever applies a batch says which versions it meets, and records
//! the events that come out.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::commit::Expect;
use crate::draft::Draft;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::object::{Key, Stored};
use crate::request::{Request, Step};

/// The versions of objects as they are before the batch.
pub(crate) trait Versions {
    /// The revision of the object's newest version, if it exists.
    fn newest(&self, key: &Key) -> Result<Option<u64>, Error>;
    /// That version.
    fn load(&self, key: &Key, revision: u64) -> Result<Arc<Stored>, Error>;
}

/// Works requests out one after another. Each sees what those before it did.
///
/// A request that is refused, even at its last write, changes nothing and takes no revision.
pub(crate) struct Batch<V> {
    versions: V,
    newest: u64,
    /// Objects this batch has touched: their newest version, or that they are gone.
    touched: HashMap<Key, Option<Arc<Stored>>>,
    events: Vec<Arc<Event>>,
}

/// The version of an object a write meets.
enum Current {
    Absent,
    InBatch(Arc<Stored>),
    InDatabase(u64),
}

impl Current {
    fn revision(&self) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::InBatch(stored) => Some(stored.revision),
            Self::InDatabase(revision) => Some(*revision),
        }
    }
}

impl<V: Versions> Batch<V> {
    /// A batch whose first write takes the revision after `newest`.
    pub(crate) fn new(versions: V, newest: u64) -> Self {
        Self { versions, newest, touched: HashMap::new(), events: Vec::new() }
    }

    /// The events of all accepted requests, in order.
    pub(crate) fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    pub(crate) fn into_events(self) -> Vec<Arc<Event>> {
        self.events
    }

    /// What the events of an accepted request left, in the order of its writes.
    pub(crate) fn stored(&self, events: Range<usize>) -> Vec<Stored> {
        self.events[events].iter().map(|event| Stored::clone(&event.object)).collect()
    }

    /// Accepts a request and says which of [`Batch::events`] are its own, or refuses it: the inner
    /// error. The outer error is the database's.
    pub(crate) fn accept(&mut self, request: &Request) -> Result<Result<Range<usize>, Error>, Error> {
        let start = self.events.len();
        // What `touched` said before this request, to take it back.
        let mut undo: Vec<(Key, Option<Option<Arc<Stored>>>)> = Vec::new();
        for step in &request.steps {
            match self.work_out(step)? {
                Ok(event) => {
                    let key = event.object.key.clone();
                    let now = match event.kind {
                        EventKind::Added | EventKind::Modified => Some(event.object.clone()),
                        EventKind::Deleted => None,
                    };
                    let before = self.touched.insert(key.clone(), now);
                    undo.push((key, before));
                    self.newest = event.revision;
                    self.events.push(Arc::new(event));
                }
                Err(refused) => {
                    for (key, before) in undo.into_iter().rev() {
                        match before {
                            Some(before) => self.touched.insert(key, before),
                            None => self.touched.remove(&key),
                        };
                    }
                    self.newest -= (self.events.len() - start) as u64;
                    self.events.truncate(start);
                    return Ok(Err(refused));
                }
            }
        }
        Ok(Ok(start..self.events.len()))
    }

    /// What a step does, if it may.
    fn work_out(&self, step: &Step) -> Result<Result<Event, Error>, Error> {
        let (key, expect) = match step {
            Step::Put { key, expect, .. } | Step::Delete { key, expect } => (key, *expect),
        };
        let current = match self.touched.get(key) {
            Some(Some(stored)) => Current::InBatch(stored.clone()),
            Some(None) => Current::Absent,
            None => self.versions.newest(key)?.map_or(Current::Absent, Current::InDatabase),
        };
        if let Err(refused) = check(key, expect, current.revision()) {
            return Ok(Err(refused));
        }
        let previous = match current {
            Current::Absent => None,
            Current::InBatch(stored) => Some(stored),
            Current::InDatabase(revision) => Some(self.versions.load(key, revision)?),
        };
        let revision = self.newest + 1;
        let (kind, body) = match (step, &previous) {
            (Step::Put { draft, .. }, None) => (EventKind::Added, draft.at_revision(revision)),
            (Step::Put { draft, .. }, Some(_)) => (EventKind::Modified, draft.at_revision(revision)),
            (Step::Delete { .. }, Some(previous)) => (EventKind::Deleted, redrafted(previous)?.at_revision(revision)),
            (Step::Delete { .. }, None) => return Ok(Err(Error::NotFound { key: key.clone() })),
        };
        let object = Arc::new(Stored { key: key.clone(), revision, body });
        Ok(Ok(Event { revision, kind, object, previous }))
    }
}

/// Whether a write with this expectation may meet an object at `actual`.
fn check(key: &Key, expect: Expect, actual: Option<u64>) -> Result<(), Error> {
    match (expect, actual) {
        (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(Error::AlreadyExists { key: key.clone() }),
        (Expect::Revision(_), None) => Err(Error::NotFound { key: key.clone() }),
        (Expect::Revision(expected), Some(actual)) if expected == actual => Ok(()),
        (Expect::Revision(expected), Some(actual)) => Err(Error::Conflict { key: key.clone(), expected, actual }),
    }
}

/// A stored body as a draft, to be given another revision.
fn redrafted(stored: &Stored) -> Result<Draft, Error> {
    let damaged = |source: Option<Box<dyn std::error::Error + Send + Sync>>| Error::Corrupt {
        what: format!("{} at revision {}", stored.key, stored.revision),
        source,
    };
    let object = serde_json::from_slice(&stored.body).map_err(|e| damaged(Some(Box::new(e))))?;
    Draft::new(object).map_err(|reason| damaged(Some(reason.into())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commit::{Commit, Write};

    struct Nothing;

    impl Versions for Nothing {
        fn newest(&self, _: &Key) -> Result<Option<u64>, Error> {
            Ok(None)
        }

        fn load(&self, _: &Key, _: u64) -> Result<Arc<Stored>, Error> {
            panic!("nothing is there to be loaded")
        }
    }

    fn request(writes: &[(&str, Expect, u64)]) -> Request {
        let writes = writes.iter().map(|(name, expect, spec)| Write::Put {
            key: Key::new("pods", "default", *name),
            expect: *expect,
            object: json!({"metadata": {"name": name}, "spec": spec}),
        });
        Request::prepare(Commit { writes: writes.collect(), ..Commit::default() }).unwrap().0
    }

    #[test]
    fn refused_request_is_as_if_it_had_not_been_in_the_batch() {
        let mut batch = Batch::new(Nothing, 0);
        assert_eq!(batch.accept(&request(&[("a", Expect::Absent, 1)])).unwrap().unwrap(), 0..1);
        // It changes an object of the batch twice and makes one, then is refused.
        let refused =
            request(&[("a", Expect::Revision(1), 2), ("a", Expect::Revision(2), 3), ("b", Expect::Absent, 4), ("b", Expect::Absent, 5)]);
        let refused = batch.accept(&refused).unwrap().unwrap_err();
        assert!(matches!(refused, Error::AlreadyExists { .. }));
        let next = batch.accept(&request(&[("b", Expect::Absent, 6), ("a", Expect::Revision(1), 7)])).unwrap().unwrap();
        let revisions: Vec<u64> = batch.stored(next).iter().map(|stored| stored.revision).collect();
        assert_eq!(revisions, [2, 3]);

        let events = batch.into_events();
        assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(events[2].previous.as_ref(), Some(&events[0].object));
    }
}
