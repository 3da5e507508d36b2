//! Facts about core/v1 Pods that several parts of the platform need: what a pod asks for,
//! whether it ended, how.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::quantity::{self, Milli};

/// Amounts by resource name (`cpu`, `memory`, `gpu.fermion.dev/…`), in thousandths.
pub type Resources = BTreeMap<String, Milli>;

/// What a pod asks the scheduler for: for each resource the larger of the sum over its
/// containers and the largest init container, plus overhead. A container that sets only a
/// limit asks for that limit.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>
pub fn requests(spec: &PodSpec) -> Resources {
    let mut total = Resources::new();
    let mut sidecars = Resources::new();
    let mut init_peak = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let asked = container_requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &asked);
            raise(&mut init_peak, &sidecars);
        } else {
            let mut peak = asked;
            add(&mut peak, &sidecars);
            raise(&mut init_peak, &peak);
        }
    }
    for container in &spec.containers {
        add(&mut total, &container_requests(container));
    }
    add(&mut total, &sidecars);
    raise(&mut total, &init_peak);
    for (name, amount) in spec.overhead.iter().flatten() {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.saturating_add(quantity::milli(amount));
    }
    total
}

fn container_requests(container: &Container) -> Resources {
    let mut asked = Resources::new();
    if let Some(resources) = &container.resources {
        for (name, amount) in resources.limits.iter().flatten() {
            asked.insert(name.clone(), quantity::milli(amount));
        }
        for (name, amount) in resources.requests.iter().flatten() {
            asked.insert(name.clone(), quantity::milli(amount));
        }
    }
    asked
}

/// Adds `more` to `sum`, resource by resource; absurd amounts stop at the largest number.
pub fn add(sum: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let total = sum.entry(name.clone()).or_default();
        *total = total.saturating_add(*amount);
    }
}

fn raise(peak: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        let current = peak.entry(name.clone()).or_default();
        *current = (*current).max(*amount);
    }
}

/// The pod's phase; an empty status reads as Pending.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod ended: no container of it will run again.
pub fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the Ready condition is True and the pod is not going away.
pub fn ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How the containers of an ended pod finished: the first that did not end with 0 decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub container: String,
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, or the pod's own reason (`DeadlineExceeded`).
    pub reason: String,
    pub message: String,
}

/// The exit that decides a pod's result; `None` when no container ever ran.
pub fn exit(pod: &Pod) -> Option<Exit> {
    let status = pod.status.as_ref()?;
    let mut exits = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .filter_map(|container| {
            let ended = container.state.as_ref()?.terminated.as_ref()?;
            Some(Exit {
                container: container.name.clone(),
                code: ended.exit_code,
                reason: ended.reason.clone().unwrap_or_default(),
                message: ended.message.clone().unwrap_or_default(),
            })
        })
        .collect::<Vec<_>>();
    let worst = exits.iter().position(|exit| exit.code != 0).or(exits.len().checked_sub(1))?;
    Some(exits.swap_remove(worst))
}

/// When the pod's first container started and its last one finished, as far as known.
/// This interval is what usage is counted over.
pub fn run_interval(pod: &Pod) -> (Option<Timestamp>, Option<Timestamp>) {
    let mut started: Option<Timestamp> = None;
    let mut finished: Option<Timestamp> = None;
    let Some(status) = &pod.status else { return (None, None) };
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        for state in container.state.iter().chain(container.last_state.iter()) {
            let begin = state
                .running
                .as_ref()
                .and_then(|running| running.started_at.as_ref())
                .or_else(|| state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref()));
            if let Some(begin) = begin {
                started = Some(started.map_or(begin.0, |earliest| earliest.min(begin.0)));
            }
            if let Some(end) = state.terminated.as_ref().and_then(|ended| ended.finished_at.as_ref()) {
                finished = Some(finished.map_or(end.0, |latest| latest.max(end.0)));
            }
        }
    }
    (started, finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: serde_json::Value) -> PodSpec {
        serde_json::from_value(yaml).expect("a pod spec")
    }

    #[test]
    fn requests_are_the_larger_of_init_and_sum() {
        let spec = spec(serde_json::json!({
            "initContainers": [{"name": "a", "resources": {"requests": {"cpu": "3"}}}],
            "containers": [
                {"name": "b", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
                {"name": "c", "resources": {"limits": {"cpu": "500m"}}},
            ],
        }));
        let requests = requests(&spec);
        assert_eq!(requests["cpu"], 3000);
        assert_eq!(requests["memory"], 1_073_741_824_000);
    }

    #[test]
    fn the_failed_container_decides_the_exit() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "status": {"containerStatuses": [
                {"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
                {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
            ]},
        }))
        .expect("a pod");
        let exit = exit(&pod).expect("ended");
        assert_eq!((exit.container.as_str(), exit.code, exit.reason.as_str()), ("b", 137, "OOMKilled"));
    }
}
