//! The controllers: each turns what was asked for one kind into what runs.
//!
//! Start with [`run`]; then `workload.rs`, the model every controller follows: `decide` is a
//! pure function from what is seen to what to do, and the file around it does it.
//!
//! Invariants
//! - A controller is given a key, not a change. It may run twice, late, or after a crash, with
//!   the same result: names are deterministic, deletes carry the uid, status writes carry the
//!   resource version they were decided on.
//! - Signal and sweep: every object is looked at on a change and, anyway, every
//!   [`Options::sweep`].
//! - A status is written only when it differs.
//! - Controllers see the API and nothing else: no store, no node, no gateway, not each other.

mod cache;
mod children;
mod dev_environment;
mod error;
mod events;
mod inference_service;
mod owner;
mod reconciling;
mod scheduler;
mod shutdown;
mod status;
mod training_job;
mod trouble;
mod workload;

use std::time::Duration;

use fermion_api::ai::Workload;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use tokio::task::JoinSet;

use crate::cache::Cache;
pub use crate::error::Error;
pub use crate::shutdown::Shutdown;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often every object is looked at without a change.
    pub sweep: Duration,
    /// How often the metrics of a running job are read.
    pub metrics_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { sweep: Duration::from_secs(30), metrics_interval: Duration::from_secs(5) }
    }
}

/// Copies of what several controllers read.
#[derive(Clone)]
pub(crate) struct Caches {
    pub pods: Cache<Pod>,
    pub workloads: Cache<Workload>,
}

/// Runs every controller until shutdown is asked for; what is under way comes to its end.
pub async fn run(client: Client, options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let caches = Caches { pods: Cache::new(workload::workload_of), workloads: Cache::new(inference_service::service_of) };
    let mut tasks = JoinSet::new();
    tasks.spawn(caches.pods.clone().run(client.clone(), shutdown.clone()));
    let nodes: Cache<Node> = Cache::new(|_| None);
    tasks.spawn(nodes.clone().run(client.clone(), shutdown.clone()));
    tasks.spawn(caches.workloads.clone().run(client.clone(), shutdown.clone()));
    caches.pods.filled().await?;
    caches.workloads.filled().await?;
    tasks.spawn(scheduler::run(client.clone(), caches.clone(), nodes, options.clone(), shutdown.clone()));
    tasks.spawn(workload::run(client.clone(), caches.clone(), options.clone(), shutdown.clone()));
    tasks.spawn(training_job::run(client.clone(), caches.clone(), options.clone(), shutdown.clone()));
    tasks.spawn(dev_environment::run(client.clone(), caches.clone(), options.clone(), shutdown.clone()));
    tasks.spawn(inference_service::run(client, caches, options, shutdown));
    tasks.join_all().await;
    Ok(())
}
