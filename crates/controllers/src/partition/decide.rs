//! Which labels nodes should have, and what partitions and groups say of themselves: a pure function
//! of what is seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fermion_api::compute::partition::{PartitionStatus, PartitionType};
use fermion_api::compute::resource_group::ResourceGroupStatus;
use fermion_api::compute::{Partition, ResourceGroup};
use fermion_api::{conditions, labels, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

/// How many missing nodes a message names.
const NAMED_MAX: usize = 5;
/// The labels that are kept here.
const LABELS: [&str; 3] = [labels::PARTITION, labels::RESOURCE_GROUP, labels::HPC_AUTHORIZED];

/// Labels of a node, of those that are kept here.
pub(super) type Labels = BTreeMap<String, String>;

/// What to write: only what differs.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub labels: Vec<(Arc<Node>, Labels)>,
    pub partitions: Vec<(Arc<Partition>, PartitionStatus)>,
    pub groups: Vec<(Arc<ResourceGroup>, ResourceGroupStatus)>,
}

/// Decides. Should a node be named twice although the API refuses that, the first by name has it.
pub(super) fn decide(partitions: &[Arc<Partition>], groups: &[Arc<ResourceGroup>], nodes: &[Arc<Node>], now: Timestamp) -> Decision {
    let mut wanted: HashMap<&str, Labels> = HashMap::new();
    for partition in partitions {
        for member in &partition.spec.nodes {
            let labels = wanted.entry(member.name.as_str()).or_default();
            if labels.contains_key(labels::PARTITION) {
                continue;
            }
            labels.insert(labels::PARTITION.to_owned(), partition.name_any());
            if member.authorized || partition.spec.r#type == PartitionType::HPC {
                labels.insert(labels::HPC_AUTHORIZED.to_owned(), member.authorized.to_string());
            }
        }
    }
    for group in groups {
        for member in &group.spec.nodes {
            // A node that is not in the group's partition is of no use to it.
            if let Some(labels) = wanted.get_mut(member.as_str())
                && labels.get(labels::PARTITION) == Some(&group.spec.partition)
                && !labels.contains_key(labels::RESOURCE_GROUP)
            {
                labels.insert(labels::RESOURCE_GROUP.to_owned(), group.name_any());
            }
        }
    }
    let mut decision = Decision::default();
    let mut known: HashMap<&str, &Arc<Node>> = HashMap::new();
    for node in nodes {
        let Some(name) = node.metadata.name.as_deref() else { continue };
        known.insert(name, node);
        let shown = |label: &str| node.labels().get(label).map(|value| (label.to_owned(), value.clone()));
        let shown: Labels = LABELS.into_iter().filter_map(shown).collect();
        let labels = wanted.get(name).cloned().unwrap_or_default();
        if labels != shown {
            decision.labels.push((Arc::clone(node), labels));
        }
    }
    let is = |name: &str, label: &str, value: &str| wanted.get(name).is_some_and(|labels| labels.get(label).is_some_and(|is| is == value));
    for partition in partitions {
        let name = partition.name_any();
        let members: Vec<&str> = partition.spec.nodes.iter().map(|node| node.name.as_str()).collect();
        let present = members.iter().filter(|node| is(node, labels::PARTITION, &name)).filter_map(|node| known.get(node)).count();
        let ready = members.iter().filter_map(|node| known.get(node)).filter(|node| crate::scheduler::is_ready(node)).count();
        let grouped = members.iter().filter(|node| wanted.get(*node).is_some_and(|labels| labels.contains_key(labels::RESOURCE_GROUP)));
        let mut status = partition.status.clone().unwrap_or_default();
        status.nodes = number(present);
        status.ready = number(ready);
        status.authorized = number(partition.spec.nodes.iter().filter(|node| node.authorized).count());
        status.grouped = number(grouped.count());
        status.observed_generation = partition.metadata.generation;
        let missing: Vec<&str> = members.into_iter().filter(|node| !known.contains_key(node)).collect();
        tell(&mut status.conditions, &missing, "does not exist; add it with `fermion node add`", partition.metadata.generation, now);
        if partition.status.as_ref() != Some(&status) {
            decision.partitions.push((Arc::clone(partition), status));
        }
    }
    for group in groups {
        let name = group.name_any();
        let (inside, outside): (Vec<&str>, Vec<&str>) = group
            .spec
            .nodes
            .iter()
            .map(String::as_str)
            .partition(|node| known.contains_key(node) && is(node, labels::RESOURCE_GROUP, &name));
        let mut status = group.status.clone().unwrap_or_default();
        status.nodes = number(inside.len());
        status.ready = number(inside.iter().filter_map(|node| known.get(node)).filter(|node| crate::scheduler::is_ready(node)).count());
        status.observed_generation = group.metadata.generation;
        let why = format!("does not exist, or is not in partition {}", group.spec.partition);
        tell(&mut status.conditions, &outside, &why, group.metadata.generation, now);
        if group.status.as_ref() != Some(&status) {
            decision.groups.push((Arc::clone(group), status));
        }
    }
    decision
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Says in the conditions whether every node that is named is there.
fn tell(
    all: &mut Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    missing: &[&str],
    why: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    match missing {
        [] => conditions::set(all, "NodesPresent", true, reason::READY, "every node that is named is there", generation, now),
        [one] => conditions::set(all, "NodesPresent", false, reason::NODES_MISSING, format!("node {one} {why}"), generation, now),
        several => {
            let named = several.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            let message =
                format!("{} nodes are missing ({named}{}): each {why}", several.len(), if several.len() > NAMED_MAX { ", …" } else { "" });
            conditions::set(all, "NodesPresent", false, reason::NODES_MISSING, message, generation, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn partition(name: &str, kind: &str, nodes: &[(&str, bool)]) -> Arc<Partition> {
        let nodes: Vec<_> = nodes.iter().map(|(name, authorized)| json!({"name": name, "authorized": authorized})).collect();
        let object = json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Partition", "metadata": {"name": name, "generation": 1},
            "spec": {"type": kind, "nodes": nodes},
        });
        Arc::new(serde_json::from_value(object).expect("a partition"))
    }

    fn group(name: &str, partition: &str, nodes: &[&str]) -> Arc<ResourceGroup> {
        let object = json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "ResourceGroup", "metadata": {"name": name},
            "spec": {"partition": partition, "nodes": nodes},
        });
        Arc::new(serde_json::from_value(object).expect("a group"))
    }

    fn node(name: &str, labels: serde_json::Value) -> Arc<Node> {
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": status})).expect("a node"))
    }

    fn written(decision: &Decision) -> BTreeMap<String, Labels> {
        decision.labels.iter().map(|(node, labels)| (node.name_any(), labels.clone())).collect()
    }

    #[test]
    fn nodes_are_labelled_with_where_they_are() {
        let partitions = [partition("hpc", "HPC", &[("a", true), ("b", false)])];
        let groups = [group("batch", "hpc", &["a"])];
        let nodes = [node("a", json!({})), node("b", json!({})), node("c", json!({"compute.fermion.dev/partition": "old", "mine": "1"}))];
        let decision = decide(&partitions, &groups, &nodes, Timestamp::UNIX_EPOCH);
        let written = written(&decision);
        let expected =
            |pairs: &[(&str, &str)]| -> Labels { pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect() };
        let of_a = expected(&[(labels::PARTITION, "hpc"), (labels::RESOURCE_GROUP, "batch"), (labels::HPC_AUTHORIZED, "true")]);
        let of_b = expected(&[(labels::PARTITION, "hpc"), (labels::HPC_AUTHORIZED, "false")]);
        assert_eq!((&written["a"], &written["b"]), (&of_a, &of_b));
        assert!(written["c"].is_empty(), "it is in no partition any more");
        let status = &decision.partitions[0].1;
        assert_eq!((status.nodes, status.ready, status.authorized, status.grouped), (2, 2, 1, 1));
        assert_eq!((decision.groups[0].1.nodes, decision.groups[0].1.ready), (1, 1));
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let mut hpc = (*partition("ai", "AI", &[("a", false)])).clone();
        let nodes = [node("a", json!({"compute.fermion.dev/partition": "ai"}))];
        let first = decide(&[Arc::new(hpc.clone())], &[], &nodes, Timestamp::UNIX_EPOCH);
        assert!(first.labels.is_empty());
        hpc.status = Some(first.partitions[0].1.clone());
        let again = decide(&[Arc::new(hpc)], &[], &nodes, Timestamp::from_second(60).expect("in range"));
        assert!(again.labels.is_empty() && again.partitions.is_empty());
    }

    #[test]
    fn a_node_that_is_missing_is_named() {
        let decision = decide(
            &[partition("ai", "AI", &[("a", false), ("b", false)])],
            &[group("g", "ai", &["b", "c"])],
            &[node("a", json!({}))],
            Timestamp::UNIX_EPOCH,
        );
        let message = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| conditions[0].message.clone();
        assert_eq!(message(&decision.partitions[0].1.conditions), "node b does not exist; add it with `fermion node add`");
        assert_eq!(message(&decision.groups[0].1.conditions), "2 nodes are missing (b, c): each does not exist, or is not in partition ai");
    }

    #[test]
    fn of_two_partitions_with_one_node_the_first_has_it() {
        let decision = decide(
            &[partition("a", "AI", &[("n", false)]), partition("b", "AI", &[("n", false)])],
            &[],
            &[node("n", json!({}))],
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(written(&decision)["n"][labels::PARTITION], "a");
        assert_eq!(decision.partitions.iter().map(|(_, status)| status.nodes).collect::<Vec<_>>(), [1, 0]);
    }
}
