//! What the gateway knows of environments, services and their pods: kept by watches, so
//! that a request costs no call to the API.
//!
//! Start with [`Directory`]. When the API is away, the last known state goes on serving.

mod pods;
mod replica;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fermion_api::ai::dev_environment::{self, App, DevEnvironment};
use fermion_api::ai::inference_service::{self, InferenceService};
use fermion_api::{conditions, labels};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::pods::Pods;
pub(crate) use self::replica::{Lease, Load, Replica};
use self::table::{Feed, Table};
use crate::address::Key;

/// How often connections nobody used are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What is kept of a DevEnvironment.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) suspended: bool,
    pub(crate) phase: dev_environment::Phase,
    /// The Ready condition's message: why it is not running.
    pub(crate) why: Option<String>,
    pub(crate) pod_name: Option<String>,
    pub(crate) apps: Vec<App>,
}

impl From<DevEnvironment> for Environment {
    fn from(object: DevEnvironment) -> Self {
        let status = object.status.unwrap_or_default();
        Self {
            suspended: object.spec.suspend,
            phase: status.phase,
            why: conditions::find(&status.conditions, "Ready").map(|ready| ready.message.clone()).filter(|message| !message.is_empty()),
            pod_name: status.pod_name,
            apps: object.spec.apps,
        }
    }
}

/// What is kept of an InferenceService.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) suspended: bool,
    pub(crate) phase: inference_service::Phase,
    pub(crate) why: Option<String>,
    pub(crate) replicas: i32,
    pub(crate) port: i32,
}

impl From<InferenceService> for Service {
    fn from(object: InferenceService) -> Self {
        let status = object.status.unwrap_or_default();
        Self {
            suspended: object.spec.suspend,
            phase: status.phase,
            why: conditions::find(&status.conditions, "Ready").map(|ready| ready.message.clone()).filter(|message| !message.is_empty()),
            replicas: object.spec.replicas,
            port: object.spec.port,
        }
    }
}

/// The watched state.
pub(crate) struct Directory {
    pub(crate) environments: Arc<Table<Environment>>,
    pub(crate) services: Arc<Table<Service>>,
    pub(crate) environment_pods: Arc<Pods>,
    pub(crate) service_pods: Arc<Pods>,
    synced: Vec<watch::Receiver<bool>>,
    /// Tasks that end with the directory.
    watches: Vec<JoinHandle<()>>,
}

impl Directory {
    /// Starts the watches. They end when the directory is dropped.
    pub(crate) fn watch(client: &Client, loopback_pods: bool) -> Self {
        let mut directory = Self {
            environments: Arc::new(Table::default()),
            services: Arc::new(Table::default()),
            environment_pods: Arc::new(Pods::new(labels::DEV_ENVIRONMENT, loopback_pods)),
            service_pods: Arc::new(Pods::new(labels::INFERENCE_SERVICE, loopback_pods)),
            synced: Vec::new(),
            watches: Vec::new(),
        };
        let everything = watcher::Config::default();
        directory.follow::<DevEnvironment, _>(client, everything.clone(), Arc::clone(&directory.environments));
        directory.follow::<InferenceService, _>(client, everything.clone(), Arc::clone(&directory.services));
        // The name of a label alone is a selector: pods that have it, whatever its value.
        directory.follow::<Pod, _>(client, everything.clone().labels(labels::DEV_ENVIRONMENT), Arc::clone(&directory.environment_pods));
        directory.follow::<Pod, _>(client, everything.labels(labels::INFERENCE_SERVICE), Arc::clone(&directory.service_pods));
        let pods = [Arc::clone(&directory.environment_pods), Arc::clone(&directory.service_pods)];
        directory.watches.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                ticks.tick().await;
                for pods in &pods {
                    pods.sweep(Instant::now());
                }
            }
        }));
        directory
    }

    /// Whether everything was listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.iter().all(|synced| *synced.borrow())
    }

    /// Waits until everything was listed once.
    pub(crate) async fn synced(&self) {
        for synced in &self.synced {
            // The sender lives as long as its watch, and that as long as this directory.
            let _ended = synced.clone().wait_for(|synced| *synced).await.is_err();
        }
    }

    fn follow<K, F>(&mut self, client: &Client, config: watcher::Config, feed: Arc<F>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
        F: Feed<K>,
    {
        let api = Api::<K>::all(client.clone());
        let (announce, synced) = watch::channel(false);
        self.synced.push(synced);
        self.watches.push(tokio::spawn(follow(api, config, feed, announce)));
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

/// Feeds a watch's events into a table, for ever. kube's watcher reconnects with back-off
/// and lists anew when it has missed something.
async fn follow<K, F>(api: Api<K>, config: watcher::Config, feed: Arc<F>, synced: watch::Sender<bool>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    F: Feed<K>,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    // A new list replaces the table at once when it is complete, so that requests never
    // see half of it.
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => listed.push(object),
            Ok(watcher::Event::InitDone) => {
                feed.replace(std::mem::take(&mut listed));
                synced.send_replace(true);
            }
            Ok(watcher::Event::Apply(object)) => feed.apply(object),
            Ok(watcher::Event::Delete(object)) => feed.delete(&object),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, kind = %K::kind(&()), "a watch was interrupted; it starts again");
            }
        }
    }
}

/// The key of an object the API sent; those always have both names.
fn key_of<K: kube::Resource>(object: &K) -> Option<Key> {
    let metadata = object.meta();
    Some(Key::new(metadata.namespace.clone()?, metadata.name.clone()?))
}
