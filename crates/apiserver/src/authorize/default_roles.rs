//! The roles and bindings every platform begins with: those of Kubernetes under the same names,
//! and what our own kinds add to them.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

use std::sync::LazyLock;

use fermion_api::registry::{self, Access};
use serde_json::{Map, Value, json};

use super::rule::PolicyRule;
use super::{RBAC, coverage};
use crate::identity::{ADMINISTRATORS, AUTHENTICATED};

/// The group of callers that nobody knows.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Marks what is made here.
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// Set to "false" by an administrator, it keeps the next start from repairing a role or binding.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// The groups of our own whose kinds people's roles do not reach: who may be whom is the
/// administrators' business.
const NOT_FOR_PROJECTS: &str = "iam.fermion.dev";

/// Kinds outside of namespaces that are about people and projects, so that not everybody reads all of
/// them.
const NOT_FOR_EVERYBODY: [&str; 3] = ["quotas", "resourcepolicies", "timewindows"];

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// What everybody who is signed in may do, whatever else: see what is served, ask about themselves.
pub(crate) fn of_everybody() -> &'static [PolicyRule] {
    static RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| [discovery(), basic_user(), public_info()].concat());
    &RULES
}

fn discovery() -> Vec<PolicyRule> {
    let urls = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"];
    vec![PolicyRule::urls(&urls, &["get"])]
}

