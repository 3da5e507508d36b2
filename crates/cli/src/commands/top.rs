//! `fermion top`: what nodes and pods use now.

use std::collections::BTreeMap;

use fermion_api::quantity;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::{Deserialize, Serialize};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output::{self, Cell, Format, Style, Table, Tone};

/// Above this share of what a node has, a value is shown as a warning.
const FULL_PERCENT: i128 = 90;

#[derive(Debug, clap::Args)]
pub(crate) struct TopArguments {
    /// Pods of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// `metrics.k8s.io/v1beta1` lists, as far as they are shown.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct NodeMetrics {
    metadata: Metadata,
    usage: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct PodMetrics {
    metadata: Metadata,
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
}

pub(crate) async fn run(arguments: TopArguments, session: &Session) -> Outcome<Exit> {
    let nodes: List<NodeMetrics> = fetch(session, "/apis/metrics.k8s.io/v1beta1/nodes", "nodes").await?;
    let place = if arguments.all_namespaces { String::new() } else { format!("namespaces/{}/", session.namespace) };
    let mut pods: List<PodMetrics> = fetch(session, &format!("/apis/metrics.k8s.io/v1beta1/{place}pods"), "pods").await?;
    if matches!(arguments.output, Format::Json | Format::Yaml) {
        output::structured(arguments.output, &serde_json::json!({"nodes": nodes.items, "pods": pods.items}))?;
        return Ok(Exit::Done);
    }
    let api: Api<Node> = Api::all(session.client.clone());
    let known = api.list(&ListParams::default()).await.attempt(|| "cannot list the nodes".to_owned())?;
    let style = Style::of_stdout();
    output::write(&node_table(&nodes.items, &known.items).render(style))?;
    output::line("")?;
    pods.items.sort_by(|one, other| (&one.metadata.namespace, &one.metadata.name).cmp(&(&other.metadata.namespace, &other.metadata.name)));
    let table = pod_table(&pods.items, arguments.all_namespaces);
    if table.is_empty() {
        output::note("no pod runs here; -A looks in every namespace");
        return Ok(Exit::Done);
    }
    output::write(&table.render(style))?;
    Ok(Exit::Done)
}

async fn fetch<T: serde::de::DeserializeOwned>(session: &Session, path: &str, of: &str) -> Outcome<T> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| Failure::new("cannot write the request").because(error))?;
    session.client.request(request).await.attempt(|| format!("cannot read what the {of} use"))
}

fn amount(usage: &BTreeMap<String, String>, resource: &str) -> i128 {
    usage.get(resource).and_then(|text| quantity::parse(text).ok()).unwrap_or(0)
}

/// An amount as people compare them: thousandths of a core, mebibytes.
fn shown(resource: &str, milli: i128) -> String {
    if resource == "memory" { format!("{}Mi", (milli / 1000) >> 20) } else { format!("{milli}m") }
}

fn node_table(metrics: &[NodeMetrics], nodes: &[Node]) -> Table {
    let mut table = Table::new(["NODE", "CPU", "CPU%", "MEMORY", "MEMORY%"]).right([1, 2, 3, 4]);
    for metric in metrics {
        let allocatable =
            nodes.iter().find(|node| node.name_any() == metric.metadata.name).and_then(|node| node.status.as_ref()?.allocatable.as_ref());
        let mut row = vec![Cell::new(&metric.metadata.name)];
        for resource in ["cpu", "memory"] {
            let used = amount(&metric.usage, resource);
            row.push(Cell::new(shown(resource, used)));
            let whole = allocatable.and_then(|all| all.get(resource)).map_or(0, quantity::milli);
            row.push(if whole > 0 {
                let percent = used * 100 / whole;
                Cell::toned(format!("{percent}%"), if percent >= FULL_PERCENT { Tone::Bad } else { Tone::Usual })
            } else {
                Cell::new("")
            });
        }
        table.push(row);
    }
    table
}

fn pod_table(metrics: &[PodMetrics], namespaces: bool) -> Table {
    let mut table = if namespaces {
        Table::new(["NAMESPACE", "POD", "CPU", "MEMORY"]).right([2, 3])
    } else {
        Table::new(["POD", "CPU", "MEMORY"]).right([1, 2])
    };
    for metric in metrics {
        let sum = |resource: &str| metric.containers.iter().map(|container| amount(&container.usage, resource)).sum::<i128>();
        let mut row =
            vec![Cell::new(&metric.metadata.name), Cell::new(shown("cpu", sum("cpu"))), Cell::new(shown("memory", sum("memory")))];
        if namespaces {
            row.insert(0, Cell::new(&metric.metadata.namespace));
        }
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_set_against_what_a_node_has() {
        let metrics: List<NodeMetrics> = serde_json::from_value(serde_json::json!({"items": [
            {"metadata": {"name": "local"}, "usage": {"cpu": "1500000000n", "memory": "1048576Ki"}},
            {"metadata": {"name": "unknown"}, "usage": {"cpu": "1"}},
        ]}))
        .expect("metrics");
        let node: Node = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "local"}, "status": {"allocatable": {"cpu": "1600m", "memory": "4Gi"}},
        }))
        .expect("a node");
        insta::assert_snapshot!(node_table(&metrics.items, &[node]).render(Style::Plain));
    }

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let metrics: List<PodMetrics> = serde_json::from_value(serde_json::json!({"items": [
            {"metadata": {"name": "digits-0", "namespace": "examples"}, "containers": [
                {"name": "a", "usage": {"cpu": "250m", "memory": "100Mi"}},
                {"name": "b", "usage": {"cpu": "1m", "memory": "28Mi"}},
            ]},
        ]}))
        .expect("metrics");
        insta::assert_snapshot!(pod_table(&metrics.items, true).render(Style::Plain));
    }
}
