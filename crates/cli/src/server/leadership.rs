//! Of several servers on one database one runs the controllers and the scheduler.
//!
//! It holds a lease and renews it. If it cannot, it stops them before the lease has run out; and what it
//! still writes after another was given the lease, because it was paused, the store refuses.

use std::sync::Arc;
use std::time::Duration;

use fermion_apiserver::{Api, Identity};
use fermion_controllers::Options;
use fermion_store::{Fence, Store};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::keep_controlling;

/// What the lease is for.
const LEASE: &str = "controllers";
/// How long another server waits for one that fell silent.
const LEASE_FOR: Duration = Duration::from_secs(15);
/// How often the lease is renewed, or asked for.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long before the end of its lease a server stops that could not renew it.
const MARGIN: Duration = Duration::from_secs(4);

/// Runs the controllers whenever this server leads, until it is stopped.
pub(super) async fn control_while_leading(api: Arc<Api>, store: Store, options: Options, mut stopping: watch::Receiver<bool>) {
    let holder = uuid::Uuid::new_v4().to_string();
    let (leads, followed) = watch::channel(None);
    loop {
        let asked = Instant::now();
        let fence = match store.lead(LEASE, &holder, LEASE_FOR).await {
            Ok(leadership) => leadership.map(|leadership| leadership.fence()),
            Err(error) => {
                tracing::warn!(%error, "cannot ask for the lead");
                None
            }
        };
        if let Some(fence) = fence {
            tracing::info!(token = fence.token, "this server leads");
            leads.send_replace(Some(fence.clone()));
            let (stop, stopped) = watch::channel(false);
            let client = api.client_of_leader(Identity::component("controllers"), followed.clone());
            let mut controllers = tokio::spawn(keep_controlling(client, options.clone(), stopped));
            let ended = lead_on(&store, &holder, &fence, asked, &mut stopping).await;
            stop.send_replace(true);
            if tokio::time::timeout(MARGIN, &mut controllers).await.is_err() {
                controllers.abort();
            }
            if ended == Ended::Stopping {
                // The next one need not wait.
                if let Err(error) = store.resign(fence).await {
                    tracing::warn!(%error, "cannot give up the lead; it runs out by itself");
                }
                return;
            }
            tracing::warn!("this server no longer leads");
        }
        tokio::select! {
            () = sleep(RENEW_EVERY) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Why a server no longer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Stopping,
    Lost,
}

/// Renews the lease, which was asked for at `asked`, until that fails or the server stops.
async fn lead_on(store: &Store, holder: &str, fence: &Fence, mut asked: Instant, stopping: &mut watch::Receiver<bool>) -> Ended {
    loop {
        tokio::select! {
            () = sleep(RENEW_EVERY) => {}
            _ = stopping.wait_for(|stop| *stop) => return Ended::Stopping,
        }
        let now = Instant::now();
        match timeout_at(asked + LEASE_FOR - MARGIN, store.lead(LEASE, holder, LEASE_FOR)).await {
            Ok(Ok(Some(leadership))) if leadership.token == fence.token => asked = now,
            Ok(Err(error)) if now < asked + LEASE_FOR - MARGIN - RENEW_EVERY => tracing::warn!(%error, "cannot renew the lead yet"),
            _ => return Ended::Lost,
        }
    }
}
