//! One transaction's worth of requests.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::{FactRow, Request, Step};
use crate::commit::Expect;
use crate::draft::Draft;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::hub::Hub;
use crate::list::body_at;
use crate::object::{Key, Stored};

/// Applies requests one after another inside an open transaction. Each sees what those before it did.
///
/// A request is first worked out in memory, down to its last write; only when all of it is accepted is
/// anything executed. So a refused request needs no savepoint and takes no revision.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    hub: &'a Hub,
    now_us: i64,
    newest: u64,
    /// Objects this batch has touched: their newest version, or that they are gone.
    touched: HashMap<Key, Option<Arc<Stored>>>,
    events: Vec<Arc<Event>>,
}

/// The version of an object a write meets.
enum Current {
    Absent,
    InBatch(Arc<Stored>),
    OnDisk(u64),
}

impl Current {
    fn revision(&self) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::InBatch(stored) => Some(stored.revision),
            Self::OnDisk(revision) => Some(*revision),
        }
    }
}

fn database(source: rusqlite::Error) -> Error {
    Error::database("write", source)
}

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection, hub: &'a Hub, newest: u64, now_us: i64) -> Self {
        Self { connection, hub, now_us, newest, touched: HashMap::new(), events: Vec::new() }
    }

    /// The events of all accepted requests, in order.
    pub(super) fn into_events(self) -> Vec<Arc<Event>> {
        self.events
    }

    /// Applies a request. The outer error is the database's and spoils the transaction; the inner one
    /// is the request's own, which then has changed nothing.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Result<Vec<Stored>, Error>, Error> {
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
        for event in &self.events[start..] {
            self.record(event)?;
        }
        for fact in &request.facts {
            self.record_fact(fact)?;
        }
        Ok(Ok(self.events[start..].iter().map(|event| Stored::clone(&event.object)).collect()))
    }

    /// What a step does, if it may.
    fn work_out(&self, step: &Step) -> Result<Result<Event, Error>, Error> {
        let (key, expect) = match step {
            Step::Put { key, expect, .. } | Step::Delete { key, expect } => (key, *expect),
        };
        let current = self.current(key)?;
        if let Err(refused) = check(key, expect, current.revision()) {
            return Ok(Err(refused));
        }
        let previous = self.load(key, current)?;
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

    fn current(&self, key: &Key) -> Result<Current, Error> {
        match self.touched.get(key) {
            Some(Some(stored)) => return Ok(Current::InBatch(stored.clone())),
            Some(None) => return Ok(Current::Absent),
            None => {}
        }
        let revision = self
            .connection
            .prepare_cached("SELECT revision FROM objects WHERE resource = ? AND namespace = ? AND name = ?")
            .map_err(database)?
            .query_row(params![key.resource, key.namespace, key.name], |row| row.get::<_, i64>(0))
            .optional()
            .map_err(database)?;
        Ok(revision.map_or(Current::Absent, |revision| Current::OnDisk(revision as u64)))
    }

    fn load(&self, key: &Key, current: Current) -> Result<Option<Arc<Stored>>, Error> {
        match current {
            Current::Absent => Ok(None),
            Current::InBatch(stored) => Ok(Some(stored)),
            Current::OnDisk(revision) => {
                if let Some(stored) = self.hub.recent(revision) {
                    return Ok(Some(stored));
                }
                let body = body_at(self.connection, revision)?;
                Ok(Some(Arc::new(Stored { key: key.clone(), revision, body })))
            }
        }
    }

    fn record(&self, event: &Event) -> Result<(), Error> {
        let Key { resource, namespace, name } = &event.object.key;
        let revision = event.revision as i64;
        let deleted = event.kind == EventKind::Deleted;
        let previous = event.previous.as_ref().map(|previous| previous.revision as i64);
        let body: &[u8] = &event.object.body;
        self.connection
            .prepare_cached(
                "INSERT INTO log \
                 (revision, resource, namespace, name, previous, deleted, at_us, body) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .map_err(database)?
            .execute(params![revision, resource, namespace, name, previous, deleted, self.now_us, body])
            .map_err(database)?;
        if deleted {
            self.connection
                .prepare_cached("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?")
                .map_err(database)?
                .execute(params![resource, namespace, name])
                .map_err(database)?;
        } else {
            self.connection
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

    fn record_fact(&self, fact: &FactRow) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO facts (kind, idempotency_key, namespace, at_us, body) \
                 VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, idempotency_key) DO NOTHING",
            )
            .map_err(database)?
            .execute(params![fact.kind, fact.idempotency_key, fact.namespace, fact.at_us, fact.body])
            .map_err(database)?;
        Ok(())
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
    use crate::options::Options;
    use crate::schema::{Extent, migrate};

    fn request(writes: &[(&str, Expect, u64)]) -> Request {
        let writes = writes.iter().map(|(name, expect, spec)| Write::Put {
            key: Key::new("pods", "default", *name),
            expect: *expect,
            object: json!({"metadata": {"name": name}, "spec": spec}),
        });
        Request::prepare(Commit { writes: writes.collect(), facts: vec![] }).unwrap().0
    }

    #[test]
    fn refused_request_is_as_if_it_had_not_been_in_the_batch() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection, 0).unwrap();
        let hub = Hub::new(Extent::read(&connection).unwrap(), &Options::default());
        let mut batch = Batch::new(&connection, &hub, 0, 0);

        let stored = batch.apply(&request(&[("a", Expect::Absent, 1)])).unwrap().unwrap();
        assert_eq!(stored[0].revision, 1);
        // It changes an object of the batch twice and makes one, then is refused.
        let refused =
            request(&[("a", Expect::Revision(1), 2), ("a", Expect::Revision(2), 3), ("b", Expect::Absent, 4), ("b", Expect::Absent, 5)]);
        let refused = batch.apply(&refused).unwrap().unwrap_err();
        assert!(matches!(refused, Error::AlreadyExists { .. }));
        let next = request(&[("b", Expect::Absent, 6), ("a", Expect::Revision(1), 7)]);
        let stored = batch.apply(&next).unwrap().unwrap();
        assert_eq!(stored.iter().map(|stored| stored.revision).collect::<Vec<_>>(), [2, 3]);

        let events = batch.into_events();
        assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(events[2].previous.as_ref(), Some(&events[0].object));
        assert_eq!(Extent::read(&connection).unwrap().newest, 3);
    }
}
