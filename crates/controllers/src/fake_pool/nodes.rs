//! Keeps the Node objects of simulated pools.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::compute::Pool;
use fermion_api::compute::pool::{FAKE_NODES_MAX, FakeGroup, PoolKind};
use fermion_api::labels;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::{REQUESTS_AT_ONCE, is_fake};
use crate::Shutdown;
use crate::cache::Cache;
use crate::error::{Error, chain, describe};

/// Shortest time between two looks at all nodes: making thousands of them is thousands of changes.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(500);

pub(super) struct Keeper {
    pub client: Client,
    pub pools: Cache<Pool>,
    pub nodes: Cache<Node>,
}

/// What is done to one node.
#[derive(Debug)]
enum Step {
    Make(Box<Node>),
    /// Writes these labels over those that differ.
    Label(Arc<Node>, BTreeMap<String, String>),
    Report(Arc<Node>, Box<NodeStatus>),
    Remove(Arc<Node>),
}

impl Keeper {
    pub(super) async fn run(self, sweep: Duration, shutdown: Shutdown) {
        // The sums in a pool's status change all the time, and nodes do not follow from them.
        let mut known: HashMap<String, (Option<i64>, bool)> = HashMap::new();
        let pools = self.pools.changes().filter_map(move |change| {
            let pool = change.object;
            let form = (pool.metadata.generation, pool.metadata.deletion_timestamp.is_some());
            let same = !change.gone && known.insert(pool.name_any(), form) == Some(form);
            if change.gone {
                known.remove(&pool.name_any());
            }
            futures::future::ready((!same).then_some(()))
        });
        let mut changes =
            futures::stream::select(pools, self.nodes.changes().filter_map(|change| async move { is_fake(&change.object).then_some(()) }))
                .boxed();
        let filled = futures::future::join(self.pools.filled(), self.nodes.filled());
        tokio::select! {
            () = shutdown.requested() => return,
            (pools, nodes) = filled => {
                if let Err(error) = pools.and(nodes) {
                    tracing::error!(error = chain(&error), "simulated nodes cannot be kept");
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
        let steps = decide(&self.pools.all(), &self.nodes.all(), Timestamp::now());
        let mut answers = futures::stream::iter(steps)
            .take_until(Box::pin(shutdown.requested()))
            .map(|step| self.act(step))
            .buffer_unordered(REQUESTS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => {}
                Err(Error::Conflict { object }) => tracing::debug!(object, "changed meanwhile; looking again"),
                Err(error) => tracing::warn!(error = chain(&error), "cannot keep a simulated node; trying again"),
            }
        }
    }

    async fn act(&self, step: Step) -> Result<(), Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let parameters = PatchParams::default();
        match step {
            Step::Make(node) => match api.create(&PostParams::default(), &node).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                other => other.map(drop).map_err(Error::api("create", describe(&*node))),
            },
            Step::Label(node, labels) => {
                let body = json!({"metadata": {"resourceVersion": node.resource_version(), "labels": labels}});
                let answer = api.patch(&node.name_any(), &parameters, &Patch::Merge(body)).await;
                answer.map(drop).map_err(Error::api("label", describe(&*node)))
            }
            Step::Report(node, status) => {
                let body = json!({"metadata": {"resourceVersion": node.resource_version()}, "status": status});
                let answer = api.patch_status(&node.name_any(), &parameters, &Patch::Merge(body)).await;
                answer.map(drop).map_err(Error::api("write the status of", describe(&*node)))
            }
            Step::Remove(node) => {
                let preconditions = Preconditions { uid: node.metadata.uid.clone(), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
                match api.delete(&node.name_any(), &parameters).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                    other => other.map(drop).map_err(Error::api("delete", describe(&*node))),
                }
            }
        }
    }
}