fn basic_user() -> Vec<PolicyRule> {
    vec![
        PolicyRule::resources(&["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
        PolicyRule::resources(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
    ]
}

fn public_info() -> Vec<PolicyRule> {
    vec![PolicyRule::urls(&["/healthz", "/livez", "/readyz", "/version", "/version/"], &["get"])]
}

/// The default ClusterRoles.
pub(crate) fn cluster_roles() -> Vec<Value> {
    let mut roles = vec![
        role("cluster-admin", &[], PolicyRule::everything().to_vec()),
        role("system:discovery", &[], discovery()),
        role("system:basic-user", &[], basic_user()),
        role("system:public-info-viewer", &[], public_info()),
        aggregated("admin", &[], "admin"),
        aggregated("edit", &["admin"], "edit"),
        aggregated("view", &["edit"], "view"),
        role("system:aggregate-to-admin", &["admin"], admin()),
        role("system:aggregate-to-edit", &["edit"], edit()),
        role("system:aggregate-to-view", &["view"], view()),
    ];
    let own = OwnKinds::new();
    roles.push(role("fermion:aggregate-to-edit", &["edit"], own.edit()));
    roles.push(role("fermion:aggregate-to-view", &["view"], own.view()));
    roles.push(role("fermion:catalog-viewer", &[], own.catalog()));
    roles.push(role("fermion:api-key-owner", &[], api_key_owner()));
    roles
}

/// The default ClusterRoleBindings.
pub(crate) fn cluster_role_bindings() -> Vec<Value> {
    vec![
        binding("cluster-admin", "cluster-admin", &[ADMINISTRATORS]),
        binding("system:discovery", "system:discovery", &[AUTHENTICATED]),
        binding("system:basic-user", "system:basic-user", &[AUTHENTICATED]),
        binding("system:public-info-viewer", "system:public-info-viewer", &[AUTHENTICATED, UNAUTHENTICATED]),
        binding("fermion:api-key-owner", "fermion:api-key-owner", &[AUTHENTICATED]),
    ]
}

fn admin() -> Vec<PolicyRule> {
    vec![
        PolicyRule::resources(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
        PolicyRule::resources(&[RBAC], &["rolebindings", "roles"], &READ_WRITE),
    ]
}

fn edit() -> Vec<PolicyRule> {
    let streams = ["pods/attach", "pods/exec", "pods/file", "pods/portforward", "pods/proxy", "secrets", "services/proxy"];
    vec![
        PolicyRule::resources(&[""], &streams, &READ),
        PolicyRule::resources(&[""], &["serviceaccounts"], &["impersonate"]),
        PolicyRule::resources(&[""], &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], &WRITE),
        PolicyRule::resources(&[""], &["pods/eviction"], &["create"]),
        PolicyRule::resources(
            &[""],
            &["configmaps", "events", "persistentvolumeclaims", "secrets", "serviceaccounts", "services", "services/proxy"],
            &WRITE,
        ),
        PolicyRule::resources(&[""], &["serviceaccounts/token"], &["create"]),
        PolicyRule::resources(&["coordination.k8s.io"], &["leases"], &READ_WRITE),
    ]
}

fn view() -> Vec<PolicyRule> {
    let read = [
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "namespaces/status",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "pods",
        "pods/log",
        "pods/status",
        "resourcequotas",
        "resourcequotas/status",
        "serviceaccounts",
        "services",
        "services/status",
    ];
    vec![PolicyRule::resources(&[""], &read, &READ), PolicyRule::resources(&["metrics.k8s.io"], &["pods"], &READ)]
}

/// Everybody may make API keys: [`super::guard`] sees to it that they are their own.
fn api_key_owner() -> Vec<PolicyRule> {
    vec![PolicyRule::resources(&["iam.fermion.dev"], &["apikeys", "apikeys/token"], &["create"])]
}

/// Our own kinds, as far as roles tell them apart.
struct OwnKinds(Vec<registry::Names>);

impl OwnKinds {
    fn new() -> Self {
        Self(registry::names().into_iter().filter(|kind| kind.group != NOT_FOR_PROJECTS).collect())
    }

    fn in_projects(&self) -> impl Iterator<Item = &registry::Names> {
        self.0.iter().filter(|kind| kind.namespaced)
    }

    /// Reading every kind in a namespace, its status and its scale.
    fn view(&self) -> Vec<PolicyRule> {
        self.in_projects()
            .filter(|kind| kind.access != Access::Review)
            .map(|kind| {
                let plural = kind.plural.as_str();
                let (status, scale) = (format!("{plural}/status"), format!("{plural}/scale"));
                match kind.access {
                    Access::Full => PolicyRule::resources(&[&kind.group], &[plural, &status, &scale], &READ),
                    Access::ReadOnly | Access::Review => PolicyRule::resources(&[&kind.group], &[plural], &READ),
                }
            })
            .collect()
    }

    /// Changing them, and using what serves over HTTP.
    fn edit(&self) -> Vec<PolicyRule> {
        let full = self.in_projects().filter(|kind| kind.access == Access::Full);
        let mut rules: Vec<PolicyRule> =
            full.map(|kind| PolicyRule::resources(&[&kind.group], &[&kind.plural, &format!("{}/scale", kind.plural)], &WRITE)).collect();
        // Who may make work may ask what would become of it.
        let reviews = self.in_projects().filter(|kind| kind.access == Access::Review);
        rules.extend(reviews.map(|kind| PolicyRule::resources(&[&kind.group], &[&kind.plural], &["create"])));
        rules.push(PolicyRule::resources(&["ai.fermion.dev"], &["devenvironments/proxy", "inferenceservices/proxy"], &["create"]));
        rules
    }

    /// Reading what is the same for all projects: pools, queues, images.
    fn catalog(&self) -> Vec<PolicyRule> {
        self.0
            .iter()
            .filter(|kind| !kind.namespaced && !NOT_FOR_EVERYBODY.contains(&kind.plural.as_str()))
            .map(|kind| PolicyRule::resources(&[&kind.group], &[&kind.plural, &format!("{}/status", kind.plural)], &READ))
            .collect()
    }
}

fn metadata(name: &str, adds_to: &[&str]) -> Value {
    let mut labels = Map::new();
    labels.insert(BOOTSTRAPPING.0.to_owned(), BOOTSTRAPPING.1.into());
    for role in adds_to {
        labels.insert(aggregation_label(role), "true".into());
    }
    json!({"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}})
}

/// The label by which a role says that it adds to another one.
fn aggregation_label(role: &str) -> String {
    format!("{RBAC}/aggregate-to-{role}")
}

fn role(name: &str, adds_to: &[&str], rules: Vec<PolicyRule>) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": metadata(name, adds_to), "rules": rules})
}

/// A role whose rules are those of all that carry the label for `of`.
fn aggregated(name: &str, adds_to: &[&str], of: &str) -> Value {
    let selector = json!({"matchLabels": {aggregation_label(of): "true"}});
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata(name, adds_to),
        "aggregationRule": {"clusterRoleSelectors": [selector]},
    })
}

fn binding(name: &str, role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups.iter().map(|group| json!({"kind": "Group", "apiGroup": RBAC, "name": group})).collect();
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata(name, &[]),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

/// What a default role or binding that is stored should become; `None` when it may stay. As in
/// Kubernetes, what is missing is added and what somebody added stays.
pub(crate) fn repaired(stored: &Value, default: &Value) -> Option<Value> {
    if stored["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return None;
    }
    let mut new = stored.clone();
    for field in ["labels", "annotations"] {
        for (name, value) in default["metadata"][field].as_object().into_iter().flatten() {
            if new["metadata"][field][name].is_null() {
                new["metadata"][field][name] = value.clone();
            }
        }
    }
    if default["kind"] == "ClusterRoleBinding" {
        let mut subjects = stored["subjects"].as_array().cloned().unwrap_or_default();
        for subject in default["subjects"].as_array().into_iter().flatten() {
            let same = |other: &&Value| other["kind"] == subject["kind"] && other["name"] == subject["name"];
            if subjects.iter().find(same).is_none() {
                subjects.push(subject.clone());
            }
        }
        new["subjects"] = subjects.into();
    } else if default["aggregationRule"].is_null() {
        let held = PolicyRule::list(&stored["rules"]);
        let missing = coverage::missing(&held, &PolicyRule::list(&default["rules"]));
        if !missing.is_empty() {
            let mut rules = stored["rules"].as_array().cloned().unwrap_or_default();
            rules.extend(missing.iter().map(|rule| json!(rule)));
            new["rules"] = rules.into();
        }
    } else {
        let mut selectors = stored["aggregationRule"]["clusterRoleSelectors"].as_array().cloned().unwrap_or_default();
        for selector in default["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten() {
            if !selectors.contains(selector) {
                selectors.push(selector.clone());
            }
        }
        new["aggregationRule"]["clusterRoleSelectors"] = selectors.into();
    }
    (new != *stored).then_some(new)
}

/// The rules that a ClusterRole with an `aggregationRule` has, given all ClusterRoles in the order
/// of their names: those of every role that one of its selectors selects, each once.
pub(crate) fn aggregate(role: &Value, all: &[Value]) -> Vec<Value> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array().map_or(&[][..], Vec::as_slice);
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let chosen = all.iter().filter(|other| other["metadata"]["name"] != role["metadata"]["name"] && selects(selector, other));
        for rule in chosen.flat_map(|other| other["rules"].as_array().into_iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

/// Whether a `LabelSelector` selects a role. An empty one selects all, as everywhere.
fn selects(selector: &Value, role: &Value) -> bool {
    let labels = &role["metadata"]["labels"];
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(name, value)| labels[name] == *value);
    let fulfilled = |requirement: &Value| {
        let label = requirement["key"].as_str().map_or(&Value::Null, |key| &labels[key]);
        let listed = requirement["values"].as_array().is_some_and(|values| values.contains(label));
        match requirement["operator"].as_str() {
            Some("In") => label.is_string() && listed,
            Some("NotIn") => !(label.is_string() && listed),
            Some("Exists") => label.is_string(),
            Some("DoesNotExist") => !label.is_string(),
            _ => false,
        }
    };
    equal && selector["matchExpressions"].as_array().into_iter().flatten().all(fulfilled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::Attributes;

    fn named<'a>(roles: &'a [Value], name: &str) -> &'a Value {
        roles.iter().find(|role| role["metadata"]["name"] == name).expect("a role")
    }

    /// Aggregation until nothing changes, as the server does it.
    fn settled() -> Vec<Value> {
        let mut roles = cluster_roles();
        roles.sort_by_key(|role| role["metadata"]["name"].to_string());
        for _ in 0..roles.len() {
            for index in 0..roles.len() {
                if !roles[index]["aggregationRule"].is_null() {
                    roles[index]["rules"] = aggregate(&roles[index], &roles).into();
                }
            }
        }
        roles
    }

    #[test]
    fn each_role_of_projects_holds_the_one_below() {
        let roles = settled();
        let rules = |name: &str| PolicyRule::list(&named(&roles, name)["rules"]);
        for (more, less) in [("cluster-admin", "admin"), ("admin", "edit"), ("edit", "view")] {
            assert_eq!(coverage::missing(&rules(more), &rules(less)), [], "{more} {less}");
            assert_ne!(coverage::missing(&rules(less), &rules(more)), [], "{more} {less}");
        }
    }

    #[test]
    fn viewers_see_no_secrets_and_nobody_below_an_administrator_sees_credentials() {
        let roles = settled();
        let allowed = |role: &str, verb: &str, group: &str, resource: &str| {
            let asked = Attributes { verb: verb.into(), group: group.into(), resource: resource.into(), ..Attributes::default() };
            PolicyRule::list(&named(&roles, role)["rules"]).iter().any(|rule| rule.allows(&asked))
        };
        assert!(allowed("view", "list", "", "pods"));
        assert!(allowed("view", "watch", "ai.fermion.dev", "trainingjobs"));
        assert!(!allowed("view", "get", "", "secrets"));
        assert!(!allowed("view", "list", RBAC, "rolebindings"));
        assert!(allowed("edit", "create", "ai.fermion.dev", "trainingjobs"));
        assert!(!allowed("edit", "create", RBAC, "rolebindings"));
        assert!(allowed("admin", "create", RBAC, "rolebindings"));
        for kind in ["users", "apikeys"] {
            assert!(!allowed("admin", "get", "iam.fermion.dev", kind), "{kind}");
        }
        assert!(!allowed("admin", "escalate", RBAC, "roles"));
        assert!(!allowed("admin", "bind", RBAC, "clusterroles"));
    }

    #[test]
    fn a_default_role_gets_back_what_was_taken_and_keeps_what_was_added() {
        let default = role("r", &["view"], vec![PolicyRule::resources(&[""], &["pods", "services"], &["get", "list"])]);
        assert_eq!(repaired(&default, &default), None);
        let mut changed = default.clone();
        changed["rules"] = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
            {"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]},
        ]);
        changed["metadata"]["labels"] = json!({"own": "1"});
        let repaired_role = repaired(&changed, &default).expect("a repair");
        assert_eq!(repaired_role["rules"].as_array().map(Vec::len), Some(4));
        assert_eq!(repaired_role["rules"][3], json!({"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}));
        assert_eq!(repaired_role["metadata"]["labels"]["own"], "1");
        assert_eq!(repaired_role["metadata"]["labels"][aggregation_label("view")], "true");
        assert_eq!(repaired(&repaired_role, &default), None);
        changed["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(repaired(&changed, &default), None);
        let default = binding("b", "r", &["one", "two"]);
        let mut changed = default.clone();
        changed["subjects"] = json!([{"kind": "User", "apiGroup": RBAC, "name": "ann"}]);
        assert_eq!(repaired(&changed, &default).expect("a repair")["subjects"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn selectors_choose_roles_by_all_their_parts() {
        let role = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        for (selector, chosen) in [
            (json!({}), true),
            (json!({"matchLabels": {"a": "1"}}), true),
            (json!({"matchLabels": {"a": "1", "b": "3"}}), false),
            (json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "5"]}]}), true),
            (json!({"matchExpressions": [{"key": "c", "operator": "In", "values": ["1"]}]}), false),
            (json!({"matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["1"]}]}), true),
            (json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}), false),
            (json!({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "c", "operator": "DoesNotExist"}]}), true),
            (json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}), false),
            (json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}), false),
        ] {
            assert_eq!(selects(&selector, &role), chosen, "{selector}");
        }
    }
}
