//! Every address and verb that is served, with who may use it: a committed list, so that a new
//! one is decided on purpose.

use std::fmt::Write as _;

use super::*;
use crate::catalog::{Catalog, Resource};
use crate::discovery::subresource_verbs;

/// Addresses that are answered before it is asked who is there.
const OPEN: [(&str, &str); 6] = [
    ("get", "/healthz"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("post", "/auth/password"),
    ("post", "/auth/sign-in"),
    // Ends the session it is sent with, and no other.
    ("post", "/auth/sign-out"),
];
/// Addresses besides those of resources.
const PATHS: [&str; 10] =
    ["/", "/api", "/api/v1", "/apis", "/apis/GROUP", "/apis/GROUP/VERSION", "/metrics", "/openapi/v3", "/openapi/v3/DOCUMENT", "/version"];

/// What only administrators and the platform's own parts may do, and why. A route that stands
/// neither here nor in a role by its name fails the test below.
const ADMINISTRATORS_ONLY: [(&str, &str, &str); 30] = [
    ("apiextensions.k8s.io", "customresourcedefinitions", "a kind is there for everybody"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "they see and change what everybody writes"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "they see what everybody writes"),
    ("", "namespaces", "a namespace is a project: making one is an administrator's decision"),
    ("", "resourcequotas", "who is bounded by a quota does not set it"),
    ("", "endpoints", "who writes one leads others' clients where they want"),
    ("", "limitranges", "who is bounded by limits does not set them"),
    ("", "nodes", "machines belong to the operator"),
    ("", "pods/binding", "the scheduler decides"),
    ("", "*/status", "what was observed is told by those who observe"),
    ("", "namespaces/finalize", "the namespace controller decides"),
    ("authentication.k8s.io", "tokenreviews", "an answer tells whose a token is"),
    ("authorization.k8s.io", "subjectaccessreviews", "an answer tells what others may do"),
    ("metrics.k8s.io", "nodes", "machines belong to the operator"),
    ("rbac.authorization.k8s.io", "clusterroles", "they hold everywhere"),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "they hold everywhere"),
    ("ai.fermion.dev", "*/status", "controllers write what they see"),
    ("compute.fermion.dev", "pools", "what is offered is the operator's decision"),
    ("compute.fermion.dev", "queues", "what is offered is the operator's decision"),
    ("compute.fermion.dev", "acceleratormodels", "what is offered is the operator's decision"),
    ("compute.fermion.dev", "partitions", "machines belong to the operator"),
    ("compute.fermion.dev", "resourcegroups", "machines belong to the operator"),
    ("compute.fermion.dev", "schedulingpolicies", "what is offered is the operator's decision"),
    ("compute.fermion.dev", "quotas", "who is bounded by a quota does not set it, nor see those of others"),
    ("compute.fermion.dev", "resourcepolicies", "who is bounded by a policy does not set it, nor see those of others"),
    ("compute.fermion.dev", "timewindows", "who is bounded by a window does not set it, nor see those of others"),
    ("compute.fermion.dev", "*/status", "controllers write what they see, and administrators decide on tickets"),
    ("assets.fermion.dev", "images", "what is offered is the operator's decision"),
    ("iam.fermion.dev", "users", "who is who is an administrator's decision"),
    ("iam.fermion.dev", "apikeys", "people see their own only, by name or by owner"),
];

/// The same for addresses.
const ADMINISTRATORS_ONLY_PATHS: [&str; 3] = ["/", "/metrics", crate::rotate_key::PATH];

struct Route {
    asked: Attributes,
    namespaced: bool,
}

fn routes() -> Vec<Route> {
    let catalog = Catalog::new(Vec::new()).expect("a catalog");
    let mut routes: Vec<Route> = Vec::new();
    for (group, version) in catalog.group_versions() {
        for resource in catalog.of_group(&group, &version) {
            routes.extend(resource.verbs.iter().map(|verb| route(resource, "", verb)));
            for subresource in &resource.subresources {
                // Opening a stream is `create`, however the client opens it.
                let stream = matches!(&**subresource, "exec" | "attach" | "portforward" | "binding" | "eviction");
                let verbs = if stream { &["create"] } else { subresource_verbs(subresource) };
                routes.extend(verbs.iter().map(|verb| route(resource, subresource, verb)));
            }
        }
    }
    routes.extend(PATHS.iter().map(|path| Route { asked: at("get", path), namespaced: false }));
    routes.push(Route { asked: at("post", crate::rotate_key::PATH), namespaced: false });
    routes.sort_by_key(|route| {
        let Attributes { group, resource, subresource, verb, path, .. } = &route.asked;
        (path.clone(), group.clone(), resource.clone(), subresource.clone(), verb.clone())
    });
    routes
}

