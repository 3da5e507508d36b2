//! Reading facts.

use super::session::Session;
use crate::error::Error;
use crate::fact::{FactPage, FactQuery, StoredFact};
use crate::sql::Dialect;

/// Reads a page of facts.
pub(super) async fn read(session: &Session, query: &FactQuery) -> Result<FactPage, Error> {
    let rows = session.query_sql(&query.sql(Dialect::Postgres)).await.map_err(|source| Error::postgres("read facts", source))?;
    let items = rows
        .iter()
        .map(|row| StoredFact::read(&query.kind, row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(FactPage::of(items, query.bound()))
}
