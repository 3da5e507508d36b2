//! Decisions over small sets of roles and bindings.

mod routes;

use serde_json::{Value, json};

use super::default_roles::{aggregate, cluster_role_bindings, cluster_roles};
use super::rule::PolicyRule;
use super::rules::RoleRef;
use super::*;
use crate::identity::AUTHENTICATED;

/// The default roles and bindings, aggregated.
fn default_rules() -> Rules {
    let mut roles = cluster_roles();
    roles.sort_by_key(|role| role["metadata"]["name"].to_string());
    for _ in 0..roles.len() {
        for index in 0..roles.len() {
            if !roles[index]["aggregationRule"].is_null() {
                roles[index]["rules"] = aggregate(&roles[index], &roles).into();
            }
        }
    }
    let mut rules = Rules::default();
    for role in &roles {
        rules.put_role("", name(role), role);
    }
    for binding in cluster_role_bindings() {
        rules.put_binding("", name(&binding), &binding);
    }
    rules
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn person(name: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|group| (*group).to_owned()).chain([AUTHENTICATED.to_owned()]).collect();
    Identity { name: name.to_owned(), groups, ..Identity::default() }
}

fn on(verb: &str, namespace: &str, resource: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        verb: verb.into(),
        namespace: namespace.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        ..Attributes::default()
    }
}

fn at(verb: &str, path: &str) -> Attributes {
    Attributes { verb: verb.into(), path: Some(path.into()), ..Attributes::default() }
}

fn bind(rules: &mut Rules, namespace: &str, name: &str, role: (&str, &str), subject: Value) {
    let binding = json!({"roleRef": {"kind": role.0, "name": role.1}, "subjects": [subject]});
    rules.put_binding(namespace, name, &binding);
}

fn lab() -> Rules {
    let mut rules = default_rules();
    rules.put_role("lab", "pod-reader", &json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]}));
    rules.put_role(
        "",
        "everywhere",
        &json!({"rules": [
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ]}),
    );
    bind(&mut rules, "lab", "read-pods", ("Role", "pod-reader"), json!({"kind": "User", "name": "jane"}));
    bind(&mut rules, "lab", "editors", ("ClusterRole", "edit"), json!({"kind": "Group", "name": "dev"}));
    bind(&mut rules, "lab", "odd", ("ClusterRole", "everywhere"), json!({"kind": "User", "name": "jane"}));
    bind(&mut rules, "", "wide", ("ClusterRole", "everywhere"), json!({"kind": "User", "name": "ann"}));
    bind(&mut rules, "lab", "robots", ("Role", "pod-reader"), json!({"kind": "ServiceAccount", "name": "robot", "namespace": "ci"}));
    bind(&mut rules, "lab", "lost", ("Role", "no-such"), json!({"kind": "User", "name": "lost"}));
    rules
}

#[test]
fn bindings_give_roles_to_users_groups_and_service_accounts() {
    let rules = lab();
    let jane = person("jane", &[]);
    let dev = person("dan", &["dev"]);
    let robot = Identity::service_account("ci", "robot", "u");
    let other_robot = Identity::service_account("lab", "robot", "u");
    for (who, asked, allowed) in [
        (&jane, on("get", "lab", "pods"), true),
        (&jane, on("delete", "lab", "pods"), false),
        (&jane, on("get", "other", "pods"), false),
        // A binding in a namespace gives nothing outside of it, whatever its ClusterRole says.
        (&jane, on("list", "", "pods"), false),
        (&jane, on("get", "", "nodes"), false),
        (&jane, at("get", "/metrics"), false),
        (&jane, at("get", "/apis/ai.fermion.dev"), true),
        (&jane, at("get", "/apisx"), false),
        (&person("ann", &[]), on("get", "", "nodes"), true),
        (&person("ann", &[]), at("get", "/metrics"), true),
        (&dev, on("create", "lab", "pods/exec"), true),
        (&dev, on("create", "other", "pods"), false),
        (&robot, on("watch", "lab", "pods"), true),
        (&robot, on("watch", "ci", "pods"), false),
        (&other_robot, on("watch", "lab", "pods"), false),
        (&person("root", &[ADMINISTRATORS]), on("anything", "x", "y"), true),
        (&person("root", &[ADMINISTRATORS]), at("put", "/z"), true),
    ] {
        assert_eq!(authorize(&rules, who, &asked).allowed, allowed, "{} {asked:?}", who.name);
    }
    // Without even the group of the signed-in there is nothing.
    let nobody = Identity { name: "jim".to_owned(), ..Identity::default() };
    assert!(!authorize(&rules, &nobody, &at("get", "/apis")).allowed);
}

