//! What an object uses of what quotas count, as pure functions. The names are those of Kubernetes:
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::collections::{BTreeMap, BTreeSet};

use fermion_api::quantity::{self, Milli};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use serde_json::{Map, Value};

/// Thousandths, by name: `pods`, `requests.cpu`, `count/configmaps`.
pub(super) type Amounts = BTreeMap<String, Milli>;

/// One, in thousandths.
const ONE: Milli = 1000;

/// Core kinds that can be counted by their plain name.
const COUNTED_BY_NAME: [&str; 6] =
    ["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];
/// What can be asked for without saying whether requests or limits are meant: requests.
const REQUESTS_BY_NAME: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What every container must say when a quota counts it.
const TO_BE_SPECIFIED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What a quota allows, and of what.
pub(super) struct Quota {
    hard: Amounts,
    scopes: Vec<String>,
}

impl Quota {
    pub(super) fn of(object: &Value) -> Self {
        let scopes = object["spec"]["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Self { hard: amounts(&object["spec"]["hard"]), scopes }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.hard.keys().map(String::as_str)
    }

    /// The resources of which it counts something, as they are stored.
    pub(super) fn resources(&self) -> BTreeSet<String> {
        self.names()
            .map(|name| match name.strip_prefix("count/") {
                Some(resource) => resource.to_owned(),
                None if COUNTED_BY_NAME.contains(&name) => name.to_owned(),
                None if name == "requests.storage" => "persistentvolumeclaims".to_owned(),
                None => "pods".to_owned(),
            })
            .collect()
    }

    /// What an object uses of what this quota counts. Nothing of it is zero.
    pub(super) fn usage(&self, resource: &str, object: &Value) -> Amounts {
        if !self.scopes.iter().all(|scope| is_in_scope(scope, resource, object)) {
            return Amounts::new();
        }
        let mut used = usage(resource, object);
        used.retain(|name, amount| self.hard.contains_key(name) && *amount != 0);
        used
    }

    /// What the containers of a new pod must say and do not, in words.
    pub(super) fn missing(&self, resource: &str, pod: &Value) -> Option<String> {
        if resource != "pods" || !self.scopes.iter().all(|scope| is_in_scope(scope, resource, pod)) {
            return None;
        }
        let mut sentences = Vec::new();
        for name in self.names().filter(|name| TO_BE_SPECIFIED.contains(name)) {
            let (list, amount) = name.split_once('.').unwrap_or(("requests", name));
            let without: Vec<&str> = containers(pod)
                .filter(|container| container["resources"][list][amount].is_null())
                .filter_map(|container| container["name"].as_str())
                .collect();
            if !without.is_empty() {
                sentences.push(format!("{name} for: {}", without.join(",")));
            }
        }
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }
}

/// A write's effect on one quota.
pub(super) struct Change {
    pub(super) before: Amounts,
    pub(super) after: Amounts,
    pub(super) used: Amounts,
}

impl Change {
    fn delta(&self, name: &str) -> Milli {
        let amount = |amounts: &Amounts| amounts.get(name).copied().unwrap_or(0);
        amount(&self.after) - amount(&self.before)
    }

    /// What would be exceeded, in the words of Kubernetes. Only what grows is held against the quota.
    pub(super) fn exceeds(&self, quota: &Quota) -> Option<String> {
        let (mut requested, mut used, mut limited) = (Vec::new(), Vec::new(), Vec::new());
        for (name, hard) in &quota.hard {
            let (delta, now) = (self.delta(name), self.used.get(name).copied().unwrap_or(0));
            if delta > 0 && now.saturating_add(delta) > *hard {
                requested.push(format!("{name}={}", text(name, delta)));
                used.push(format!("{name}={}", text(name, now)));
                limited.push(format!("{name}={}", text(name, *hard)));
            }
        }
        (!requested.is_empty())
            .then(|| format!("requested: {}, used: {}, limited: {}", requested.join(","), used.join(","), limited.join(",")))
    }

    /// What is used afterwards, for every name the quota counts.
    pub(super) fn result(&self, quota: &Quota) -> Amounts {
        let after = |name: &str| self.used.get(name).copied().unwrap_or(0).saturating_add(self.delta(name)).max(0);
        quota.names().map(|name| (name.to_owned(), after(name))).collect()
    }
}

/// What the quota's status says is used; none before it was counted.
pub(super) fn used(object: &Value) -> Option<Amounts> {
    object["status"]["used"].is_object().then(|| amounts(&object["status"]["used"]))
}

/// Amounts as they are written into a status.
pub(super) fn texts(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), Value::from(text(name, *amount)))).collect::<Map<_, _>>().into()
}

fn text(name: &str, amount: Milli) -> String {
    let plain = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    quantity::exact(plain, amount)
}

fn amounts(map: &Value) -> Amounts {
    let amount = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // The schema has checked it.
        quantity::parse(&text).unwrap_or(0)
    };
    map.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), amount(value))).collect()
}

/// Everything an object uses.
fn usage(resource: &str, object: &Value) -> Amounts {
    let mut used = Amounts::from([(format!("count/{resource}"), ONE)]);
    if COUNTED_BY_NAME.contains(&resource) {
        used.insert(resource.to_owned(), ONE);
    }
    match resource {
        "pods" => add_pod(&mut used, object),
        "persistentvolumeclaims" => {
            let asked = amounts(&object["spec"]["resources"]["requests"]);
            used.insert("requests.storage".to_owned(), asked.get("storage").copied().unwrap_or(0));
        }
        _ => {}
    }
    used
}

