//! Workload: the gang, the unit of admission and scheduling.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scheduling::{self, EnvironmentKind, Scheduling, filled_in_by_a_hook};
use super::training_job::CleanUpPods;
use super::{POD_SETS_MAX, checks, default_queue};
use crate::{Invalid, Refused, Rules};

/// A Workload is a set of pods that are admitted and placed together: all of the members it
/// needs at once, or none. TrainingJob, DevEnvironment and InferenceService each make one;
/// it can also be written by hand.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "ai.fermion.dev",
    version = "v1alpha1",
    kind = "Workload",
    namespaced,
    status = "WorkloadStatus",
    derive = "PartialEq",
    shortname = "wl",
    category = "all",
    category = "fermion",
    selectable = ".status.phase",
    printcolumn(name = "Queue", type_ = "string", json_path = ".spec.queue"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Position", type_ = "integer", json_path = ".status.waiting.position"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.waiting.message", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Queue that admits it; the default queue when left out.
    #[serde(default = "default_queue")]
    #[schemars(transform = filled_in_by_a_hook)]
    pub queue: String,
    /// Higher goes first within the queue; equal ones go in order of creation.
    #[serde(default)]
    pub priority: i32,
    /// While true no pod of it runs; what runs is stopped.
    #[serde(default)]
    pub suspend: bool,
    /// Groups of equal pods.
    pub pod_sets: Vec<PodSet>,
    /// How many times it was started over. Raising it replaces every pod.
    #[serde(default)]
    pub attempt: i32,
    /// What happens to a pod that ended: kept for its logs, or replaced (for services).
    #[serde(default)]
    pub ended_pods: EndedPods,
    /// What it is for.
    #[serde(default)]
    pub environment: EnvironmentKind,
    /// Longest time from its admission to its end, such as `12h`. When it is over the workload
    /// fails and its pods are stopped. In a queue with a time limit, that limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// The time limit that the owner keeps by itself, such as the `runPolicy.maxDuration` of a
    /// TrainingJob. Nothing is stopped by it here; where no run time is declared or learned, the
    /// scheduler expects the end by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_max_duration: Option<String>,
    /// What the scheduler should know of it.
    #[serde(default, skip_serializing_if = "Scheduling::is_default")]
    pub scheduling: Scheduling,
    /// Set by the owner once the work is over, whatever its pods do: from then on no pod is
    /// made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// How the owner of a Workload ended it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// Whether the work succeeded.
    pub succeeded: bool,
    /// Which of its pods are deleted.
    #[serde(default)]
    pub delete_pods: CleanUpPods,
}

/// A group of equal pods of a Workload.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSet {
    /// Role of these pods, unique in the Workload. Pods are named workload-name-index.
    pub name: String,
    /// How many pods.
    pub replicas: i32,
    /// How many must be placed at the same moment; all of them when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// The pod to make. `$(FERMION_INDEX)` in commands and values is the pod's index.
    pub template: PodTemplateSpec,
}

/// What happens to a pod that ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum EndedPods {
    /// It stays, so that its logs and exit code can be read.
    #[default]
    Keep,
    /// A new one takes its place.
    Replace,
}

/// What was observed of a Workload.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: Phase,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Sum of what its pods ask for, as quantities.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
    #[serde(default)]
    pub pod_sets: Vec<PodSetStatus>,
    /// Why it waits; absent once every pod has its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The attempt that the rest of this status is about.
    #[serde(default)]
    pub observed_attempt: i32,
    /// When all members had their place for the first time in this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<Time>,
}

/// Counts of the pods of one pod set, in the present attempt.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSetStatus {
    pub name: String,
    /// Pods wanted.
    pub replicas: i32,
    /// Pods that have a node.
    pub scheduled: i32,
    /// Pods with a running container.
    pub running: i32,
    /// Pods that are ready.
    pub ready: i32,
    pub succeeded: i32,
    pub failed: i32,
    /// Ended pods that were replaced one after the other without a calm while between; the
    /// higher, the longer the next one waits.
    #[serde(default)]
    pub replaced: i32,
}

/// Why a Workload waits, in facts and in a sentence.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Stable code: `InsufficientResources`, `ExceedsCapacity`, `BehindOthers`, …
    pub reason: String,
    /// The sentence for people.
    pub message: String,
    /// Place in its queue, from 1.
    pub position: i32,
    /// The resource of which there is too little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// How much of it is missing, as a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Where: the pool, or the node that comes nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When it is expected to start, as things stand now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_start: Option<Time>,
    /// What that estimate stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_basis: Option<EstimateBasis>,
    /// The smallest changes of which each by itself would let it start now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<Suggestion>,
}

/// What an estimated start stands on, the surest first.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum EstimateBasis {
    /// The time limits of what runs now: it starts no later than that, unless others are put before it.
    TimeLimits,
    /// Run times that people declared for what runs and waits before it.
    DeclaredRunTimes,
    /// How long similar work took before.
    LearnedRunTimes,
}

