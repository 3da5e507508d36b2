//! Leases, by the database's clock.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::session::Session;
use crate::error::Error;
use crate::lease::{Leadership, LeaseChange};

/// Microseconds since 1970 by the database's clock.
const NOW_US: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Changes a lease. `None` if another holds it, or if it was given up.
///
/// It may be repeated when its answer was lost: the holder then renews what it took. A writer that
/// checks its fence keeps the row until its transaction ends, so that nobody is given a newer token in
/// between.
pub(super) async fn change(session: &Session, change: &LeaseChange) -> Result<Option<Leadership>, Error> {
    let database = |source| Error::postgres("change a lease", source);
    match change {
        LeaseChange::Take { name, holder, ttl_us } => {
            let statement = session
                .prepare(&format!(
                    "INSERT INTO leases AS held (name, holder, token, expires_at_us) VALUES ($1, $2, 1, {NOW_US} + $3) \
                     ON CONFLICT (name) DO UPDATE SET expires_at_us = excluded.expires_at_us, holder = excluded.holder, \
                     token = held.token + (held.holder <> excluded.holder OR held.expires_at_us <= {NOW_US})::int \
                     WHERE held.holder = excluded.holder OR held.expires_at_us <= {NOW_US} RETURNING token, expires_at_us"
                ))
                .await
                .map_err(database)?;
            let params: [&(dyn ToSql + Sync); 3] = [name, holder, ttl_us];
            let rows = session.query(&statement, &params).await.map_err(database)?;
            Ok(rows.first().map(|row| Leadership {
                name: name.clone(),
                holder: holder.clone(),
                token: row.get::<_, i64>(0) as u64,
                expires_at: Timestamp::from_microsecond(row.get(1)).unwrap_or(Timestamp::MAX),
            }))
        }
        LeaseChange::Release(fence) => {
            let statement =
                session.prepare("UPDATE leases SET expires_at_us = 0 WHERE name = $1 AND token = $2").await.map_err(database)?;
            session.execute(&statement, &[&fence.name, &(fence.token as i64)]).await.map_err(database)?;
            Ok(None)
        }
    }
}
