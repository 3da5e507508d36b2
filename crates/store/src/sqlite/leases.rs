//! Leases. On one machine there is one server at a time, but what it does is the same.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Error;
use crate::lease::{Fence, Leadership, LeaseChange};

fn database(source: rusqlite::Error) -> Error {
    Error::sqlite("change a lease", source)
}

/// Changes a lease inside an open transaction. `None` if another holds it, or if it was given up.
pub(super) fn change(connection: &Connection, change: &LeaseChange, now_us: i64) -> Result<Option<Leadership>, Error> {
    match change {
        LeaseChange::Take { name, holder, ttl_us } => {
            let expires_at_us = now_us.saturating_add(*ttl_us);
            let token: Option<i64> = connection
                .prepare_cached(
                    "INSERT INTO leases (name, holder, token, expires_at_us) VALUES (?1, ?2, 1, ?3) \
                     ON CONFLICT (name) DO UPDATE SET expires_at_us = excluded.expires_at_us, holder = excluded.holder, \
                     token = token + (leases.holder <> excluded.holder OR leases.expires_at_us <= ?4) \
                     WHERE leases.holder = excluded.holder OR leases.expires_at_us <= ?4 RETURNING token",
                )
                .map_err(database)?
                .query_row(params![name, holder, expires_at_us, now_us], |row| row.get(0))
                .optional()
                .map_err(database)?;
            Ok(token.map(|token| Leadership {
                name: name.clone(),
                holder: holder.clone(),
                token: token as u64,
                expires_at: Timestamp::from_microsecond(expires_at_us).unwrap_or(Timestamp::MAX),
            }))
        }
        LeaseChange::Release(fence) => {
            connection
                .prepare_cached("UPDATE leases SET expires_at_us = 0 WHERE name = ? AND token = ?")
                .map_err(database)?
                .execute(params![fence.name, fence.token as i64])
                .map_err(database)?;
            Ok(None)
        }
    }
}

/// Refuses, as the inner error, a fence that is not the newest.
pub(super) fn check(connection: &Connection, fence: &Fence) -> Result<Result<(), Error>, Error> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT token FROM leases WHERE name = ?")
        .map_err(database)?
        .query_row([&fence.name], |row| row.get(0))
        .optional()
        .map_err(database)?;
    Ok(fence.check(newest.map(|token| token as u64)))
}
