//! LimitRange: what containers, pods and claims of a namespace get when they say nothing, and how
//! little or much they may ask for.
//!
//! The rules and messages are those of Kubernetes:
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use axum::http::StatusCode;
use fermion_api::Invalid;
use fermion_api::quantity::{self, Milli};
use fermion_store::Stored;
use serde_json::{Map, Value, json};

use super::{Operation, Request};
use crate::Api;
use crate::error::{ApiError, Result};
use crate::follow::Items;

/// Where limit ranges are stored.
pub(crate) const LIMIT_RANGES: &str = "limitranges";
/// Limits of one range.
const LIMITS_MAX: usize = 50;
/// Says on a pod what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Reads a stored range.
pub(crate) fn read(stored: &Stored) -> Result<Value, String> {
    serde_json::from_slice(&stored.body).map_err(|error| error.to_string())
}

/// The ranges that are about a request: of its namespace, in the order of names.
pub(super) async fn ranges(api: &Api, request: &Request<'_>) -> Result<Vec<(String, std::sync::Arc<Value>)>> {
    let about_pod = request.resource.is_core("pods") && request.operation == Operation::Create;
    let about_claim = request.resource.is_core("persistentvolumeclaims") && request.operation != Operation::Delete;
    if !(about_pod || about_claim) || !request.origin.subresource.is_empty() {
        return Ok(Vec::new());
    }
    let all: Items<Value> =
        api.limit_ranges.all(&api.store).await.map_err(|error| ApiError::from_store(&error, request.resource.about(request.name)))?;
    let here = all.iter().filter(|(key, _)| &*key.namespace == request.namespace);
    Ok(here.map(|(key, range)| (key.name.to_string(), range.clone())).collect())
}

/// Fills in what a new pod's containers do not say.
pub(super) fn set_defaults(ranges: &[(String, std::sync::Arc<Value>)], object: &mut Value) {
    let mut filled: Vec<String> = Vec::new();
    for (range, limits) in ranges {
        let mut set = Vec::new();
        for limit in of_type(limits, "Container") {
            for list in ["initContainers", "containers"] {
                let containers = object.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten().filter(|container| container.is_object()) {
                    let name = container["name"].as_str().unwrap_or_default().to_owned();
                    set.extend(fill(container, limit).into_iter().map(|what| format!("{what} for container {name}")));
                }
            }
        }
        if !set.is_empty() {
            filled.push(format!("LimitRanger plugin set: {} (LimitRange {range})", set.join(", ")));
        }
    }
    if !filled.is_empty() && object["metadata"].is_object() && matches!(object["metadata"]["annotations"], Value::Null | Value::Object(_)) {
        object["metadata"]["annotations"][ANNOTATION] = filled.join("; ").into();
    }
}

/// Fills in one container's limits and requests; says what.
fn fill(container: &mut Value, limit: &Value) -> Vec<String> {
    let mut set = Vec::new();
    if !matches!(container["resources"], Value::Null | Value::Object(_)) {
        return set;
    }
    for (list, defaults) in [("limits", "default"), ("requests", "defaultRequest")] {
        for (name, amount) in limit[defaults].as_object().into_iter().flatten() {
            let resources = &mut container["resources"];
            if !matches!(resources[list], Value::Null | Value::Object(_)) || !resources[list][name].is_null() {
                continue;
            }
            // Who names a limit and no request asks for that limit.
            if list == "requests" && !resources["limits"][name].is_null() && !set.contains(&format!("{name} limit")) {
                continue;
            }
            resources[list][name] = amount.clone();
            set.push(format!("{name} {}", list.trim_end_matches('s')));
        }
    }
    set
}

/// Refuses a pod or claim that asks for too little or too much.
pub(super) fn check(ranges: &[(String, std::sync::Arc<Value>)], request: &Request<'_>, object: &Value) -> Result<()> {
    let mut problems = Vec::new();
    for (_, limits) in ranges {
        if request.resource.is_core("persistentvolumeclaims") {
            for limit in of_type(limits, "PersistentVolumeClaim") {
                compare(limit, &object["spec"]["resources"], &mut problems);
            }
            continue;
        }
        for limit in of_type(limits, "Container") {
            for list in ["initContainers", "containers"] {
                for container in object["spec"][list].as_array().into_iter().flatten() {
                    compare(limit, &container["resources"], &mut problems);
                }
            }
        }
        for limit in of_type(limits, "Pod") {
            compare(limit, &total(object), &mut problems);
        }
    }
    let message = match problems.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let subject = format!("{} \"{}\" is forbidden", request.resource.plural, request.name);
    Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", format!("{subject}: {message}")))
}

