//! Reading objects: one, or a page of many as they were at one revision.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::schema::extent;
use crate::error::Error;
use crate::filter::LabelTerm;
use crate::labels::{Choice, choice, picked};
use crate::list::{ListQuery, Page, REMAINING_MAX};
use crate::object::{Key, Scope, Stored};
use crate::sql::{Dialect, Param, Sql};

const ATTEMPTED: &str = "read objects";

fn database(source: rusqlite::Error) -> Error {
    Error::sqlite(ATTEMPTED, source)
}

/// Reads the newest version of one object.
pub(super) fn get(connection: &Connection, key: &Key) -> Result<Option<Stored>, Error> {
    connection
        .prepare_cached(
            "SELECT log.revision, log.body \
             FROM objects CROSS JOIN log ON log.revision = objects.revision \
             WHERE objects.resource = ? AND objects.namespace = ? AND objects.name = ?",
        )
        .map_err(database)?
        .query_row(params![key.resource, key.namespace, key.name], |row| {
            let revision = row.get::<_, i64>(0)? as u64;
            Ok(Stored { key: key.clone(), revision, body: body(row, 1)? })
        })
        .optional()
        .map_err(database)
}

/// Reads the body of a version that is known to be in the log.
pub(super) fn body_at(connection: &Connection, revision: u64) -> Result<Bytes, Error> {
    connection
        .prepare_cached("SELECT body FROM log WHERE revision = ?")
        .map_err(database)?
        .query_row([revision as i64], |row| body(row, 0))
        .optional()
        .map_err(database)?
        .ok_or_else(|| Error::Corrupt { what: format!("revision {revision} is not in the log"), source: None })
}

