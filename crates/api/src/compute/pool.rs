//! Pool: capacity that runs pods.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Rules;

/// A Pool is capacity that runs pods: this machine through containerd, and in time member
/// clusters.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "Pool",
    status = "PoolStatus",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "CPU-Free", type_ = "string", json_path = ".status.free.cpu"),
    printcolumn(name = "Memory-Free", type_ = "string", json_path = ".status.free.memory"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PoolSpec {
    /// What runs the pods.
    pub kind: PoolKind,
}

/// Name of the pool that this machine makes up.
pub const LOCAL: &str = "local";

/// What runs the pods of a pool.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum PoolKind {
    /// Machines that run our own node role, through containerd.
    Local,
}

/// What was observed of a Pool. Amounts are quantities by resource name.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes that are ready.
    #[serde(default)]
    pub nodes: i32,
    /// What pods may ask for, over all ready nodes.
    #[serde(default)]
    pub capacity: BTreeMap<String, String>,
    /// What placed pods ask for.
    #[serde(default)]
    pub allocated: BTreeMap<String, String>,
    #[serde(default)]
    pub free: BTreeMap<String, String>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Rules for Pool {}
