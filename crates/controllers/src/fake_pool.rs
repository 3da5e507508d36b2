//! Pools of kind Fake: nodes that exist only as objects, and pods on them that only say that they
//! run. The scheduler, quotas, gateways and people see them as they see real ones.
//!
//! [`nodes`] keeps as many Node objects as the pools ask for, [`pods`] takes the pods that were
//! bound to them through their lives. Neither writes anything while nothing changes: nobody sends
//! signs of life for these nodes, and the node lifecycle does not wait for any.

mod nodes;
mod pods;

use fermion_api::compute::Pool;
use fermion_api::labels;
use k8s_openapi::api::core::v1::Node;
use kube::{Client, ResourceExt as _};

use crate::cache::Cache;
use crate::{Caches, Options, Shutdown};

/// How many requests of each of the two are under way at the same time: they share transactions of the
/// store.
const REQUESTS_AT_ONCE: usize = 128;

/// Whether a node exists only as an object.
pub(crate) fn is_fake(node: &Node) -> bool {
    node.annotations().contains_key(labels::FAKE_NODE)
}

/// Runs until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, nodes: Cache<Node>, options: Options, shutdown: Shutdown) {
    let pools: Cache<Pool> = Cache::new(|_| None);
    let watch = pools.clone().run(client.clone(), shutdown.clone());
    let keeper = nodes::Keeper { client: client.clone(), pools, nodes: nodes.clone() }.run(options.sweep, shutdown.clone());
    let runner = pods::Runner::new(client, caches.pods, nodes).run(options.sweep, shutdown);
    futures::future::join3(watch, keeper, runner).await;
}
