//! What an API key is meant for: it narrows what its owner may do and never adds to it.

use serde_json::Value;

use super::default_roles;
use super::rule::PolicyRule;
use super::{Attributes, RBAC};

/// Subresources and kinds by which one gets into somebody's place. No API key reaches them, so
/// that a key that leaked cannot make itself another, wider one.
const CREDENTIALS: [(&str, &str, &str); 5] = [
    ("iam.fermion.dev", "apikeys", ""),
    ("iam.fermion.dev", "apikeys", "token"),
    ("iam.fermion.dev", "users", ""),
    ("iam.fermion.dev", "users", "password"),
    ("", "serviceaccounts", "token"),
];

/// The `spec.scope` of an ApiKey. What is left out is not narrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    rules: Option<Vec<PolicyRule>>,
    namespaces: Option<Vec<String>>,
}

impl Scope {
    /// The scope of an ApiKey as it is stored.
    pub(crate) fn of(key: &Value) -> Self {
        let scope = &key["spec"]["scope"];
        let namespaces = scope["namespaces"].as_array().map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        Self { rules: scope["rules"].is_array().then(|| PolicyRule::list(&scope["rules"])), namespaces }
    }

    /// Whether the key is meant for that; the error goes on after the key's name.
    pub(super) fn check(&self, asked: &Attributes) -> Result<(), String> {
        if makes_credentials(asked) {
            return Err("cannot be used to make or change credentials: sign in for that".to_owned());
        }
        // Without these a client cannot find out what is served and what it may do.
        if default_roles::of_everybody().iter().any(|rule| rule.allows(asked)) {
            return Ok(());
        }
        if let Some(namespaces) = &self.namespaces
            && asked.path.is_none()
            && !namespaces.contains(&asked.namespace)
        {
            return Err(format!("is meant for namespaces {} only", namespaces.join(", ")));
        }
        match &self.rules {
            Some(rules) if !rules.iter().any(|rule| rule.allows(asked)) => {
                Err("is not meant for this: see its spec.scope.rules".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What the key is meant for in `namespace`, or with none in the whole cluster, as rules.
    pub(super) fn rules_in(&self, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = default_roles::of_everybody().to_vec();
        if self.namespaces.as_ref().is_none_or(|namespaces| namespaces.iter().any(|meant| meant == namespace)) {
            rules.extend(self.rules.clone().unwrap_or_else(|| PolicyRule::everything().to_vec()));
        }
        rules
    }
}

/// Whether this makes, changes or takes over credentials, or gives rights away.
fn makes_credentials(asked: &Attributes) -> bool {
    if asked.path.is_some() || matches!(asked.verb.as_str(), "get" | "list" | "watch") {
        return false;
    }
    let kind = (asked.group.as_str(), asked.resource.as_str(), asked.subresource.as_str());
    CREDENTIALS.contains(&kind)
        || asked.verb == "impersonate"
        || (asked.group == RBAC && matches!(asked.verb.as_str(), "bind" | "escalate"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(verb: &str, namespace: &str, resource: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            namespace: namespace.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_key_is_good_for_its_namespaces_and_rules_only() {
        let scope = |scope: Value| Scope::of(&json!({"spec": {"scope": scope}}));
        let everything = scope(Value::Null);
        let lab = scope(json!({"namespaces": ["lab"]}));
        let reader = scope(json!({"namespaces": ["lab"], "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}));
        let nothing = scope(json!({"rules": []}));
        let get = Attributes { verb: "get".into(), path: Some("/apis".into()), ..Attributes::default() };
        let metrics = Attributes { verb: "get".into(), path: Some("/metrics".into()), ..Attributes::default() };
        for (scope, asked, fine) in [
            (&everything, asked("delete", "", "nodes"), true),
            (&everything, asked("create", "lab", "serviceaccounts/token"), false),
            (&everything, asked("impersonate", "", "users"), false),
            (&everything, metrics.clone(), true),
            (&lab, asked("delete", "lab", "pods"), true),
            (&lab, asked("delete", "other", "pods"), false),
            (&lab, asked("list", "", "pods"), false),
            (&lab, get.clone(), true),
            (&reader, asked("get", "lab", "pods"), true),
            (&reader, asked("list", "lab", "pods"), false),
            (&reader, asked("get", "other", "pods"), false),
            (&reader, get, true),
            (&reader, metrics, false),
            (&nothing, asked("get", "lab", "pods"), false),
        ] {
            assert_eq!(scope.check(&asked).is_ok(), fine, "{scope:?} {asked:?}");
        }
    }
}
