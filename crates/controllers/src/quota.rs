//! Quota controller: says of each Quota what was given of it, what is used and what waits.
//!
//! It only tells. That no quota is exceeded is seen to where work is admitted.

mod decide;

use std::time::Duration;

use fermion_api::compute::Quota;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::Api;

use crate::cache::Cache;
use crate::error::{Error, chain, describe};
use crate::{Caches, Options, Shutdown, status};

/// Shortest time between two sums over all workloads.
const SUM_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Runs until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, options: Options, shutdown: Shutdown) {
    let quotas: Cache<Quota> = Cache::new(|_| None);
    let namespaces: Cache<Namespace> = Cache::new(|_| None);
    let watches = futures::future::join(
        quotas.clone().run(client.clone(), shutdown.clone()),
        namespaces.clone().run(client.clone(), shutdown.clone()),
    );
    let sums = sums(client, caches, quotas, namespaces, options.sweep, shutdown);
    futures::future::join(watches, sums).await;
}

async fn sums(client: Client, caches: Caches, quotas: Cache<Quota>, namespaces: Cache<Namespace>, sweep: Duration, shutdown: Shutdown) {
    let mut changes = futures::stream::select_all([
        quotas.changes().map(|_| ()).boxed(),
        namespaces.changes().map(|_| ()).boxed(),
        caches.workloads.changes().map(|_| ()).boxed(),
    ]);
    let filled = futures::future::join3(quotas.filled(), namespaces.filled(), caches.workloads.filled());
    tokio::select! {
        () = shutdown.requested() => return,
        (quotas, namespaces, workloads) = filled => {
            if let Err(error) = quotas.and(namespaces).and(workloads) {
                tracing::error!(error = chain(&error), "quotas cannot be summed up");
                return;
            }
        }
    }
    let api: Api<Quota> = Api::all(client);
    while !shutdown.is_requested() {
        let all = quotas.all();
        // Most platforms have many workloads, and some have no quota.
        if !all.is_empty() {
            let news = decide::decide(&all, &namespaces.all(), &caches.workloads.all(), Timestamp::now());
            for (quota, new) in news {
                match status::write(&api, &*quota, quota.status.as_ref(), &new).await {
                    Ok(_) | Err(Error::Conflict { .. }) => {}
                    Err(Error::Api { source: kube::Error::Api(status), .. }) if status.is_not_found() => {}
                    Err(error) => tracing::warn!(quota = describe(&*quota), error = chain(&error), "cannot write a sum; trying again"),
                }
            }
        }
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(SUM_INTERVAL_MIN) => {}
        }
        tokio::select! {
            () = shutdown.requested() => return,
            _ = changes.next() => {}
            () = tokio::time::sleep(sweep) => {}
        }
        while let Some(Some(())) = changes.next().now_or_never() {}
    }
}
