//! UsageRecord: the interval over which a pod held resources.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{cards, labels, pod, quantity};

/// A UsageRecord says over which interval a pod held which amounts. It is written once, in
/// the same step as the pod status that ends the interval, and never changes; records are
/// read, not made, through the API. Intervals that are still open are derived from the pods
/// that run.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "observe.fermion.dev",
    version = "v1alpha1",
    kind = "UsageRecord",
    namespaced,
    no_spec,
    derive = "PartialEq",
    printcolumn(name = "Pod", type_ = "string", json_path = ".pod"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".workload"),
    printcolumn(name = "CPU", type_ = "string", json_path = ".requests.cpu"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".requests.memory"),
    printcolumn(name = "Started", type_ = "string", json_path = ".startedAt"),
    printcolumn(name = "Seconds", type_ = "number", json_path = ".seconds"),
    printcolumn(name = "Open", type_ = "boolean", json_path = ".open")
)]
#[serde(rename_all = "camelCase")]
pub struct UsageRecordFields {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Node it ran on.
    pub node: String,
    /// The Workload it was a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// What the Workload served, as `TrainingJob/digits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who created the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// What the pod asked for, as quantities by resource name.
    pub requests: BTreeMap<String, String>,
    /// Start of the first container, to the microsecond.
    pub started_at: MicroTime,
    /// End of the last container; now, while the interval is open.
    pub ended_at: MicroTime,
    /// Length of the interval in seconds.
    pub seconds: f64,
    /// Whether the pod still runs.
    pub open: bool,
}

/// How the interval of one pod stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Interval {
    /// No container ever ran: nothing to account.
    None,
    /// It runs.
    Open(UsageRecordFields),
    /// It ended; this is the record to keep.
    Closed(UsageRecordFields),
}

/// The usage interval of a pod as its object shows it. `gone_at` is the time at which the
/// object itself is being removed, which closes an interval that its status left open.
pub fn interval(pod: &Pod, now: Timestamp, gone_at: Option<Timestamp>) -> Interval {
    let (Some(started_at), finished_at) = pod::run_interval(pod) else { return Interval::None };
    let closed = pod::ended(pod) || gone_at.is_some();
    let still_running = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    let ended_at = match (closed, finished_at) {
        (true, Some(finished)) if !still_running => finished,
        (true, _) => gone_at.unwrap_or(now),
        (false, _) => now,
    }
    .max(started_at);
    let requests = pod
        .spec
        .iter()
        .flat_map(|spec| cards::counted(pod::requests(spec), cards::known))
        .map(|(name, amount)| {
            let text = quantity::exact(&name, amount);
            (name, text)
        })
        .collect();
    let label = |name: &str| pod.labels().get(name).cloned();
    let owner = [
        (labels::TRAINING_JOB, "TrainingJob"),
        (labels::DEV_ENVIRONMENT, "DevEnvironment"),
        (labels::INFERENCE_SERVICE, "InferenceService"),
    ]
    .iter()
    .find_map(|(name, kind)| Some(format!("{kind}/{}", label(name)?)));
    let record = UsageRecordFields {
        pod: pod.name_any(),
        pod_uid: pod.uid().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        workload: label(labels::WORKLOAD),
        owner,
        created_by: pod.annotations().get(labels::CREATED_BY).cloned(),
        requests,
        started_at: MicroTime(started_at),
        ended_at: MicroTime(ended_at),
        seconds: ended_at.duration_since(started_at).as_secs_f64(),
        open: !closed,
    };
    if closed { Interval::Closed(record) } else { Interval::Open(record) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a-worker-0", "uid": "u", "labels": {"fermion.dev/workload": "a", "fermion.dev/training-job": "a"}},
            "spec": {"nodeName": "local", "containers": [{"name": "main", "resources": {"requests": {"cpu": "500m"}}}]},
            "status": status,
        }))
        .expect("a pod")
    }

    fn container(state: serde_json::Value) -> serde_json::Value {
        serde_json::json!([{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}])
    }

    #[test]
    fn a_pod_that_never_ran_has_no_usage() {
        let pod = pod(serde_json::json!({"phase": "Failed"}));
        assert_eq!(interval(&pod, Timestamp::UNIX_EPOCH, None), Interval::None);
    }

    #[test]
    fn the_interval_runs_from_first_start_to_last_end() {
        let ended =
            serde_json::json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:01:00Z"}});
        let pod = pod(serde_json::json!({"phase": "Succeeded", "containerStatuses": container(ended)}));
        let Interval::Closed(record) = interval(&pod, Timestamp::UNIX_EPOCH, None) else { panic!("closed") };
        assert!((record.seconds - 50.0).abs() < f64::EPSILON);
        assert_eq!(record.requests["cpu"], "500m");
        assert_eq!(record.owner.as_deref(), Some("TrainingJob/a"));
    }

    #[test]
    fn removing_a_running_pod_closes_its_interval_then() {
        let running = serde_json::json!({"running": {"startedAt": "2026-01-01T00:00:10Z"}});
        let pod = pod(serde_json::json!({"phase": "Running", "containerStatuses": container(running)}));
        let now: Timestamp = "2026-01-01T00:00:15Z".parse().expect("a time");
        assert!(matches!(interval(&pod, now, None), Interval::Open(_)));
        let Interval::Closed(record) = interval(&pod, now, Some(now)) else { panic!("closed") };
        assert!((record.seconds - 5.0).abs() < f64::EPSILON);
    }
}
