//! Reading the log.

use std::sync::Arc;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::objects::body;
use super::schema::extent;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::object::{Key, Scope, Stored};
use crate::watch::{Chunk, ChunkBuilder};

/// Reads events of a scope after a revision, in a transaction of its own.
pub(super) fn chunk(connection: &mut Connection, scope: &Scope, after: u64, newest: u64) -> Result<Chunk, Error> {
    let database = |source| Error::sqlite("read its log", source);
    let transaction = connection.transaction().map_err(database)?;
    extent(&transaction)?.check(after)?;

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
    let mut chunk = ChunkBuilder::new();
    while let Some(row) = rows.next().map_err(database)? {
        if chunk.add(event(row, scope).map_err(database)?) {
            return Ok(chunk.partial());
        }
    }
    Ok(chunk.complete(newest))
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
