//! Reading what containerd has of one pod.

use std::collections::HashMap;

use jiff::Timestamp;

use super::container::ENDS_BEFORE;
use super::sandbox::POD_UID;
use super::state::{ContainerSeen, ContainerState, Observed, SandboxSeen};
use crate::cri::{Cri, Error, v1};

/// Looks a pod up. What cannot change any more is taken from `known`, the last look.
pub(crate) async fn observe(cri: &Cri, uid: &str, known: &Observed) -> Result<Observed, Error> {
    let selector = HashMap::from([(POD_UID.to_owned(), uid.to_owned())]);
    let sandboxes = cri.list_pod_sandbox(v1::ListPodSandboxRequest {
        filter: Some(v1::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() }),
    });
    let containers = cri.list_containers(v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter { label_selector: selector, ..Default::default() }),
    });
    let (sandboxes, containers) = futures::try_join!(sandboxes, containers)?;
    let mut observed = Observed::default();
    for sandbox in sandboxes.items {
        observed.sandboxes.extend(look_at_sandbox(cri, sandbox, known).await?);
    }
    for container in containers.containers {
        observed.containers.extend(look_at_container(cri, container, known).await?);
    }
    observed.sandboxes.sort_by(|a, b| b.attempt.cmp(&a.attempt).then(b.created_at.cmp(&a.created_at)));
    observed.containers.sort_by(|a, b| a.name.cmp(&b.name).then(b.attempt.cmp(&a.attempt)));
    Ok(observed)
}

async fn look_at_sandbox(cri: &Cri, listed: v1::PodSandbox, known: &Observed) -> Result<Option<SandboxSeen>, Error> {
    let ready = listed.state() == v1::PodSandboxState::SandboxReady;
    let mut seen = SandboxSeen {
        attempt: listed.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        ready,
        created_at: timestamp(listed.created_at).unwrap_or_default(),
        ips: Vec::new(),
        id: listed.id,
    };
    if !ready {
        return Ok(Some(seen));
    }
    if let Some(same) = known.sandboxes.iter().find(|same| same.id == seen.id && !same.ips.is_empty()) {
        seen.ips.clone_from(&same.ips);
        return Ok(Some(seen));
    }
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: seen.id.clone(), verbose: false };
    let status = match cri.pod_sandbox_status(request).await {
        Err(error) if error.is_not_found() => return Ok(None),
        reply => reply?.status.unwrap_or_default(),
    };
    if let Some(network) = status.network {
        seen.ips.push(network.ip);
        seen.ips.extend(network.additional_ips.into_iter().map(|address| address.ip));
        seen.ips.retain(|ip| !ip.is_empty());
    }
    Ok(Some(seen))
}

async fn look_at_container(cri: &Cri, listed: v1::Container, known: &Observed) -> Result<Option<ContainerSeen>, Error> {
    let state = state_of(listed.state());
    let same = known.containers.iter().find(|same| same.id == listed.id && same.state == state);
    // An exited container changes in one way only: the reason may become OOMKilled a moment
    // later, and then its exit code was that of SIGKILL.
    if let Some(same) = same.filter(|same| state == ContainerState::Running || (state == ContainerState::Exited && !may_become_oom(same))) {
        return Ok(Some(same.clone()));
    }
    let request = v1::ContainerStatusRequest { container_id: listed.id.clone(), verbose: false };
    let status = match cri.container_status(request).await {
        Err(error) if error.is_not_found() => return Ok(None),
        reply => reply?.status.unwrap_or_default(),
    };
    if start_was_cancelled(&status) {
        tracing::info!(container = status.id, "its start was cancelled when the process before this one ended; it is made anew");
        cri.remove_container(v1::RemoveContainerRequest { container_id: status.id }).await?;
        return Ok(None);
    }
    let metadata = status.metadata.clone().unwrap_or_default();
    Ok(Some(ContainerSeen {
        state: state_of(status.state()),
        id: listed.id,
        sandbox_id: listed.pod_sandbox_id,
        name: metadata.name,
        attempt: metadata.attempt,
        started_at: timestamp(status.started_at),
        finished_at: timestamp(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image_ref: status.image_ref,
        ends_before: status.annotations.get(ENDS_BEFORE).and_then(|text| text.parse().ok()).unwrap_or(0),
    }))
}

/// Whether the container never ran because whoever asked for its start was gone before it was done:
/// containerd gives up then. That is no end of the container, which a pod that never restarts would
/// fail by.
fn start_was_cancelled(status: &v1::ContainerStatus) -> bool {
    status.state() == v1::ContainerState::ContainerExited
        && status.started_at == 0
        && status.reason == "StartError"
        && status.message.contains("context canceled")
}

/// Whether the container was killed and the cause may still become known.
pub(crate) fn may_become_oom(seen: &ContainerSeen) -> bool {
    seen.state == ContainerState::Exited && seen.exit_code == 137 && seen.reason != "OOMKilled"
}

fn state_of(state: v1::ContainerState) -> ContainerState {
    match state {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running,
        v1::ContainerState::ContainerExited => ContainerState::Exited,
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}

/// CRI times are nanoseconds since 1970; 0 means never.
pub(crate) fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_start_is_told_from_one_that_failed_and_from_an_end() {
        let cancelled = v1::ContainerStatus {
            state: v1::ContainerState::ContainerExited.into(),
            exit_code: 128,
            reason: "StartError".to_owned(),
            message: "failed to create containerd task: failed to create shim task: context canceled: unknown".to_owned(),
            ..v1::ContainerStatus::default()
        };
        assert!(start_was_cancelled(&cancelled));
        let message = "failed to create containerd task: exec: \"nothing\": executable file not found".to_owned();
        assert!(!start_was_cancelled(&v1::ContainerStatus { message, ..cancelled.clone() }));
        assert!(!start_was_cancelled(&v1::ContainerStatus { started_at: 1, ..cancelled.clone() }));
        assert!(!start_was_cancelled(&v1::ContainerStatus { state: v1::ContainerState::ContainerRunning.into(), ..cancelled }));
    }
}
