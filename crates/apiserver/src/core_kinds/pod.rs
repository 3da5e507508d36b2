//! Defaults and checks of pods.

use fermion_api::Invalid;
use serde_json::{Map, Value, json};

use super::fill as or;

/// Grace given to a pod's processes when nothing is said, in seconds.
pub(crate) const GRACE_PERIOD_DEFAULT_S: u64 = 30;

/// Writes out what Kubernetes fills in, as far as it decides how the pod runs.
pub(crate) fn set_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    let spec = &mut object["spec"];
    or(spec, "restartPolicy", || "Always".into());
    or(spec, "terminationGracePeriodSeconds", || GRACE_PERIOD_DEFAULT_S.into());
    or(spec, "dnsPolicy", || "ClusterFirst".into());
    or(spec, "schedulerName", || "default-scheduler".into());
    or(spec, "securityContext", || json!({}));
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            container_defaults(container);
        }
    }
    for volume in items_mut(spec, "volumes") {
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if volume[source].is_object() {
                or(&mut volume[source], "defaultMode", || 0o644.into());
            }
        }
    }
    let class = qos_class(spec);
    let status = &mut object["status"];
    or(status, "phase", || "Pending".into());
    or(status, "qosClass", || class.into());
    Ok(object)
}

/// The items of a list, without making it when it is missing.
fn items_mut<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn container_defaults(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    // An official image is rebuilt when its recipe changes, whatever its tag.
    let official = image.starts_with(fermion_api::labels::OFFICIAL_IMAGE_PREFIX);
    let floating = !image.contains('@')
        && match image.rsplit('/').next().unwrap_or_default().rsplit_once(':') {
            Some((_, tag)) => tag == "latest",
            None => true,
        };
    let policy = if floating && !official { "Always" } else { "IfNotPresent" };
    or(container, "imagePullPolicy", || policy.into());
    or(container, "terminationMessagePath", || "/dev/termination-log".into());
    or(container, "terminationMessagePolicy", || "File".into());
    or(container, "resources", || json!({}));
    if let Some(limits) = container["resources"]["limits"].as_object().cloned() {
        for (name, amount) in limits {
            or(&mut container["resources"]["requests"], &name, || amount);
        }
    }
    for port in items_mut(container, "ports") {
        or(port, "protocol", || "TCP".into());
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            let probe = &mut container[probe];
            or(probe, "timeoutSeconds", || 1.into());
            or(probe, "periodSeconds", || 10.into());
            or(probe, "successThreshold", || 1.into());
            or(probe, "failureThreshold", || 3.into());
            if probe["httpGet"].is_object() {
                or(&mut probe["httpGet"], "path", || "/".into());
                or(&mut probe["httpGet"], "scheme", || "HTTP".into());
            }
        }
    }
}

/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let request = &container["resources"]["requests"][resource];
                let limit = &container["resources"]["limits"][resource];
                any |= !request.is_null() || !limit.is_null();
                guaranteed &= !limit.is_null() && (request.is_null() || request == limit);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Fields of a pod's spec that may change once it exists.
const MUTABLE: [&str; 3] = ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"];

pub(crate) fn check(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let spec = &object["spec"];
    let mut names: Vec<&str> = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = |field: &str| format!("spec.{list}[{index}].{field}");
            let name = container["name"].as_str().unwrap_or_default();
            if !crate::names::is_dns_label(name) {
                problems.push(Invalid::new(at("name"), format!("`{name}` must be a DNS label: lower-case letters, digits and `-`")));
            }
            if names.contains(&name) {
                problems.push(Invalid::new(at("name"), format!("`{name}` is used twice")));
            }
            names.push(name);
            if container["image"].as_str().unwrap_or_default().trim().is_empty() {
                problems.push(Invalid::new(at("image"), "is required"));
            }
            if !matches!(container["imagePullPolicy"].as_str(), Some("Always" | "IfNotPresent" | "Never")) {
                problems.push(Invalid::new(at("imagePullPolicy"), "must be Always, IfNotPresent or Never"));
            }
            check_amounts(&at("resources"), &container["resources"], &mut problems);
            check_mounts(&at("volumeMounts"), container, spec, &mut problems);
        }
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        problems.push(Invalid::new("spec.containers", "needs at least one container"));
    }
    if !matches!(spec["restartPolicy"].as_str(), Some("Always" | "OnFailure" | "Never")) {
        problems.push(Invalid::new("spec.restartPolicy", "must be Always, OnFailure or Never"));
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        problems.push(Invalid::new("spec.terminationGracePeriodSeconds", "must not be negative"));
    }
    check_volumes(spec, &mut problems);
    if let Some(old) = old {
        let fixed = |pod: &Value| -> Map<String, Value> {
            let mut spec = pod["spec"].as_object().cloned().unwrap_or_default();
            spec.retain(|field, _| !MUTABLE.contains(&field.as_str()));
            spec
        };
        let (before, after) = (fixed(old), fixed(object));
        if before != after {
            let changed: Vec<&str> =
                before.keys().chain(after.keys()).filter(|field| before.get(*field) != after.get(*field)).map(String::as_str).collect();
            problems.push(Invalid::new(
                format!("spec.{}", changed.first().unwrap_or(&"")),
                format!("a pod's {} cannot be changed; delete the pod and create it anew", changed.join(", ")),
            ));
        }
    }
    problems
}

