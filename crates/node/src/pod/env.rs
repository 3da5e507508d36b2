//! The environment and command line of a container: values from literals, ConfigMaps, Secrets,
//! fields and resources, and `$(NAME)` expansion. All pure; what they refer to is fetched before.

use std::collections::{BTreeMap, BTreeSet};

use fermion_api::pod::Resources;
use fermion_api::quantity;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, ResourceFieldSelector, Secret};

/// Why the configuration of a container cannot be made; shown as `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{kind} {name} does not exist in the namespace")]
    Missing { kind: &'static str, name: String },
    #[error("{kind} {name} has no key {key}")]
    MissingKey { kind: &'static str, name: String, key: String },
    #[error("environment variable {name}: {why}")]
    Variable { name: String, why: String },
    #[error("{0}")]
    Other(String),
}

/// The ConfigMaps and Secrets of the pod's namespace that were asked for; `None` where there is none.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub secrets: BTreeMap<String, Option<Secret>>,
}

impl Sources {
    pub(crate) fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, ConfigError> {
        match self.config_maps.get(name).and_then(Option::as_ref) {
            Some(found) => Ok(Some(found)),
            None if optional => Ok(None),
            None => Err(ConfigError::Missing { kind: "ConfigMap", name: name.to_owned() }),
        }
    }

    pub(crate) fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, ConfigError> {
        match self.secrets.get(name).and_then(Option::as_ref) {
            Some(found) => Ok(Some(found)),
            None if optional => Ok(None),
            None => Err(ConfigError::Missing { kind: "Secret", name: name.to_owned() }),
        }
    }
}

