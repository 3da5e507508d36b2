//! Reading objects: one, or a page of many as they were at one revision.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::error::Error;
use crate::object::{Key, Scope, Stored};
use crate::schema::Extent;

/// Which objects to list, and which page of them.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// The objects.
    pub scope: Scope,
    /// At most so many on this page; `None` or zero for all.
    pub limit: Option<usize>,
    /// The `next` of the page before: only objects after this (namespace, name).
    pub start_after: Option<(String, String)>,
    /// `None`: as things are now. `Some`: as they were right after this revision; the pages after the
    /// first pass the first one's [`Page::revision`], so that all are of one snapshot.
    pub at_revision: Option<u64>,
}

impl ListQuery {
    /// Everything in a scope, as it is now.
    pub fn all(scope: Scope) -> Self {
        Self { scope, limit: None, start_after: None, at_revision: None }
    }
}

/// Some of the objects a query is about, in the order of their keys.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects.
    pub items: Vec<Stored>,
    /// The revision at which all of this was true. A watch from here misses nothing.
    pub revision: u64,
    /// `start_after` of the next page, if there are more.
    pub next: Option<(String, String)>,
    /// How many objects follow this page, if there are more.
    pub remaining: Option<u64>,
}

const ATTEMPTED: &str = "read objects";

fn database(source: rusqlite::Error) -> Error {
    Error::database(ATTEMPTED, source)
}

/// Reads the newest version of one object.
pub(crate) fn get(connection: &Connection, key: &Key) -> Result<Option<Stored>, Error> {
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
pub(crate) fn body_at(connection: &Connection, revision: u64) -> Result<Bytes, Error> {
    connection
        .prepare_cached("SELECT body FROM log WHERE revision = ?")
        .map_err(database)?
        .query_row([revision as i64], |row| body(row, 0))
        .optional()
        .map_err(database)?
        .ok_or_else(|| Error::Corrupt { what: format!("revision {revision} is not in the log"), source: None })
}

pub(crate) fn body(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// Reads a page of objects, in a transaction of its own.
pub(crate) fn page(connection: &mut Connection, query: &ListQuery) -> Result<Page, Error> {
    let transaction = connection.transaction().map_err(database)?;
    let extent = Extent::read(&transaction)?;
    let revision = query.at_revision.unwrap_or(extent.newest);
    extent.check(revision)?;

    let Some(range) = Range::new(query) else {
        return Ok(Page { items: Vec::new(), revision, next: None, remaining: None });
    };
    let changes = if revision == extent.newest { Changes::new() } else { range.changes(&transaction, revision)? };
    let limit = query.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let items = range.items(&transaction, &changes, limit)?;

    let mut page = Page { items, revision, next: None, remaining: None };
    if page.items.len() == limit
        && let Some(last) = page.items.last()
    {
        let last = (last.key.namespace.to_string(), last.key.name.to_string());
        let rest = ListQuery { start_after: Some(last.clone()), ..query.clone() };
        let remaining = match Range::new(&rest) {
            Some(rest) => rest.count(&transaction, &changes)?,
            None => 0,
        };
        if remaining > 0 {
            page.next = Some(last);
            page.remaining = Some(remaining);
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
        let scope = &query.scope;
        let mut conditions = "resource = ?".to_owned();
        let mut values = vec![SqlValue::from(scope.resource.to_string())];
        let mut after = query.start_after.as_ref();
        if let Some(namespace) = &scope.namespace {
            conditions.push_str(" AND namespace = ?");
            values.push(namespace.to_string().into());
            // A comparison of pairs would keep SQLite from seeking to the name.
            match after {
                Some((after, _)) if after.as_str() > namespace.as_ref() => return None,
                Some((after_namespace, name)) if after_namespace.as_str() == namespace.as_ref() => {
                    conditions.push_str(" AND name > ?");
                    values.push(name.clone().into());
                }
                _ => after = None,
            }
        } else if let Some((namespace, name)) = after {
            conditions.push_str(" AND (namespace, name) > (?, ?)");
            values.extend([namespace.clone().into(), name.clone().into()]);
        }
        if let Some(name) = &scope.name {
            conditions.push_str(" AND name = ?");
            values.push(name.to_string().into());
        }
        Some(Self { scope, after, conditions, values })
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

    /// How many objects there were before `changes`.
    fn count(&self, connection: &Connection, changes: &Changes) -> Result<u64, Error> {
        let sql = format!("SELECT count(*) FROM objects WHERE {}", self.conditions);
        let now = connection
            .prepare_cached(&sql)
            .map_err(database)?
            .query_row(params_from_iter(&self.values), |row| row.get::<_, i64>(0))
            .map_err(database)? as u64;
        let start = self.after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let (mut came, mut went) = (0, 0);
        for change in changes.range((start, Bound::Unbounded)).map(|(_, change)| change) {
            match (change.then, change.exists_now) {
                (None, true) => came += 1,
                (Some(_), false) => went += 1,
                (None, false) | (Some(_), true) => {}
            }
        }
        Ok((now + went).saturating_sub(came))
    }
}
