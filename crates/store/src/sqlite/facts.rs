//! Facts.

use rusqlite::{Connection, params, params_from_iter};

use super::objects::value;
use crate::error::Error;
use crate::fact::{FactPage, FactQuery, StoredFact};
use crate::request::FactRow;
use crate::sql::Dialect;

/// Reads a page of facts.
pub(super) fn read(connection: &Connection, query: &FactQuery) -> Result<FactPage, Error> {
    let database = |source| Error::sqlite("read facts", source);
    let sql = query.sql(Dialect::Sqlite);
    let mut statement = connection.prepare_cached(&sql.text).map_err(database)?;
    let mut rows = statement.query(params_from_iter(sql.params.iter().map(value))).map_err(database)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(database)? {
        let column = |index| row.get::<_, String>(index).map_err(database);
        let body: Vec<u8> = row.get(4).map_err(database)?;
        let (id, at_us) = (row.get(0).map_err(database)?, row.get(3).map_err(database)?);
        items.push(StoredFact::read(&query.kind, id, column(1)?, column(2)?, at_us, &body)?);
    }
    Ok(FactPage::of(items, query.bound()))
}

/// Records a fact, unless one with its key is recorded already.
pub(super) fn record(connection: &Connection, fact: &FactRow) -> Result<(), Error> {
    let database = |source| Error::sqlite("write", source);
    connection
        .prepare_cached(
            "INSERT INTO facts (kind, idempotency_key, namespace, at_us, body) \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, idempotency_key) DO NOTHING",
        )
        .map_err(database)?
        .execute(params![fact.kind, fact.idempotency_key, fact.namespace, fact.at_us, fact.body])
        .map_err(database)?;
    Ok(())
}
