//! Pool: capacity that runs pods.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;
use crate::{Invalid, Rules, labels, quantity};

/// A Pool is capacity that runs pods: this machine through containerd, or nodes that are only
/// simulated.
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
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "cannot be changed; make another Pool"}]))]
    pub kind: PoolKind,
    /// SchedulingPolicy by which its nodes are chosen; that named `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_policy: Option<String>,
    /// Labels of nodes that say what is close to what, from the widest to the closest.
    #[serde(default = "topology_levels")]
    pub topology_levels: Vec<String>,
    /// The nodes of a pool of kind `Fake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake: Option<Fake>,
}

/// Name of the pool that this machine makes up.
pub const LOCAL: &str = "local";
/// The most levels of a pool's topology.
pub const TOPOLOGY_LEVELS_MAX: usize = 8;
/// The most nodes that one pool simulates.
pub const FAKE_NODES_MAX: i32 = 20_000;
/// The most groups of equal nodes that one pool simulates.
pub const FAKE_GROUPS_MAX: usize = 100;
/// The longest name of a simulated pool or of a group in it, so that its nodes' names stay labels.
pub const FAKE_NAME_LENGTH_MAX: usize = 24;

fn topology_levels() -> Vec<String> {
    [labels::ZONE, labels::RACK, labels::LINK_DOMAIN].map(str::to_owned).to_vec()
}

impl PoolSpec {
    /// A pool of that kind and nothing else said.
    pub fn of_kind(kind: PoolKind) -> Self {
        Self { kind, scheduling_policy: None, topology_levels: topology_levels(), fake: None }
    }
}

/// What runs the pods of a pool.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum PoolKind {
    /// Machines that run our own node role, through containerd.
    Local,
    /// Nothing does: nodes and pods exist only as objects, to try out scheduling with thousands
    /// of nodes. A pod there says `Running`, and `Succeeded` after the time that its annotation
    /// `fermion.dev/fake-run-time` names.
    Fake,
}

/// Nodes that are simulated.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fake {
    /// Groups of equal nodes.
    pub groups: Vec<FakeGroup>,
}

/// A group of equal nodes that are simulated: `POOL-GROUP-0`, `POOL-GROUP-1`, …
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FakeGroup {
    /// Name of the group, unique in the pool.
    pub name: String,
    /// How many nodes.
    #[schemars(range(min = 0, max = 20_000))]
    pub count: i32,
    /// What pods may use of each node.
    pub cpu: Quantity,
    pub memory: Quantity,
    /// How many pods each takes.
    #[serde(default = "pods_per_node")]
    #[schemars(range(min = 1, max = 10_000))]
    pub pods: i32,
    /// Cards of each node, by AcceleratorModel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accelerators: BTreeMap<String, i32>,
    /// How many neighbours share a domain of fast links; none do when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20_000))]
    pub nodes_per_link_domain: Option<i32>,
    /// How many neighbours share a rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20_000))]
    pub nodes_per_rack: Option<i32>,
    /// How many neighbours share a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20_000))]
    pub nodes_per_zone: Option<i32>,
    /// More labels of its nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn pods_per_node() -> i32 {
    110
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

impl Rules for Pool {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        if let Some(policy) = &spec.scheduling_policy {
            checks::object_name("spec.schedulingPolicy", policy, &mut problems);
        }
        if spec.topology_levels.len() > TOPOLOGY_LEVELS_MAX {
            problems.push(Invalid::new("spec.topologyLevels", format!("has more than {TOPOLOGY_LEVELS_MAX} entries")));
        }
        for (index, level) in spec.topology_levels.iter().enumerate() {
            if !crate::ai::scheduling::is_label_key(level) || spec.topology_levels[..index].contains(level) {
                problems.push(Invalid::new(format!("spec.topologyLevels[{index}]"), "must be the key of a label that is not named before"));
            }
        }
        match (spec.kind, &spec.fake) {
            (PoolKind::Fake, Some(fake)) => {
                if self.metadata.name.as_ref().is_some_and(|name| name.len() > FAKE_NAME_LENGTH_MAX) {
                    problems.push(Invalid::new("metadata.name", format!("is longer than {FAKE_NAME_LENGTH_MAX} characters")));
                }
                check_fake(fake, &mut problems);
            }
            (PoolKind::Fake, None) => problems.push(Invalid::new("spec.fake", "is required for a pool of kind Fake")),
            (PoolKind::Local, Some(_)) => problems.push(Invalid::new("spec.fake", "is only for a pool of kind Fake")),
            (PoolKind::Local, None) => {}
        }
        problems
    }
}

fn check_fake(fake: &Fake, problems: &mut Vec<Invalid>) {
    if fake.groups.len() > FAKE_GROUPS_MAX {
        problems.push(Invalid::new("spec.fake.groups", format!("has more than {FAKE_GROUPS_MAX} entries")));
    }
    let nodes = fake.groups.iter().fold(0_i32, |sum, group| sum.saturating_add(group.count.max(0)));
    if nodes > FAKE_NODES_MAX {
        problems.push(Invalid::new("spec.fake.groups", format!("have {nodes} nodes together; at most {FAKE_NODES_MAX} are simulated")));
    }
    for (index, group) in fake.groups.iter().enumerate() {
        let at = |field: &str| format!("spec.fake.groups[{index}].{field}");
        checks::object_name(&at("name"), &group.name, problems);
        if group.name.len() > FAKE_NAME_LENGTH_MAX || group.name.contains('.') {
            problems.push(Invalid::new(at("name"), format!("must be at most {FAKE_NAME_LENGTH_MAX} characters without `.`")));
        }
        if fake.groups[..index].iter().any(|other| other.name == group.name) {
            problems.push(Invalid::new(at("name"), format!("`{}` is used twice", group.name)));
        }
        for (field, amount) in [("cpu", &group.cpu), ("memory", &group.memory)] {
            if !quantity::parse(&amount.0).is_ok_and(|amount| amount > 0) {
                problems.push(Invalid::new(at(field), "must be a quantity above zero"));
            }
        }
        for (model, count) in &group.accelerators {
            checks::object_name(&at("accelerators"), model, problems);
            if !(0..=1_024).contains(count) {
                problems.push(Invalid::new(format!("{}[{model}]", at("accelerators")), "must lie between 0 and 1024"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &str, spec: serde_json::Value) -> Vec<String> {
        let pool = Pool::new(name, serde_json::from_value(spec).expect("a spec"));
        pool.check(None).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn simulated_pools_are_bounded_and_described() {
        let group = |name: &str, count: i32| serde_json::json!({"name": name, "count": count, "cpu": "8", "memory": "64Gi"});
        assert!(fields("sim", serde_json::json!({"kind": "Fake", "fake": {"groups": [group("a", 19_000), group("b", 1_000)]}})).is_empty());
        assert_eq!(fields("sim", serde_json::json!({"kind": "Fake"})), ["spec.fake"]);
        assert_eq!(fields("local", serde_json::json!({"kind": "Local", "fake": {"groups": []}})), ["spec.fake"]);
        let wrong = serde_json::json!({"kind": "Fake", "fake": {"groups": [group("a", 20_000), group("a", 1)]}});
        assert_eq!(fields("sim", wrong), ["spec.fake.groups", "spec.fake.groups[1].name"]);
    }
}
