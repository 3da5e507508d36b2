//! Partition controller: labels nodes with the partition and the resource group that they are in, and
//! counts them.
//!
//! The labels belong to this controller by server-side apply: what somebody else writes there is put
//! right, and a node that leaves loses them.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use fermion_api::compute::{Partition, ResourceGroup};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use self::decide::{Decision, Labels};
use crate::cache::Cache;
use crate::error::{Error, chain, describe};
use crate::{Options, Shutdown, status};

/// Who owns the labels.
const FIELD_MANAGER: &str = "fermion-partitions";
/// How many requests are under way at the same time.
const REQUESTS_AT_ONCE: usize = 32;
/// Shortest time between two looks: putting thousands of nodes somewhere is thousands of changes.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(200);

struct Controller {
    client: Client,
    nodes: Cache<Node>,
    partitions: Cache<Partition>,
    groups: Cache<ResourceGroup>,
}

/// Runs until shutdown.
pub(crate) async fn run(client: Client, nodes: Cache<Node>, options: Options, shutdown: Shutdown) {
    let partitions: Cache<Partition> = Cache::new(|_| None);
    let groups: Cache<ResourceGroup> = Cache::new(|_| None);
    let watches = futures::future::join(
        partitions.clone().run(client.clone(), shutdown.clone()),
        groups.clone().run(client.clone(), shutdown.clone()),
    );
    let controller = Controller { client, nodes, partitions, groups };
    futures::future::join(watches, controller.run(options.sweep, shutdown)).await;
}

impl Controller {
    async fn run(self, sweep: Duration, shutdown: Shutdown) {
        let mut changes = futures::stream::select_all([
            self.partitions.changes().map(|_| ()).boxed(),
            self.groups.changes().map(|_| ()).boxed(),
            self.nodes.changes().map(|_| ()).boxed(),
        ]);
        let filled = futures::future::join3(self.partitions.filled(), self.groups.filled(), self.nodes.filled());
        tokio::select! {
            () = shutdown.requested() => return,
            (partitions, groups, nodes) = filled => {
                if let Err(error) = partitions.and(groups).and(nodes) {
                    tracing::error!(error = chain(&error), "nodes cannot be labelled with their partitions");
                    return;
                }
            }
        }
        while !shutdown.is_requested() {
            self.look(&shutdown).await;
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(LOOK_INTERVAL_MIN) => {}
            }
            tokio::select! {
                () = shutdown.requested() => return,
                _ = changes.next() => {}
                () = tokio::time::sleep(sweep) => {}
            }
            while let Some(Some(())) = changes.next().now_or_never() {}
        }
    }

    async fn look(&self, shutdown: &Shutdown) {
        let (partitions, groups, nodes) = (self.partitions.all(), self.groups.all(), self.nodes.all());
        let Decision { labels, partitions, groups } = decide::decide(&partitions, &groups, &nodes, jiff::Timestamp::now());
        let client = self.client.clone();
        let send = |(node, labels): (Arc<Node>, Labels)| label(client.clone(), node, labels);
        let requests = futures::stream::iter(labels).take_until(Box::pin(shutdown.requested()));
        let mut answers = requests.map(send).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            log(answer);
        }
        let api: Api<Partition> = Api::all(self.client.clone());
        for (partition, new) in partitions {
            log(status::write(&api, &*partition, partition.status.as_ref(), &new).await.map(drop));
        }
        let api: Api<ResourceGroup> = Api::all(self.client.clone());
        for (group, new) in groups {
            log(status::write(&api, &*group, group.status.as_ref(), &new).await.map(drop));
        }
    }
}

async fn label(client: Client, node: Arc<Node>, labels: Labels) -> Result<(), Error> {
    let api: Api<Node> = Api::all(client);
    // With the uid, a namesake made in the meantime is not made by mistake or labelled.
    let metadata = json!({"name": node.name_any(), "uid": node.metadata.uid, "labels": labels});
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let answer = api.patch(&node.name_any(), &parameters, &Patch::Apply(body)).await;
    answer.map(drop).map_err(Error::api("label", describe(&*node)))
}

fn log(answer: Result<(), Error>) {
    match answer {
        Ok(()) => {}
        Err(Error::Conflict { object }) => tracing::debug!(object, "changed meanwhile; looking again"),
        Err(Error::Api { source: kube::Error::Api(status), object, .. }) if status.is_not_found() => tracing::debug!(object, "is gone"),
        Err(error) => tracing::warn!(error = chain(&error), "cannot put a node where it belongs; trying again"),
    }
}
