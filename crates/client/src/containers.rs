//! What a pod's status says about its containers.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// The status of a container, init containers included.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.into_iter().find(|container| container.name == name)
}

/// Whether the container ran or runs: whether it can have logs.
pub fn container_started(pod: &Pod, name: &str) -> bool {
    container(pod, name).is_some_and(|container| {
        container.restart_count > 0
            || container.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
            || container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    })
}

/// Whether nothing more will come from the container: it ended, and is not started again.
pub fn container_finished(pod: &Pod, name: &str) -> bool {
    let ended = container(pod, name).and_then(|container| container.state.as_ref()).is_some_and(|state| state.terminated.is_some());
    let final_for_container = match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => true,
        Some("OnFailure") => container(pod, name)
            .and_then(|container| container.state.as_ref()?.terminated.as_ref())
            .is_some_and(|ended| ended.exit_code == 0),
        _ => false,
    };
    fermion_api::pod::ended(pod) || (ended && final_for_container)
}

/// Why a pod's containers do not run yet, in words.
pub fn reason_to_wait(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        if let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            let message = waiting.message.as_deref().unwrap_or_default();
            let said = [reason, message].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
            if !said.is_empty() {
                return Some(said);
            }
        }
    }
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    unscheduled.message.clone().or_else(|| unscheduled.reason.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(restart_policy: &str, state: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "spec": {"restartPolicy": restart_policy, "containers": [{"name": "main"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state},
            ]},
        }))
        .expect("a pod")
    }

    #[test]
    fn a_container_that_will_be_restarted_is_not_finished() {
        let ended = |code: i32| serde_json::json!({"terminated": {"exitCode": code}});
        assert!(container_finished(&pod("Never", ended(1)), "main"));
        assert!(container_finished(&pod("OnFailure", ended(0)), "main"));
        assert!(!container_finished(&pod("OnFailure", ended(1)), "main"));
        assert!(!container_finished(&pod("Always", ended(0)), "main"));
        assert!(!container_finished(&pod("Never", serde_json::json!({"running": {}})), "main"));
        assert!(!container_finished(&pod("Never", ended(0)), "other"));
    }

    #[test]
    fn a_waiting_pod_says_why() {
        let waiting = pod("Never", serde_json::json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}));
        assert_eq!(reason_to_wait(&waiting).as_deref(), Some("ImagePullBackOff: no such image"));
        assert!(!container_started(&waiting, "main"));
        assert!(container_started(&pod("Never", serde_json::json!({"running": {}})), "main"));
    }
}
