//! ApiKey: what a program of somebody signs its requests with.

use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Invalid, Rules};

/// The most rules of a key's scope.
const RULES_MAX: usize = 100;
/// The most namespaces of a key's scope.
const NAMESPACES_MAX: usize = 100;

/// An ApiKey lets a program act for a User, as far as its scope goes and never further than its
/// owner may. Its token is told once, by a POST to the subresource `token`, and ends when the key
/// is deleted.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "iam.fermion.dev",
    version = "v1alpha1",
    kind = "ApiKey",
    status = "ApiKeyStatus",
    derive = "PartialEq",
    category = "fermion",
    selectable = ".spec.user",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".status.prefix"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Last used", type_ = "date", json_path = ".status.lastUsedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// The User it acts for; yourself when left out. Cannot be changed.
    #[serde(default)]
    pub user: String,
    /// What it is used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub description: Option<String>,
    /// Until when it is good; 90 days from its making when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// What it is meant for; everything its owner may do when left out. Reading what is served
    /// and asking what one may do is always possible. Making credentials and giving away rights
    /// never is: that takes a sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ApiKeyScope>,
}

/// What an ApiKey is meant for. A part that is left out narrows nothing.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyScope {
    /// What may be done, in the form of a role's rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<PolicyRule>>,
    /// Namespaces it may be used in. Nothing outside of namespaces is possible then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

/// What was observed of an ApiKey.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// How its token begins, to find out which key somebody uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// When its token was made; missing while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When it was last used, within five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
}

impl Rules for ApiKey {
    const SUBRESOURCES: &'static [&'static str] = &["token"];

    fn check(&self, old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        if old.is_some_and(|old| old.spec.user != self.spec.user) {
            problems.push(Invalid::new("spec.user", "cannot be changed; make another ApiKey"));
        }
        let Some(scope) = &self.spec.scope else { return problems };
        let rules = scope.rules.as_deref().unwrap_or_default();
        if rules.len() > RULES_MAX {
            problems.push(Invalid::new("spec.scope.rules", format!("has more than {RULES_MAX} rules")));
        }
        for (index, rule) in rules.iter().enumerate() {
            let mut wrong = |field: &str, message: &str| problems.push(Invalid::new(format!("spec.scope.rules[{index}].{field}"), message));
            let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
            if rule.verbs.is_empty() {
                wrong("verbs", "must name at least one verb");
            }
            match (some(&rule.resources), some(&rule.non_resource_urls)) {
                (true, true) => wrong("nonResourceURLs", "cannot stand beside resources; write two rules"),
                (false, false) => wrong("resources", "must name at least one resource"),
                (true, false) if !some(&rule.api_groups) => wrong("apiGroups", "must name at least one group; \"\" is that of pods"),
                _ => {}
            }
        }
        let namespaces = scope.namespaces.as_deref().unwrap_or_default();
        if namespaces.len() > NAMESPACES_MAX {
            problems.push(Invalid::new("spec.scope.namespaces", format!("has more than {NAMESPACES_MAX} namespaces")));
        }
        if namespaces.iter().any(String::is_empty) {
            problems.push(Invalid::new("spec.scope.namespaces", "must be names of namespaces"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(spec: serde_json::Value) -> ApiKey {
        ApiKey::new("ci", serde_json::from_value(spec).expect("a spec"))
    }

    fn fields(problems: Vec<Invalid>) -> Vec<String> {
        problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_scope_is_made_of_rules_that_mean_something() {
        let good = key(serde_json::json!({"scope": {"namespaces": ["lab"], "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ]}}));
        assert_eq!(good.check(None), []);
        let bad = key(serde_json::json!({"scope": {"namespaces": [""], "rules": [
            {"resources": ["pods"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": []},
            {"verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/a"], "verbs": ["get"]},
        ]}}));
        assert_eq!(
            fields(bad.check(None)),
            [
                "spec.scope.rules[0].apiGroups",
                "spec.scope.rules[1].verbs",
                "spec.scope.rules[2].resources",
                "spec.scope.rules[3].nonResourceURLs",
                "spec.scope.namespaces"
            ]
        );
    }

    #[test]
    fn a_key_keeps_its_owner() {
        let old = key(serde_json::json!({"user": "ann"}));
        assert_eq!(fields(key(serde_json::json!({"user": "bob"})).check(Some(&old))), ["spec.user"]);
        assert_eq!(key(serde_json::json!({"user": "ann", "description": "new"})).check(Some(&old)), []);
    }
}
