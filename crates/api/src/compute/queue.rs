//! Queue: the order in which workloads are admitted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Rules;

/// A Queue admits workloads to a pool: higher priority first, then in order of creation.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "Queue",
    status = "QueueStatus",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.pending"),
    printcolumn(name = "Admitted", type_ = "integer", json_path = ".status.admitted"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// Pool whose nodes it gives out.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// Goes before the priority of the workloads: a queue with a higher one is served first.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65533))]
    pub priority: i32,
    #[serde(default)]
    pub state: QueueState,
}

fn default_pool() -> String {
    super::pool::LOCAL.to_owned()
}

/// Whether a queue takes and admits workloads.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum QueueState {
    /// Takes workloads and admits them.
    #[default]
    Up,
    /// Takes workloads and admits none.
    Down,
}

/// What was observed of a Queue.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Workloads that wait.
    #[serde(default)]
    pub pending: i32,
    /// Workloads that have their place.
    #[serde(default)]
    pub admitted: i32,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Rules for Queue {}
