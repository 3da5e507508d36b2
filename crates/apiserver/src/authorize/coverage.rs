//! Whether one set of rules holds everything that another grants: nobody may give away more than
//! they have. The algorithm is that of Kubernetes (`component-helpers/auth/rbac/validation`):
//! what is granted is taken apart into single permissions, and each must be inside one rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::rule::{ALL, PolicyRule, holds, url_covers};

/// The single permissions in `granted` that no rule of `held` covers; empty when all are held.
pub(crate) fn missing(held: &[PolicyRule], granted: &[PolicyRule]) -> Vec<PolicyRule> {
    granted.iter().flat_map(split).filter(|part| !held.iter().any(|rule| covers(rule, part))).collect()
}

/// Takes a rule apart: one verb and one resource of one group, with at most one name, or one
/// verb and one address.
fn split(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let part = PolicyRule {
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                } else {
                    parts.extend(rule.resource_names.iter().map(|name| PolicyRule { resource_names: vec![name.clone()], ..part.clone() }));
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        parts.extend(rule.verbs.iter().map(|verb| PolicyRule::urls(&[url], &[verb])));
    }
    parts
}

/// Whether `rule` holds all of a single permission.
fn covers(rule: &PolicyRule, part: &PolicyRule) -> bool {
    let all = |held: &[String], granted: &[String]| granted.iter().all(|entry| holds(held, entry));
    let resource = |granted: &String| {
        holds(&rule.resources, granted)
            || granted.split_once('/').is_some_and(|(_, part)| rule.resources.iter().any(|held| *held == format!("{ALL}/{part}")))
    };
    let names = rule.resource_names.is_empty()
        || (!part.resource_names.is_empty() && part.resource_names.iter().all(|name| rule.resource_names.contains(name)));
    all(&rule.verbs, &part.verbs)
        && all(&rule.api_groups, &part.api_groups)
        && part.resources.iter().all(resource)
        && part.non_resource_urls.iter().all(|granted| rule.non_resource_urls.iter().any(|held| url_covers(held, granted)))
        && names
}

