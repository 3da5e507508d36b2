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
mod catalogue;
mod children;
mod counts;
mod dev_environment;
mod entitlement;
mod error;
mod events;
mod fake_pool;
mod garbage_collector;
mod inference_service;
mod kinds;
mod namespace;
mod node_lifecycle;
mod owner;
mod partition;
mod quarantine;
mod quota;
mod reconciling;
mod reviewer;
mod scheduler;
mod service;
mod shutdown;
mod status;
mod training_job;
mod trouble;
mod workload;

use std::collections::BTreeSet;
use std::time::Duration;

use fermion_api::ai::Workload;
use fermion_api::compute::AcceleratorModel;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use tokio::task::JoinSet;

use crate::cache::Cache;
pub use crate::counts::Counts;
pub use crate::error::Error;
pub use crate::reviewer::{Reviewer, Unanswered};
pub use crate::shutdown::Shutdown;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often every object is looked at without a change.
    pub sweep: Duration,
    /// How often the metrics of a running job are read.
    pub metrics_interval: Duration,
    /// How long a node may be silent before it is not ready.
    pub node_silent_after: Duration,
    /// How long a node may be silent before its pods count as lost.
    pub node_lost_after: Duration,
    /// Where it is counted what went wrong.
    pub counts: Counts,
    /// Who is told what the scheduler knows, to say what would become of work.
    pub reviewer: Option<Reviewer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sweep: Duration::from_secs(30),
            metrics_interval: Duration::from_secs(5),
            node_silent_after: Duration::from_secs(40),
            node_lost_after: Duration::from_mins(5),
            counts: Counts::default(),
            reviewer: None,
        }
    }
}

/// Copies of what several controllers read.
#[derive(Clone)]
pub(crate) struct Caches {
    pub pods: Cache<Pod>,
    pub workloads: Cache<Workload>,
    pub models: Cache<AcceleratorModel>,
}

/// How long the parts have to come to an end once shutdown is asked for.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What runs until shutdown, by name.
struct Parts {
    tasks: JoinSet<&'static str>,
    running: BTreeSet<&'static str>,
}

impl Parts {
    fn start(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.running.insert(name);
        self.tasks.spawn(async move {
            part.await;
            name
        });
    }

    /// Waits for shutdown and for every part to end.
    async fn end(mut self, shutdown: Shutdown) -> Result<(), Error> {
        tokio::select! {
            () = shutdown.requested() => {}
            Some(ended) = self.tasks.join_next() => {
                let story = match ended {
                    // It may have heard of the shutdown first.
                    Ok(name) if shutdown.is_requested() => {
                        self.running.remove(name);
                        None
                    }
                    Ok(name) => Some(format!("{name} ended without being asked to")),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(story) = story {
                    return Err(Error::PartEnded { story });
                }
            }
        }
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok(name) => _ = self.running.remove(name),
                    Err(error) => return Err(Error::PartEnded { story: error.to_string() }),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(STOP_TIMEOUT, all).await {
            Ok(answer) => answer,
            Err(_) => {
                // Nothing is lost by this: what they were about to do is done at the next start.
                tracing::warn!(parts = ?self.running, "parts of the controllers did not end in time and are cut off");
                Ok(())
            }
        }
    }
}

/// Runs every controller until shutdown is asked for; what is under way comes to its end.
///
/// The client needs every right: this is the platform itself. When one part stops although
/// nobody asked for it, all stop and this answers why, so that the caller can start over.
///
/// # Errors
/// When a part ended by itself.
pub async fn run(client: Client, options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let caches = Caches {
        pods: Cache::new(workload::workload_of),
        workloads: Cache::new(inference_service::service_of),
        models: Cache::new(|_| None),
    };
    let nodes: Cache<Node> = Cache::new(|_| None);
    let of_services = service::Caches { pods: caches.pods.clone(), services: Cache::new(|_| None), endpoints: Cache::new(|_| None) };
    let mut parts = Parts { tasks: JoinSet::new(), running: BTreeSet::new() };
    let new = || (client.clone(), caches.clone(), options.clone(), shutdown.clone());

    parts.start("pod cache", caches.pods.clone().run(client.clone(), shutdown.clone()));
    parts.start("workload cache", caches.workloads.clone().run(client.clone(), shutdown.clone()));
    parts.start("cache of models", caches.models.clone().run(client.clone(), shutdown.clone()));
    parts.start("node cache", nodes.clone().run(client.clone(), shutdown.clone()));
    parts.start("service cache", of_services.services.clone().run(client.clone(), shutdown.clone()));
    parts.start("endpoints cache", of_services.endpoints.clone().run(client.clone(), shutdown.clone()));
    parts.start("namespaces", namespace::run(client.clone(), options.clone(), shutdown.clone()));
    parts.start("garbage collector", garbage_collector::run(client.clone(), options.clone(), shutdown.clone()));
    parts.start("models of accelerators", catalogue::run(client.clone(), shutdown.clone()));
    parts.start("entitlements", entitlement::run(client.clone(), options.clone(), shutdown.clone()));
    parts.start("partitions", partition::run(client.clone(), nodes.clone(), options.clone(), shutdown.clone()));
    // What decides from the caches begins when they are full.
    let filled = async {
        caches.pods.filled().await?;
        caches.workloads.filled().await?;
        caches.models.filled().await?;
        of_services.services.filled().await?;
        of_services.endpoints.filled().await
    };
    tokio::select! {
        () = shutdown.requested() => {}
        filled = filled => {
            filled?;
            let (client, caches, options, shutdown) = new();
            parts.start("node lifecycle", node_lifecycle::run(client, caches, nodes.clone(), options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("quarantine", quarantine::run(client, caches, nodes.clone(), options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("quotas", quota::run(client, caches, options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("simulated pools", fake_pool::run(client, caches, nodes.clone(), options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("scheduler", scheduler::run(client, caches, nodes, options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("workloads", workload::run(client, caches, options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("training jobs", training_job::run(client, caches, options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("development environments", dev_environment::run(client, caches, options, shutdown));
            let (client, caches, options, shutdown) = new();
            parts.start("inference services", inference_service::run(client, caches, options, shutdown));
            let (client, _, options, shutdown) = new();
            parts.start("services", service::run(client, of_services.clone(), options, shutdown));
        }
    }
    parts.end(shutdown).await
}