/// A change after which a workload that waits would start.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// Stable code of what to do: `AskForLess`, `RaiseLimit`, `AddNode`, `OpenQueue`, `WaitForWindow`, …
    pub action: String,
    /// What is changed: the field, queue, quota or pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The resource it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// By how much, or to what, as a quantity or a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// The sentence for people.
    pub message: String,
}

/// Phases of a Workload.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Waits for room.
    #[default]
    Pending,
    /// Every member has its place; some do not run yet.
    Admitted,
    /// The members it needs run.
    Running,
    /// A person or its owner suspended it.
    Suspended,
    /// Every pod ended with success.
    Succeeded,
    /// Some pod ended otherwise.
    Failed,
}

/// What can happen to a Workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    MembersPlaced,
    MembersStarted,
    /// A member lost its place (its node went away, its pod was deleted).
    MemberLost,
    AllSucceeded,
    MemberFailed,
    Suspended,
    Resumed,
    /// A new attempt began.
    StartedOver,
    /// It had its place for longer than it may run.
    TimeRanOut,
}

impl Phase {
    pub const ALL: [Self; 6] = [Self::Pending, Self::Admitted, Self::Running, Self::Suspended, Self::Succeeded, Self::Failed];

    /// The next phase.
    ///
    /// # Errors
    /// When the event cannot happen in this phase.
    pub fn apply(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        match (self, event) {
            (Self::Pending, E::MembersPlaced) => Ok(Self::Admitted),
            (Self::Pending | Self::Admitted | Self::Running, E::MembersStarted) => Ok(Self::Running),
            (Self::Admitted, E::MembersPlaced) => Ok(Self::Admitted),
            (Self::Running, E::MembersPlaced) => Ok(Self::Running),
            (Self::Pending | Self::Admitted | Self::Running, E::MemberLost) => Ok(Self::Pending),
            (Self::Pending | Self::Admitted | Self::Running, E::AllSucceeded) => Ok(Self::Succeeded),
            (Self::Pending | Self::Admitted | Self::Running, E::MemberFailed) => Ok(Self::Failed),
            (Self::Pending | Self::Admitted | Self::Running | Self::Suspended, E::Suspended) => Ok(Self::Suspended),
            (Self::Suspended, E::Resumed) => Ok(Self::Pending),
            (Self::Pending | Self::Admitted | Self::Running | Self::Suspended | Self::Succeeded | Self::Failed, E::StartedOver) => {
                Ok(Self::Pending)
            }
            (Self::Pending | Self::Admitted | Self::Running, E::TimeRanOut) => Ok(Self::Failed),
            (Self::Suspended, E::MembersPlaced | E::MembersStarted | E::MemberLost | E::AllSucceeded | E::MemberFailed | E::TimeRanOut)
            | (
                Self::Succeeded | Self::Failed,
                E::MembersPlaced | E::MembersStarted | E::MemberLost | E::AllSucceeded | E::MemberFailed | E::Suspended | E::TimeRanOut,
            )
            | (Self::Pending | Self::Admitted | Self::Running | Self::Succeeded | Self::Failed, E::Resumed) => {
                Err(Refused::new(self, event))
            }
        }
    }
}

impl Event {
    pub const ALL: [Self; 9] = [
        Self::MembersPlaced,
        Self::MembersStarted,
        Self::MemberLost,
        Self::AllSucceeded,
        Self::MemberFailed,
        Self::Suspended,
        Self::Resumed,
        Self::StartedOver,
        Self::TimeRanOut,
    ];
}

impl Rules for Workload {
    fn check(&self, old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        checks::priority(self.spec.priority, &mut problems);
        checks::span("spec.maxDuration", self.spec.max_duration.as_deref(), &mut problems);
        checks::span("spec.ownerMaxDuration", self.spec.owner_max_duration.as_deref(), &mut problems);
        scheduling::check(&self.spec.scheduling, &mut problems);
        let sets = &self.spec.pod_sets;
        if sets.is_empty() || sets.len() > POD_SETS_MAX {
            problems.push(Invalid::new("spec.podSets", format!("needs 1 to {POD_SETS_MAX} entries")));
        }
        for (index, set) in sets.iter().enumerate() {
            let at = |field: &str| format!("spec.podSets[{index}].{field}");
            checks::label(&at("name"), &set.name, &mut problems);
            checks::replicas(&at("replicas"), set.replicas, 0, &mut problems);
            if set.min_replicas.is_some_and(|min| min < 0 || min > set.replicas) {
                problems.push(Invalid::new(at("minReplicas"), "must lie between 0 and replicas"));
            }
            if sets[..index].iter().any(|other| other.name == set.name) {
                problems.push(Invalid::new(at("name"), format!("`{}` is used twice", set.name)));
            }
            checks::template(&at("template"), &set.template, true, &mut problems);
        }
        if old.is_some_and(|old| self.spec.attempt < old.spec.attempt) {
            problems.push(Invalid::new("spec.attempt", "can only grow"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_answers_every_event() {
        insta::assert_snapshot!(crate::rules::matrix(&Phase::ALL, &Event::ALL, Phase::apply));
    }
}
