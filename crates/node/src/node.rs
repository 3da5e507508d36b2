//! The node as a whole: its tasks, started and stopped together.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::NodeConfig;
use crate::cri::Cri;
use crate::events::Recorder;
use crate::gc::Collector;
use crate::layout::Layout;
use crate::machine::{self, Machine};
use crate::pod::{Registry, watch_pods};
use crate::shared::{Shared, stopped};
use crate::usage::{MEASURE_INTERVAL_MIN, Meter};
use crate::{logs, register, router, stats};

/// How long draining waits for pods to end beyond their own grace.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(10);
/// How often draining looks whether pods are gone.
const DRAIN_INTERVAL: Duration = Duration::from_millis(500);

/// Why a node could not be started or drained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot work.
    #[error("{what} `{value}` must be a plain name of letters, digits, `-`, `.` and `_`")]
    Name {
        /// The setting.
        what: &'static str,
        /// What it was.
        value: String,
    },
    /// The machine could not be described.
    #[error(transparent)]
    Machine(#[from] machine::Error),
    /// The home directory could not be made.
    #[error("cannot make {}", path.display())]
    Home {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The API refused or could not be reached.
    #[error("the API did not take part in draining")]
    Api(#[source] Box<kube::Error>),
    /// Pods did not end in time.
    #[error("{left} pods did not end within {} s", DRAIN_TIMEOUT.as_secs())]
    DrainTimeout {
        /// How many are left.
        left: usize,
    },
}

/// A running node. Dropping it ends its tasks; containers go on either way.
pub struct Node {
    shared: Arc<Shared>,
    sampler: Arc<stats::Sampler>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Node {
    /// Starts the node's tasks. containerd and the API may come up later; the node waits for them.
    pub fn start(config: NodeConfig) -> Result<Self, Error> {
        for (what, value) in [("the node's name", &config.name), ("the pool's name", &config.pool)] {
            if !crate::layout::is_component(value) {
                return Err(Error::Name { what, value: value.clone() });
            }
        }
        let home = std::path::absolute(&config.home)
            .and_then(|home| std::fs::create_dir_all(&home).map(|()| home))
            .map_err(|source| Error::Home { path: config.home.clone(), source })?;
        let disk_bytes = crate::usage::disk_fill(&home).map_or(0, |(_, bytes)| bytes);
        let machine = Machine::read(config.reserved, config.limits.pods_max, disk_bytes)?;
        let shared = Arc::new(Shared {
            cri: Cri::new(&config.runtime_socket),
            events: Recorder::start(config.client.clone(), config.name.clone()),
            layout: Layout::new(&home),
            name: config.name,
            pool: config.pool,
            address: config.address,
            client: config.client,
            images: config.images,
            access: config.access,
            start_helper: config.start_helper,
            limits: config.limits,
            cgroup_parent: config.cgroup_parent,
            machine,
            pods: Registry::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_pods(Arc::clone(&shared), stopping.clone()));
        tasks.spawn(register::keep_status(Arc::clone(&shared), stopping.clone()));
        tasks.spawn(register::keep_lease(Arc::clone(&shared), stopping.clone()));
        tasks.spawn(keep_house(Arc::clone(&shared), stopping));
        Ok(Self { shared, sampler: Arc::default(), stop, tasks })
    }

    /// The node's name in the API.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Logs, exec, attach, port-forward, files and statistics, for the apiserver to forward to
    /// after it has checked who asks.
    pub fn router(&self) -> axum::Router {
        router::router(Arc::clone(&self.shared), Arc::clone(&self.sampler))
    }

    /// Ends the node's tasks. Containers go on; the next start finds them again.
    pub async fn stop(mut self) {
        // No receiver means that every task has ended already.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Takes no more pods, deletes the ones that are here, and waits until they are gone.
    pub async fn drain(&self) -> Result<(), Error> {
        let api_error = |error| Error::Api(Box::new(error));
        let nodes: Api<NodeObject> = Api::all(self.shared.client.clone());
        let patch = serde_json::json!({ "spec": { "unschedulable": true } });
        nodes.patch(self.name(), &PatchParams::default(), &Patch::Merge(patch)).await.map_err(api_error)?;
        let all: Api<Pod> = Api::all(self.shared.client.clone());
        let here = ListParams::default().fields(&format!("spec.nodeName={}", self.name()));
        let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        loop {
            let pods = all.list(&here).await.map_err(api_error)?.items;
            if pods.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Error::DrainTimeout { left: pods.len() });
            }
            for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                let (Some(name), Some(namespace)) = (&pod.metadata.name, &pod.metadata.namespace) else { continue };
                let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), namespace);
                match api.delete(name, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    other => other.map(drop).map_err(api_error)?,
                }
            }
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }
}

/// Rotates logs, measures volumes and clears away, again and again.
async fn keep_house(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut meter = Meter::default();
    let mut collector = Collector::default();
    let pause = shared.limits.housekeeping;
    let mut collect_at = tokio::time::Instant::now() + pause;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause.min(MEASURE_INTERVAL_MIN)) => {}
            () = stopped(&mut stop) => return,
        }
        logs::rotate::rotate_all(&shared).await;
        meter.measure(&shared).await;
        if tokio::time::Instant::now() >= collect_at {
            collector.collect(&shared).await;
            collect_at = tokio::time::Instant::now() + pause;
        }
    }
}
