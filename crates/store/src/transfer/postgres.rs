//! Reading and writing whole stores in PostgreSQL.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;

use super::{CHUNK_ROWS_MAX, Chunk, Chunks, Copied, Row, cut_short, not_empty};
use crate::error::Error;
use crate::object::{Key, Stored};
use crate::postgres::{Address, SNAPSHOT, Session, document, schema};

fn reading(source: tokio_postgres::Error) -> Error {
    Error::postgres("read all of it", source)
}

fn writing(source: tokio_postgres::Error) -> Error {
    Error::postgres("write the copy", source)
}

/// Sends rows on, in chunks.
struct Outlet {
    chunks: Chunks,
    sender: mpsc::Sender<Chunk>,
}

impl Outlet {
    async fn send(&mut self, row: Row) -> Result<(), Error> {
        match self.chunks.push(row) {
            // Whoever takes the rows has ended with an error of its own.
            Some(chunk) => self.sender.send(chunk).await.map_err(|_| Error::Closed),
            None => Ok(()),
        }
    }
}

/// Reads a database, which servers may be working on, in one transaction.
pub(super) async fn read(url: &str, sender: mpsc::Sender<Chunk>) -> Result<(), Error> {
    let session = Session::open(&Address::parse(url)?).await?;
    // A long copy says nothing while its other end is busy.
    session.run("SET idle_in_transaction_session_timeout TO 0").await.map_err(reading)?;
    schema::check(&session).await?;
    session.run(SNAPSHOT).await.map_err(reading)?;
    let mut outlet = Outlet { chunks: Chunks::default(), sender };
    outlet.send(Row::Extent(schema::extent(&session).await?)).await?;
    let limit = CHUNK_ROWS_MAX as i64;

    let sql = "SELECT revision, resource, namespace, name, previous, deleted, at_us, body FROM log \
               WHERE revision > $1 ORDER BY revision LIMIT $2";
    let statement = session.prepare(sql).await.map_err(reading)?;
    let mut after = 0_i64;
    loop {
        let rows = session.query(&statement, &[&after, &limit]).await.map_err(reading)?;
        let Some(last) = rows.last() else { break };
        after = last.get(0);
        for row in &rows {
            let key = Key::new(row.get::<_, &str>(1), row.get::<_, &str>(2), row.get::<_, &str>(3));
            let body = Bytes::copy_from_slice(row.get(7));
            let stored = Stored { key, revision: row.get::<_, i64>(0) as u64, body };
            let previous = row.get::<_, Option<i64>>(4).map(|previous| previous as u64);
            outlet.send(Row::Version { stored, previous, deleted: row.get(5), at_us: row.get(6) }).await?;
        }
    }

    let sql = "SELECT resource, namespace, name, revision FROM objects \
               WHERE (resource, namespace, name) > ($1::text, $2::text, $3::text) ORDER BY resource, namespace, name LIMIT $4";
    let statement = session.prepare(sql).await.map_err(reading)?;
    let mut after = (String::new(), String::new(), String::new());
    loop {
        let rows = session.query(&statement, &[&after.0, &after.1, &after.2, &limit]).await.map_err(reading)?;
        let Some(last) = rows.last() else { break };
        after = (last.get(0), last.get(1), last.get(2));
        for row in &rows {
            let revision = row.get::<_, i64>(3) as u64;
            outlet.send(Row::Object { resource: row.get(0), namespace: row.get(1), name: row.get(2), revision }).await?;
        }
    }

    let sql = "SELECT id, kind, idempotency_key, namespace, at_us, body FROM facts WHERE id > $1 ORDER BY id LIMIT $2";
    let statement = session.prepare(sql).await.map_err(reading)?;
    let mut after = 0_i64;
    loop {
        let rows = session.query(&statement, &[&after, &limit]).await.map_err(reading)?;
        let Some(last) = rows.last() else { break };
        after = last.get(0);
        for row in &rows {
            let (id, kind, idempotency_key) = (row.get(0), row.get(1), row.get(2));
            let (namespace, at_us, body) = (row.get(3), row.get(4), row.get(5));
            outlet.send(Row::Fact { id, kind, idempotency_key, namespace, at_us, body }).await?;
        }
    }

    let statement = session.prepare("SELECT name, token FROM leases").await.map_err(reading)?;
    for row in session.query(&statement, &[]).await.map_err(reading)? {
        outlet.send(Row::Lease { name: row.get(0), token: row.get(1) }).await?;
    }
    outlet.send(Row::End).await?;
    let rest = outlet.chunks.take();
    outlet.sender.send(rest).await.map_err(|_| Error::Closed)?;
    session.run("COMMIT").await.map_err(reading)
}