fn check_amounts(at: &str, resources: &Value, problems: &mut Vec<Invalid>) {
    let read = |amount: &Value| {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        fermion_api::quantity::parse(&text)
    };
    for list in ["requests", "limits"] {
        for (name, amount) in resources[list].as_object().into_iter().flatten() {
            match read(amount) {
                Err(message) => problems.push(Invalid::new(format!("{at}.{list}.{name}"), message)),
                Ok(value) if value < 0 => problems.push(Invalid::new(format!("{at}.{list}.{name}"), "must not be negative")),
                Ok(value) => {
                    if list == "requests"
                        && let Some(limit) = resources["limits"].get(name)
                        && read(limit).is_ok_and(|limit| limit < value)
                    {
                        problems.push(Invalid::new(format!("{at}.requests.{name}"), format!("must not be more than the limit of {limit}")));
                    }
                }
            }
        }
    }
}

fn check_mounts(at: &str, container: &Value, spec: &Value, problems: &mut Vec<Invalid>) {
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let volume = mount["name"].as_str().unwrap_or_default();
        if !spec["volumes"].as_array().into_iter().flatten().any(|found| found["name"] == volume) {
            problems.push(Invalid::new(format!("{at}[{index}].name"), format!("no volume is named `{volume}`")));
        }
        let path = mount["mountPath"].as_str().unwrap_or_default();
        if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
            problems.push(Invalid::new(format!("{at}[{index}].mountPath"), "must be an absolute path without `..`"));
        }
        if paths.contains(&path) {
            problems.push(Invalid::new(format!("{at}[{index}].mountPath"), format!("`{path}` is mounted twice")));
        }
        paths.push(path);
        let inside = mount["subPath"].as_str().unwrap_or_default();
        if inside.starts_with('/') || inside.split('/').any(|part| part == "..") {
            problems.push(Invalid::new(format!("{at}[{index}].subPath"), "must be a path inside the volume, without `..`"));
        }
    }
}

fn check_volumes(spec: &Value, problems: &mut Vec<Invalid>) {
    let mut names: Vec<&str> = Vec::new();
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let name = volume["name"].as_str().unwrap_or_default();
        if !crate::names::is_dns_label(name) {
            problems.push(Invalid::new(format!("spec.volumes[{index}].name"), format!("`{name}` must be a DNS label")));
        }
        if names.contains(&name) {
            problems.push(Invalid::new(format!("spec.volumes[{index}].name"), format!("`{name}` is used twice")));
        }
        names.push(name);
        let sources =
            volume.as_object().map_or(0, |fields| fields.iter().filter(|(field, value)| *field != "name" && !value.is_null()).count());
        if sources > 1 {
            problems.push(Invalid::new(format!("spec.volumes[{index}]"), "may have one source only"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        set_defaults(json!({"metadata": {"name": "a"}, "spec": spec})).expect("defaults")
    }

    #[test]
    fn a_limit_is_also_a_request() {
        let pod = pod(json!({"containers": [{"name": "a", "image": "x:1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
        assert_eq!(pod["status"]["qosClass"], "Guaranteed");
        assert_eq!(check(&pod, None), []);
    }

    #[test]
    fn floating_tags_are_pulled_always_but_official_images_are_not() {
        for (image, policy) in [
            ("x", "Always"),
            ("x:latest", "Always"),
            ("host:5000/x", "Always"),
            ("x:1", "IfNotPresent"),
            ("x@sha256:0", "IfNotPresent"),
            ("fermion.dev/python:latest", "IfNotPresent"),
        ] {
            let pod = pod(json!({"containers": [{"name": "a", "image": image}]}));
            assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
        }
    }

    #[test]
    fn wrong_pods_say_where() {
        let pod = pod(json!({
            "containers": [
                {"name": "A", "image": "", "volumeMounts": [{"name": "gone", "mountPath": "x/../y", "subPath": "../z"}]},
                {"name": "b", "image": "x", "resources": {"requests": {"cpu": "2", "memory": "1x"}, "limits": {"cpu": "1"}}},
            ],
            "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}],
        }));
        let fields: Vec<_> = check(&pod, None).into_iter().map(|problem| problem.field).collect();
        assert_eq!(
            fields,
            [
                "spec.containers[0].name",
                "spec.containers[0].image",
                "spec.containers[0].volumeMounts[0].name",
                "spec.containers[0].volumeMounts[0].mountPath",
                "spec.containers[0].volumeMounts[0].subPath",
                "spec.containers[1].resources.requests.cpu",
                "spec.containers[1].resources.requests.memory",
                "spec.volumes[0]",
            ]
        );
    }

    #[test]
    fn a_running_pod_keeps_its_spec() {
        let old = pod(json!({"containers": [{"name": "a", "image": "x:1"}]}));
        let mut new = old.clone();
        new["spec"]["tolerations"] = json!([]);
        assert_eq!(check(&new, Some(&old)), []);
        new["spec"]["nodeName"] = "other".into();
        assert_eq!(check(&new, Some(&old)).len(), 1);
    }
}