/// What has to be done so that the nodes are those that the pools ask for.
fn decide(pools: &[Arc<Pool>], nodes: &[Arc<Node>], now: Timestamp) -> Vec<Step> {
    let mut wanted: HashMap<String, (&Pool, &FakeGroup, i32)> = HashMap::new();
    let simulated = pools.iter().filter(|pool| pool.spec.kind == PoolKind::Fake && pool.metadata.deletion_timestamp.is_none());
    for (pool, group) in
        simulated.flat_map(|pool| pool.spec.fake.iter().flat_map(move |fake| fake.groups.iter().map(move |group| (pool, group))))
    {
        let prefix = format!("{}-{}", pool.name_any(), group.name);
        // The bound of the kind holds for what is stored; this one holds whatever is stored.
        for index in 0..group.count.clamp(0, FAKE_NODES_MAX) {
            wanted.insert(format!("{prefix}-{index}"), (pool, group, index));
        }
    }
    let mut steps = Vec::new();
    for node in nodes {
        let name = node.name_any();
        let found = wanted.remove(&name);
        if !is_fake(node) {
            if found.is_some() {
                tracing::warn!(node = name, "a simulated node would have the name of a real one; give its pool or group another name");
            }
            continue;
        }
        match found {
            None if node.metadata.deletion_timestamp.is_none() => steps.push(Step::Remove(Arc::clone(node))),
            None => {}
            Some((pool, group, index)) => {
                let labels = labels_of(pool, group, index, &name);
                let missing: BTreeMap<_, _> = labels.into_iter().filter(|(key, value)| node.labels().get(key) != Some(value)).collect();
                if !missing.is_empty() {
                    steps.push(Step::Label(Arc::clone(node), missing));
                } else if let Some(status) = news(node, group, now) {
                    steps.push(Step::Report(Arc::clone(node), Box::new(status)));
                }
            }
        }
    }
    let mut missing: Vec<_> = wanted.into_iter().collect();
    missing.sort_by(|(_, (_, left, left_index)), (_, (_, right, right_index))| (&left.name, left_index).cmp(&(&right.name, right_index)));
    steps.extend(missing.into_iter().map(|(name, (pool, group, index))| {
        let metadata = ObjectMeta {
            labels: Some(labels_of(pool, group, index, &name)),
            annotations: Some(BTreeMap::from([(labels::FAKE_NODE.to_owned(), pool.name_any())])),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        Step::Make(Box::new(Node { metadata, spec: Some(Default::default()), status: Some(status(&name, group, None, now)) }))
    }));
    steps
}

/// Labels by which the scheduler finds the node and its neighbours.
fn labels_of(pool: &Pool, group: &FakeGroup, index: i32, name: &str) -> BTreeMap<String, String> {
    let pool = pool.name_any();
    let mut all = group.labels.clone();
    for (key, size) in
        [(labels::ZONE, group.nodes_per_zone), (labels::RACK, group.nodes_per_rack), (labels::LINK_DOMAIN, group.nodes_per_link_domain)]
    {
        let word = key.rsplit('/').next().unwrap_or_default();
        all.extend(size.filter(|size| *size > 0).map(|size| (key.to_owned(), format!("{pool}-{}-{word}-{}", group.name, index / size))));
    }
    all.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
    all.insert(labels::POOL.to_owned(), pool);
    all
}

/// What pods may use of each node of the group.
fn amounts(group: &FakeGroup) -> BTreeMap<String, Quantity> {
    let mut amounts = BTreeMap::from([
        ("cpu".to_owned(), group.cpu.clone()),
        ("memory".to_owned(), group.memory.clone()),
        ("pods".to_owned(), Quantity(group.pods.to_string())),
    ]);
    amounts.extend(
        group.accelerators.iter().map(|(model, count)| (format!("{}{model}", labels::ACCELERATOR_PREFIX), Quantity(count.to_string()))),
    );
    amounts
}

/// The status the node should have, if that is not what it says.
fn news(node: &Node, group: &FakeGroup, now: Timestamp) -> Option<NodeStatus> {
    let shown = node.status.as_ref();
    let ready = shown.and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready"));
    let down = node.annotations().get(labels::FAKE_NODE_DOWN);
    let expected = if down.is_some() { "False" } else { "True" };
    let same = ready.is_some_and(|ready| ready.status == expected)
        && shown.is_some_and(|status| status.allocatable.as_ref() == Some(&amounts(group)) && status.capacity == status.allocatable);
    (!same).then(|| status(&node.name_any(), group, down.map(String::as_str), now))
}

/// The status of a node; `down` is why it is not ready.
fn status(name: &str, group: &FakeGroup, down: Option<&str>, now: Timestamp) -> NodeStatus {
    let amounts = amounts(group);
    let ready = NodeCondition {
        type_: "Ready".to_owned(),
        status: if down.is_some() { "False" } else { "True" }.to_owned(),
        reason: Some(if down.is_some() { "FakeNodeDown" } else { "FakeNodeReady" }.to_owned()),
        message: Some(down.unwrap_or("it is simulated: pods on it only say that they run").to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    NodeStatus {
        addresses: Some(vec![NodeAddress { type_: "Hostname".to_owned(), address: name.to_owned() }]),
        capacity: Some(amounts.clone()),
        allocatable: Some(amounts),
        conditions: Some(vec![ready]),
        node_info: Some(NodeSystemInfo {
            architecture: "amd64".to_owned(),
            container_runtime_version: "fake://0".to_owned(),
            kubelet_version: format!("v{}-fermion", env!("CARGO_PKG_VERSION")),
            operating_system: "linux".to_owned(),
            os_image: "simulated".to_owned(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: i32) -> Arc<Pool> {
        let object = json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Pool", "metadata": {"name": "sim"},
            "spec": {"kind": "Fake", "fake": {"groups": [{
                "name": "a", "count": count, "cpu": "96", "memory": "1Ti", "accelerators": {"h100-sxm5-80gb": 8},
                "nodesPerRack": 4, "nodesPerZone": 16, "labels": {"kind": "gpu"},
            }]}},
        });
        Arc::new(serde_json::from_value(object).expect("a pool"))
    }

    fn made(steps: Vec<Step>) -> Vec<Arc<Node>> {
        let node = |step| if let Step::Make(node) = step { Arc::new(*node) } else { panic!("{step:?}") };
        steps.into_iter().map(node).collect()
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_pool_gets_its_nodes_once() {
        let pools = [pool(20)];
        let nodes = made(decide(&pools, &[], NOW));
        assert_eq!(nodes.len(), 20);
        let last = &nodes[19];
        assert_eq!(last.name_any(), "sim-a-19");
        assert_eq!((last.labels()[labels::RACK].as_str(), last.labels()[labels::ZONE].as_str()), ("sim-a-rack-4", "sim-a-zone-1"));
        assert_eq!((last.labels()[labels::POOL].as_str(), last.labels()["kind"].as_str()), ("sim", "gpu"));
        assert!(!last.labels().contains_key(labels::LINK_DOMAIN));
        let status = last.status.as_ref().expect("a status");
        assert_eq!(status.allocatable.as_ref().expect("amounts")["gpu.fermion.dev/h100-sxm5-80gb"].0, "8");
        assert!(decide(&pools, &nodes, NOW).is_empty(), "nothing to write while nothing changes");
    }

    #[test]
    fn nodes_follow_their_pool() {
        let nodes = made(decide(&[pool(3)], &[], NOW));
        let steps = decide(&[pool(2)], &nodes, NOW);
        assert!(matches!(steps.as_slice(), [Step::Remove(node)] if node.name_any() == "sim-a-2"), "{steps:?}");
        assert_eq!(decide(&[], &nodes, NOW).len(), 3, "without the pool all go");

        let mut larger = (*pool(3)).clone();
        larger.spec.fake.as_mut().expect("groups").groups[0].pods = 200;
        assert!(decide(&[Arc::new(larger)], &nodes, NOW).iter().all(|step| matches!(step, Step::Report(..))));

        let mut relabelled = (*pool(3)).clone();
        relabelled.spec.fake.as_mut().expect("groups").groups[0].labels.insert("kind".to_owned(), "cpu".to_owned());
        let steps = decide(&[Arc::new(relabelled)], &nodes, NOW);
        assert!(matches!(&steps[0], Step::Label(_, labels) if labels["kind"] == "cpu" && labels.len() == 1), "{steps:?}");
    }

    #[test]
    fn a_node_can_be_taken_down_and_up_again() {
        let mut node = (*made(decide(&[pool(1)], &[], NOW))[0]).clone();
        node.annotations_mut().insert(labels::FAKE_NODE_DOWN.to_owned(), "its power supply failed".to_owned());
        let steps = decide(&[pool(1)], &[Arc::new(node.clone())], NOW);
        let [Step::Report(_, status)] = steps.as_slice() else { panic!("{steps:?}") };
        let ready = &status.conditions.as_ref().expect("conditions")[0];
        assert_eq!((ready.status.as_str(), ready.message.as_deref()), ("False", Some("its power supply failed")));
        node.status = Some((**status).clone());
        assert!(decide(&[pool(1)], &[Arc::new(node.clone())], NOW).is_empty());
        node.annotations_mut().remove(labels::FAKE_NODE_DOWN);
        assert!(matches!(decide(&[pool(1)], &[Arc::new(node)], NOW).as_slice(), [Step::Report(..)]));
    }

    #[test]
    fn real_nodes_are_left_alone() {
        let mut real = (*made(decide(&[pool(1)], &[], NOW))[0]).clone();
        real.metadata.annotations = None;
        assert!(decide(&[pool(1)], &[Arc::new(real.clone())], NOW).is_empty());
        assert!(decide(&[], &[Arc::new(real)], NOW).is_empty());
    }
}
