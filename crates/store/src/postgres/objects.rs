//! Reading objects: a page of many as they were at one revision.

use bytes::Bytes;
use tokio_postgres::Row;

use super::schema::{EXTENT, read_extent};
use super::session::Session;
use crate::error::Error;
use crate::filter::LabelTerm;
use crate::labels::{Choice, choice, picked};
use crate::list::{ListQuery, Page, REMAINING_MAX};
use crate::object::{Key, Scope, Stored};
use crate::sql::{Dialect, Sql};

pub(super) fn database(source: tokio_postgres::Error) -> Error {
    Error::postgres("read objects", source)
}

pub(super) fn body(row: &Row, column: usize) -> Bytes {
    Bytes::copy_from_slice(row.get(column))
}

/// Opens a transaction in which everything is as it was when it began.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Reads a page of objects, in a transaction of its own.
pub(super) async fn page(session: &Session, query: &ListQuery) -> Result<Page, Error> {
    let label = label(session, query).await?;
    let extent = session.prepare(EXTENT).await.map_err(database)?;
    let Some(sql) = Sql::page(Dialect::Postgres, query, query.at_revision, label) else {
        let extent = read_extent(&session.query(&extent, &[]).await.map_err(database)?)?;
        let revision = query.at_revision.unwrap_or(extent.newest);
        extent.check(revision)?;
        return Ok(Page::empty(revision, query.count));
    };
    // All of the query, not only what follows the page before.
    let whole = ListQuery { start_after: None, ..query.clone() };
    let total = if query.count { Sql::count(Dialect::Postgres, &whole, query.at_revision, label) } else { None };
    // Prepared before, so that the transaction is one round trip.
    session.prepare(&sql.text).await.map_err(database)?;
    if let Some(total) = &total {
        session.prepare(&total.text).await.map_err(database)?;
    }
    let (begun, extent, rows, total) = futures::join!(session.run(SNAPSHOT), session.query(&extent, &[]), session.query_sql(&sql), async {
        match &total {
            Some(total) => session.query_sql(total).await.map(Some),
            None => Ok(None),
        }
    },);
    begun.map_err(database)?;
    let extent = read_extent(&extent.map_err(database)?)?;
    let revision = query.at_revision.unwrap_or(extent.newest);
    extent.check(revision)?;
    let mut page = Page::empty(revision, query.count);
    page.items = rows.map_err(database)?.iter().map(|row| stored(row, &query.scope)).collect();
    page.total = total.map_err(database)?.as_deref().map(count);
    if let Some(limit) = query.bound()
        && page.items.len() > limit
    {
        page.items.truncate(limit);
        if query.order.is_none() {
            page.next = page.items.last().map(|last| (last.key.namespace.to_string(), last.key.name.to_string()));
        }
        if query.is_plain() {
            let rest = ListQuery { start_after: page.next.clone(), ..query.clone() };
            if let Some(rest) = Sql::bounded_count(Dialect::Postgres, &rest, query.at_revision, REMAINING_MAX + 1) {
                let remaining = count(&session.query_sql(&rest).await.map_err(database)?);
                page.remaining = (remaining <= REMAINING_MAX).then_some(remaining);
            }
        }
    }
    session.run("COMMIT").await.map_err(database)?;
    Ok(page)
}

/// The label by which the query's objects are found, if there is one. Others may write meanwhile: any
/// choice gives the same objects.
async fn label<'a>(session: &Session, query: &'a ListQuery) -> Result<Option<&'a LabelTerm>, Error> {
    let terms = match choice(query) {
        Choice::None => return Ok(None),
        Choice::Use(term) => return Ok(Some(term)),
        Choice::Count(terms) => terms,
    };
    let Some(sql) = Sql::label_counts(Dialect::Postgres, query, &terms) else { return Ok(None) };
    let rows = session.query_sql(&sql).await.map_err(database)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let counts: Vec<u64> = (0..terms.len()).map(|column| row.get::<_, i64>(column) as u64).collect();
    Ok(picked(query, &terms, &counts))
}

fn stored(row: &Row, scope: &Scope) -> Stored {
    let key = Key::new(scope.resource.clone(), row.get::<_, &str>(0), row.get::<_, &str>(1));
    Stored { key, revision: row.get::<_, i64>(2) as u64, body: body(row, 3) }
}

fn count(rows: &[Row]) -> u64 {
    rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64)
}
