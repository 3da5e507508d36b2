//! Facts: what happened, recorded once and never changed.

use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Cause, Error};
use crate::sql::{Dialect, Sql};

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

impl FactQuery {
    /// How many facts its page may hold.
    pub(crate) fn bound(&self) -> usize {
        self.limit.unwrap_or(FACTS_PER_PAGE_MAX).clamp(1, FACTS_PER_PAGE_MAX)
    }

    /// `SELECT id, idempotency_key, namespace, at_us, body`, and one fact more than the page may hold:
    /// it tells whether there is a next page.
    pub(crate) fn sql(&self, dialect: Dialect) -> Sql {
        let mut sql = Sql::new(dialect);
        sql.push("SELECT id, idempotency_key, namespace, at_us, body FROM facts WHERE kind = ").text(self.kind.as_str());
        sql.push(" AND id > ").integer(self.after_id.unwrap_or(0) as i64);
        if let Some(namespace) = &self.namespace {
            sql.push(" AND namespace = ").text(namespace.as_str());
        }
        if let Some(from) = self.from {
            sql.push(" AND at_us >= ").integer(from.as_microsecond());
        }
        if let Some(until) = self.until {
            sql.push(" AND at_us < ").integer(until.as_microsecond());
        }
        sql.push(" ORDER BY id LIMIT ").integer(self.bound() as i64 + 1);
        sql
    }
}

impl StoredFact {
    /// A fact from its row.
    pub(crate) fn read(kind: &str, id: i64, idempotency_key: String, namespace: String, at_us: i64, body: &[u8]) -> Result<Self, Error> {
        let damaged = |source: Cause| Error::Corrupt { what: format!("fact {id}"), source: Some(source) };
        Ok(Self {
            id: id as u64,
            kind: kind.to_owned(),
            idempotency_key,
            namespace,
            at: Timestamp::from_microsecond(at_us).map_err(|e| damaged(Box::new(e)))?,
            body: serde_json::from_slice(body).map_err(|e| damaged(Box::new(e)))?,
        })
    }
}

impl FactPage {
    /// A page from at most one fact more than it may hold.
    pub(crate) fn of(mut items: Vec<StoredFact>, limit: usize) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(|fact| fact.id) } else { None };
        Self { items, next }
    }
}