pub(super) fn body(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// Reads a page of objects, in a transaction of its own.
pub(super) fn page(connection: &mut Connection, query: &ListQuery) -> Result<Page, Error> {
    query.check()?;
    let transaction = connection.transaction().map_err(database)?;
    let extent = extent(&transaction)?;
    let revision = query.at_revision.unwrap_or(extent.newest);
    extent.check(revision)?;
    if query.is_plain() {
        return plain_page(&transaction, query, revision, extent.newest);
    }
    // The statement's own words for a revision cost something, also when nothing was written since.
    let back = (revision != extent.newest).then_some(revision);
    let mut page = Page::empty(revision, query.count);
    let label = label(&transaction, query)?;
    let Some(sql) = Sql::page(Dialect::Sqlite, query, back, label) else { return Ok(page) };
    page.items = matching(&transaction, &sql, &query.scope)?;
    if let Some(limit) = query.bound()
        && page.items.len() > limit
    {
        page.items.truncate(limit);
        if query.order.is_none() {
            page.next = page.items.last().map(|last| (last.key.namespace.to_string(), last.key.name.to_string()));
        }
    }
    if query.count {
        let whole = ListQuery { start_after: None, ..query.clone() };
        page.total = match Sql::count(Dialect::Sqlite, &whole, back, label) {
            Some(sql) => Some(counted(&transaction, &sql)?),
            None => Some(0),
        };
    }
    Ok(page)
}

/// The label by which the query's objects are found, if there is one.
fn label<'a>(connection: &Connection, query: &'a ListQuery) -> Result<Option<&'a LabelTerm>, Error> {
    let terms = match choice(query) {
        Choice::None => return Ok(None),
        Choice::Use(term) => return Ok(Some(term)),
        Choice::Count(terms) => terms,
    };
    let Some(sql) = Sql::label_counts(Dialect::Sqlite, query, &terms) else { return Ok(None) };
    let counts = connection
        .prepare_cached(&sql.text)
        .map_err(database)?
        .query_row(params_from_iter(sql.params.iter().map(value)), |row| {
            (0..terms.len()).map(|column| row.get::<_, i64>(column).map(|count| count as u64)).collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(database)?;
    Ok(picked(query, &terms, &counts))
}

fn matching(connection: &Connection, sql: &Sql, scope: &Scope) -> Result<Vec<Stored>, Error> {
    let mut statement = connection.prepare_cached(&sql.text).map_err(database)?;
    let mut rows = statement.query(params_from_iter(sql.params.iter().map(value))).map_err(database)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(database)? {
        let key = Key { resource: scope.resource.clone(), namespace: row.get(0).map_err(database)?, name: row.get(1).map_err(database)? };
        let revision = row.get::<_, i64>(2).map_err(database)? as u64;
        items.push(Stored { key, revision, body: body(row, 3).map_err(database)? });
    }
    Ok(items)
}

fn counted(connection: &Connection, sql: &Sql) -> Result<u64, Error> {
    let count: i64 = connection
        .prepare_cached(&sql.text)
        .map_err(database)?
        .query_row(params_from_iter(sql.params.iter().map(value)), |row| row.get(0))
        .map_err(database)?;
    Ok(count as u64)
}

pub(super) fn value(param: &Param) -> SqlValue {
    match param {
        Param::Text(text) => SqlValue::Text(text.clone()),
        Param::Integer(integer) => SqlValue::Integer(*integer),
    }
}

/// A page of a list by scope alone. What was changed since is found in the log and put between what
/// was not, which beats the general statement where there are many objects and few changes.
fn plain_page(transaction: &Connection, query: &ListQuery, revision: u64, newest: u64) -> Result<Page, Error> {
    let mut page = Page::empty(revision, false);
    let Some(range) = Range::new(query) else { return Ok(page) };
    let changes = if revision == newest { Changes::new() } else { range.changes(transaction, revision)? };
    let limit = query.bound().unwrap_or(usize::MAX);
    page.items = range.items(transaction, &changes, limit)?;
    if page.items.len() == limit
        && let Some(last) = page.items.last()
    {
        let last = (last.key.namespace.to_string(), last.key.name.to_string());
        let rest = ListQuery { start_after: Some(last.clone()), ..query.clone() };
        let remaining = match Range::new(&rest) {
            Some(rest) => rest.count(transaction, &changes)?,
            None => 0,
        };
        if remaining > 0 {
            page.next = Some(last);
            page.remaining = (remaining <= REMAINING_MAX).then_some(remaining);
        }
    }
    Ok(page)
}

/// What happened to an object since the revision that is being listed.
struct Change {
    /// The object's version at that revision, if it existed.
    then: Option<u64>,
    exists_now: bool,
}

/// Changed objects by (namespace, name).
type Changes = BTreeMap<(String, String), Change>;

/// The part of a scope that follows `start_after`, as conditions of a query.
struct Range<'a> {
    scope: &'a Scope,
    after: Option<&'a (String, String)>,
    conditions: String,
    values: Vec<SqlValue>,
}

impl<'a> Range<'a> {
    /// `None` if nothing can be in it.
    fn new(query: &'a ListQuery) -> Option<Self> {
        let mut sql = Sql::new(Dialect::Sqlite);
        if !sql.range(query) {
            return None;
        }
        // Where a page begins before the scope does, it begins with the scope.
        let after = query
            .start_after
            .as_ref()
            .filter(|(after, _)| query.scope.namespace.as_deref().is_none_or(|namespace| namespace == after.as_str()));
        Some(Self { scope: &query.scope, after, values: sql.params.iter().map(value).collect(), conditions: sql.text })
    }

    /// The objects changed after `revision`, each with its version at that time.
    fn changes(&self, connection: &Connection, revision: u64) -> Result<Changes, Error> {
        let sql = format!(
            "SELECT namespace, name, previous, deleted FROM log INDEXED BY log_by_resource \
             WHERE {} AND revision > ? ORDER BY revision",
            self.conditions
        );
        let mut values = self.values.clone();
        values.push((revision as i64).into());
        let mut statement = connection.prepare_cached(&sql).map_err(database)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(database)?;
        let mut changes = Changes::new();
        while let Some(row) = rows.next().map_err(database)? {
            let key = (row.get(0).map_err(database)?, row.get(1).map_err(database)?);
            let previous: Option<i64> = row.get(2).map_err(database)?;
            let deleted: bool = row.get(3).map_err(database)?;
            // The first change says what was there before all of them.
            let change = changes.entry(key).or_insert(Change { then: previous.map(|p| p as u64), exists_now: false });
            change.exists_now = !deleted;
        }
        Ok(changes)
    }

