//! One attempt to commit a batch.
//!
//! The first round trip takes the lock and reads what the batch meets; the second writes, and commits.
//! Between the two the batch is worked out in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::BY_KEY_SETTINGS;
use super::error::{Reaction, reaction, refutes_commit};
use super::feed::CHANNEL;
use super::session::Session;
use crate::batch::{Batch, Versions};
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::hub::Hub;
use crate::object::{Key, Stored};
use crate::request::{FactRow, Outcome, Request, Step};
use crate::sql::postgres_json;

/// A batch that was committed, or is ready to be.
pub(super) struct Done {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) events: Vec<Arc<Event>>,
}

/// How an attempt failed.
pub(super) enum Failed {
    /// Nothing of the batch happened. What to do about it.
    Certainly(Error, Reaction),
    /// The commit was sent, and its answer was lost.
    Unanswered(Done, Error),
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The same of its second half.
enum Lost {
    Certainly(tokio_postgres::Error),
    Unanswered(tokio_postgres::Error),
}

fn certainly(source: tokio_postgres::Error) -> Failed {
    let reaction = reaction(&source);
    Failed::Certainly(Error::postgres("write", source), reaction)
}

/// The statements of the writer's session, prepared once.
pub(super) struct Statements {
    lock: Statement,
    fences: Statement,
    versions: Statement,
    log: Statement,
    put: Statement,
    delete: Statement,
    facts: Statement,
    mark: Statement,
    name: Statement,
    notify: Statement,
    find: Statement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, tokio_postgres::Error> {
        session.run(BY_KEY_SETTINGS).await?;
        Ok(Self {
            lock: session.prepare("SELECT value FROM marks WHERE name = 'revision' FOR UPDATE").await?,
            fences: session.prepare("SELECT name, token FROM leases WHERE name = ANY($1) ORDER BY name FOR SHARE").await?,
            versions: session
                .prepare(
                    "SELECT wanted.n, objects.revision, log.body \
                     FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (resource, namespace, name, n) \
                     JOIN objects USING (resource, namespace, name) LEFT JOIN log ON log.revision = objects.revision",
                )
                .await?,
            log: session
                .prepare(
                    "INSERT INTO log (revision, resource, namespace, name, previous, deleted, at_us, body, document) \
                     SELECT revision, resource, namespace, name, previous, deleted, $9, body, document::json FROM unnest(\
                     $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::boolean[], $7::bytea[], $8::text[]) \
                     AS written (revision, resource, namespace, name, previous, deleted, body, document)",
                )
                .await?,
            put: session
                .prepare(
                    "INSERT INTO objects (resource, namespace, name, revision) \
                     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) \
                     ON CONFLICT (resource, namespace, name) DO UPDATE SET revision = excluded.revision",
                )
                .await?,
            delete: session
                .prepare(
                    "DELETE FROM objects USING unnest($1::text[], $2::text[], $3::text[]) AS gone (resource, namespace, name) \
                     WHERE objects.resource = gone.resource AND objects.namespace = gone.namespace AND objects.name = gone.name",
                )
                .await?,
            facts: session
                .prepare(
                    "INSERT INTO facts (kind, idempotency_key, namespace, at_us, body) \
                     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[]) \
                     ON CONFLICT (kind, idempotency_key) DO NOTHING",
                )
                .await?,
            mark: session.prepare("UPDATE marks SET value = $1 WHERE name = 'revision'").await?,
            name: session.prepare("INSERT INTO commits (id) VALUES ($1::text::uuid)").await?,
            notify: session.prepare("SELECT pg_notify($1, $2)").await?,
            find: session.prepare("SELECT 1 FROM commits WHERE id = $1::text::uuid").await?,
        })
    }
}

/// The connection that writes.
pub(super) struct WriterSession {
    pub(super) session: Session,
    pub(super) statements: Statements,
}

impl WriterSession {
    /// Commits a batch under the name `id`. `writer` is who notifies. Either round trip may take `patience`.
    pub(super) async fn attempt(
        &self,
        hub: &Hub,
        requests: &[Request],
        (id, writer): (Uuid, Uuid),
        now_us: i64,
        patience: Duration,
    ) -> Result<Done, Failed> {
        let late = |late: Elapsed| Error::Unavailable { attempted: "write", source: late.into() };
        let done = timeout(patience, self.work_out(hub, requests)).await;
        let done = done.map_err(|elapsed| Failed::Certainly(late(elapsed), Reaction::Reconnect))??;
        let rows = Rows::of(&done, requests).map_err(|error| Failed::Certainly(error, Reaction::GiveUp))?;
        if rows.is_empty() {
            self.session.run("ROLLBACK").await.map_err(certainly)?;
            return Ok(done);
        }
        let unanswered = match timeout(patience, self.write(rows, id, writer, now_us)).await {
            Ok(Ok(())) => return Ok(done),
            Ok(Err(Lost::Certainly(error))) => return Err(certainly(error)),
            Ok(Err(Lost::Unanswered(error))) => Error::postgres("write", error),
            Err(elapsed) => late(elapsed),
        };
        Err(Failed::Unanswered(done, unanswered))
    }

