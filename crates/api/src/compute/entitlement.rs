//! What a person may have: the words that ResourcePolicy and ResourceTicket share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{self, Amounts};
use crate::Invalid;
use crate::ai::PRIORITY_RANGE;

/// The most of anything that is counted.
const COUNT_MAX: i32 = 1_000_000;

/// What one person may have. No limit for what is not named.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entitlement {
    /// What all workloads of a person may have at once: `cpu`, `memory`, `gpu.fermion.dev/MODEL`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: Amounts,
    /// What all workloads of a person that wait may ask for together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending_resources: Amounts,
    /// How many workloads of a person may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<i32>,
    /// How many workloads of a person may wait at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<i32>,
    /// How many pods one workload may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_per_workload: Option<i32>,
    /// Highest priority a person may give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<i32>,
    /// Whether a person may call work urgent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgent: Option<bool>,
    /// Longest time a workload may run, such as `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// Longest time a development environment may be unused before it is stopped, such as `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
}

/// People and groups.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subjects {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Members of any of these groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Subjects {
    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    pub(super) fn check(&self, field: &str, problems: &mut Vec<Invalid>) {
        checks::subjects(&format!("{field}.users"), &self.users, problems);
        checks::subjects(&format!("{field}.groups"), &self.groups, problems);
    }
}

/// A span of time from one moment to another.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// From when; from the beginning when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Until when, that moment not included; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// How a moment stands to a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    Before,
    Within,
    After,
}

impl Span {
    /// How a moment stands to it.
    pub fn stand(&self, now: Timestamp) -> Stand {
        if self.until.as_ref().is_some_and(|until| until.0 <= now) {
            Stand::After
        } else if self.from.as_ref().is_some_and(|from| from.0 > now) {
            Stand::Before
        } else {
            Stand::Within
        }
    }

    /// The next moment after `now` at which that changes.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        [&self.from, &self.until].into_iter().flatten().map(|time| time.0).filter(|at| *at > now).min()
    }

    pub(super) fn check(&self, field: &str, problems: &mut Vec<Invalid>) {
        if let (Some(from), Some(until)) = (&self.from, &self.until)
            && from.0 >= until.0
        {
            problems.push(Invalid::new(format!("{field}.until"), "must be after the beginning"));
        }
    }
}

impl Entitlement {
    pub(super) fn check(&self, field: &str, problems: &mut Vec<Invalid>) {
        checks::amounts(&format!("{field}.resources"), &self.resources, problems);
        checks::amounts(&format!("{field}.pendingResources"), &self.pending_resources, problems);
        for (name, count) in [("running", self.running), ("pending", self.pending), ("podsPerWorkload", self.pods_per_workload)] {
            checks::within(&format!("{field}.{name}"), count, 0..=COUNT_MAX, problems);
        }
        checks::within(&format!("{field}.maxPriority"), self.max_priority, PRIORITY_RANGE, problems);
        checks::span(&format!("{field}.maxDuration"), self.max_duration.as_deref(), problems);
        checks::span(&format!("{field}.idleTimeout"), self.idle_timeout.as_deref(), problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_holds_from_its_first_moment_to_before_its_last() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let span = Span { from: Some(Time(at(10))), until: Some(Time(at(20))) };
        for (now, stand, next) in
            [(9, Stand::Before, Some(10)), (10, Stand::Within, Some(20)), (19, Stand::Within, Some(20)), (20, Stand::After, None)]
        {
            assert_eq!((span.stand(at(now)), span.next_change(at(now))), (stand, next.map(at)), "{now}");
        }
        assert_eq!(Span::default().stand(at(0)), Stand::Within);
    }
}