fn of_type<'a>(range: &'a Value, type_: &'a str) -> impl Iterator<Item = &'a Value> {
    range["spec"]["limits"].as_array().into_iter().flatten().filter(move |limit| limit["type"] == type_)
}

/// Holds requests and limits against one limit.
fn compare(limit: &Value, resources: &Value, problems: &mut Vec<String>) {
    let type_ = limit["type"].as_str().unwrap_or_default();
    let of = |list: &str, name: &str| amount(&resources[list][name]);
    for (name, least) in entries(&limit["min"]) {
        let told = format!("minimum {name} usage per {type_} is {}", limit["min"][name].as_str().unwrap_or_default());
        match (of("requests", name), of("limits", name)) {
            (None, _) => problems.push(format!("{told}.  No request is specified")),
            (Some(asked), _) if asked < least => problems.push(format!("{told}, but request is {}", shown(name, asked))),
            (_, Some(asked)) if asked < least => problems.push(format!("{told}, but limit is {}", shown(name, asked))),
            _ => {}
        }
    }
    for (name, most) in entries(&limit["max"]) {
        let told = format!("maximum {name} usage per {type_} is {}", limit["max"][name].as_str().unwrap_or_default());
        // A claim has requests only.
        let bounded = if type_ == "PersistentVolumeClaim" { of("requests", name) } else { of("limits", name) };
        match (bounded, of("requests", name)) {
            (None, _) if type_ == "PersistentVolumeClaim" => problems.push(format!("{told}.  No request is specified")),
            (None, _) => problems.push(format!("{told}.  No limit is specified")),
            (Some(asked), _) if asked > most && type_ != "PersistentVolumeClaim" => {
                problems.push(format!("{told}, but limit is {}", shown(name, asked)));
            }
            (_, Some(asked)) if asked > most => problems.push(format!("{told}, but request is {}", shown(name, asked))),
            _ => {}
        }
    }
    for (name, most) in entries(&limit["maxLimitRequestRatio"]) {
        let told = format!(
            "{name} max limit to request ratio per {type_} is {}",
            limit["maxLimitRequestRatio"][name].as_str().unwrap_or_default()
        );
        match (of("requests", name).filter(|asked| *asked != 0), of("limits", name)) {
            (None, _) => problems.push(format!("{told}, but no request is specified or request is 0")),
            (_, None) => problems.push(format!("{told}, but no limit is specified or limit is 0")),
            // limit / request > most / 1000, without dividing.
            (Some(request), Some(limit)) if limit.saturating_mul(1000) > most.saturating_mul(request) => {
                problems.push(format!("{told}, but provided ratio is {:.6}", limit as f64 / request as f64));
            }
            _ => {}
        }
    }
}

/// Requests and limits of a whole pod, in the form of a container's.
fn total(pod: &Value) -> Value {
    let mut total = json!({});
    for list in ["requests", "limits"] {
        let (mut sum, mut peak) = (Map::new(), Map::new());
        let of = |container: &Value| container["resources"][list].clone();
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            merge(&mut sum, &of(container), Milli::saturating_add);
        }
        for container in pod["spec"]["initContainers"].as_array().into_iter().flatten() {
            // One that keeps running beside the others counts with them.
            if container["restartPolicy"] == "Always" {
                merge(&mut sum, &of(container), Milli::saturating_add);
            } else {
                merge(&mut peak, &of(container), Milli::max);
            }
        }
        merge(&mut sum, &Value::Object(peak), Milli::max);
        total[list] = sum.into();
    }
    total
}

fn merge(into: &mut Map<String, Value>, more: &Value, with: impl Fn(Milli, Milli) -> Milli) {
    for (name, more) in entries(more) {
        let before = into.get(name).and_then(amount).unwrap_or(0);
        into.insert(name.to_owned(), format!("{}m", with(before, more)).into());
    }
}

fn entries(map: &Value) -> impl Iterator<Item = (&str, Milli)> {
    map.as_object().into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), amount(value)?)))
}

