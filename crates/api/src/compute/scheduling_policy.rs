//! SchedulingPolicy: how nodes are chosen and in which order work is looked at.

use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;
use crate::{Invalid, Rules, duration};

/// A SchedulingPolicy says how the nodes of a pool are chosen, in which order its queues look at
/// their work by default, and whether work may be stopped for other work. A pool that names none
/// has the one called `default`; while that does not exist, what stands here as defaults holds.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "SchedulingPolicy",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Placement", type_ = "string", json_path = ".spec.placement"),
    printcolumn(name = "Order", type_ = "string", json_path = ".spec.order"),
    printcolumn(name = "Backfill", type_ = "string", json_path = ".spec.backfill"),
    printcolumn(name = "Preemption", type_ = "boolean", json_path = ".spec.preemption"),
    printcolumn(name = "Half-Life", type_ = "string", json_path = ".spec.halfLife"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingPolicySpec {
    /// How a node is chosen among those that could take a pod.
    #[serde(default)]
    pub placement: Placement,
    /// In which order the work of a queue is looked at, where the queue does not say.
    #[serde(default)]
    pub order: Order,
    /// Whether work may start before work that waits longer.
    #[serde(default)]
    pub backfill: Backfill,
    /// Whether work of a lower rank may be stopped for work of a higher one. What is stopped comes
    /// back by itself. What a queue is guaranteed it has back from others in any case.
    #[serde(default)]
    pub preemption: bool,
    /// Nothing is stopped for others before it ran this long, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_run_time: Option<String>,
    /// What waited this long goes before all other work of the pool, such as `2d`, so that nothing
    /// waits without end behind what is more important. Never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<String>,
    /// How running work may be moved so that work that waits has room. When left out, nothing is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consolidation: Option<Consolidation>,
    /// After this time, what somebody used counts half in their fair share, such as `7d`.
    #[serde(default = "half_life")]
    pub half_life: String,
}

/// What bounds the moving of running work. Work is moved only where what waits for it would have room after that, and it
/// itself has a place elsewhere at once, which is kept for it. It is stopped with its grace period, and starts over there.
/// Who may not be preempted is not moved, nor are development environments.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consolidation {
    /// How many workloads are moved for one that waits at most.
    #[serde(default = "max_moves")]
    #[schemars(range(min = 1, max = 64))]
    pub max_moves: i32,
    /// How many workloads are moved in any hour at most, in each pool.
    #[serde(default = "max_moves_per_hour")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_moves_per_hour: i32,
    /// Nothing is moved before it ran this long where it is, such as `10m`.
    #[serde(default = "moved_after")]
    pub min_run_time: String,
}

impl Default for Consolidation {
    fn default() -> Self {
        Self { max_moves: max_moves(), max_moves_per_hour: max_moves_per_hour(), min_run_time: moved_after() }
    }
}

impl Consolidation {
    /// How long work runs at least before it is moved.
    pub fn min_run_time(&self) -> Option<Duration> {
        duration::parse(&self.min_run_time).ok()
    }
}

fn max_moves() -> i32 {
    2
}

fn max_moves_per_hour() -> i32 {
    20
}

fn moved_after() -> String {
    "10m".to_owned()
}

fn half_life() -> String {
    "7d".to_owned()
}

impl Default for SchedulingPolicySpec {
    fn default() -> Self {
        Self {
            placement: Placement::default(),
            order: Order::default(),
            backfill: Backfill::default(),
            preemption: false,
            min_run_time: None,
            patience: None,
            consolidation: None,
            half_life: half_life(),
        }
    }
}

impl SchedulingPolicySpec {
    /// After which time use counts half.
    pub fn half_life(&self) -> Option<Duration> {
        duration::parse(&self.half_life).ok()
    }

    /// How long work runs at least before it is stopped for others.
    pub fn min_run_time(&self) -> Option<Duration> {
        self.min_run_time.as_deref().and_then(|text| duration::parse(text).ok())
    }