/// Names of the ConfigMaps and Secrets that must be fetched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// What the environment of a container refers to.
pub(crate) fn needed(container: &Container) -> Needed {
    let mut needed = Needed::default();
    for from in container.env_from.iter().flatten() {
        needed.config_maps.extend(from.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        needed.secrets.extend(from.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        needed.config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        needed.secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    needed
}

/// What a value may be taken from.
pub(crate) struct Context<'a> {
    pub pod: &'a Pod,
    pub sources: &'a Sources,
    /// Stands in for limits a container does not set.
    pub allocatable: &'a Resources,
    /// The node's address.
    pub host_ip: &'a str,
    /// The pod's addresses, known once its sandbox is there.
    pub pod_ips: &'a [String],
}

/// The environment of a container, in order; a later value of the same name has replaced an
/// earlier one in place.
pub(crate) fn environment(container: &Container, context: &Context<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        if let Some(reference) = &from.config_map_ref {
            let found = context.sources.config_map(&reference.name, reference.optional.unwrap_or(false))?;
            for (key, value) in found.iter().flat_map(|map| map.data.iter().flatten()) {
                variables.set(format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(reference) = &from.secret_ref {
            let found = context.sources.secret(&reference.name, reference.optional.unwrap_or(false))?;
            for (key, value) in found.iter().flat_map(|secret| secret.data.iter().flatten()) {
                let name = format!("{prefix}{key}");
                let text = text(&name, &value.0)?;
                variables.set(name, text);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => match value_from(&variable.name, source, container, context)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(variable.value.as_deref().unwrap_or(""), |name| variables.get(name)),
        };
        variables.set(variable.name.clone(), value);
    }
    Ok(variables.list)
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.list.push((name, value)),
        }
    }
}

fn text(variable: &str, bytes: &[u8]) -> Result<String, ConfigError> {
    let wrong = |why: &str| ConfigError::Variable { name: variable.to_owned(), why: why.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("the value is not UTF-8 text; mount it as a file"))?;
    if text.contains('\0') {
        return Err(wrong("the value has a zero byte; mount it as a file"));
    }
    Ok(text.to_owned())
}

fn value_from(variable: &str, source: &EnvVarSource, container: &Container, context: &Context<'_>) -> Result<Option<String>, ConfigError> {
    let missing_key = |kind, name: &str, key: &str| ConfigError::MissingKey { kind, name: name.to_owned(), key: key.to_owned() };
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(map) = context.sources.config_map(&reference.name, optional)? else { return Ok(None) };
        let value = map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned();
        return match value {
            None if !optional => Err(missing_key("ConfigMap", &reference.name, &reference.key)),
            value => Ok(value),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(secret) = context.sources.secret(&reference.name, optional)? else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            None if !optional => Err(missing_key("Secret", &reference.name, &reference.key)),
            None => Ok(None),
            Some(value) => text(variable, &value.0).map(Some),
        };
    }
    let wrong = |why: String| ConfigError::Variable { name: variable.to_owned(), why };
    if let Some(reference) = &source.field_ref {
        return field(&reference.field_path, context).map(Some).map_err(wrong);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(reference, container, context.allocatable).map(Some).map_err(wrong);
    }
    Err(wrong("valueFrom names no source this node knows".to_owned()))
}

/// A field of the pod as text.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>
pub(crate) fn field(path: &str, context: &Context<'_>) -> Result<String, String> {
    let metadata = &context.pod.metadata;
    let spec = context.pod.spec.as_ref();
    let entry = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']"));
    if let Some(key) = entry("metadata.labels['") {
        return Ok(metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = entry("metadata.annotations['") {
        return Ok(metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned().unwrap_or_default());
    }
    let all = |map: &Option<BTreeMap<String, String>>| {
        let lines: Vec<String> = map.iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        lines.join("\n")
    };
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => all(&metadata.labels),
        "metadata.annotations" => all(&metadata.annotations),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => context.host_ip.to_owned(),
        "status.podIP" => context.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => context.pod_ips.join(","),
        _ => return Err(format!("{path} is not a field a pod's environment can have")),
    })
}

/// A double-quoted string with Go's escapes, as the kubelet writes label files.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// A request or limit of a container in units of the divisor, rounded up.
pub(crate) fn resource(reference: &ResourceFieldSelector, container: &Container, allocatable: &Resources) -> Result<String, String> {
    let (kind, name) = reference
        .resource
        .split_once('.')
        .ok_or_else(|| format!("{} is not a resource field; write it like limits.cpu", reference.resource))?;
    let resources = container.resources.as_ref();
    let of = |map: Option<&BTreeMap<String, _>>| map.and_then(|map| map.get(name)).map(quantity::milli);
    let limit = of(resources.and_then(|resources| resources.limits.as_ref()));
    let amount = match kind {
        "limits" => limit.unwrap_or_else(|| allocatable.get(name).copied().unwrap_or(0)),
        "requests" => of(resources.and_then(|resources| resources.requests.as_ref())).or(limit).unwrap_or(0),
        _ => return Err(format!("{} is not a resource field; write it like limits.cpu", reference.resource)),
    };
    let divisor = reference.divisor.as_ref().map_or(0, quantity::milli);
    let divisor = if divisor == 0 { 1000 } else { divisor };
    Ok((amount / divisor + i128::from(amount % divisor > 0)).to_string())
}

/// Replaces `$(NAME)` by its value; `$$` is a literal `$`, and an unknown name stays as written.
///
/// Source: `k8s.io/kubernetes/third_party/forked/golang/expansion`
pub(crate) fn expand<'v>(text: &str, value_of: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if let Some(value) = value_of(name) {
                out.push_str(value);
            } else {
                out.push_str("$(");
                out.push_str(name);
                out.push(')');
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).expect("a container")
    }

    fn environment_of(env: serde_json::Value) -> Result<Vec<(String, String)>, ConfigError> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a/b": "c"}},
            "spec": {"nodeName": "local", "containers": []},
        }))
        .expect("a pod");
        let mut sources = Sources::default();
        let map = json!({"data": {"color": "red", "size": "big"}});
        sources.config_maps.insert("looks".to_owned(), serde_json::from_value(map).expect("a map"));
        let secret = json!({"data": {"word": "c2VzYW1l", "raw": "/wA="}});
        sources.secrets.insert("keys".to_owned(), serde_json::from_value(secret).expect("a secret"));
        let allocatable = Resources::from([("memory".to_owned(), 8_000_000)]);
        let context =
            Context { pod: &pod, sources: &sources, allocatable: &allocatable, host_ip: "10.0.0.1", pod_ips: &["10.1.0.2".to_owned()] };
        environment(&container(env), &context)
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn references_expand_like_kubernetes() {
        let value = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (text, expanded) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(EMPTY)", ""),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$$", "$"),
            ("ä$(A)ö", "ä1ö"),
        ] {
            assert_eq!(expand(text, value), expanded, "{text}");
        }
    }

    #[test]
    fn later_values_replace_and_see_earlier_ones() {
        let env = environment_of(json!({
            "name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "looks"}}],
            "env": [
                {"name": "P_size", "value": "small"},
                {"name": "BOTH", "value": "$(P_color) $(P_size) $(LATER)"},
                {"name": "LATER", "value": "x"},
            ],
        }));
        let expected = pairs(&[("P_color", "red"), ("P_size", "small"), ("BOTH", "red small $(LATER)"), ("LATER", "x")]);
        assert_eq!(env, Ok(expected));
    }

    #[test]
    fn values_come_from_every_kind_of_source() {
        let env = environment_of(json!({
            "name": "c",
            "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}},
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "looks", "key": "color"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "word"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "F", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
                {"name": "G", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                {"name": "H", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": true}}},
            ],
        }));
        let expected = pairs(&[("A", "red"), ("B", "sesame"), ("C", "c"), ("D", "10.1.0.2"), ("E", "2"), ("F", "64"), ("G", "8000")]);
        assert_eq!(env, Ok(expected));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (source, text) in [
            (json!({"configMapKeyRef": {"name": "none", "key": "x"}}), "ConfigMap none does not exist in the namespace"),
            (json!({"secretKeyRef": {"name": "keys", "key": "x"}}), "Secret keys has no key x"),
            (
                json!({"secretKeyRef": {"name": "keys", "key": "raw"}}),
                "environment variable V: the value is not UTF-8 text; mount it as a file",
            ),
            (
                json!({"fieldRef": {"fieldPath": "spec.containers"}}),
                "environment variable V: spec.containers is not a field a pod's environment can have",
            ),
        ] {
            let env = environment_of(json!({"name": "c", "env": [{"name": "V", "valueFrom": source}]}));
            assert_eq!(env.expect_err(text).to_string(), text);
        }
    }
}
