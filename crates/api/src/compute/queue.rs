//! Queue: who may use how much of a pool, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{self, Amounts, UNLIMITED};
use crate::{Invalid, Rules, duration};

/// A Queue admits workloads to a pool: queues with a higher priority first, then in the order
/// that the queue says. It may be one of several below a parent that share what the parent has.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "Queue",
    status = "QueueStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "fermion",
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Parent", type_ = "string", json_path = ".spec.parent", priority = 1),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Max-Time", type_ = "string", json_path = ".spec.maxTime"),
    printcolumn(name = "Oversubscribe", type_ = "string", json_path = ".spec.oversubscribe.mode", priority = 1),
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.allowed.groups", priority = 1),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.pending"),
    printcolumn(name = "Admitted", type_ = "integer", json_path = ".status.admitted"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// Pool whose nodes it gives out.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// Resource group whose nodes it gives out; all nodes of the pool when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// Queue above this one, of the same pool. What this one uses counts there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Goes before the priority of the workloads: a queue with a higher one is served first.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65533))]
    pub priority: i32,
    /// Whether it takes new workloads and starts those that wait. What runs goes on in every
    /// state.
    #[serde(default)]
    pub state: QueueState,
    /// Whether it is used by workloads that name no queue. One queue at most is; while none is,
    /// the queue named `default` is.
    #[serde(default)]
    pub default: bool,
    /// Amounts that are kept for this queue: others may use them only until it asks for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guaranteed: Amounts,
    /// Amounts beyond which it starts nothing, whatever is free. No limit for what is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limit: Amounts,
    /// Share of what is free beyond the guarantees, compared with the other queues of the parent.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: i32,
    /// Longest time a workload may run: `UNLIMITED`, or a span such as `12h`. A workload that
    /// asks for longer is refused; one that says nothing gets this limit.
    #[serde(default = "unlimited")]
    pub max_time: String,
    /// Whether several workloads may share a processor, or have whole nodes to themselves.
    #[serde(default)]
    pub oversubscribe: Oversubscribe,
    /// Who may submit to it; everybody when it names nobody.
    #[serde(default, skip_serializing_if = "Allowed::is_everybody")]
    pub allowed: Allowed,
    /// In which order workloads that wait are served; when left out, as the scheduling policy of the
    /// pool says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_order: Option<JobOrder>,
}

fn default_pool() -> String {
    super::pool::LOCAL.to_owned()
}

fn default_weight() -> i32 {
    1
}

fn unlimited() -> String {
    UNLIMITED.to_owned()
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            pool: default_pool(),
            resource_group: None,
            parent: None,
            priority: 0,
            state: QueueState::default(),
            default: false,
            guaranteed: Amounts::new(),
            limit: Amounts::new(),
            weight: default_weight(),
            max_time: unlimited(),
            oversubscribe: Oversubscribe::default(),
            allowed: Allowed::default(),
            job_order: None,
        }
    }
}

impl QueueSpec {
    /// The longest time a workload may run; `None` is for ever.
    pub fn max_run_time(&self) -> Option<Duration> {
        // What is stored has been checked; anything else is no limit that could be kept.
        duration::parse(&self.max_time).ok()
    }
}

/// Name of the queue that is used when none is named and no queue has the flag `default`.
pub const DEFAULT: &str = "default";

/// Name of the queue that is used when none is named: the one with the flag, or [`DEFAULT`]. Should
/// several have it, the first by name counts.
pub fn default_of<'a>(queues: impl IntoIterator<Item = &'a Queue>) -> String {
    let flagged = queues.into_iter().filter(|queue| queue.spec.default).filter_map(|queue| queue.metadata.name.as_deref());
    flagged.min().unwrap_or(DEFAULT).to_owned()
}

/// Whether a queue takes and starts workloads.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum QueueState {
    /// Takes workloads and starts them.
    #[default]
    Up,
    /// Takes workloads and starts none.
    Down,
    /// Takes no new workloads and starts those it has.
    Drain,
    /// Takes no new workloads and starts none.
    Inactive,
}

impl QueueState {
    pub const ALL: [Self; 4] = [Self::Up, Self::Down, Self::Drain, Self::Inactive];

    /// Whether new workloads may be submitted.
    pub fn takes(self) -> bool {
        match self {
            Self::Up | Self::Down => true,
            Self::Drain | Self::Inactive => false,
        }
    }

    /// Whether workloads that wait may start.
    pub fn starts(self) -> bool {
        match self {
            Self::Up | Self::Drain => true,
            Self::Down | Self::Inactive => false,
        }
    }

    /// The word people read and write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Drain => "DRAIN",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// Whether several workloads may share a processor, or have whole nodes to themselves.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Oversubscribe {
    #[serde(default)]
    pub mode: OversubscribeMode,
    /// How many workloads at most share one; only with `YES` and `FORCE`, 4 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: Option<i32>,
}

/// How many workloads share one processor when `count` is left out, as in Slurm.
pub const OVERSUBSCRIBE_COUNT_DEFAULT: i32 = 4;

/// Rules of sharing, with the words of Slurm: <https://slurm.schedmd.com/cons_tres_share.html>.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum OversubscribeMode {
    /// What is given to a workload is given to no other, by preemption neither.
    #[default]
    No,
    /// Processors are shared by workloads that say `oversubscribe: true`; accelerators are not.
    Yes,
    /// Processors are shared by all workloads, whatever they say; accelerators are not. With a
    /// count of 1 only preemption shares.
    Force,
    /// A workload gets whole nodes with every processor and accelerator of theirs, but not all
    /// of their memory.
    Exclusive,
}

