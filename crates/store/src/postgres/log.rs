//! Reading the log.

use std::sync::Arc;

use tokio_postgres::Row;

use super::objects::{SNAPSHOT, body};
use super::schema::{EXTENT, read_extent};
use super::session::Session;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::extent::Extent;
use crate::object::{Key, Scope, Stored};
use crate::sql::{Dialect, Sql};
use crate::watch::{CHUNK_EVENTS_MAX, Chunk, ChunkBuilder};

fn database(source: tokio_postgres::Error) -> Error {
    Error::postgres("read its log", source)
}

fn columns(sql: &mut Sql) {
    sql.push(
        "SELECT log.revision, log.resource, log.namespace, log.name, log.deleted, log.body, log.previous, before.body \
         FROM log LEFT JOIN log AS before ON before.revision = log.previous WHERE log.revision > ",
    );
}

/// Reads events of a scope after a revision, in a transaction of its own.
pub(super) async fn chunk(session: &Session, scope: &Scope, after: u64, newest: u64) -> Result<Chunk, Error> {
    let mut sql = Sql::new(Dialect::Postgres);
    columns(&mut sql);
    sql.integer(after as i64).push(" AND log.revision <= ").integer(newest as i64);
    sql.push(" AND log.resource = ").text(&*scope.resource);
    if let Some(namespace) = &scope.namespace {
        sql.push(" AND log.namespace = ").text(&**namespace);
    }
    if let Some(name) = &scope.name {
        sql.push(" AND log.name = ").text(&**name);
    }
    sql.push(" ORDER BY log.revision LIMIT ").integer(CHUNK_EVENTS_MAX as i64);
    let (extent, rows) = read(session, &sql).await?;
    extent.check(after)?;
    let mut chunk = ChunkBuilder::new();
    for row in &rows {
        if chunk.add(event(row, Some(scope))) {
            return Ok(chunk.partial());
        }
    }
    // A full page has its end among what was added; a page that is not full has all there is.
    Ok(chunk.complete(newest))
}

/// Reads the events after a revision, of every resource, and how far the log reaches. There are none if
/// it no longer reaches back to there.
pub(super) async fn after(session: &Session, revision: u64, events_max: usize) -> Result<(Extent, Vec<Event>), Error> {
    let mut sql = Sql::new(Dialect::Postgres);
    columns(&mut sql);
    sql.integer(revision as i64).push(" ORDER BY log.revision LIMIT ").integer(events_max as i64);
    let (extent, rows) = read(session, &sql).await?;
    // What compacted events replaced is gone.
    let whole = extent.compacted <= revision;
    Ok((extent, rows.iter().filter(|_| whole).map(|row| event(row, None)).collect()))
}

async fn read(session: &Session, sql: &Sql) -> Result<(Extent, Vec<Row>), Error> {
    let extent = session.prepare(EXTENT).await.map_err(database)?;
    session.prepare(&sql.text).await.map_err(database)?;
    let (begun, extent, rows, ended) =
        futures::join!(session.run(SNAPSHOT), session.query(&extent, &[]), session.query_sql(sql), session.run("COMMIT"));
    begun.map_err(database)?;
    let extent = read_extent(&extent.map_err(database)?)?;
    let rows = rows.map_err(database)?;
    ended.map_err(database)?;
    Ok((extent, rows))
}

fn event(row: &Row, scope: Option<&Scope>) -> Event {
    let revision = row.get::<_, i64>(0) as u64;
    let resource: Arc<str> = scope.map_or_else(|| row.get::<_, &str>(1).into(), |scope| scope.resource.clone());
    let key = Key::new(resource, row.get::<_, &str>(2), row.get::<_, &str>(3));
    let deleted: bool = row.get(4);
    let previous =
        row.get::<_, Option<i64>>(6).map(|previous| Arc::new(Stored { key: key.clone(), revision: previous as u64, body: body(row, 7) }));
    let kind = match (deleted, &previous) {
        (true, _) => EventKind::Deleted,
        (false, None) => EventKind::Added,
        (false, Some(_)) => EventKind::Modified,
    };
    let object = Arc::new(Stored { key, revision, body: body(row, 5) });
    Event { revision, kind, object, previous }
}
