//! Removal of what is only of use for a while: Events and tokens that are over. Quotas are counted
//! anew at the same time.

use std::sync::Arc;
use std::time::Duration;

use fermion_store::{Commit, Expect, ListQuery, Scope, Write};
use jiff::Timestamp;
use serde_json::Value;

use crate::Api;

/// How long an Event is kept after it was last seen.
const EVENT_LIFETIME: Duration = Duration::from_secs(3600);
/// Time between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(300);
/// Objects looked at in one step.
const PAGE: usize = 500;

impl Api {
    /// Sweeps until the server stops.
    pub async fn expire_until_shutdown(self: Arc<Self>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            for (resource, is_over) in
                [("events", event_is_over as fn(&Value, Timestamp) -> bool), (crate::identity::TOKENS, token_is_over)]
            {
                if let Err(error) = self.sweep(resource, is_over).await {
                    tracing::warn!(%error, resource, "what is over could not be removed; the next sweep tries again");
                }
            }
            if let Err(error) = self.recount_quotas().await {
                tracing::warn!(error = error.message, "the quotas could not be counted anew; the next sweep tries again");
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn sweep(&self, resource: &'static str, is_over: fn(&Value, Timestamp) -> bool) -> Result<(), fermion_store::Error> {
        let mut start_after = None;
        loop {
            let query = ListQuery { limit: Some(PAGE), start_after, ..ListQuery::all(Scope::all(resource)) };
            let page = self.store.list(query).await?;
            let now = self.clock.now();
            for stored in page.items {
                let Ok(object) = serde_json::from_slice::<Value>(&stored.body) else { continue };
                if !is_over(&object, now) {
                    continue;
                }
                let write = Write::Delete { key: stored.key, expect: Expect::Revision(stored.revision) };
                match self.store.commit(Commit::of(write)).await {
                    // Somebody changed it meanwhile: it is not over.
                    Ok(_) | Err(fermion_store::Error::Conflict { .. } | fermion_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            start_after = page.next;
            if start_after.is_none() {
                return Ok(());
            }
        }
    }
}

fn event_is_over(event: &Value, now: Timestamp) -> bool {
    let seen = ["lastTimestamp", "eventTime"]
        .iter()
        .map(|field| &event[field])
        .chain([&event["series"]["lastObservedTime"], &event["metadata"]["creationTimestamp"]])
        .filter_map(|time| time.as_str()?.parse::<Timestamp>().ok())
        .max();
    seen.is_some_and(|seen| now > seen + EVENT_LIFETIME)
}

fn token_is_over(token: &Value, now: Timestamp) -> bool {
    token["expiresAt"].as_str().and_then(|time| time.parse::<Timestamp>().ok()).is_some_and(|expires_at| now >= expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_lasts_an_hour_after_it_was_last_seen() {
        let event = serde_json::json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": "2026-01-01T00:30:00Z"});
        assert!(!event_is_over(&event, "2026-01-01T01:29:59Z".parse().expect("a time")));
        assert!(event_is_over(&event, "2026-01-01T01:30:01Z".parse().expect("a time")));
    }
}