/// Permissions as kube-apiserver words them in a refusal: one line for each resource, its verbs
/// together, sorted.
pub(crate) fn describe(parts: &[PolicyRule]) -> String {
    let mut verbs_of: BTreeMap<PolicyRule, Vec<String>> = BTreeMap::new();
    for part in parts {
        let resource = PolicyRule { verbs: Vec::new(), ..part.clone() };
        verbs_of.entry(resource).or_default().extend(part.verbs.iter().cloned());
    }
    let lines: BTreeSet<String> = verbs_of
        .into_iter()
        .map(|(resource, verbs)| {
            let fields = [
                ("APIGroups", &resource.api_groups),
                ("Resources", &resource.resources),
                ("NonResourceURLs", &resource.non_resource_urls),
                ("ResourceNames", &resource.resource_names),
                ("Verbs", &verbs),
            ];
            let said: Vec<String> =
                fields.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
            format!("{{{}}}", said.join(", "))
        })
        .collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(crate) fn quoted(list: &[String]) -> String {
    let mut text = "[".to_owned();
    for (index, entry) in list.iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        // Writing to a text cannot fail.
        let _ = write!(text, "{space}{entry:?}");
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::authorize::Attributes;

    fn rules(text: &str) -> Vec<PolicyRule> {
        serde_yaml::from_str(text).expect("rules")
    }

    /// The table of Kubernetes' own test of this (`policy_compact_test.go`, `rule_test.go`).
    #[test]
    fn what_is_held_covers_what_is_granted() {
        for (held, granted, lacking) in [
            // exact and by more than one rule
            ("[{apiGroups: [v1], resources: [builds], verbs: [get]}]", "[{apiGroups: [v1], resources: [builds], verbs: [get]}]", ""),
            (
                "[{apiGroups: [v1], resources: [builds], verbs: [delete]}, {apiGroups: [v1], resources: [builds], verbs: [update]}]",
                "[{apiGroups: [v1], resources: [builds], verbs: [delete, update]}]",
                "",
            ),
            (
                "[{apiGroups: [v1], resources: [builds, deployments], verbs: [get]}]",
                "[{apiGroups: [v1], resources: [builds, pods], verbs: [get, update]}]",
                "{APIGroups:[\"v1\"], Resources:[\"builds\"], Verbs:[\"update\"]}\n{APIGroups:[\"v1\"], Resources:[\"pods\"], Verbs:[\"get\" \"update\"]}",
            ),
            // stars
            ("[{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]", "[{apiGroups: [a], resources: [b/c], verbs: [d]}]", ""),
            (
                "[{apiGroups: [a], resources: [b], verbs: [get]}]",
                "[{apiGroups: ['*'], resources: [b], verbs: [get]}]",
                "{APIGroups:[\"*\"], Resources:[\"b\"], Verbs:[\"get\"]}",
            ),
            // subresources
            ("[{apiGroups: [''], resources: ['*/scale'], verbs: [get]}]", "[{apiGroups: [''], resources: [foo/scale], verbs: [get]}]", ""),
            (
                "[{apiGroups: [''], resources: [foo], verbs: [get]}]",
                "[{apiGroups: [''], resources: [foo/scale], verbs: [get]}]",
                "{APIGroups:[\"\"], Resources:[\"foo/scale\"], Verbs:[\"get\"]}",
            ),
            // names
            (
                "[{apiGroups: [v1], resources: [builds], resourceNames: [foo, bar], verbs: [get]}]",
                "[{apiGroups: [v1], resources: [builds], resourceNames: [foo], verbs: [get]}]",
                "",
            ),
            (
                "[{apiGroups: [v1], resources: [builds], resourceNames: [foo], verbs: [get]}]",
                "[{apiGroups: [v1], resources: [builds], verbs: [get]}]",
                "{APIGroups:[\"v1\"], Resources:[\"builds\"], Verbs:[\"get\"]}",
            ),
            (
                "[{apiGroups: [v1], resources: [builds], verbs: [get]}]",
                "[{apiGroups: [v1], resources: [builds], resourceNames: [foo], verbs: [get]}]",
                "",
            ),
            // other addresses
            ("[{nonResourceURLs: [/apis], verbs: [get]}]", "[{nonResourceURLs: [/apis], verbs: [get]}]", ""),
            ("[{nonResourceURLs: ['*'], verbs: ['*']}]", "[{nonResourceURLs: [/apis, '/b/*'], verbs: [get]}]", ""),
            ("[{nonResourceURLs: ['/apis/*'], verbs: [get]}]", "[{nonResourceURLs: ['/apis/a/*'], verbs: [get]}]", ""),
            (
                "[{nonResourceURLs: ['/apis/*'], verbs: [get]}]",
                "[{nonResourceURLs: [/apis], verbs: [get]}]",
                "{NonResourceURLs:[\"/apis\"], Verbs:[\"get\"]}",
            ),
        ] {
            assert_eq!(describe(&missing(&rules(held), &rules(granted))), lacking, "{held} {granted}");
        }
    }

    fn word() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "a/s", "*/s", "*"]).prop_map(str::to_owned)
    }

    fn some_rule() -> impl Strategy<Value = PolicyRule> {
        let some = || prop::collection::vec(word(), 0..3);
        (some(), some(), prop::collection::vec(prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned), 0..2), some()).prop_map(
            |(api_groups, resources, resource_names, verbs)| PolicyRule {
                api_groups,
                resources,
                resource_names,
                verbs,
                ..PolicyRule::default()
            },
        )
    }

    proptest! {
        /// The purpose of it all: when nothing is missing, nothing more becomes possible.
        #[test]
        fn granting_what_is_held_allows_nothing_new(
            held in prop::collection::vec(some_rule(), 0..4),
            granted in some_rule(),
            verb in word(), group in word(), resource in prop::sample::select(vec!["a", "b"]), subresource in prop::sample::select(vec!["", "s", "t"]),
            name in prop::sample::select(vec!["", "a", "c"]),
        ) {
            prop_assume!(missing(&held, std::slice::from_ref(&granted)).is_empty());
            let asked = Attributes { verb, group, resource: resource.into(), subresource: subresource.into(), name: name.into(), ..Attributes::default() };
            prop_assert!(!granted.allows(&asked) || held.iter().any(|rule| rule.allows(&asked)), "{held:?} {granted:?} {asked:?}");
        }
    }
}