#[test]
fn reasons_and_refusals_are_worded_as_kubernetes_does() {
    let rules = lab();
    let reason = |who: &Identity, asked: Attributes| authorize(&rules, who, &asked).reason;
    assert_eq!(
        reason(&person("jane", &[]), on("get", "lab", "pods")),
        r#"RBAC: allowed by RoleBinding "read-pods/lab" of Role "pod-reader" to User "jane""#
    );
    assert_eq!(
        reason(&person("ann", &[]), at("get", "/version")),
        r#"RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated""#
    );
    assert_eq!(reason(&person("lost", &[]), on("get", "lab", "pods")), r#"RBAC: role.rbac.authorization.k8s.io "no-such" not found"#);
    let refusal = |asked: Attributes| {
        let who = person("jim", &[]);
        let decision = authorize(&rules, &who, &asked);
        asked.refusal(&who, &decision)
    };
    let named = refusal(Attributes { name: "web".into(), ..on("get", "lab", "pods/log") });
    assert_eq!(
        named.message,
        r#"pods "web" is forbidden: User "jim" cannot get resource "pods/log" in API group "" in the namespace "lab""#
    );
    assert_eq!(named.details, Some(json!({"name": "web", "kind": "pods"})));
    let grouped = refusal(Attributes { group: "ai.fermion.dev".into(), ..on("list", "", "trainingjobs") });
    assert_eq!(
        grouped.message,
        r#"trainingjobs.ai.fermion.dev is forbidden: User "jim" cannot list resource "trainingjobs" in API group "ai.fermion.dev" at the cluster scope"#
    );
    assert_eq!(refusal(at("get", "/metrics")).message, r#"forbidden: User "jim" cannot get path "/metrics""#);
}

#[test]
fn what_is_taken_away_is_gone_at_once() {
    let mut rules = lab();
    let jane = person("jane", &[]);
    let pods = on("get", "lab", "pods");
    rules.put_role("lab", "pod-reader", &json!({"rules": []}));
    assert!(!authorize(&rules, &jane, &pods).allowed);
    let mut rules = lab();
    rules.remove_binding("lab", "read-pods");
    assert!(!authorize(&rules, &jane, &pods).allowed);
    let mut rules = lab();
    bind(&mut rules, "lab", "read-pods", ("Role", "pod-reader"), json!({"kind": "User", "name": "jim"}));
    assert!(!authorize(&rules, &jane, &pods).allowed, "the binding names somebody else now");
    assert!(authorize(&rules, &person("jim", &[]), &pods).allowed);
    let mut rules = lab();
    rules.remove_role("lab", "pod-reader");
    assert!(!authorize(&rules, &jane, &pods).allowed);
}

#[test]
fn a_key_narrows_even_an_administrator() {
    let mut rules = lab();
    let by_key = |user: &Identity| {
        let mut identity = user.clone();
        identity.extra.insert("iam.fermion.dev/api-key".to_owned(), vec!["ci".to_owned()]);
        identity
    };
    let root = by_key(&person("root", &[ADMINISTRATORS]));
    let jane = by_key(&person("jane", &[]));
    assert!(!authorize(&rules, &root, &on("get", "lab", "pods")).allowed, "no such key");
    rules.put_key("ci", &json!({"spec": {"scope": {"namespaces": ["lab"], "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}]}}}));
    for (who, asked, allowed) in [
        (&root, on("get", "lab", "pods"), true),
        (&root, on("get", "other", "pods"), false),
        (&root, on("list", "lab", "pods"), false),
        (&root, on("get", "lab", "secrets"), false),
        (&root, at("get", "/apis"), true),
        (&root, at("get", "/metrics"), false),
        (&jane, on("get", "lab", "pods"), true),
        // The key names it, but its owner may not.
        (&jane, on("delete", "lab", "pods"), false),
    ] {
        assert_eq!(authorize(&rules, who, &asked).allowed, allowed, "{} {asked:?}", who.name);
    }
    let get_pods = [PolicyRule::resources(&[""], &["pods"], &["get"])];
    let get_secrets = [PolicyRule::resources(&[""], &["secrets"], &["get"])];
    assert_eq!(rules.missing(&root, "lab", &get_pods), []);
    assert_eq!(rules.missing(&root, "lab", &get_secrets), get_secrets, "a key cannot give away more than it has");
    assert_eq!(rules.missing(&root, "other", &get_pods), get_pods);
    let effective = rules.effective(&jane, "lab");
    assert!(effective.iter().any(|rule| rule.allows(&on("get", "lab", "pods"))) || effective.iter().all(|rule| rule.resources != ["pods"]));
    assert!(!effective.iter().any(|rule| rule.allows(&on("list", "lab", "pods"))));
    rules.remove_key("ci");
    assert!(!authorize(&rules, &root, &on("get", "lab", "pods")).allowed);
}

#[test]
fn the_role_of_a_binding_is_looked_for_where_it_stands() {
    let rules = lab();
    let role = |kind: &str, name: &str| RoleRef { kind: kind.to_owned(), name: name.to_owned() };
    assert!(rules.role(&role("Role", "pod-reader"), "lab").is_some());
    assert!(rules.role(&role("Role", "pod-reader"), "other").is_none());
    assert!(rules.role(&role("ClusterRole", "pod-reader"), "lab").is_none());
    assert!(rules.role(&role("ClusterRole", "view"), "lab").is_some());
}