/// Writes a store into a database that has none, in one transaction.
pub(super) async fn write(url: &str, mut receiver: mpsc::Receiver<Chunk>) -> Result<Copied, Error> {
    let session = Session::open(&Address::parse(url)?).await?;
    session.run("SET idle_in_transaction_session_timeout TO 0").await.map_err(writing)?;
    schema::migrate(&session, jiff::Timestamp::now().as_microsecond()).await?;
    // The lock of all writers, so that no server begins to write meanwhile.
    session.run("BEGIN; SELECT value FROM marks ORDER BY name FOR UPDATE").await.map_err(writing)?;
    let used = "SELECT EXISTS (SELECT FROM log) OR EXISTS (SELECT FROM facts) OR EXISTS (SELECT FROM marks WHERE value <> 0)";
    let used = session.prepare(used).await.map_err(writing)?;
    if session.query(&used, &[]).await.map_err(writing)?.iter().any(|row| row.get(0)) {
        return Err(not_empty());
    }
    let mut copied = Copied::default();
    while let Some(chunk) = receiver.recv().await {
        let ended = matches!(chunk.last(), Some(Row::End));
        for row in &chunk {
            copied.count(row);
        }
        write_chunk(&session, &chunk).await?;
        if ended {
            let next = "SELECT setval(pg_get_serial_sequence('facts', 'id'), greatest(max(id), 1), max(id) IS NOT NULL) FROM facts";
            session.run(&format!("{next}; COMMIT; ANALYZE")).await.map_err(writing)?;
            return Ok(copied);
        }
    }
    Err(cut_short())
}

async fn execute(session: &Session, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<(), Error> {
    let statement = session.prepare(sql).await.map_err(writing)?;
    session.execute(&statement, params).await.map_err(writing)?;
    Ok(())
}

async fn write_chunk(session: &Session, chunk: &Chunk) -> Result<(), Error> {
    for row in chunk {
        match row {
            Row::Extent(extent) => {
                let sql = "UPDATE marks SET value = CASE name WHEN 'revision' THEN $1::bigint ELSE $2::bigint END WHERE name IN ('revision', 'compacted')";
                execute(session, sql, &[&(extent.newest as i64), &(extent.compacted as i64)]).await?;
            }
            Row::Lease { name, token } => {
                let sql = "INSERT INTO leases (name, holder, token, expires_at_us) VALUES ($1, '', $2, 0)";
                execute(session, sql, &[name, token]).await?;
            }
            Row::Version { .. } | Row::Object { .. } | Row::Fact { .. } | Row::End => {}
        }
    }
    write_versions(session, chunk).await?;
    write_objects(session, chunk).await?;
    write_facts(session, chunk).await
}

async fn write_versions(session: &Session, chunk: &Chunk) -> Result<(), Error> {
    let (mut revisions, mut resources, mut namespaces, mut names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut replaced, mut deletions, mut times, mut bodies, mut documents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in chunk {
        let Row::Version { stored, previous, deleted, at_us } = row else { continue };
        revisions.push(stored.revision as i64);
        resources.push(&*stored.key.resource);
        namespaces.push(&*stored.key.namespace);
        names.push(&*stored.key.name);
        replaced.push(previous.map(|previous| previous as i64));
        deletions.push(*deleted);
        times.push(*at_us);
        bodies.push(&*stored.body);
        documents.push(document(stored)?);
    }
    if revisions.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO log (revision, resource, namespace, name, previous, deleted, at_us, body, document) \
               SELECT revision, resource, namespace, name, previous, deleted, at_us, body, document::json FROM unnest(\
               $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::boolean[], $7::bigint[], $8::bytea[], $9::text[]) \
               AS written (revision, resource, namespace, name, previous, deleted, at_us, body, document)";
    execute(session, sql, &[&revisions, &resources, &namespaces, &names, &replaced, &deletions, &times, &bodies, &documents]).await
}

async fn write_objects(session: &Session, chunk: &Chunk) -> Result<(), Error> {
    let (mut resources, mut namespaces, mut names, mut revisions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in chunk {
        let Row::Object { resource, namespace, name, revision } = row else { continue };
        resources.push(resource.as_str());
        namespaces.push(namespace.as_str());
        names.push(name.as_str());
        revisions.push(*revision as i64);
    }
    if names.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO objects (resource, namespace, name, revision) \
               SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])";
    execute(session, sql, &[&resources, &namespaces, &names, &revisions]).await
}

async fn write_facts(session: &Session, chunk: &Chunk) -> Result<(), Error> {
    let (mut ids, mut kinds, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let (mut namespaces, mut times, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for row in chunk {
        let Row::Fact { id, kind, idempotency_key, namespace, at_us, body } = row else { continue };
        ids.push(*id);
        kinds.push(kind.as_str());
        keys.push(idempotency_key.as_str());
        namespaces.push(namespace.as_str());
        times.push(*at_us);
        bodies.push(body.as_slice());
    }
    if ids.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO facts (id, kind, idempotency_key, namespace, at_us, body) \
               SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bytea[])";
    execute(session, sql, &[&ids, &kinds, &keys, &namespaces, &times, &bodies]).await
}
