//! What a pod does, in one word: the STATUS column of `kubectl get pods`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::core_kinds::{NONE, created, list, name, or_none, text};
use super::duration::age;

/// `status.reason` of a pod whose node is lost.
const NODE_LOST: &str = "NodeLost";

/// NAME READY STATUS RESTARTS AGE, and with `-o wide` IP NODE NOMINATED-NODE READINESS-GATES.
pub(super) fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart.filter(|_| summary.restarts > 0) {
        Some(time) => format!("{} ({} ago)", summary.restarts, age(time, now)),
        None => summary.restarts.to_string(),
    };
    vec![
        name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.status),
        json!(restarts),
        created(pod, now),
        or_none(text(pod, "/status/podIPs/0/ip").or_else(|| text(pod, "/status/podIP"))),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        json!(readiness_gates(pod)),
    ]
}

/// Marks rows of pods that have ended, so that clients can leave them out.
pub(super) fn row_conditions(object: &Value) -> Option<Value> {
    if text(object, "/kind") != Some("Pod") {
        return None;
    }
    let (reason, message) = match text(object, "/status/phase")? {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

struct Summary<'a> {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<&'a str>,
}

impl<'a> Summary<'a> {
    /// Follows `printPod` of Kubernetes' printers step by step, since people and scripts read it.
    fn of(pod: &'a Value) -> Self {
        let phase = text(pod, "/status/phase").unwrap_or_default();
        let init_containers = list(pod, "/spec/initContainers");
        let mut summary = Self {
            status: text(pod, "/status/reason").unwrap_or(phase).to_owned(),
            ready: 0,
            total: list(pod, "/spec/containers").len(),
            restarts: 0,
            last_restart: None,
        };
        if list(pod, "/status/conditions")
            .iter()
            .any(|condition| text(condition, "/type") == Some("PodScheduled") && text(condition, "/reason") == Some("SchedulingGated"))
        {
            "SchedulingGated".clone_into(&mut summary.status);
        }
        summary.total += init_containers.iter().filter(|container| is_sidecar(container)).count();

        let mut sidecars = Restarts::default();
        let initializing = summary.init_containers(pod, init_containers, &mut sidecars);
        if !initializing || condition_is_true(pod, "Initialized") {
            summary.restarts = sidecars.count;
            summary.last_restart = sidecars.last;
            summary.containers(pod);
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
            if text(pod, "/status/reason") == Some(NODE_LOST) {
                "Unknown".clone_into(&mut summary.status);
            } else if !matches!(phase, "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut summary.status);
            }
        }
        summary
    }

    /// True while an init container keeps the others from starting.
    fn init_containers(&mut self, pod: &'a Value, specs: &'a [Value], sidecars: &mut Restarts<'a>) -> bool {
        let mut all = Restarts::default();
        let mut initializing = false;
        for (place, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            let spec = specs.iter().find(|spec| spec.get("name") == container.get("name"));
            let is_sidecar = spec.is_some_and(is_sidecar);
            all.add(container);
            if is_sidecar {
                sidecars.add(container);
            }
            if let Some(terminated) = state(container, "terminated") {
                if exit_code(terminated) == 0 {
                    continue;
                }
                self.status = format!("Init:{}", terminated_reason(terminated));
            } else if is_sidecar && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            } else {
                self.status = match waiting_reason(container) {
                    Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
                    _ => format!("Init:{place}/{}", specs.len()),
                };
            }
            initializing = true;
            break;
        }
        self.restarts = all.count;
        self.last_restart = all.last;
        initializing
    }

    fn containers(&mut self, pod: &'a Value) {
        let mut restarts = Restarts { count: self.restarts, last: self.last_restart };
        let mut has_running = false;
        // From the last to the first: the first container's state is what is shown.
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(container);
            if let Some(reason) = waiting_reason(container) {
                reason.clone_into(&mut self.status);
            } else if let Some(terminated) = state(container, "terminated") {
                self.status = terminated_reason(terminated);
            } else if flag(container, "ready") && state(container, "running").is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        self.restarts = restarts.count;
        self.last_restart = restarts.last;
        if self.status == "Completed" && has_running {
            let status = if condition_is_true(pod, "Ready") { "Running" } else { "NotReady" };
            status.clone_into(&mut self.status);
        }
    }
}

#[derive(Default)]
struct Restarts<'a> {
    count: i64,
    last: Option<&'a str>,
}

impl<'a> Restarts<'a> {
    fn add(&mut self, container: &'a Value) {
        self.count += container.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
        let ended = text(container, "/lastState/terminated/finishedAt");
        let parsed = |time: Option<&str>| time.and_then(|time| time.parse::<Timestamp>().ok());
        if parsed(ended) > parsed(self.last) {
            self.last = ended;
        }
    }
}

/// A sidecar is an init container that keeps running.
fn is_sidecar(spec: &Value) -> bool {
    text(spec, "/restartPolicy") == Some("Always")
}

fn state<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container.get("state").and_then(|state| state.get(name)).filter(|state| state.is_object())
}

fn waiting_reason(container: &Value) -> Option<&str> {
    text(container, "/state/waiting/reason")
}

fn exit_code(terminated: &Value) -> i64 {
    terminated.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

fn terminated_reason(terminated: &Value) -> String {
    if let Some(reason) = text(terminated, "/reason") {
        return reason.to_owned();
    }
    match terminated.get("signal").and_then(Value::as_i64).unwrap_or(0) {
        0 => format!("ExitCode:{}", exit_code(terminated)),
        signal => format!("Signal:{signal}"),
    }
}

fn flag(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or(false)
}

fn condition_is_true(pod: &Value, type_: &str) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == Some(type_) && text(condition, "/status") == Some("True"))
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| text(gate, "/conditionType").is_some_and(|type_| condition_is_true(pod, type_))).count();
    format!("{open}/{}", gates.len())
}
