//! `fermion status`: the platform at a glance.

use std::collections::BTreeMap;

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Phase;
use fermion_api::compute::{Pool, Queue};
use fermion_api::{labels, quantity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Outcome};
use crate::output::{self, Cell, Format, Style, Table, Tone};
use crate::pods::reason_to_wait;

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArguments {
    /// Also what has ended
    #[arg(short, long)]
    all: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(arguments: StatusArguments, session: &Session) -> Outcome<Exit> {
    let every = ListParams::default();
    let client = || session.client.clone();
    let (node_api, pool_api, queue_api) = (Api::<Node>::all(client()), Api::<Pool>::all(client()), Api::<Queue>::all(client()));
    let (workload_api, pod_api) = (Api::<Workload>::all(client()), Api::<Pod>::all(client()));
    let (nodes, pools, queues, workloads, pods) = tokio::try_join!(
        async { node_api.list(&every).await.attempt(|| "cannot list the nodes".to_owned()) },
        async { pool_api.list(&every).await.attempt(|| "cannot list the pools".to_owned()) },
        async { queue_api.list(&every).await.attempt(|| "cannot list the queues".to_owned()) },
        async { workload_api.list(&every).await.attempt(|| "cannot list the workloads".to_owned()) },
        async { pod_api.list(&every).await.attempt(|| "cannot list the pods".to_owned()) },
    )?;
    if matches!(arguments.output, Format::Json | Format::Yaml) {
        let answer = serde_json::json!({
            "server": session.server.to_string(), "nodes": nodes.items, "pools": pools.items, "queues": queues.items, "workloads": workloads.items,
        });
        output::structured(arguments.output, &answer)?;
        return Ok(Exit::Done);
    }
    let style = Style::of_stdout();
    let now = Timestamp::now();
    output::line(&format!("{} {}", style.paint(Tone::Heading, "Server"), session.server.to_string().trim_end_matches('/')))?;
    for (title, table, none) in [
        ("Nodes", node_table(&nodes.items), "no node has joined; the server's log says why"),
        ("Pools", pool_table(&pools.items), "there is no pool"),
        ("Queues", queue_table(&queues.items), "there is no queue"),
        (
            "Workloads",
            workload_table(&workloads.items, &pods.items, arguments.all, now),
            "nothing runs or waits; `fermion run -- COMMAND` starts something",
        ),
    ] {
        output::line(&format!("\n{}", style.paint(Tone::Heading, title)))?;
        if table.is_empty() { output::line(none)? } else { output::write(&table.render(style))? }
    }
    Ok(Exit::Done)
}

fn node_table(nodes: &[Node]) -> Table {
    let mut table = Table::new(["NAME", "STATUS", "POOL", "CPU", "MEMORY"]).right([3, 4]);
    for node in nodes {
        let status = node.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let has = |resource: &str| {
            status.allocatable.as_ref().and_then(|all| all.get(resource)).map(|amount| quantity::format(resource, quantity::milli(amount)))
        };
        table.push(vec![
            node.name_any().into(),
            Cell::phase(if ready { "Ready" } else { "NotReady" }),
            Cell::optional(node.labels().get(labels::POOL)),
            Cell::optional(has("cpu")),
            Cell::optional(has("memory")),
        ]);
    }
    table
}

fn pool_table(pools: &[Pool]) -> Table {
    let mut table = Table::new(["NAME", "KIND", "NODES", "CPU FREE", "MEMORY FREE"]).right([2, 3, 4]);
    for pool in pools {
        let status = pool.status.clone().unwrap_or_default();
        let free = |resource: &str| match (status.free.get(resource), status.capacity.get(resource)) {
            (Some(free), Some(whole)) => Some(format!("{} of {}", amount(resource, free), amount(resource, whole))),
            _ => None,
        };
        table.push(vec![
            pool.name_any().into(),
            format!("{:?}", pool.spec.kind).into(),
            status.nodes.to_string().into(),
            Cell::optional(free("cpu")),
            Cell::optional(free("memory")),
        ]);
    }
    table
}

/// A quantity in the unit people read it in.
fn amount(resource: &str, text: &str) -> String {
    quantity::parse(text).map_or_else(|_| text.to_owned(), |milli| quantity::format(resource, milli))
}

fn queue_table(queues: &[Queue]) -> Table {
    let mut table = Table::new(["NAME", "POOL", "STATE", "PRIORITY", "WAITING", "ADMITTED"]).right([3, 4, 5]);
    for queue in queues {
        let status = queue.status.clone().unwrap_or_default();
        table.push(vec![
            queue.name_any().into(),
            Cell::new(&queue.spec.pool),
            Cell::phase(format!("{:?}", queue.spec.state).to_uppercase()),
            queue.spec.priority.to_string().into(),
            status.pending.to_string().into(),
            status.admitted.to_string().into(),
        ]);
    }
    table
}

fn workload_table(workloads: &[Workload], pods: &[Pod], all: bool, now: Timestamp) -> Table {
    let mut waiting_pods: BTreeMap<(String, String), String> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !fermion_api::pod::ended(pod)) {
        if let (Some(namespace), Some(workload), Some(reason)) = (pod.namespace(), pod.labels().get(labels::WORKLOAD), reason_to_wait(pod))
        {
            waiting_pods.entry((namespace, workload.clone())).or_insert(reason);
        }
    }
    let mut table = Table::new(["NAMESPACE", "NAME", "QUEUE", "PHASE", "RUNNING", "AGE", "WHY IT WAITS"]);
    for workload in workloads {
        let status = workload.status.clone().unwrap_or_default();
        if !all && matches!(status.phase, Phase::Succeeded | Phase::Failed) {
            continue;
        }
        let (running, wanted) =
            status.pod_sets.iter().fold((0, 0), |(running, wanted), set| (running + set.running, wanted + set.replicas));
        let key = (workload.namespace().unwrap_or_default(), workload.name_any());
        let why = match &status.waiting {
            Some(waiting) => Some(format!("{} (place {} in its queue)", waiting.message, waiting.position)),
            None => waiting_pods.get(&key).cloned(),
        };
        table.push(vec![
            Cell::new(&key.0),
            Cell::new(&key.1),
            Cell::new(&workload.spec.queue),
            Cell::phase(format!("{:?}", status.phase)),
            format!("{running}/{wanted}").into(),
            Cell::optional(workload.creation_timestamp().map(|at| age(at.0, now))),
            Cell::optional(why),
        ]);
    }
    table
}

