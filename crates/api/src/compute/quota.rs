//! Quota: how much a tenant, an organisation, a project or a user may have at once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{self, Amounts};
use crate::{Invalid, Rules};

/// A Quota is a ceiling on what somebody's workloads may have at once, over all pools. It counts
/// cards by model, shares of cards as fractions. Every quota that is about a workload must have
/// room: that of the user in the project, of the project, of its organisation and of its tenant.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "Quota",
    status = "QuotaStatus",
    derive = "PartialEq",
    category = "fermion",
    selectable = ".spec.subject.kind",
    selectable = ".spec.subject.name",
    selectable = ".spec.subject.project",
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject.kind"),
    printcolumn(name = "Name of subject", type_ = "string", json_path = ".spec.subject.name"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.subject.project", priority = 1),
    printcolumn(name = "Hard", type_ = "string", json_path = ".spec.hard"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct QuotaSpec {
    /// Whose workloads it bounds.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "cannot be changed; make another Quota"}]))]
    pub subject: Subject,
    /// The ceiling for each resource it names: `cpu`, `memory`, `gpu.fermion.dev/MODEL`, …
    pub hard: Amounts,
}

/// Whose workloads a quota bounds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    pub kind: SubjectKind,
    /// Name of the tenant, organisation, project or user.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The project in which a user is bounded; for users only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Who can have a quota, from the widest to the narrowest.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
pub enum SubjectKind {
    Tenant,
    Organization,
    Project,
    /// A user in one project.
    User,
}

/// What was observed of a Quota. Amounts are quantities by resource name.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The whole.
    #[serde(default)]
    pub total: BTreeMap<String, String>,
    /// What quotas below it were given of it.
    #[serde(default)]
    pub allocated: BTreeMap<String, String>,
    /// What can still be given to quotas below it: the whole less what was given.
    #[serde(default)]
    pub allocatable: BTreeMap<String, String>,
    /// What workloads have that have their place.
    #[serde(default)]
    pub used: BTreeMap<String, String>,
    /// What workloads ask for that wait.
    #[serde(default)]
    pub in_process: BTreeMap<String, String>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Rules for Quota {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let subject = &self.spec.subject;
        match (subject.kind, &subject.project) {
            (SubjectKind::User, None) => problems.push(Invalid::new("spec.subject.project", "is required: users are bounded in a project")),
            (SubjectKind::User, Some(project)) => checks::object_name("spec.subject.project", project, &mut problems),
            (_, Some(_)) => problems.push(Invalid::new("spec.subject.project", "is only for users")),
            (_, None) => {}
        }
        if subject.kind != SubjectKind::User {
            checks::object_name("spec.subject.name", &subject.name, &mut problems);
        }
        if self.spec.hard.is_empty() {
            problems.push(Invalid::new("spec.hard", "needs at least one resource"));
        }
        checks::amounts("spec.hard", &self.spec.hard, &mut problems);
        problems
    }
}

crate::kind!(Quota);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_bounded_in_a_project() {
        let fields = |subject: serde_json::Value| {
            let quota =
                Quota::new("q", serde_json::from_value(serde_json::json!({"subject": subject, "hard": {"cpu": "4"}})).expect("a spec"));
            quota.check(None).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        assert!(fields(serde_json::json!({"kind": "User", "name": "ann@example.org", "project": "lab"})).is_empty());
        assert!(fields(serde_json::json!({"kind": "Tenant", "name": "acme"})).is_empty());
        assert_eq!(fields(serde_json::json!({"kind": "User", "name": "ann"})), ["spec.subject.project"]);
        assert_eq!(fields(serde_json::json!({"kind": "Project", "name": "lab", "project": "lab"})), ["spec.subject.project"]);
    }
}