    /// Takes the lock, reads what the batch meets, and works it out.
    async fn work_out(&self, hub: &Hub, requests: &[Request]) -> Result<Done, Failed> {
        let (session, statements) = (&self.session, &self.statements);
        let wanted = Wanted::of(requests);
        let mut fences: Vec<&str> = requests.iter().filter_map(|request| request.fence.as_ref()).map(|fence| fence.name.as_str()).collect();
        fences.sort_unstable();
        fences.dedup();
        // Each statement sees what was committed before it began, and begins when the one before ended:
        // so all of them see what the last holder of the lock left.
        let versions: Params<'_> = &[&wanted.resources, &wanted.namespaces, &wanted.names];
        let (begun, newest, fences, versions) = futures::join!(
            session.run("BEGIN"),
            session.query(&statements.lock, &[]),
            async { if fences.is_empty() { Ok(Vec::new()) } else { session.query(&statements.fences, &[&fences]).await } },
            session.query(&statements.versions, versions),
        );
        begun.map_err(certainly)?;
        let newest = newest.map_err(certainly)?.first().map(|row| row.get::<_, i64>(0) as u64);
        let gone = || Error::Corrupt { what: "its newest revision is not there".to_owned(), source: None };
        let newest = newest.ok_or_else(|| Failed::Certainly(gone(), Reaction::GiveUp))?;
        let tokens: HashMap<String, u64> = fences.map_err(certainly)?.iter().map(|row| (row.get(0), row.get::<_, i64>(1) as u64)).collect();
        let mut met = HashMap::new();
        for row in versions.map_err(certainly)? {
            let key = wanted.keys[row.get::<_, i64>(0) as usize - 1];
            met.insert(key, (row.get::<_, i64>(1) as u64, row.get::<_, Option<&[u8]>>(2).map(Bytes::copy_from_slice)));
        }
        let give_up = |error| Failed::Certainly(error, Reaction::GiveUp);
        let mut batch = Batch::new(Met { versions: met, hub }, newest);
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            if let Some(fence) = &request.fence
                && let Err(refused) = fence.check(tokens.get(&fence.name).copied())
            {
                outcomes.push(Err(refused));
                continue;
            }
            outcomes.push(match batch.accept(request).map_err(give_up)? {
                Ok(accepted) => Ok(batch.stored(accepted)),
                Err(refused) => Err(refused),
            });
        }
        Ok(Done { outcomes, events: batch.into_events() })
    }