/// A pod that has ended uses nothing but its name.
fn add_pod(used: &mut Amounts, object: &Value) {
    if matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return;
    }
    used.insert("pods".to_owned(), ONE);
    let Some(spec) = serde_json::from_value::<Pod>(object.clone()).ok().and_then(|pod| pod.spec) else { return };
    for (name, amount) in fermion_api::pod::requests(&spec) {
        if REQUESTS_BY_NAME.contains(&name.as_str()) {
            used.insert(name.clone(), amount);
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in fermion_api::pod::requests(&limits_only(spec)) {
        used.insert(format!("limits.{name}"), amount);
    }
}

/// The same pod as if it asked for its limits: they add up in the same way.
fn limits_only(mut spec: PodSpec) -> PodSpec {
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let limits = container.resources.take().and_then(|resources| resources.limits);
        container.resources = Some(ResourceRequirements { limits, ..ResourceRequirements::default() });
    }
    spec.overhead = None;
    spec
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// Whether a quota of that scope counts the object. Scopes are about pods only.
fn is_in_scope(scope: &str, resource: &str, object: &Value) -> bool {
    if resource != "pods" {
        return false;
    }
    let terminating = !object["spec"]["activeDeadlineSeconds"].is_null();
    let best_effort = containers(object).all(|container| {
        ["requests", "limits"].iter().all(|list| ["cpu", "memory"].iter().all(|name| container["resources"][list][name].is_null()))
    });
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(hard: Value) -> Quota {
        Quota::of(&json!({"spec": {"hard": hard}}))
    }

    fn pod(phase: &str) -> Value {
        json!({
            "spec": {"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": "2"}, "limits": {"cpu": "1", "nvidia.com/gpu": "2"}}},
                {"name": "b", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}},
            ]},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn a_pod_uses_what_its_containers_ask_for_until_it_ends() {
        let quota = quota(json!({
            "pods": "9", "count/pods": "9", "cpu": "9", "requests.memory": "9Gi", "limits.memory": "9Gi", "limits.cpu": "9",
            "requests.nvidia.com/gpu": "9", "secrets": "9",
        }));
        let used = texts(&quota.usage("pods", &pod("Running")));
        let expected = json!({
            "pods": "1", "count/pods": "1", "cpu": "1500m", "requests.memory": "1Gi", "limits.memory": "2Gi", "limits.cpu": "2",
            "requests.nvidia.com/gpu": "2",
        });
        assert_eq!(used, expected);
        assert_eq!(texts(&quota.usage("pods", &pod("Succeeded"))), json!({"count/pods": "1"}));
        assert_eq!(texts(&quota.usage("secrets", &json!({}))), json!({"secrets": "1"}));
    }

    #[test]
    fn only_growth_beyond_the_quota_is_refused() {
        let quota = quota(json!({"pods": "2", "requests.cpu": "2"}));
        let change = |before: &[(&str, Milli)], after: &[(&str, Milli)], used: &[(&str, Milli)]| {
            let amounts = |list: &[(&str, Milli)]| list.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
            Change { before: amounts(before), after: amounts(after), used: amounts(used) }
        };
        let fits = change(&[], &[("pods", 1000), ("requests.cpu", 2000)], &[("pods", 1000)]);
        assert_eq!(fits.exceeds(&quota), None);
        assert_eq!(texts(&fits.result(&quota)), json!({"pods": "2", "requests.cpu": "2"}));
        let exceeds = change(&[], &[("pods", 1000), ("requests.cpu", 500)], &[("pods", 2000), ("requests.cpu", 1000)]);
        assert_eq!(exceeds.exceeds(&quota).as_deref(), Some("requested: pods=1, used: pods=2, limited: pods=2"));
        // More is used than the quota, which was lowered: what shrinks or stays is still fine.
        let shrinks = change(&[("requests.cpu", 3000)], &[("requests.cpu", 2500)], &[("pods", 9000), ("requests.cpu", 9000)]);
        assert_eq!(shrinks.exceeds(&quota), None);
        assert_eq!(texts(&shrinks.result(&quota)), json!({"pods": "9", "requests.cpu": "8500m"}));
    }

    #[test]
    fn a_counted_amount_must_be_specified() {
        let quota = quota(json!({"requests.memory": "1Gi", "limits.cpu": "1", "requests.nvidia.com/gpu": "1"}));
        assert_eq!(quota.missing("pods", &pod("Pending")).as_deref(), Some("requests.memory for: a"));
        assert_eq!(quota.missing("configmaps", &json!({})), None);
    }

    #[test]
    fn scopes_are_about_pods() {
        let scoped = |scope: &str| Quota::of(&json!({"spec": {"hard": {"pods": "1", "count/secrets": "1"}, "scopes": [scope]}}));
        for (scope, counted) in [("NotBestEffort", 1), ("BestEffort", 0), ("NotTerminating", 1), ("Terminating", 0)] {
            assert_eq!(scoped(scope).usage("pods", &pod("Running")).len(), counted, "{scope}");
            assert!(scoped(scope).usage("secrets", &json!({})).is_empty());
        }
    }
}
