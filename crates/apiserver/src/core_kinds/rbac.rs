//! Roles and bindings: what is filled in and checked beyond their schema, as kube-apiserver does
//! it (`pkg/apis/rbac`).

use fermion_api::Invalid;
use serde_json::{Map, Value};

use crate::authorize::RBAC;
use crate::names;

/// Fills in the group of the role and of the subjects.
pub(super) fn binding_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    let set = |object: &mut Map<String, Value>, field: &str, value: &str| {
        if object.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            object.insert(field.to_owned(), value.into());
        }
    };
    if let Some(role) = object.get_mut("roleRef").and_then(Value::as_object_mut) {
        set(role, "apiGroup", RBAC);
    }
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(subject["kind"].as_str(), Some("User" | "Group"))
            && let Some(subject) = subject.as_object_mut()
        {
            set(subject, "apiGroup", RBAC);
        }
    }
    Ok(object)
}

pub(super) fn check_role(object: &Value, _old: Option<&Value>) -> Vec<Invalid> {
    check_rules(object, true)
}

pub(super) fn check_cluster_role(object: &Value, _old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = check_rules(object, false);
    let selectors = &object["aggregationRule"]["clusterRoleSelectors"];
    if !object["aggregationRule"].is_null() && selectors.as_array().is_none_or(Vec::is_empty) {
        problems.push(Invalid::new(
            "aggregationRule.clusterRoleSelectors",
            "Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    problems
}

fn check_rules(object: &Value, namespaced: bool) -> Vec<Invalid> {
    let mut problems = Vec::new();
    for (index, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
        let mut wrong = |field: &str, message: &str| problems.push(Invalid::new(format!("rules[{index}].{field}"), message));
        if empty("verbs") {
            wrong("verbs", "Required value: verbs must contain at least one value");
        }
        if empty("nonResourceURLs") {
            if empty("apiGroups") {
                wrong("apiGroups", "Required value: resource rules must supply at least one api group");
            }
            if empty("resources") {
                wrong("resources", "Required value: resource rules must supply at least one resource");
            }
        } else {
            if namespaced {
                wrong("nonResourceURLs", "Invalid value: namespaced rules cannot apply to non-resource URLs");
            }
            if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
                wrong("nonResourceURLs", "Invalid value: rules cannot apply to both regular resources and non-resource URLs");
            }
        }
    }
    problems
}

pub(super) fn check_role_binding(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    check_binding(object, old, &["ClusterRole", "Role"])
}

pub(super) fn check_cluster_role_binding(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    check_binding(object, old, &["ClusterRole"])
}

fn check_binding(object: &Value, old: Option<&Value>, kinds: &[&str]) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let role = &object["roleRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if role["apiGroup"] != RBAC {
        problems.push(Invalid::new(
            "roleRef.apiGroup",
            format!("Unsupported value: {:?}: supported values: {RBAC:?}", text(&role["apiGroup"])),
        ));
    }
    if !kinds.contains(&text(&role["kind"]).as_str()) {
        let supported: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
        let message = format!("Unsupported value: {:?}: supported values: {}", text(&role["kind"]), supported.join(", "));
        problems.push(Invalid::new("roleRef.kind", message));
    }
    match role["name"].as_str() {
        None | Some("") => problems.push(Invalid::new("roleRef.name", "Required value")),
        Some(name) if !names::is_path_segment_name(name) => {
            problems.push(Invalid::new(
                "roleRef.name",
                format!("Invalid value: {name:?}: may not be \".\" or \"..\", or contain \"/\" or \"%\""),
            ));
        }
        Some(_) => {}
    }
    for (index, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let mut wrong = |field: &str, message: String| problems.push(Invalid::new(format!("subjects[{index}].{field}"), message));
        let name = text(&subject["name"]);
        if name.is_empty() {
            wrong("name", "Required value".to_owned());
        }
        let group = text(&subject["apiGroup"]);
        match subject["kind"].as_str().unwrap_or_default() {
            "ServiceAccount" => {
                if !name.is_empty() && !names::is_dns_name(&name) {
                    wrong(
                        "name",
                        format!(
                            "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
                        ),
                    );
                }
                if !group.is_empty() {
                    wrong("apiGroup", format!("Unsupported value: {group:?}: supported values: \"\""));
                }
                let own_namespace = object["metadata"]["namespace"].as_str().is_some_and(|namespace| !namespace.is_empty());
                if text(&subject["namespace"]).is_empty() && !own_namespace {
                    wrong("namespace", "Required value".to_owned());
                }
            }
            "User" | "Group" => {
                if group != RBAC {
                    wrong("apiGroup", format!("Unsupported value: {group:?}: supported values: {RBAC:?}"));
                }
            }
            other => wrong("kind", format!("Unsupported value: {other:?}: supported values: \"Group\", \"ServiceAccount\", \"User\"")),
        }
    }
    if old.is_some_and(|old| old["roleRef"] != *role) {
        problems.push(Invalid::new("roleRef", format!("Invalid value: {role}: cannot change roleRef")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).expect("YAML")
    }

    fn fields(problems: &[Invalid]) -> Vec<&str> {
        problems.iter().map(|problem| problem.field.as_str()).collect()
    }

    #[test]
    fn rules_are_about_resources_or_addresses_and_have_verbs() {
        for (rules, wrong) in [
            ("[{apiGroups: [''], resources: [pods], verbs: [get]}]", vec![]),
            ("[{apiGroups: [''], resources: [pods]}]", vec!["rules[0].verbs"]),
            ("[{resources: [pods], verbs: [get]}]", vec!["rules[0].apiGroups"]),
            ("[{apiGroups: [''], verbs: [get]}]", vec!["rules[0].resources"]),
            ("[{nonResourceURLs: [/a], verbs: [get]}]", vec![]),
            ("[{nonResourceURLs: [/a], resources: [pods], verbs: [get]}]", vec!["rules[0].nonResourceURLs"]),
        ] {
            let role = yaml(&format!("{{rules: {rules}}}"));
            assert_eq!(fields(&check_cluster_role(&role, None)), wrong, "{rules}");
        }
        let urls = yaml("{rules: [{nonResourceURLs: [/a], verbs: [get]}]}");
        assert_eq!(fields(&check_role(&urls, None)), ["rules[0].nonResourceURLs"]);
        assert_eq!(fields(&check_cluster_role(&yaml("{aggregationRule: {}}"), None)), ["aggregationRule.clusterRoleSelectors"]);
    }

    #[test]
    fn a_binding_names_a_role_and_subjects_that_can_exist() {
        let binding = |text: &str| binding_defaults(yaml(text)).expect("fine");
        let good = binding(
            "{metadata: {namespace: a}, roleRef: {kind: Role, name: 'system:x'}, subjects: [{kind: User, name: Ann}, {kind: ServiceAccount, name: robot}]}",
        );
        assert_eq!(good["subjects"][0]["apiGroup"], RBAC);
        assert_eq!(check_role_binding(&good, None), []);
        assert_eq!(fields(&check_cluster_role_binding(&good, None)), ["roleRef.kind"]);
        let bad = binding(
            "{roleRef: {kind: Rule, name: a/b, apiGroup: x}, subjects: [{kind: Robot, name: a}, {kind: ServiceAccount, name: A}, {kind: Group, name: ''}, {kind: User, name: u, apiGroup: x}]}",
        );
        assert_eq!(
            fields(&check_role_binding(&bad, None)),
            [
                "roleRef.apiGroup",
                "roleRef.kind",
                "roleRef.name",
                "subjects[0].kind",
                "subjects[1].name",
                "subjects[1].namespace",
                "subjects[2].name",
                "subjects[3].apiGroup"
            ]
        );
    }

    #[test]
    fn the_role_of_a_binding_stays() {
        let old = yaml("{metadata: {namespace: a}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: a}}");
        let mut new = old.clone();
        new["subjects"] = serde_json::json!([{"kind": "Group", "name": "g", "apiGroup": RBAC}]);
        assert_eq!(check_role_binding(&new, Some(&old)), []);
        new["roleRef"]["name"] = "b".into();
        let problems = check_role_binding(&new, Some(&old));
        assert_eq!(fields(&problems), ["roleRef"]);
        assert!(problems[0].message.ends_with("cannot change roleRef"));
    }
}
