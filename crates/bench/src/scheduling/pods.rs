//! Pods that are submitted as fast as the server takes them, and the time until each is bound.
//!
//! The shapes are those of kube-scheduler's performance tests: `SchedulingBasic` (nodes of 4
//! cores, 32 GiB and 110 pods; pods of 100 thousandths of a core and 500 MiB), and gangs that must
//! stand in one of 50 racks (kubernetes#139859).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::CONNECTIONS;
use super::cluster::{self, NAMESPACE, Nodes, RACK};
use super::observer::Observer;
use crate::figures::{Latencies, Value, milliseconds};
use crate::load::{Load, Outcome};
use crate::platform::{Http, Platform};
use crate::target::Target as _;

const RACKS: usize = 50;
const CPU: usize = 4;
const MEMORY_GIB: usize = 32;
const PODS_PER_NODE: usize = 110;
/// What a pod asks for, in thousandths of a core and MiB.
const POD_CPU: usize = 100;
const POD_MEMORY_MIB: usize = 500;
/// Objects in a page when all is checked in the end.
const PAGE: usize = 5_000;

/// Submits so many pods in gangs of a size, 1 for pods of their own.
pub(super) async fn run(target: &Platform, gang: usize, count: usize, pods: usize) -> anyhow::Result<Vec<Value>> {
    ensure!(pods.is_multiple_of(gang) && pods > 0, "{pods} pods are no number of gangs of {gang}");
    let nodes = Nodes { count, racks: RACKS.min(count), cpu: CPU, memory_gib: MEMORY_GIB, pods: PODS_PER_NODE };
    let nodes_after = cluster::make(target, nodes).await?;
    eprintln!("{count} nodes after {:.1} s", nodes_after.as_secs_f64());
    let mut http = target.connect().await?;
    cluster::make_queue(&mut http, "bench", json!({"default": true})).await?;

    let collection = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let observer = Observer::start(target, &collection, "spec.nodeName!=", pods).await?;
    let mut load = Load::open(target, CONNECTIONS).await?;
    let mut submitted = Outcome::default();
    let sent: Arc<Vec<OnceLock<Instant>>> = Arc::new((0..pods / gang).map(|_| OnceLock::new()).collect());
    let moments = sent.clone();
    let submit = move |mut http: Http, number: usize| {
        let moments = moments.clone();
        async move {
            let (path, body) = if gang == 1 { pod(number) } else { workload(number, gang) };
            moments[number].get_or_init(Instant::now);
            http.call(Method::POST, &path, body, StatusCode::CREATED).await?;
            Ok(http)
        }
    };
    let begun = Instant::now();
    load.round(pods / gang, &mut submitted, submit).await?;
    let submitted_after = begun.elapsed();
    let bound_by_then = observer.count();
    eprintln!("submitted after {:.1} s, {bound_by_then} of {pods} bound by then", submitted_after.as_secs_f64());
    let bound = observer.all().await?;
    let last = bound.values().max().context("some pod was bound")?.saturating_duration_since(begun);
    eprintln!("bound after {:.1} s", last.as_secs_f64());
    drop(observer);
    let waits = waits(&bound, &sent, gang)?;
    // The server has closed the first connection if it was idle for minutes.
    let mut http = target.connect().await?;
    check(&mut http, &collection, (count, pods, gang)).await?;
    let number = |metric, unit, number| Value { metric, unit, number };
    Ok(vec![
        number("nodes ready after", "s", nodes_after.as_secs_f64()),
        number("bindings", "1/s", pods as f64 / last.as_secs_f64()),
        number("submissions", "1/s", submitted.per_second()),
        number("all submitted after", "s", submitted_after.as_secs_f64()),
        number("all bound after", "s", last.as_secs_f64()),
        number("submitted to bound, p50", "ms", milliseconds(waits.at(0.5))),
        number("submitted to bound, p99", "ms", milliseconds(waits.at(0.99))),
    ])
}

fn requests() -> Json {
    json!({"containers": [{"name": "main", "image": "fermion.dev/base:latest", "resources": {
        "requests": {"cpu": format!("{POD_CPU}m"), "memory": format!("{POD_MEMORY_MIB}Mi")},
    }}]})
}

fn pod(number: usize) -> (String, Bytes) {
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{number:06}")}, "spec": requests()});
    (format!("/api/v1/namespaces/{NAMESPACE}/pods"), body.to_string().into())
}

fn workload(number: usize, gang: usize) -> (String, Bytes) {
    let set = json!({"name": "worker", "replicas": gang, "template": {"spec": requests()}});
    let body = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": format!("gang-{number:06}")},
        "spec": {"queue": "bench", "podSets": [set], "scheduling": {"topology": {"required": RACK}}},
    });
    (format!("/apis/ai.fermion.dev/v1alpha1/namespaces/{NAMESPACE}/workloads"), body.to_string().into())
}

/// From the submission of what a pod belongs to until it was seen bound.
fn waits(bound: &HashMap<String, Instant>, sent: &[OnceLock<Instant>], gang: usize) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    for (name, at) in bound {
        let number = if gang == 1 { name.strip_prefix("pod-") } else { name.strip_prefix("gang-").and_then(|rest| rest.split('-').next()) };
        let number: usize = number.and_then(|number| number.parse().ok()).with_context(|| format!("{name} was not submitted"))?;
        let sent = sent.get(number).and_then(|sent| sent.get()).with_context(|| format!("{name} was not submitted"))?;
        latencies.push(at.saturating_duration_since(*sent));
    }
    Ok(latencies)
}

/// Holds what the server says in the end against what was asked for: every pod has a node, no
/// node has more than it can take, and no gang stands in two racks.
async fn check(http: &mut Http, collection: &str, (nodes, pods, gang): (usize, usize, usize)) -> anyhow::Result<()> {
    let nodes_per_rack = nodes.div_ceil(RACKS.min(nodes));
    let per_node_max = (CPU * 1000 / POD_CPU).min(MEMORY_GIB * 1024 / POD_MEMORY_MIB).min(PODS_PER_NODE);
    let (mut on_node, mut racks): (HashMap<String, usize>, HashMap<String, usize>) = (HashMap::new(), HashMap::new());
    let mut more = String::new();
    let mut count = 0;
    loop {
        let list = cluster::get(http, &format!("{collection}?limit={PAGE}{more}")).await?;
        for pod in list["items"].as_array().context("a list has items")? {
            let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
            let node = pod["spec"]["nodeName"].as_str().with_context(|| format!("{name} has no node"))?;
            *on_node.entry(node.to_owned()).or_default() += 1;
            count += 1;
            if gang > 1 {
                let gang = name.split("-worker-").next().unwrap_or_default();
                let index: usize = node.rsplit('-').next().and_then(|index| index.parse().ok()).context("nodes are numbered")?;
                let rack = *racks.entry(gang.to_owned()).or_insert(index / nodes_per_rack);
                ensure!(rack == index / nodes_per_rack, "{gang} stands in two racks");
            }
        }
        match list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => more = format!("&continue={token}"),
            None => break,
        }
    }
    ensure!(count == pods, "there are {count} of {pods} pods");
    let most = on_node.values().max().copied().unwrap_or_default();
    ensure!(most <= per_node_max, "a node has {most} pods, and room for {per_node_max}");
    Ok(())
}