    /// How long work waits at most behind what is more important.
    pub fn patience(&self) -> Option<Duration> {
        self.patience.as_deref().and_then(|text| duration::parse(text).ok())
    }
}

/// Name of the policy of pools that name none.
pub const DEFAULT: &str = "default";

/// How a node is chosen. The words are those of the field. Another use of two of them is known:
/// `Spread` for a node at random, and `BestFit` for the node with the least use; who means these
/// gets the first by `Spread`, which differs only in that it does not leave it to chance, and the
/// second by `Spread`, too.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Placement {
    /// The node that is used least: work is spread over all nodes.
    Spread,
    /// The node with the least left after it: nodes are filled one after the other.
    BestFit,
    /// The node where least of what is free becomes useless for the work that usually comes
    /// (fragmentation gradient descent, Weng et al., USENIX ATC 2023).
    FragmentationGradient,
    /// The same, and cards that other work needs in particular are spared.
    #[default]
    Scarcity,
}

/// The order of work in a queue.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Order {
    /// In order of creation, whatever their priorities.
    #[serde(rename = "FIFO")]
    Fifo,
    /// Higher priority first, equal ones in order of creation.
    #[default]
    Priority,
    /// Who used least of late goes first.
    FairShare,
    /// The one that will take the least goes first.
    ShortestFirst,
}

/// Whether work may start before work that waits longer.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Backfill {
    /// Never: what is first in the queue goes first.
    None,
    /// When it does not delay the first that waits.
    #[default]
    Easy,
    /// When it delays nothing that waits before it.
    Conservative,
}

impl Rules for SchedulingPolicy {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        checks::span("spec.halfLife", Some(&self.spec.half_life), &mut problems);
        checks::span("spec.minRunTime", self.spec.min_run_time.as_deref(), &mut problems);
        checks::span("spec.patience", self.spec.patience.as_deref(), &mut problems);
        if self.spec.patience() == Some(Duration::ZERO) {
            problems.push(Invalid::new("spec.patience", "must be longer than nothing; leave it out for no limit"));
        }
        if let Some(consolidation) = &self.spec.consolidation {
            checks::within("spec.consolidation.maxMoves", Some(consolidation.max_moves), 1..=64, &mut problems);
            checks::within("spec.consolidation.maxMovesPerHour", Some(consolidation.max_moves_per_hour), 1..=10_000, &mut problems);
            checks::span("spec.consolidation.minRunTime", Some(&consolidation.min_run_time), &mut problems);
        }
        if self.spec.half_life() == Some(Duration::ZERO) {
            problems.push(Invalid::new("spec.halfLife", "must be longer than nothing"));
        }
        problems
    }
}

crate::kind!(SchedulingPolicy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_policy_says_what_holds_anyway() {
        let spec: SchedulingPolicySpec = serde_json::from_str("{}").expect("a spec");
        assert_eq!(spec, SchedulingPolicySpec::default());
        assert_eq!(spec.half_life(), Some(Duration::from_secs(7 * 86_400)));
        let wrong = SchedulingPolicy::new("p", SchedulingPolicySpec { half_life: "0s".to_owned(), ..spec });
        assert_eq!(wrong.check(None).len(), 1);
    }

    #[test]
    fn consolidation_is_off_unless_it_is_named_and_bounded_then() {
        let of = |text: &str| -> SchedulingPolicy {
            SchedulingPolicy::new("p", serde_json::from_str(&format!(r#"{{"consolidation": {text}}}"#)).expect("a spec"))
        };
        assert_eq!(of("null").spec.consolidation, None);
        assert_eq!(of("{}").spec.consolidation, Some(Consolidation::default()));
        assert_eq!(Consolidation::default().min_run_time(), Some(Duration::from_secs(600)));
        assert!(of("{}").check(None).is_empty());
        assert_eq!(of(r#"{"maxMoves": 0, "maxMovesPerHour": 0, "minRunTime": "soon"}"#).check(None).len(), 3);
    }
}