    /// Writes the rows of a batch and commits, in one round trip.
    async fn write(&self, rows: Rows<'_>, id: Uuid, writer: Uuid, now_us: i64) -> Result<(), Lost> {
        let (session, statements) = (&self.session, &self.statements);
        let Rows { keys, put, gone, facts, .. } = &rows;
        let id = id.to_string();
        let notice = format!("{writer} {}", rows.newest);
        let (now_us, newest, channel) = (&now_us, &rows.newest, &CHANNEL);
        let log: Params<'_> = &[
            &rows.revisions,
            &keys.resources,
            &keys.namespaces,
            &keys.names,
            &rows.previous,
            &rows.deletions,
            &rows.bodies,
            &rows.documents,
            now_us,
        ];
        let put: Params<'_> = &[&put.resources, &put.namespaces, &put.names, &rows.put_revisions];
        let delete: Params<'_> = &[&gone.resources, &gone.namespaces, &gone.names];
        let facts: Params<'_> = &[&facts.kinds, &facts.keys, &facts.namespaces, &facts.at_us, &facts.bodies];
        let (name, mark, notify): (Params<'_>, Params<'_>, Params<'_>) = (&[&id], &[newest], &[channel, &notice]);
        let quiet = rows.revisions.is_empty();
        // In this order, and each sent when first polled.
        let (named, log, put, gone, facts, marked, notified, committed) = futures::join!(
            session.execute_unless(false, &statements.name, name),
            session.execute_unless(quiet, &statements.log, log),
            session.execute_unless(rows.put.names.is_empty(), &statements.put, put),
            session.execute_unless(rows.gone.names.is_empty(), &statements.delete, delete),
            session.execute_unless(rows.facts.kinds.is_empty(), &statements.facts, facts),
            session.execute_unless(quiet, &statements.mark, mark),
            session.execute_unless(quiet, &statements.notify, notify),
            session.run("COMMIT"),
        );
        let mut lost = None;
        for written in [named, log, put, gone, facts, marked, notified] {
            match written {
                // It made the commit roll back, which then answers no error.
                Err(error) if error.code().is_some() => return Err(Lost::Certainly(error)),
                Err(error) => lost = Some(error),
                Ok(_) => {}
            }
        }
        match (committed, lost) {
            (Ok(()), None) => Ok(()),
            (Err(error), None) if refutes_commit(&error) => Err(Lost::Certainly(error)),
            (Err(error), _) | (Ok(()), Some(error)) => Err(Lost::Unanswered(error)),
        }
    }

    /// Whether the commit named `id` happened. The answer is certain: whoever was still at it held the
    /// lock that this waits for.
    pub(super) async fn find(&self, id: Uuid) -> Result<bool, tokio_postgres::Error> {
        let (session, statements) = (&self.session, &self.statements);
        let id = id.to_string();
        session.run("BEGIN").await?;
        session.query(&statements.lock, &[]).await?;
        let found = !session.query(&statements.find, &[&id]).await?.is_empty();
        session.run("ROLLBACK").await?;
        Ok(found)
    }
}

/// The keys of a batch, each once, as columns.
struct Wanted<'a> {
    keys: Vec<&'a Key>,
    resources: Vec<&'a str>,
    namespaces: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(requests: &'a [Request]) -> Self {
        let mut keys: Vec<&Key> = requests.iter().flat_map(|request| &request.steps).map(Step::key).collect();
        keys.sort_unstable();
        keys.dedup();
        Self {
            resources: keys.iter().map(|key| &*key.resource).collect(),
            namespaces: keys.iter().map(|key| &*key.namespace).collect(),
            names: keys.iter().map(|key| &*key.name).collect(),
            keys,
        }
    }
}

/// The versions a batch meets.
struct Met<'a> {
    versions: HashMap<&'a Key, (u64, Option<Bytes>)>,
    hub: &'a Hub,
}

impl Versions for Met<'_> {
    fn newest(&self, key: &Key) -> Result<Option<u64>, Error> {
        Ok(self.versions.get(key).map(|(revision, _)| *revision))
    }

    fn load(&self, key: &Key, revision: u64) -> Result<Arc<Stored>, Error> {
        // The hub's is the same text, and shared with watchers.
        if let Some(stored) = self.hub.recent(revision) {
            return Ok(stored);
        }
        let body = self.versions.get(key).and_then(|(_, body)| body.clone());
        let body = body.ok_or_else(|| Error::Corrupt { what: format!("revision {revision} is not in the log"), source: None })?;
        Ok(Arc::new(Stored { key: key.clone(), revision, body }))
    }
}

