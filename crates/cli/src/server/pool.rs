//! The local pool: containerd, the official images and the node, started beside the API and
//! tried again when the machine is not ready for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fermion_api::compute::pool::LOCAL;
use fermion_apiserver::{Api, Identity};
use fermion_node::image::{Builder, BuilderConfig};
use fermion_node::runtime::{Runtime, RuntimeConfig};
use fermion_node::{Node, NodeConfig, OfficialImages};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Shortest and longest pause before another try.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// The local pool of this server.
pub(super) struct LocalPool {
    task: JoinHandle<()>,
}

impl LocalPool {
    /// Starts it in the background: the API answers meanwhile.
    pub(super) fn start(api: &Arc<Api>, home: &Path, stopping: watch::Receiver<bool>) -> Self {
        let (api, home) = (api.clone(), home.to_owned());
        Self { task: tokio::spawn(run(api, home, stopping)) }
    }

    /// Waits until the node has let go of its pods. Containers go on.
    pub(super) async fn stop(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the node failed while it stopped");
        }
    }
}

async fn run(api: Arc<Api>, home: PathBuf, mut stopping: watch::Receiver<bool>) {
    let mut pause = *RETRY.start();
    let (runtime, node) = loop {
        match begin(&api, &home).await {
            Ok(started) => break started,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, retry_in_s = pause.as_secs(), "this machine cannot run pods now");
                let client = api.client(Identity::component("node"));
                if let Err(refused) = fermion_node::report_trouble(client, LOCAL, LOCAL, &error).await {
                    tracing::warn!(error = %refused, "and its node cannot say so");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(*RETRY.end()),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    };
    drop(stopping.wait_for(|stop| *stop).await);
    node.stop().await;
    drop(runtime);
}

async fn begin(api: &Arc<Api>, home: &Path) -> anyhow::Result<(Runtime, Node)> {
    let runtime = Runtime::start(RuntimeConfig::new(home)).await.context("containerd did not start")?;
    let client = api.client(Identity::component("node"));
    let builder = Builder::new(&BuilderConfig::new(home), runtime.cri()).context("the builder of official images did not start")?;
    let images = OfficialImages::new(builder, client.clone());
    images.publish().await.context("the official images could not be listed in the API")?;
    let mut config = NodeConfig::new(home, client, &runtime.socket(), Arc::new(images));
    runtime.cgroup_parent().clone_into(&mut config.cgroup_parent);
    config.start_helper = Some(super::start_container::helper());
    let node = Node::start(config).context("the node did not start")?;
    api.attach_node(node.name(), node.router());
    Ok((runtime, node))
}
