//! What keeps a pod from running, as its containers' states tell it.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// Waiting reasons that will not pass by themselves soon.
const STUCK_REASONS: [&str; 8] = [
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// Restarts after which a container that is not ready counts as crashing again and again.
const CRASHES_MIN: i32 = 3;

/// A container that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whether it will not pass by itself soon.
    pub stuck: bool,
    /// Whether the container started and ended, again and again.
    pub crashes: bool,
    /// The sentence for people.
    pub message: String,
}

/// The first container of the pod that says what it waits for.
pub(crate) fn of(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    containers.into_iter().find_map(|container| {
        let name = format!("container {} of pod {}", container.name, pod.name_any());
        let crashes = container.restart_count >= CRASHES_MIN && !container.ready;
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        let stuck = STUCK_REASONS.contains(&reason);
        let told = waiting.and_then(|waiting| waiting.message.as_deref()).filter(|message| !message.is_empty());
        match told {
            Some(message) => Some(Trouble {
                stuck,
                crashes: crashes || reason == "CrashLoopBackOff",
                message: format!("{name} waits ({reason}): {message}"),
            }),
            None if stuck || crashes => {
                let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
                let last = last.map_or(String::new(), |ended| format!(", last with exit code {}", ended.exit_code));
                Some(Trouble { stuck, crashes, message: format!("{name} ended {} times{last}", container.restart_count.max(1)) })
            }
            None => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(container: serde_json::Value) -> Pod {
        let mut status = json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0});
        for (name, value) in container.as_object().expect("an object") {
            status[name] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}})).expect("a pod")
    }

    #[test]
    fn trouble_is_told_apart_from_starting() {
        assert_eq!(of(&pod(json!({"state": {"waiting": {"reason": "ContainerCreating"}}}))), None);
        let pulling = of(&pod(json!({"state": {"waiting": {"reason": "Pulling", "message": "step 2 of 5"}}}))).expect("told");
        assert_eq!((pulling.stuck, pulling.message.as_str()), (false, "container main of pod p waits (Pulling): step 2 of 5"));
        let missing = of(&pod(json!({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}))).expect("told");
        assert!(missing.stuck && !missing.crashes);
        let crashes = json!({"restartCount": 4, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 3}}});
        let crashes = of(&pod(crashes)).expect("told");
        assert_eq!((crashes.crashes, crashes.message.as_str()), (true, "container main of pod p ended 4 times, last with exit code 3"));
    }
}
