//! What every part of the node works with.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::config::Limits;
use crate::cri::Cri;
use crate::events::Recorder;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::official::ImageProvider;
use crate::pod::env::{Needed, Sources};
use crate::pod::{HostAccess, Registry};
use crate::start::StartHelper;

/// How many objects of one pod are fetched at once.
const FETCHES_AT_ONCE: usize = 8;

/// Handles and settings; one per node.
pub(crate) struct Shared {
    pub name: String,
    pub pool: String,
    /// The address of this machine.
    pub address: String,
    pub client: Client,
    pub cri: Cri,
    pub images: Arc<dyn ImageProvider>,
    pub layout: Layout,
    pub access: HostAccess,
    pub start_helper: Option<StartHelper>,
    pub limits: Limits,
    pub cgroup_parent: String,
    pub machine: Machine,
    pub events: Recorder,
    pub pods: Registry,
}

impl Shared {
    /// The cgroup of a pod.
    pub(crate) fn pod_cgroup(&self, uid: &str) -> String {
        format!("{}/pod{uid}", self.cgroup_parent)
    }

    /// The ConfigMaps and Secrets asked for, as they are now.
    pub(crate) async fn fetch(&self, namespace: &str, needed: Needed) -> Result<Sources, Box<kube::Error>> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let config_maps = get_each(&config_maps, needed.config_maps);
        let secrets = get_each(&secrets, needed.secrets);
        let (config_maps, secrets) = futures::join!(config_maps, secrets);
        Ok(Sources { config_maps: config_maps?, secrets: secrets? })
    }
}

/// Waits until the node is told to stop, or its handle is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn get_each<K>(api: &Api<K>, names: BTreeSet<String>) -> Result<std::collections::BTreeMap<String, Option<K>>, Box<kube::Error>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut gets = stream::iter(names)
        .map(|name| async move {
            let found = api.get_opt(&name).await;
            (name, found)
        })
        .buffer_unordered(FETCHES_AT_ONCE);
    let mut found = std::collections::BTreeMap::new();
    while let Some((name, object)) = gets.next().await {
        found.insert(name, object.map_err(Box::new)?);
    }
    Ok(found)
}
