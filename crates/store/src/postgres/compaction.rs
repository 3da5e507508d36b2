//! Cutting the log at its old end. Any server may; one at a time does.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::schema::extent;
use super::session::Session;
use crate::compaction::{Due, due};
use crate::error::Error;

/// How often to look whether there is something to cut.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The number under which servers keep out of each other's way.
const COMPACTION_LOCK: i64 = 0x4645_524d_0002;
/// How long names of commits are kept: much longer than anybody looks for one.
const COMMITS_KEPT: &str = "1 hour";

fn database(source: tokio_postgres::Error) -> Error {
    Error::postgres("compact its log", source)
}

/// Compacts what is old, for as long as the store is open.
pub(super) async fn keep(shared: Arc<Shared>) {
    let shared = &*shared;
    let mut interval = tokio::time::interval(LOOK_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        loop {
            match shared.scans.read_once(|session| async move { step(&session, shared, 0).await }).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "cannot compact the log now");
                    break;
                }
            }
        }
    }
}

/// Compacts up to a revision, which somebody asked for.
pub(super) async fn through(shared: &Shared, keep_after: u64) -> Result<(), Error> {
    let newest = shared.scans.read(|session| async move { extent(&session).await }).await?.newest;
    if keep_after > newest {
        return Err(Error::Future { requested: keep_after, newest });
    }
    // A step that was made twice, because its answer was lost, is the same as once.
    while shared.scans.read(|session| async move { step(&session, shared, keep_after).await }).await? {}
    Ok(())
}

/// Compacts a little, if it is due. Says whether there may be more.
async fn step(session: &Session, shared: &Shared, requested: u64) -> Result<bool, Error> {
    let now_us = (shared.options.now)().as_microsecond();
    session.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({COMPACTION_LOCK})")).await.map_err(database)?;
    let extent = extent(session).await?;
    let target = match due(extent, requested, &shared.options) {
        Due::No => None,
        Due::Now(through) => Some(through),
        Due::IfWrittenBefore(through, age) => {
            let statement = session.prepare("SELECT at_us FROM log WHERE revision = $1").await.map_err(database)?;
            let rows = session.query(&statement, &[&(through as i64)]).await.map_err(database)?;
            let written_us = rows.first().map(|row| row.get::<_, i64>(0));
            let age_us = now_us.saturating_sub(written_us.unwrap_or(i64::MAX));
            u128::try_from(age_us).is_ok_and(|found| found >= age.as_micros()).then_some(through)
        }
    };
    let Some(through) = target else {
        session.run(&format!("DELETE FROM commits WHERE at < now() - interval '{COMMITS_KEPT}'; COMMIT")).await.map_err(database)?;
        shared.hub.set_compacted(extent.compacted);
        return Ok(false);
    };
    let delete = session
        .prepare(
            "DELETE FROM log WHERE revision IN (\
             SELECT previous FROM log WHERE revision > $1 AND revision <= $2 AND previous IS NOT NULL \
             UNION ALL SELECT revision FROM log WHERE revision > $1 AND revision <= $2 AND deleted)",
        )
        .await
        .map_err(database)?;
    session.execute(&delete, &[&(extent.compacted as i64), &(through as i64)]).await.map_err(database)?;
    let mark = session.prepare("UPDATE marks SET value = $1 WHERE name = 'compacted'").await.map_err(database)?;
    session.execute(&mark, &[&(through as i64)]).await.map_err(database)?;
    session.run("COMMIT").await.map_err(database)?;
    shared.hub.set_compacted(through);
    Ok(through != requested)
}
