//! Reading objects: a page of many as they were at one revision.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use tokio_postgres::Row;

use super::schema::{EXTENT, read_extent};
use super::session::Session;
use crate::error::Error;
use crate::filter::LabelTerm;
use crate::hub::Hub;
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

/// The texts of many versions.
const BODIES: &str = "SELECT revision, body FROM log WHERE revision = ANY($1)";
/// The same, of versions that were written one after the other.
const RANGE: &str = "SELECT revision, body FROM log WHERE revision BETWEEN $1 AND $2";
/// Of so many versions in a range one must be wanted: reading one more along costs less than finding it.
const RANGE_SPARSENESS_MAX: i64 = 2;
/// Texts in one statement: so many that statements cost little, so few that the first are taken up while
/// the database looks for the others.
const BODIES_MAX: usize = 2_000;
/// A shorter page is one statement: looking its texts up apart from its names is a round trip more.
const LONG_PAGE: usize = 1_000;

/// Whether a list is read in two steps: a plain one, as things are now, that may be long.
pub(super) fn is_long(query: &ListQuery) -> bool {
    query.is_plain() && query.at_revision.is_none() && query.bound().is_none_or(|limit| limit > LONG_PAGE)
}

/// Reads a long list of everything in a scope, in a transaction of its own: first the names and the
/// revisions, in their order, which an index has; then the texts, in the order of the log. In one
/// statement the database would look each text up on its own, or sort them all. Texts that are still in
/// memory are not asked for, if `in_memory` says so.
pub(super) async fn long_page(session: &Session, query: &ListQuery, hub: &Hub, in_memory: bool) -> Result<Page, Error> {
    let mut names = Sql::new(Dialect::Postgres);
    names.push("SELECT namespace, name, revision FROM objects WHERE ");
    if !names.range(query) {
        return page(session, query).await;
    }
    names.push(" ORDER BY namespace, name");
    if let Some(limit) = query.bound() {
        names.push(" LIMIT ").integer(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
    }
    let extent = session.prepare(EXTENT).await.map_err(database)?;
    session.prepare(&names.text).await.map_err(database)?;
    let bodies = session.prepare(BODIES).await.map_err(database)?;
    let range = session.prepare(RANGE).await.map_err(database)?;
    let (begun, extent, rows) = futures::join!(session.run(SNAPSHOT), session.query(&extent, &[]), session.query_sql(&names));
    begun.map_err(database)?;
    let extent = read_extent(&extent.map_err(database)?)?;
    let rows = rows.map_err(database)?;
    let mut page = Page::empty(extent.newest, false);
    let mut missing: Vec<(i64, usize)> = Vec::new();
    let mut namespace: Arc<str> = Arc::from("");
    page.items.reserve(rows.len());
    for row in &rows {
        if *namespace != *row.get::<_, &str>(0) {
            namespace = row.get::<_, &str>(0).into();
        }
        let revision = row.get::<_, i64>(2);
        let kept = if in_memory { hub.recent(revision as u64) } else { None };
        if kept.is_none() {
            missing.push((revision, page.items.len()));
        }
        let key = Key::new(query.scope.resource.clone(), namespace.clone(), row.get::<_, &str>(1));
        page.items.push(Stored { key, revision: revision as u64, body: kept.map(|kept| kept.body.clone()).unwrap_or_default() });
    }
    drop(rows);
    // In the order of the log, and so of the answers: rows that are written together lie together.
    missing.sort_unstable();
    let parts: Vec<Vec<i64>> = missing.chunks(BODIES_MAX).map(|part| part.iter().map(|(revision, _)| *revision).collect()).collect();
    let places: HashMap<i64, usize> = missing.into_iter().collect();
    let mut found = 0;
    let mut asked = FuturesOrdered::new();
    for part in &parts {
        asked.push_back(async {
            match part[..] {
                [first, .., last] if last - first < RANGE_SPARSENESS_MAX * part.len() as i64 => {
                    session.query(&range, &[&first, &last]).await
                }
                _ => session.query(&bodies, &[part]).await,
            }
        });
    }
    while let Some(rows) = asked.next().await {
        for row in &rows.map_err(database)? {
            if let Some(item) = places.get(&row.get::<_, i64>(0)).and_then(|place| page.items.get_mut(*place)) {
                item.body = body(row, 1);
                found += 1;
            }
        }
    }
    drop(asked);
    if found != places.len() {
        let missing = page.items.iter().find(|item| item.body.is_empty()).map_or(0, |item| item.revision);
        return Err(Error::Corrupt { what: format!("revision {missing} is not in the log"), source: None });
    }
    finish(session, query, &mut page).await?;
    session.run("COMMIT").await.map_err(database)?;
    Ok(page)
}

/// Cuts what was read beyond a page's end, and says where the next begins and how much follows.
async fn finish(session: &Session, query: &ListQuery, page: &mut Page) -> Result<(), Error> {
    let Some(limit) = query.bound().filter(|limit| page.items.len() > *limit) else { return Ok(()) };
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
    Ok(())
}

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
    finish(session, query, &mut page).await?;
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