fn amount(value: &Value) -> Option<Milli> {
    match value {
        Value::String(text) => quantity::parse(text).ok(),
        Value::Number(number) => quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

fn shown(name: &str, amount: Milli) -> String {
    quantity::exact(name, amount)
}

/// Fills in what follows from a range's other fields, as Kubernetes does.
pub(crate) fn range_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    let limits = object.pointer_mut("/spec/limits").and_then(Value::as_array_mut);
    for limit in limits.into_iter().flatten().filter(|limit| limit["type"] == "Container") {
        for (field, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            for (name, amount) in limit[from].as_object().cloned().into_iter().flatten() {
                if limit[field][&name].is_null() {
                    limit[field][name] = amount;
                }
            }
        }
    }
    Ok(object)
}

/// What is wrong with a range.
pub(crate) fn check_range(object: &Value, _old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let limits = object["spec"]["limits"].as_array().map(Vec::as_slice).unwrap_or_default();
    if limits.len() > LIMITS_MAX {
        problems.push(Invalid::new("spec.limits", format!("at most {LIMITS_MAX} in one range")));
        return problems;
    }
    for (index, limit) in limits.iter().enumerate() {
        let at = |field: &str| format!("spec.limits[{index}].{field}");
        let type_ = limit["type"].as_str().unwrap_or_default();
        if !matches!(type_, "Container" | "Pod" | "PersistentVolumeClaim") {
            problems.push(Invalid::new(at("type"), "must be Container, Pod or PersistentVolumeClaim"));
        }
        for field in ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"] {
            for (name, value) in limit[field].as_object().into_iter().flatten() {
                if amount(value).is_none_or(|amount| amount < 0) {
                    problems.push(Invalid::new(at(&format!("{field}[{name}]")), "must be a quantity, zero or more"));
                }
            }
            if matches!(field, "default" | "defaultRequest") && type_ != "Container" && limit[field].is_object() {
                problems.push(Invalid::new(at(field), format!("may not be specified when `type` is '{type_}'")));
            }
        }
        // Each of these must not be more than the next.
        let order = ["min", "defaultRequest", "default", "max"];
        for (position, smaller) in order.iter().enumerate() {
            for larger in &order[position + 1..] {
                for (name, least) in entries(&limit[*smaller]) {
                    if amount(&limit[*larger][name]).is_some_and(|most| least > most) {
                        problems.push(Invalid::new(
                            at(&format!("{smaller}[{name}]")),
                            format!("{smaller} value must not exceed {larger} value"),
                        ));
                    }
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn range(limits: Value) -> Vec<(String, Arc<Value>)> {
        let range = range_defaults(json!({"spec": {"limits": [limits]}})).unwrap();
        assert_eq!(check_range(&range, None), []);
        vec![("r".to_owned(), Arc::new(range))]
    }

    fn problems(ranges: &[(String, Arc<Value>)], resources: Value) -> Vec<String> {
        let mut problems = Vec::new();
        for limit in ranges.iter().flat_map(|(_, range)| of_type(range, "Container")) {
            compare(limit, &resources, &mut problems);
        }
        problems
    }

    #[test]
    fn what_containers_do_not_say_is_filled_in() {
        let ranges = range(json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}));
        let mut pod = json!({
            "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}, "requests": {"memory": "1Mi"}}}]},
        });
        set_defaults(&ranges, &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})
        );
        // A limit that was given is also the request, not what the range says.
        assert_eq!(
            pod["spec"]["containers"][1]["resources"],
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"memory": "1Mi"}})
        );
        assert!(pod["metadata"]["annotations"][ANNOTATION].as_str().unwrap().contains("cpu limit for container a"));
    }

    #[test]
    fn too_little_too_much_and_too_far_apart_are_told() {
        let ranges = range(json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}}));
        assert_eq!(problems(&ranges, json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}})), Vec::<String>::new());
        assert_eq!(
            problems(&ranges, json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "2"}})),
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "maximum cpu usage per Container is 1, but limit is 2",
                "cpu max limit to request ratio per Container is 2, but provided ratio is 40.000000",
            ]
        );
        assert_eq!(
            problems(&ranges, json!({})),
            [
                "minimum cpu usage per Container is 100m.  No request is specified",
                "maximum cpu usage per Container is 1.  No limit is specified",
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ]
        );
    }

    #[test]
    fn a_pod_is_the_sum_of_its_containers() {
        let pod = json!({"spec": {
            "initContainers": [{"resources": {"requests": {"cpu": "3"}}}, {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}}],
            "containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}],
        }});
        let total = total(&pod);
        assert_eq!(amount(&total["requests"]["cpu"]), Some(3000));
        assert_eq!(amount(&total["requests"]["memory"]), Some(1_073_741_824_000));
    }

    #[test]
    fn a_range_must_agree_with_itself() {
        let wrong = json!({"spec": {"limits": [
            {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}},
            {"type": "Pod", "default": {"cpu": "1"}},
            {"type": "Node"},
        ]}});
        let fields: Vec<_> = check_range(&wrong, None).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.limits[0].min[cpu]", "spec.limits[1].default", "spec.limits[2].type"]);
    }
}
