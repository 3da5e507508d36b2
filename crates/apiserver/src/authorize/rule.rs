//! One rule of a role, and what it allows. The meaning is that of rbac.authorization.k8s.io/v1:
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Attributes;

/// Stands for every verb, group, resource or address.
pub(crate) const ALL: &str = "*";

/// What may be done with which resources, or at which other addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PolicyRule {
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) non_resource_urls: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) verbs: Vec<String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl PolicyRule {
    /// A rule over resources.
    pub(crate) fn resources(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Self {
        Self { api_groups: owned(groups), resources: owned(resources), verbs: owned(verbs), ..Self::default() }
    }

    /// A rule over other addresses.
    pub(crate) fn urls(urls: &[&str], verbs: &[&str]) -> Self {
        Self { non_resource_urls: owned(urls), verbs: owned(verbs), ..Self::default() }
    }

    /// Everything there is: what a cluster administrator holds.
    pub(crate) fn everything() -> [Self; 2] {
        [Self::resources(&[ALL], &[ALL], &[ALL]), Self::urls(&[ALL], &[ALL])]
    }

    /// The rules of a role as it is stored. A rule that cannot be read grants nothing.
    pub(crate) fn list(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().filter_map(|rule| Self::deserialize(rule).ok()).collect()
    }

    /// Whether the rule allows that.
    pub(crate) fn allows(&self, asked: &Attributes) -> bool {
        if !holds(&self.verbs, &asked.verb) {
            return false;
        }
        match &asked.path {
            Some(path) => self.non_resource_urls.iter().any(|url| url_covers(url, path)),
            None => {
                holds(&self.api_groups, &asked.group)
                    && self.resources.iter().any(|resource| resource_covers(resource, &asked.resource, &asked.subresource))
                    && (self.resource_names.is_empty() || self.resource_names.contains(&asked.name))
            }
        }
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Whether a list names `wanted` or everything.
pub(super) fn holds(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == ALL || entry == wanted)
}

/// Whether `pods`, `pods/log`, `*/log` or `*` in a rule means that resource.
fn resource_covers(entry: &str, resource: &str, subresource: &str) -> bool {
    if entry == ALL {
        return true;
    }
    match entry.split_once('/') {
        None => subresource.is_empty() && entry == resource,
        Some((of, part)) => !subresource.is_empty() && part == subresource && (of == ALL || of == resource),
    }
}

/// Whether `/api`, `/api/*` or `*` in a rule means that address.
pub(super) fn url_covers(entry: &str, path: &str) -> bool {
    entry == path || entry.strip_suffix(ALL).is_some_and(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    fn at(verb: &str, path: &str) -> Attributes {
        Attributes { verb: verb.into(), path: Some(path.into()), ..Attributes::default() }
    }

    fn rule(text: &str) -> PolicyRule {
        serde_yaml::from_str(text).expect("a rule")
    }

    /// The examples of <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#role-examples>.
    #[test]
    fn the_published_examples_mean_what_they_say() {
        let pods = rule("{apiGroups: [''], resources: [pods], verbs: [get, list, watch]}");
        let deployments = rule("{apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, update, patch, delete]}");
        let config = rule("{apiGroups: [''], resources: [configmaps], resourceNames: [my-config], verbs: [get]}");
        let logs = rule("{apiGroups: [''], resources: [pods, pods/log], verbs: [get, list]}");
        let updater = rule("{apiGroups: [''], resources: [configmaps], resourceNames: [my-configmap], verbs: [update, get]}");
        let health = rule("{nonResourceURLs: [/healthz, '/healthz/*'], verbs: [get, post]}");
        let scale = rule("{apiGroups: ['*'], resources: ['*/scale'], verbs: [get, update]}");
        for (rule, asked, allowed) in [
            (&pods, asked("get", "", "pods", "a"), true),
            (&pods, asked("watch", "", "pods", ""), true),
            (&pods, asked("delete", "", "pods", "a"), false),
            (&pods, asked("get", "", "pods/log", "a"), false),
            (&pods, asked("get", "apps", "pods", "a"), false),
            (&deployments, asked("patch", "apps", "deployments", "a"), true),
            (&deployments, asked("deletecollection", "apps", "deployments", ""), false),
            (&deployments, asked("patch", "extensions", "deployments", "a"), false),
            (&config, asked("get", "", "configmaps", "my-config"), true),
            (&config, asked("get", "", "configmaps", "other"), false),
            (&config, asked("get", "", "configmaps", ""), false),
            (&logs, asked("get", "", "pods/log", "a"), true),
            (&logs, asked("get", "", "pods/exec", "a"), false),
            (&updater, asked("update", "", "configmaps", "my-configmap"), true),
            // A name is not known yet when something is made, so a rule with names never allows it.
            (&updater, asked("create", "", "configmaps", ""), false),
            (&health, at("get", "/healthz"), true),
            (&health, at("post", "/healthz/etcd"), true),
            (&health, at("get", "/healthzz"), false),
            (&health, at("put", "/healthz"), false),
            (&health, asked("get", "", "pods", ""), false),
            (&scale, asked("update", "ai.fermion.dev", "inferenceservices/scale", "a"), true),
            (&scale, asked("update", "ai.fermion.dev", "inferenceservices", "a"), false),
            (&scale, asked("update", "ai.fermion.dev", "inferenceservices/status", "a"), false),
        ] {
            assert_eq!(rule.allows(&asked), allowed, "{rule:?} {asked:?}");
        }
    }

    #[test]
    fn stars_mean_everything_of_their_sort() {
        let [resources, urls] = PolicyRule::everything();
        assert!(resources.allows(&asked("anything", "any.group", "things/part", "x")));
        assert!(!resources.allows(&at("get", "/metrics")));
        assert!(urls.allows(&at("get", "/metrics")));
        assert!(!urls.allows(&asked("get", "", "pods", "")));
        let of_group = rule("{apiGroups: [ai.fermion.dev], resources: ['*'], verbs: [get]}");
        assert!(of_group.allows(&asked("get", "ai.fermion.dev", "trainingjobs/status", "x")));
        assert!(!of_group.allows(&asked("get", "", "pods", "x")));
    }

    #[test]
    fn what_cannot_be_read_grants_nothing() {
        let rules =
            serde_json::json!([{"verbs": "get"}, 5, {"verbs": null, "resources": null}, {"verbs": ["get"], "nonResourceURLs": ["/a"]}]);
        let read = PolicyRule::list(&rules);
        assert_eq!(read.len(), 2);
        assert!(!read.iter().any(|rule| rule.allows(&asked("get", "", "pods", ""))));
        assert!(PolicyRule::list(&Value::Null).is_empty());
    }
}
