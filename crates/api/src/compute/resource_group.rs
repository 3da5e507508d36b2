//! ResourceGroup: nodes of a partition that queues give out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{checks, partition};
use crate::{Invalid, Rules};

/// A ResourceGroup is a set of nodes of one partition that queues give out (`spec.resourceGroup` of
/// a Queue). A node is in one group at most. Nodes of an HPC partition must be authorised before.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "ResourceGroup",
    status = "ResourceGroupStatus",
    derive = "PartialEq",
    shortname = "rg",
    category = "fermion",
    selectable = ".spec.partition",
    printcolumn(name = "Partition", type_ = "string", json_path = ".spec.partition"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ResourceGroupSpec {
    /// Partition whose nodes it takes from.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "cannot be changed; make another ResourceGroup"}]))]
    pub partition: String,
    /// Names of its nodes.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub nodes: Vec<String>,
    /// What people should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub description: Option<String>,
}

/// What was observed of a ResourceGroup.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceGroupStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes of it that exist.
    #[serde(default)]
    pub nodes: i32,
    /// Of these, those that are ready.
    #[serde(default)]
    pub ready: i32,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Rules for ResourceGroup {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        checks::object_name("spec.partition", &self.spec.partition, &mut problems);
        checks::object_names("spec.nodes", &self.spec.nodes, partition::NODES_MAX, &mut problems);
        problems
    }
}

crate::kind!(ResourceGroup);
