//! ResourcePolicy: what people may have, by default or in particular.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entitlement::{Entitlement, Span, Stand, Subjects};
use crate::{Invalid, Rules};

/// A ResourcePolicy says what a person may have at once and how long. The default policy holds for
/// everybody; a special one holds in place of it for the people and groups it names, while it is
/// enabled and within its time. Of several special ones, one that names the person goes before those
/// that name a group, then the first by name.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "ResourcePolicy",
    status = "ResourcePolicyStatus",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Users", type_ = "string", json_path = ".spec.subjects.users"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.subjects.groups"),
    printcolumn(name = "From", type_ = "date", json_path = ".spec.validity.from", priority = 1),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.validity.until"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePolicySpec {
    /// Whether it holds for everybody whom no special policy names. One policy at most does.
    #[serde(default)]
    pub default: bool,
    /// For whom a special policy holds.
    #[serde(default, skip_serializing_if = "Subjects::is_empty")]
    pub subjects: Subjects,
    /// When a special policy holds; always when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Span>,
    /// False takes it out of force and keeps it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What a person may have.
    #[serde(default)]
    pub entitlement: Entitlement,
}

fn yes() -> bool {
    true
}

/// What was observed of a ResourcePolicy.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePolicyStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Whether a policy holds.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Its time has not come yet.
    Scheduled,
    /// It holds.
    Active,
    /// Somebody took it out of force.
    Disabled,
    /// Its time is over.
    Expired,
}

impl ResourcePolicySpec {
    /// Whether it holds at a moment. It follows from nothing else, so there are no events.
    pub fn phase(&self, now: Timestamp) -> Phase {
        match (self.enabled, self.validity.as_ref().map_or(Stand::Within, |validity| validity.stand(now))) {
            (_, Stand::After) => Phase::Expired,
            (false, Stand::Before | Stand::Within) => Phase::Disabled,
            (true, Stand::Before) => Phase::Scheduled,
            (true, Stand::Within) => Phase::Active,
        }
    }
}

/// The policy that holds for a person at a moment: a special one that names them, else one that
/// names a group of theirs, else the default. Of several the first by name.
pub fn policy_of<'a>(
    policies: impl IntoIterator<Item = &'a ResourcePolicy>,
    user: &str,
    groups: &[String],
    now: Timestamp,
) -> Option<&'a ResourcePolicy> {
    let rank = |policy: &ResourcePolicy| {
        let subjects = &policy.spec.subjects;
        if policy.spec.default {
            Some(2)
        } else if subjects.users.iter().any(|named| named == user) {
            Some(0)
        } else {
            subjects.groups.iter().any(|group| groups.contains(group)).then_some(1)
        }
    };
    let active = policies.into_iter().filter(|policy| policy.spec.phase(now) == Phase::Active);
    let ranked = active.filter_map(|policy| Some((rank(policy)?, policy.metadata.name.as_deref(), policy)));
    ranked.min_by_key(|(rank, name, _)| (*rank, *name)).map(|(_, _, policy)| policy)
}

impl Rules for ResourcePolicy {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        if spec.default && !spec.subjects.is_empty() {
            problems.push(Invalid::new("spec.subjects", "cannot be named by the default policy, which holds for everybody"));
        }
        if spec.default && spec.validity.is_some() {
            problems.push(Invalid::new("spec.validity", "cannot be given to the default policy, which holds always"));
        }
        if !spec.default && spec.subjects.is_empty() {
            problems.push(Invalid::new("spec.subjects", "needs a user or a group, unless it is the default policy"));
        }
        spec.subjects.check("spec.subjects", &mut problems);
        if let Some(validity) = &spec.validity {
            validity.check("spec.validity", &mut problems);
        }
        spec.entitlement.check("spec.entitlement", &mut problems);
        problems
    }
}

crate::kind!(ResourcePolicy);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: serde_json::Value) -> ResourcePolicy {
        ResourcePolicy::new("p", serde_json::from_value(spec).expect("a spec"))
    }

    #[test]
    fn the_default_is_for_everybody_and_others_for_somebody() {
        let fields = |spec: serde_json::Value| policy(spec).check(None).into_iter().map(|problem| problem.field).collect::<Vec<_>>();
        assert!(fields(serde_json::json!({"default": true, "entitlement": {"resources": {"cpu": "8"}, "running": 4}})).is_empty());
        assert!(fields(serde_json::json!({"subjects": {"groups": ["lab"]}})).is_empty());
        assert_eq!(fields(serde_json::json!({})), ["spec.subjects"]);
        let wrong = serde_json::json!({
            "default": true, "subjects": {"users": ["ann"]}, "validity": {"from": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
            "entitlement": {"running": -1, "maxDuration": "long"},
        });
        let expected =
            ["spec.subjects", "spec.validity", "spec.validity.until", "spec.entitlement.running", "spec.entitlement.maxDuration"];
        assert_eq!(fields(wrong), expected);
    }

    #[test]
    fn a_policy_holds_while_it_is_enabled_and_within_its_time() {
        let spec = |enabled: bool| {
            let validity = serde_json::json!({"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"});
            policy(serde_json::json!({"subjects": {"users": ["ann"]}, "enabled": enabled, "validity": validity})).spec
        };
        let at = |text: &str| -> Timestamp { text.parse().expect("a time") };
        for (now, enabled, disabled) in [
            ("2025-12-31T23:59:59Z", Phase::Scheduled, Phase::Disabled),
            ("2026-01-01T00:00:00Z", Phase::Active, Phase::Disabled),
            ("2026-02-01T00:00:00Z", Phase::Expired, Phase::Expired),
        ] {
            assert_eq!((spec(true).phase(at(now)), spec(false).phase(at(now))), (enabled, disabled), "{now}");
        }
    }
}