    /// At most `limit` objects as they were before `changes`, in order.
    fn items(&self, connection: &Connection, changes: &Changes, limit: usize) -> Result<Vec<Stored>, Error> {
        let sql = format!(
            "SELECT namespace, name, revision, \
             (SELECT body FROM log WHERE log.revision = objects.revision) \
             FROM objects WHERE {} ORDER BY namespace, name",
            self.conditions
        );
        let mut statement = connection.prepare_cached(&sql).map_err(database)?;
        let mut rows = statement.query(params_from_iter(&self.values)).map_err(database)?;
        let mut changed = changes.iter().peekable();
        let mut items: Vec<Stored> = Vec::new();
        let mut previous_namespace: Arc<str> = Arc::from("");

        while items.len() < limit {
            let row = rows.next().map_err(database)?;
            let current = match row {
                Some(row) => Some((
                    row.get_ref(0).map_err(database)?.as_str().map_err(|e| database(e.into()))?,
                    row.get_ref(1).map_err(database)?.as_str().map_err(|e| database(e.into()))?,
                )),
                None => None,
            };
            // Changed objects up to the current one, which may be among them, come first.
            let mut current_is_changed = false;
            while let Some(((namespace, name), change)) =
                changed.next_if(|((namespace, name), _)| current.is_none_or(|current| (namespace.as_str(), name.as_str()) <= current))
            {
                current_is_changed |= current == Some((namespace, name));
                if let Some(revision) = change.then {
                    let key = self.key(namespace, name, &mut previous_namespace);
                    let body = body_at(connection, revision)?;
                    items.push(Stored { key, revision, body });
                    if items.len() == limit {
                        return Ok(items);
                    }
                }
            }
            let (Some(row), Some((namespace, name))) = (row, current) else { break };
            if !current_is_changed {
                items.push(Stored {
                    key: self.key(namespace, name, &mut previous_namespace),
                    revision: row.get::<_, i64>(2).map_err(database)? as u64,
                    body: body(row, 3).map_err(database)?,
                });
            }
        }
        Ok(items)
    }

    /// A key that shares its namespace with the one before where it can.
    fn key(&self, namespace: &str, name: &str, previous_namespace: &mut Arc<str>) -> Key {
        if **previous_namespace != *namespace {
            *previous_namespace = Arc::from(namespace);
        }
        Key { resource: self.scope.resource.clone(), namespace: previous_namespace.clone(), name: Arc::from(name) }
    }

    /// How many objects there were before `changes`; or any number above [`REMAINING_MAX`] if there
    /// were more than that.
    fn count(&self, connection: &Connection, changes: &Changes) -> Result<u64, Error> {
        let start = self.after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let (mut came, mut went) = (0, 0);
        for change in changes.range((start, Bound::Unbounded)).map(|(_, change)| change) {
            match (change.then, change.exists_now) {
                (None, true) => came += 1,
                (Some(_), false) => went += 1,
                (None, false) | (Some(_), true) => {}
            }
        }
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM objects WHERE {} LIMIT ?)", self.conditions);
        let mut values = self.values.clone();
        values.push(((REMAINING_MAX + 1 + came) as i64).into());
        let now = connection
            .prepare_cached(&sql)
            .map_err(database)?
            .query_row(params_from_iter(values), |row| row.get::<_, i64>(0))
            .map_err(database)? as u64;
        Ok((now + went).saturating_sub(came))
    }
}