/// How long ago, in its one or two largest units.
fn age(from: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(from.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, status: serde_json::Value) -> Workload {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": name, "namespace": "examples", "creationTimestamp": "2026-01-02T03:00:00Z"},
            "spec": {"podSets": []}, "status": status,
        }))
        .expect("a workload")
    }

    #[test]
    fn a_waiting_workload_says_why_and_its_place() {
        let workloads = [
            workload(
                "digits",
                serde_json::json!({"phase": "Running", "podSets": [{"name": "worker", "replicas": 2, "scheduled": 2, "running": 1, "ready": 1, "succeeded": 0, "failed": 0}]}),
            ),
            workload(
                "big",
                serde_json::json!({"phase": "Pending", "waiting": {"reason": "InsufficientResources", "message": "needs 1500m more cpu in pool local", "position": 2}}),
            ),
            workload("old", serde_json::json!({"phase": "Succeeded"})),
        ];
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "digits-worker-1", "namespace": "examples", "labels": {"fermion.dev/workload": "digits"}},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImageBuilding", "message": "step 3 of 5: pip packages"}}}]},
        }))
        .expect("a pod");
        let now = "2026-01-02T03:05:00Z".parse().expect("a time");
        insta::assert_snapshot!(workload_table(&workloads, &[pod], false, now).render(Style::Plain));
    }

    #[test]
    fn ages_read_well() {
        let from = Timestamp::from_second(0).expect("in range");
        let texts: Vec<_> = [5, 119, 120, 7200, 200_000].map(|second| age(from, Timestamp::from_second(second).expect("in range"))).into();
        assert_eq!(texts, ["5s", "119s", "2m", "2h", "2d"]);
    }
}
