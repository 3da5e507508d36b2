//! The pool and the queues that the work goes to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::platform::{Http, Platform};
use crate::target::Target as _;

/// Name of the pool.
pub(super) const POOL: &str = "bench";
/// Where the work is submitted.
pub(super) const NAMESPACE: &str = "bench";
pub(super) const RACK: &str = "topology.fermion.dev/rack";
/// How long making all nodes may take.
const NODES_WAIT: Duration = Duration::from_mins(5);
/// How often is looked whether they are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Equal nodes in racks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nodes {
    pub count: usize,
    pub racks: usize,
    pub cpu: usize,
    pub memory_gib: usize,
    /// How many each takes.
    pub pods: usize,
}

/// Makes the folder and the pool, waits until every node says that it is ready, and answers how
/// long that took.
pub(super) async fn make(target: &Platform, nodes: Nodes) -> anyhow::Result<Duration> {
    target.prepare(NAMESPACE).await?;
    let mut http = target.connect().await?;
    let group = json!({
        "name": "n", "count": nodes.count, "cpu": nodes.cpu.to_string(), "memory": format!("{}Gi", nodes.memory_gib),
        "pods": nodes.pods, "nodesPerRack": nodes.count.div_ceil(nodes.racks),
    });
    let begun = Instant::now();
    let spec = json!({"kind": "Fake", "topologyLevels": [RACK], "fake": {"groups": [group]}});
    create_compute(&mut http, "pools", "Pool", POOL, &spec).await?;
    loop {
        let pool = get(&mut http, &format!("/apis/compute.fermion.dev/v1alpha1/pools/{POOL}")).await?;
        if pool["status"]["nodes"].as_u64() == Some(nodes.count as u64) {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > NODES_WAIT {
            bail!("{} of {} nodes are ready after {} s", pool["status"]["nodes"], nodes.count, NODES_WAIT.as_secs());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Makes a queue of the pool.
pub(super) async fn make_queue(http: &mut Http, name: &str, mut spec: Value) -> anyhow::Result<()> {
    spec["pool"] = POOL.into();
    create_compute(http, "queues", "Queue", name, &spec).await
}

async fn create_compute(http: &mut Http, plural: &str, kind: &str, name: &str, spec: &Value) -> anyhow::Result<()> {
    let body = json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let path = format!("/apis/compute.fermion.dev/v1alpha1/{plural}");
    http.call(Method::POST, &path, body.to_string().into(), StatusCode::CREATED).await.map(drop)
}

/// The object or list at a path.
pub(super) async fn get(http: &mut Http, path: &str) -> anyhow::Result<Value> {
    let body = http.call(Method::GET, path, Bytes::new(), StatusCode::OK).await?;
    serde_json::from_slice(&body).with_context(|| format!("{path} is not JSON"))
}