fn route(resource: &Resource, subresource: &str, verb: &str) -> Route {
    // A namespace is in itself, so a role in it may be about it.
    let is_one_namespace = resource.is_core("namespaces") && matches!(verb, "get" | "update" | "patch" | "delete");
    let asked = Attributes {
        verb: verb.to_owned(),
        group: resource.group.clone(),
        resource: resource.plural.clone(),
        subresource: subresource.to_owned(),
        namespace: if resource.namespaced || is_one_namespace { "lab".to_owned() } else { String::new() },
        name: String::new(),
        path: None,
    };
    Route { asked, namespaced: resource.namespaced }
}

fn with_people() -> Rules {
    let mut rules = default_rules();
    for role in ["view", "edit", "admin"] {
        bind(&mut rules, "lab", role, ("ClusterRole", role), json!({"kind": "User", "name": role}));
    }
    bind(&mut rules, "", "root", ("ClusterRole", "cluster-admin"), json!({"kind": "User", "name": "root"}));
    rules
}

#[test]
fn every_route_says_who_may_use_it() {
    let rules = with_people();
    let people = [
        ("nobody", Identity::default()),
        ("anyone", person("any", &[])),
        ("view", person("view", &[])),
        ("edit", person("edit", &[])),
        ("admin", person("admin", &[])),
        ("root", person("root", &[])),
    ];
    let mut text = String::from(
        "nobody: not signed in. anyone: signed in, no role. view, edit, admin: the role, in the namespace. root: cluster-admin.\n",
    );
    let names: Vec<String> = people.iter().map(|(name, _)| format!("{name:<6}")).collect();
    writeln!(text, "\n{:<78} {}", "verb and resource, or address", names.join(" ").trim_end()).expect("a text");
    for (verb, path) in OPEN {
        writeln!(text, "{:<78} open to all", format!("{verb} {path}")).expect("a text");
    }
    for route in routes() {
        let Attributes { group, resource, subresource, verb, path, .. } = &route.asked;
        let what = match path {
            Some(path) => format!("{verb} {path}"),
            None => {
                let group = if group.is_empty() { String::new() } else { format!(".{group}") };
                let sub = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
                format!("{verb} {resource}{group}{sub}{}", if route.namespaced { "" } else { " (cluster)" })
            }
        };
        let marks: String = people
            .iter()
            .enumerate()
            // Who is not signed in is turned away before any rule is asked.
            .map(|(index, (_, who))| if index > 0 && authorize(&rules, who, &route.asked).allowed { "yes    " } else { "-      " })
            .collect();
        writeln!(text, "{what:<78} {}", marks.trim_end()).expect("a text");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_route_has_a_rule_of_its_own() {
    let roles: Vec<PolicyRule> = cluster_roles().iter().flat_map(|role| PolicyRule::list(&role["rules"])).collect();
    let by_name = |asked: &Attributes| {
        let named = |rule: &&PolicyRule| !rule.resources.iter().chain(&rule.non_resource_urls).any(|entry| entry == rule::ALL);
        roles.iter().filter(named).any(|rule| rule.allows(asked))
    };
    let reserved = |asked: &Attributes| {
        let whole = if asked.subresource.is_empty() { asked.resource.clone() } else { format!("{}/{}", asked.resource, asked.subresource) };
        ADMINISTRATORS_ONLY.iter().any(|(group, resource, _)| {
            let part = resource.strip_prefix("*/");
            *group == asked.group
                && (*resource == whole || *resource == asked.resource || part.is_some_and(|part| part == asked.subresource))
        })
    };
    let without: Vec<String> = routes()
        .iter()
        .map(|route| &route.asked)
        .filter(|asked| {
            !by_name(asked) && !reserved(asked) && !ADMINISTRATORS_ONLY_PATHS.contains(&asked.path.as_deref().unwrap_or_default())
        })
        .map(|asked| {
            format!("{} {}.{}/{}{}", asked.verb, asked.resource, asked.group, asked.subresource, asked.path.clone().unwrap_or_default())
        })
        .collect();
    assert!(
        without.is_empty(),
        "name these in a default role (authorize/default_roles.rs), or in ADMINISTRATORS_ONLY with the reason:\n{}",
        without.join("\n")
    );
}