/// Who may submit to a queue.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allowed {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Members of any of these groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Allowed {
    /// Whether nobody is named, so that everybody may.
    pub fn is_everybody(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Whether this person may.
    pub fn admits(&self, user: &str, groups: &[String]) -> bool {
        self.is_everybody()
            || self.users.iter().any(|allowed| allowed == user)
            || self.groups.iter().any(|allowed| groups.contains(allowed))
    }
}

/// Order of the workloads that wait in a queue.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum JobOrder {
    /// In order of creation, whatever their priorities.
    Fifo,
    /// Higher priority first, equal ones in order of creation.
    Priority,
    /// Who used least of late goes first.
    FairShare,
    /// The one that will take the least goes first.
    ShortestFirst,
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
    /// What workloads that have their place ask for, as quantities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, String>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Rules for Queue {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        checks::object_name("spec.pool", &spec.pool, &mut problems);
        if let Some(group) = &spec.resource_group {
            checks::object_name("spec.resourceGroup", group, &mut problems);
        }
        if let Some(parent) = &spec.parent {
            checks::object_name("spec.parent", parent, &mut problems);
            if self.metadata.name.as_ref() == Some(parent) {
                problems.push(Invalid::new("spec.parent", "cannot be the queue itself"));
            }
        }
        checks::amounts("spec.guaranteed", &spec.guaranteed, &mut problems);
        checks::amounts("spec.limit", &spec.limit, &mut problems);
        for (name, guaranteed) in &spec.guaranteed {
            let limit = spec.limit.get(name).and_then(|limit| crate::quantity::parse(&limit.0).ok());
            if let (Some(limit), Ok(guaranteed)) = (limit, crate::quantity::parse(&guaranteed.0))
                && guaranteed > limit
            {
                problems.push(Invalid::new(format!("spec.guaranteed[{name}]"), "may not be above the limit"));
            }
        }
        if spec.max_time != UNLIMITED {
            match duration::parse(&spec.max_time) {
                Err(message) => problems.push(Invalid::new("spec.maxTime", format!("{message}, or {UNLIMITED}"))),
                Ok(Duration::ZERO) => problems.push(Invalid::new("spec.maxTime", format!("must be longer than nothing, or {UNLIMITED}"))),
                Ok(_) => {}
            }
        }
        let shares = matches!(spec.oversubscribe.mode, OversubscribeMode::Yes | OversubscribeMode::Force);
        if spec.oversubscribe.count.is_some() && !shares {
            problems.push(Invalid::new("spec.oversubscribe.count", "can be given only with the modes YES and FORCE"));
        }
        checks::subjects("spec.allowed.users", &spec.allowed.users, &mut problems);
        checks::subjects("spec.allowed.groups", &spec.allowed.groups, &mut problems);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(spec: serde_json::Value) -> Queue {
        Queue::new("gpu", serde_json::from_value(spec).expect("a spec"))
    }

    fn fields(spec: serde_json::Value) -> Vec<String> {
        queue(spec).check(None).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn states_say_what_is_taken_and_what_is_started() {
        let table: Vec<_> = QueueState::ALL.iter().map(|state| (state.as_str(), state.takes(), state.starts())).collect();
        assert_eq!(table, [("UP", true, true), ("DOWN", true, false), ("DRAIN", false, true), ("INACTIVE", false, false)]);
        for state in QueueState::ALL {
            assert_eq!(serde_json::to_value(state).expect("JSON"), state.as_str());
        }
    }

    #[test]
    fn a_count_goes_with_yes_and_force_only() {
        for (mode, fine) in [("NO", false), ("YES", true), ("FORCE", true), ("EXCLUSIVE", false)] {
            let wrong = fields(serde_json::json!({"oversubscribe": {"mode": mode, "count": 2}}));
            assert_eq!(wrong.is_empty(), fine, "{mode}: {wrong:?}");
            assert!(fields(serde_json::json!({"oversubscribe": {"mode": mode}})).is_empty(), "{mode}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let wrong = serde_json::json!({
            "parent": "gpu", "maxTime": "soon", "guaranteed": {"cpu": "3"}, "limit": {"cpu": "2"}, "allowed": {"groups": ["a", "a"]},
        });
        assert_eq!(fields(wrong), ["spec.parent", "spec.guaranteed[cpu]", "spec.maxTime", "spec.allowed.groups[1]"]);
    }

    #[test]
    fn the_default_queue_has_the_flag_or_the_name() {
        let queue = |name: &str, default: bool| Queue::new(name, QueueSpec { default, ..QueueSpec::default() });
        assert_eq!(default_of(&[queue("a", false)]), "default");
        assert_eq!(default_of(&[queue("c", true), queue("b", true), queue("a", false)]), "b");
    }

    #[test]
    fn a_time_limit_is_a_span_or_unlimited() {
        assert_eq!(queue(serde_json::json!({})).spec.max_run_time(), None);
        assert_eq!(queue(serde_json::json!({"maxTime": "UNLIMITED"})).spec.max_run_time(), None);
        assert_eq!(queue(serde_json::json!({"maxTime": "12h"})).spec.max_run_time(), Some(Duration::from_secs(12 * 3600)));
    }

    #[test]
    fn a_queue_without_names_is_for_everybody() {
        let allowed = |users: &[&str], groups: &[&str]| Allowed {
            users: users.iter().map(ToString::to_string).collect(),
            groups: groups.iter().map(ToString::to_string).collect(),
        };
        let groups = ["lab".to_owned()];
        for (allowed, admits) in [
            (allowed(&[], &[]), true),
            (allowed(&["ann"], &[]), true),
            (allowed(&["bob"], &[]), false),
            (allowed(&["bob"], &["lab"]), true),
            (allowed(&[], &["other"]), false),
        ] {
            assert_eq!(allowed.admits("ann", &groups), admits, "{allowed:?}");
        }
    }
}
