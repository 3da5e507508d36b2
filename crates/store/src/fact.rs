//! Facts: what happened, recorded once and never changed.

use jiff::Timestamp;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};
use serde_json::Value;

use crate::error::Error;

/// Facts in one answer, whatever limit was asked for.
pub const FACTS_PER_PAGE_MAX: usize = 1_000;

/// One fact to record.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// The sort of fact, such as `usage`.
    pub kind: &'static str,
    /// Names the happening itself. A second fact of the same kind with the same key is skipped
    /// silently, so that recording is exactly-once however often it is tried.
    pub idempotency_key: String,
    /// The project it belongs to; empty if to none.
    pub namespace: String,
    /// When it happened. Kept to the microsecond.
    pub at: Timestamp,
    /// Everything else about it.
    pub body: Value,
}

/// One recorded fact.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFact {
    /// Grows with every recorded fact; never reused.
    pub id: u64,
    /// The sort of fact.
    pub kind: String,
    /// Names the happening itself.
    pub idempotency_key: String,
    /// The project it belongs to; empty if to none.
    pub namespace: String,
    /// When it happened, to the microsecond.
    pub at: Timestamp,
    /// Everything else about it.
    pub body: Value,
}

/// Which facts to read. They come in the order they were recorded.
#[derive(Clone, Debug, Default)]
pub struct FactQuery {
    /// The sort of fact.
    pub kind: String,
    /// `None`: of every namespace.
    pub namespace: Option<String>,
    /// Only those that happened at or after this time.
    pub from: Option<Timestamp>,
    /// Only those that happened before this time.
    pub until: Option<Timestamp>,
    /// Only those recorded after the fact with this id: the `next` of the page before.
    pub after_id: Option<u64>,
    /// At most so many, and never more than [`FACTS_PER_PAGE_MAX`].
    pub limit: Option<usize>,
}

/// Some of the facts a query is about.
#[derive(Clone, Debug)]
pub struct FactPage {
    /// The facts, in the order they were recorded.
    pub items: Vec<StoredFact>,
    /// `after_id` of the next page, if there are more.
    pub next: Option<u64>,
}

const ATTEMPTED: &str = "read facts";

pub(crate) fn read(connection: &Connection, query: &FactQuery) -> Result<FactPage, Error> {
    let limit = query.limit.unwrap_or(FACTS_PER_PAGE_MAX).clamp(1, FACTS_PER_PAGE_MAX);
    let mut sql = "SELECT id, idempotency_key, namespace, at_us, body FROM facts \
                   WHERE kind = ? AND id > ?"
        .to_owned();
    let mut values: Vec<SqlValue> = vec![query.kind.clone().into(), (query.after_id.unwrap_or(0) as i64).into()];
    if let Some(namespace) = &query.namespace {
        sql.push_str(" AND namespace = ?");
        values.push(namespace.clone().into());
    }
    if let Some(from) = query.from {
        sql.push_str(" AND at_us >= ?");
        values.push(from.as_microsecond().into());
    }
    if let Some(until) = query.until {
        sql.push_str(" AND at_us < ?");
        values.push(until.as_microsecond().into());
    }
    sql.push_str(" ORDER BY id LIMIT ?");
    // One more than asked for tells whether there is a next page.
    values.push((limit as i64 + 1).into());

    let database = |source| Error::database(ATTEMPTED, source);
    let mut statement = connection.prepare_cached(&sql).map_err(database)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(database)?;
    let mut items = Vec::new();
    let mut more = false;
    while let Some(row) = rows.next().map_err(database)? {
        if items.len() == limit {
            more = true;
            break;
        }
        let id = row.get::<_, i64>(0).map_err(database)? as u64;
        let damaged =
            |source: Box<dyn std::error::Error + Send + Sync>| Error::Corrupt { what: format!("fact {id}"), source: Some(source) };
        let body = row.get_ref(4).map_err(database)?;
        let body = body.as_bytes().map_err(|e| damaged(Box::new(e)))?;
        let at_us: i64 = row.get(3).map_err(database)?;
        items.push(StoredFact {
            id,
            kind: query.kind.clone(),
            idempotency_key: row.get(1).map_err(database)?,
            namespace: row.get(2).map_err(database)?,
            at: Timestamp::from_microsecond(at_us).map_err(|e| damaged(Box::new(e)))?,
            body: serde_json::from_slice(body).map_err(|e| damaged(Box::new(e)))?,
        });
    }
    let next = if more { items.last().map(|fact| fact.id) } else { None };
    Ok(FactPage { items, next })
}
