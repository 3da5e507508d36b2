//! Partition: nodes that belong together and are used for one purpose.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;
use crate::{Invalid, Rules};

/// A Partition is a set of nodes for one purpose. A node is in one partition at most; the platform
/// labels it with `compute.fermion.dev/partition`, so that `kubectl get nodes -l
/// '!compute.fermion.dev/partition'` lists those in none. A node that is in a resource group, or is
/// authorised for HPC, cannot be taken out.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "Partition",
    status = "PartitionStatus",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Authorized", type_ = "integer", json_path = ".status.authorized"),
    printcolumn(name = "Grouped", type_ = "integer", json_path = ".status.grouped"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PartitionSpec {
    /// What its nodes are for.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "cannot be changed; make another Partition"}]))]
    pub r#type: PartitionType,
    /// Its nodes.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<PartitionNode>,
    /// What people should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub description: Option<String>,
}

/// What the nodes of a partition are for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum PartitionType {
    /// Training, inference and development in containers.
    AI,
    /// Batch jobs of an HPC cluster. A node of such a partition is used once it is authorised.
    HPC,
}

/// A node of a partition.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionNode {
    /// Name of the Node.
    pub name: String,
    /// Whether it may be used in its HPC partition.
    #[serde(default)]
    pub authorized: bool,
}

/// The most nodes of one partition.
pub const NODES_MAX: usize = 20_000;

impl PartitionSpec {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&PartitionNode> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// What was observed of a Partition.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes of it that exist.
    #[serde(default)]
    pub nodes: i32,
    /// Of these, those that are ready.
    #[serde(default)]
    pub ready: i32,
    /// Those that are authorised for HPC.
    #[serde(default)]
    pub authorized: i32,
    /// Those that are in a resource group.
    #[serde(default)]
    pub grouped: i32,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Rules for Partition {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let names: Vec<String> = self.spec.nodes.iter().map(|node| node.name.clone()).collect();
        checks::object_names("spec.nodes", &names, NODES_MAX, &mut problems);
        for (index, node) in self.spec.nodes.iter().enumerate() {
            if node.authorized && self.spec.r#type == PartitionType::AI {
                problems.push(Invalid::new(format!("spec.nodes[{index}].authorized"), "is only for partitions of type HPC"));
            }
        }
        problems
    }
}

crate::kind!(Partition);

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(spec: serde_json::Value) -> Vec<String> {
        let partition = Partition::new("p", serde_json::from_value(spec).expect("a spec"));
        partition.check(None).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn only_hpc_partitions_authorize_nodes_and_none_twice() {
        let nodes = serde_json::json!([{"name": "n1", "authorized": true}, {"name": "n2"}]);
        assert!(fields(serde_json::json!({"type": "HPC", "nodes": nodes})).is_empty());
        assert_eq!(fields(serde_json::json!({"type": "AI", "nodes": nodes})), ["spec.nodes[0].authorized"]);
        let twice = serde_json::json!({"type": "AI", "nodes": [{"name": "n1"}, {"name": "n1"}, {"name": "No Name"}]});
        assert_eq!(fields(twice), ["spec.nodes[1]", "spec.nodes[2]"]);
    }
}