/// What a batch writes, as columns.
#[derive(Default)]
struct Rows<'a> {
    /// The newest revision after the batch; zero if it takes none.
    newest: i64,
    revisions: Vec<i64>,
    keys: Keys<'a>,
    previous: Vec<Option<i64>>,
    deletions: Vec<bool>,
    bodies: Vec<&'a [u8]>,
    documents: Vec<Option<String>>,
    /// The objects that exist after the batch, with their newest revisions.
    put: Keys<'a>,
    put_revisions: Vec<i64>,
    /// The objects that are gone after it.
    gone: Keys<'a>,
    facts: Facts<'a>,
}

#[derive(Default)]
struct Keys<'a> {
    resources: Vec<&'a str>,
    namespaces: Vec<&'a str>,
    names: Vec<&'a str>,
}

#[derive(Default)]
struct Facts<'a> {
    kinds: Vec<&'a str>,
    keys: Vec<&'a str>,
    namespaces: Vec<&'a str>,
    at_us: Vec<i64>,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Keys<'a> {
    fn push(&mut self, key: &'a Key) {
        self.resources.push(&key.resource);
        self.namespaces.push(&key.namespace);
        self.names.push(&key.name);
    }
}

impl<'a> Rows<'a> {
    /// The rows of a batch's events, and of the facts of the requests that were accepted.
    fn of(done: &'a Done, requests: &'a [Request]) -> Result<Self, Error> {
        let mut rows = Self::default();
        let mut last = HashMap::new();
        for event in &done.events {
            let key = &event.object.key;
            let deleted = event.kind == EventKind::Deleted;
            rows.newest = event.revision as i64;
            rows.revisions.push(event.revision as i64);
            rows.keys.push(key);
            rows.previous.push(event.previous.as_ref().map(|previous| previous.revision as i64));
            rows.deletions.push(deleted);
            rows.bodies.push(&event.object.body);
            rows.documents.push(document(&event.object)?);
            last.insert(key, (event.revision as i64, deleted));
        }
        for (key, (revision, deleted)) in last {
            if deleted {
                rows.gone.push(key);
            } else {
                rows.put.push(key);
                rows.put_revisions.push(revision);
            }
        }
        let accepted = requests.iter().zip(&done.outcomes).filter(|(_, outcome)| outcome.is_ok());
        for fact in accepted.flat_map(|(request, _)| &request.facts) {
            rows.facts.push(fact);
        }
        Ok(rows)
    }

    fn is_empty(&self) -> bool {
        self.revisions.is_empty() && self.facts.kinds.is_empty()
    }
}

impl<'a> Facts<'a> {
    fn push(&mut self, fact: &'a FactRow) {
        self.kinds.push(fact.kind);
        self.keys.push(&fact.idempotency_key);
        self.namespaces.push(&fact.namespace);
        self.at_us.push(fact.at_us);
        self.bodies.push(&fact.body);
    }
}

/// How JSON writes the character NUL.
const NUL: &[u8] = b"\\u0000";

/// The version's JSON without NUL, if there is one in it.
pub(crate) fn document(stored: &Stored) -> Result<Option<String>, Error> {
    if !stored.body.windows(NUL.len()).any(|window| window == NUL) {
        return Ok(None);
    }
    let damaged = |source: serde_json::Error| Error::Corrupt { what: stored.key.to_string(), source: Some(source.into()) };
    let value: Value = serde_json::from_slice(&stored.body).map_err(damaged)?;
    Ok(Some(without_nul(value).to_string()))
}

fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => postgres_json(&text).unwrap_or(text).into(),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(map) => {
            let entries = map.into_iter().map(|(key, value)| (postgres_json(&key).unwrap_or(key), without_nul(value)));
            Value::Object(entries.collect())
        }
        other => other,
    }
}
