//! What a person may have: the words that ResourcePolicy and ResourceTicket share.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{self, Amounts};
use crate::ai::PRIORITY_RANGE;
use crate::{Invalid, duration, quantity};

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
    /// Priority of work that a person submits without one, which is one of 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
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
    /// The longest time that work may run.
    pub fn max_duration(&self) -> Option<Duration> {
        self.max_duration.as_deref().and_then(|text| duration::parse(text).ok())
    }

    /// The longest time that a development environment may be unused.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.as_deref().and_then(|text| duration::parse(text).ok())
    }

    /// The same with what a ticket gives on top of it: amounts and numbers of workloads are added,
    /// of all else the wider holds. What is not limited stays so.
    #[must_use]
    pub fn with(mut self, ticket: &Self) -> Self {
        add(&mut self.resources, &ticket.resources);
        add(&mut self.pending_resources, &ticket.pending_resources);
        let sum = |base: Option<i32>, more: Option<i32>| base.map(|base| base.saturating_add(more.unwrap_or(0)));
        self.running = sum(self.running, ticket.running);
        self.pending = sum(self.pending, ticket.pending);
        let wider = |base: Option<i32>, more: Option<i32>| base.map(|base| more.map_or(base, |more| more.max(base)));
        self.pods_per_workload = wider(self.pods_per_workload, ticket.pods_per_workload);
        self.max_priority = wider(self.max_priority, ticket.max_priority);
        self.priority = self.priority.max(ticket.priority);
        self.urgent = self.urgent.map(|may| may || ticket.urgent == Some(true));
        if self.max_duration() < ticket.max_duration() && self.max_duration.is_some() {
            self.max_duration.clone_from(&ticket.max_duration);
        }
        if self.idle_timeout() < ticket.idle_timeout() && self.idle_timeout.is_some() {
            self.idle_timeout.clone_from(&ticket.idle_timeout);
        }
        self
    }

    pub(super) fn check(&self, field: &str, problems: &mut Vec<Invalid>) {
        checks::amounts(&format!("{field}.resources"), &self.resources, problems);
        checks::amounts(&format!("{field}.pendingResources"), &self.pending_resources, problems);
        for (name, count) in [("running", self.running), ("pending", self.pending), ("podsPerWorkload", self.pods_per_workload)] {
            checks::within(&format!("{field}.{name}"), count, 0..=COUNT_MAX, problems);
        }
        checks::within(&format!("{field}.maxPriority"), self.max_priority, PRIORITY_RANGE, problems);
        checks::within(&format!("{field}.priority"), self.priority, PRIORITY_RANGE, problems);
        if let (Some(priority), Some(max)) = (self.priority, self.max_priority)
            && priority > max
        {
            problems.push(Invalid::new(format!("{field}.priority"), format!("must not be above maxPriority, {max}")));
        }
        checks::span(&format!("{field}.maxDuration"), self.max_duration.as_deref(), problems);
        checks::span(&format!("{field}.idleTimeout"), self.idle_timeout.as_deref(), problems);
    }
}

/// Adds amounts to those that are limited.
fn add(base: &mut Amounts, more: &Amounts) {
    for (name, amount) in base {
        let sum = more.get(name).map(|more| quantity::milli(amount).saturating_add(quantity::milli(more)));
        if let Some(sum) = sum {
            amount.0 = quantity::format(name, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_widens_what_is_limited_and_limits_nothing() {
        let entitlement = |value: serde_json::Value| -> Entitlement { serde_json::from_value(value).expect("an entitlement") };
        let base = serde_json::json!({
            "resources": {"cpu": "8"}, "running": 2, "pending": 4, "podsPerWorkload": 3, "maxPriority": 10, "urgent": false, "maxDuration": "2d"
        });
        let more = serde_json::json!({
            "resources": {"cpu": "500m", "memory": "1Gi"}, "pendingResources": {"cpu": "1"}, "running": 1, "pending": 1,
            "podsPerWorkload": 8, "maxPriority": 5, "urgent": true, "maxDuration": "7d", "idleTimeout": "3h"
        });
        let both = serde_json::json!({
            "resources": {"cpu": "8500m"}, "running": 3, "pending": 5, "podsPerWorkload": 8, "maxPriority": 10, "urgent": true, "maxDuration": "7d"
        });
        assert_eq!(serde_json::to_value(entitlement(base.clone()).with(&entitlement(more.clone()))).unwrap(), both);
        assert_eq!(Entitlement::default().with(&entitlement(more)), Entitlement::default());
        assert_eq!(entitlement(base.clone()).with(&Entitlement::default()), entitlement(base));
    }

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
