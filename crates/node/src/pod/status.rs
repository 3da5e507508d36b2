//! The pod's status: a pure function of what is seen and known, in the words Kubernetes uses.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as StateField, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{Input, Next};
use super::state::{ContainerSeen, ContainerState, Failure, Operation, Peers, Role, Step, containers, prior_status};

/// Exit code of a container that vanished from containerd while it ran, as the kubelet reports it.
pub(crate) const LOST_EXIT_CODE: i32 = 137;
/// Set to False while containerd does not answer; what the status says is then from before.
pub(crate) const RUNTIME_REACHABLE: &str = "fermion.dev/RuntimeReachable";
/// The longest termination message kept, in bytes.
pub(crate) const TERMINATION_MESSAGE_BYTES_MAX: usize = 4096;

/// The status to store, given the address of this machine.
pub(crate) fn status(input: &Input<'_>, host_ip: &str) -> PodStatus {
    let prior = input.pod.status.clone().unwrap_or_default();
    let ended = input.ended();
    let statuses_of = |wanted: fn(Role) -> bool| -> Vec<ContainerStatus> {
        containers(input.spec)
            .filter(|(role, _)| wanted(*role))
            .map(|(role, container)| container_status(input, role, container, ended.is_some()))
            .collect()
    };
    let init = statuses_of(|role| role != Role::Main);
    let main = statuses_of(|role| role == Role::Main);
    let phase = phase(input, &prior, &main, ended);
    let (reason, message) = match &input.facts.failed {
        Some(failure) => (Some(failure.reason.clone()), Some(failure.message.clone())),
        None if ended.is_some() => (prior.reason.clone(), prior.message.clone()),
        None => (None, None),
    };
    let ips = addresses(input, &prior);
    let conditions = conditions(input, &prior, &phase, &main, ended);
    PodStatus {
        phase: Some(phase),
        conditions: Some(conditions),
        reason,
        message,
        host_ip: Some(host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: host_ip.to_owned() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: prior.start_time.or(Some(Time(input.now))),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        qos_class: Some(qos_class(input.spec).to_owned()),
        ..prior
    }
}

fn addresses(input: &Input<'_>, prior: &PodStatus) -> Vec<String> {
    match input.ready_sandbox() {
        Some(sandbox) => sandbox.ips.clone(),
        // An ended pod keeps the address it had, as a record.
        None if input.ended().is_some() => prior.pod_ips.iter().flatten().map(|address| address.ip.clone()).collect(),
        None => Vec::new(),
    }
}

fn phase(input: &Input<'_>, prior: &PodStatus, main: &[ContainerStatus], ended: Option<bool>) -> String {
    let began = main.iter().any(|status| {
        status.restart_count > 0
            || status.last_state.is_some()
            || status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    let quiet = !input.observed.containers.iter().any(|seen| matches!(seen.state, ContainerState::Running | ContainerState::Unknown));
    let leaving = input.facts.gone || input.pod.metadata.deletion_timestamp.is_some();
    let starting = input
        .facts
        .in_flight
        .iter()
        .any(|operation| matches!(operation, Operation::Start(_) | Operation::Sandbox | Operation::Image(_) | Operation::Volumes));
    let phase = match (prior.phase.as_deref(), ended) {
        (Some(phase @ ("Succeeded" | "Failed")), _) => phase,
        // A pod is terminal only when nothing of it runs any more: usage ends there.
        (_, Some(ok)) if quiet => {
            if ok {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        _ if leaving && quiet && !starting => {
            let ok = main.iter().all(|status| {
                status.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|terminated| terminated.exit_code == 0)
            });
            if ok { "Succeeded" } else { "Failed" }
        }
        _ if began => "Running",
        _ => "Pending",
    };
    phase.to_owned()
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
pub(crate) fn qos_class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for (_, container) in containers(spec) {
        for resource in ["cpu", "memory"] {
            let of = |limits: bool| {
                let resources = container.resources.as_ref()?;
                let map = if limits { &resources.limits } else { &resources.requests };
                let amount = fermion_api::quantity::milli(map.as_ref()?.get(resource)?);
                (amount > 0).then_some(amount)
            };
            let (limit, request) = (of(true), of(false));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn container_status(input: &Input<'_>, role: Role, container: &Container, pod_ended: bool) -> ContainerStatus {
    let prior = prior_status(input.pod, &container.name);
    let seen = input.observed.container(&container.name);
    let next = input.next(role, container);
    let (state, last_state) = match seen {
        Some(seen) => {
            let previous = input
                .observed
                .previous(&container.name)
                .filter(|previous| previous.state == ContainerState::Exited)
                .map(|previous| terminated(input, previous));
            let kept = || prior.filter(|prior| prior.restart_count.unsigned_abs() == seen.attempt)?.last_state.clone();
            state_of_seen(input, role, container, seen, &next, pod_ended, previous.or_else(kept))
        }
        None => state_of_unseen(input, role, container, prior, &next, pod_ended),
    };
    let health = seen.and_then(|seen| input.facts.health.get(&seen.id));
    let running = state.running.is_some();
    let starting = input.facts.in_flight.contains(&Operation::Start(container.name.clone()));
    let started = running && !starting && health.is_some_and(|health| health.started);
    let ready = match role {
        // An init container counts as ready once it is through.
        Role::Init => state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0),
        Role::Sidecar | Role::Main => started && health.is_some_and(|health| health.ready),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: seen.map(|seen| seen.image_ref.clone()).or_else(|| prior.map(|prior| prior.image_id.clone())).unwrap_or_default(),
        container_id: seen.map(|seen| format!("containerd://{}", seen.id)).or_else(|| prior.and_then(|prior| prior.container_id.clone())),
        restart_count: match (seen, prior) {
            (Some(seen), _) => i32::try_from(seen.attempt).unwrap_or(i32::MAX),
            (None, Some(prior)) => prior.restart_count,
            (None, None) => 0,
        },
        ready,
        started: Some(started),
        state: Some(state),
        last_state,
        ..ContainerStatus::default()
    }
}

fn state_of_seen(
    input: &Input<'_>,
    role: Role,
    container: &Container,
    seen: &ContainerSeen,
    next: &Next,
    pod_ended: bool,
    previous: Option<StateField>,
) -> (StateField, Option<StateField>) {
    match seen.state {
        ContainerState::Created => (waiting(waiting_reason(input, role, container, next)), previous),
        ContainerState::Running | ContainerState::Unknown => {
            let running =
                StateField { running: Some(ContainerStateRunning { started_at: seen.started_at.map(Time) }), ..StateField::default() };
            (running, previous)
        }
        ContainerState::Exited => {
            let ended = terminated(input, seen);
            let leaving = input.facts.gone || input.pod.metadata.deletion_timestamp.is_some();
            match next {
                Next::Start { .. } | Next::BackOff { .. } if !pod_ended && !leaving => {
                    (waiting(waiting_reason(input, role, container, next)), Some(ended))
                }
                _ => (ended, previous),
            }
        }
    }
}

fn state_of_unseen(
    input: &Input<'_>,
    role: Role,
    container: &Container,
    prior: Option<&ContainerStatus>,
    next: &Next,
    pod_ended: bool,
) -> (StateField, Option<StateField>) {
    let last_state = prior.and_then(|prior| prior.last_state.clone());
    let prior_state = prior.and_then(|prior| prior.state.clone()).unwrap_or_default();
    let lost = prior_state.running.as_ref().map(|running| StateField {
        terminated: Some(ContainerStateTerminated {
            exit_code: LOST_EXIT_CODE,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("containerd has no trace of the container any more".to_owned()),
            started_at: running.started_at.clone(),
            finished_at: Some(Time(input.now)),
            ..ContainerStateTerminated::default()
        }),
        ..StateField::default()
    });
    let ended = lost.or_else(|| prior_state.terminated.is_some().then_some(prior_state));
    match (ended, next) {
        (Some(ended), Next::Ended { .. }) => (ended, last_state),
        (Some(ended), _) if pod_ended => (ended, last_state),
        (Some(ended), _) => (waiting(waiting_reason(input, role, container, next)), Some(ended)),
        (None, _) => (waiting(waiting_reason(input, role, container, next)), last_state),
    }
}

fn waiting((reason, message): (String, Option<String>)) -> StateField {
    StateField { waiting: Some(ContainerStateWaiting { reason: Some(reason), message }), ..StateField::default() }
}

/// Why a container does not run, the nearest cause first.
fn waiting_reason(input: &Input<'_>, role: Role, container: &Container, next: &Next) -> (String, Option<String>) {
    let name = &container.name;
    if let Next::BackOff { delay, .. } = next {
        let message = format!("back-off {} s restarting failed container {name}", delay.as_secs());
        return ("CrashLoopBackOff".to_owned(), Some(message));
    }
    let held = role == Role::Main && !input.initialized();
    let creating = if held { "PodInitializing" } else { "ContainerCreating" }.to_owned();
    if held {
        return (creating, None);
    }
    if let Some(failure) = input.facts.starts.get(name) {
        return (failure.reason.to_owned(), Some(failure.message.clone()));
    }
    if let Some(Step::Failed(failure)) = input.facts.images.get(name) {
        return (image_reason(failure), Some(failure.message.clone()));
    }
    if let Some(failure) = input.facts.volumes.failure().or(input.facts.sandbox.failure()) {
        return (creating, Some(failure.message.clone()));
    }
    if let Some(progress) = input.facts.image_progress.get(name) {
        return (creating, Some(progress.clone()));
    }
    if let Peers::Awaited { missing, until } = &input.facts.peers {
        let seconds = until.duration_since(input.now).as_secs().max(0);
        let message = format!("waiting up to {seconds} s for the addresses of the other pods of the workload: {}", missing.join(", "));
        return (creating, Some(message));
    }
    (creating, None)
}

/// The first failure is named by its cause; once it is retried with growing delays, by that.
fn image_reason(failure: &Failure) -> String {
    if failure.count > 1 && failure.reason == "ErrImagePull" { "ImagePullBackOff".to_owned() } else { failure.reason.to_owned() }
}

fn terminated(input: &Input<'_>, seen: &ContainerSeen) -> StateField {
    let unhealthy = input.facts.health.get(&seen.id).and_then(|health| health.unhealthy.clone());
    let signal = signal_of(seen.exit_code);
    let message = input
        .facts
        .termination_messages
        .get(&seen.id)
        .filter(|text| !text.is_empty())
        .cloned()
        .or_else(|| Some(seen.message.clone()).filter(|text| !text.is_empty()))
        .or(unhealthy);
    let reason = match seen.reason.as_str() {
        "" if seen.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    StateField {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("containerd://{}", seen.id)),
            exit_code: seen.exit_code,
            signal,
            reason: Some(reason.to_owned()),
            message,
            started_at: seen.started_at.map(Time),
            finished_at: seen.finished_at.map(Time),
        }),
        ..StateField::default()
    }
}

/// A process ended by signal N exits with 128 + N.
fn signal_of(exit_code: i32) -> Option<i32> {
    let signal = exit_code - 128;
    (1..=64).contains(&signal).then_some(signal)
}

fn conditions(input: &Input<'_>, prior: &PodStatus, phase: &str, main: &[ContainerStatus], ended: Option<bool>) -> Vec<PodCondition> {
    let mut list = prior.conditions.clone().unwrap_or_default();
    let unready: Vec<&str> = main.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let completed = phase == "Succeeded";
    let initialized = input.initialized() || completed || matches!(ended, Some(true));
    let pending_init: Vec<&str> = containers(input.spec)
        .filter(|(role, _)| *role == Role::Init)
        .filter(|(role, container)| input.next(*role, container) != Next::Ended { ok: true })
        .map(|(_, container)| container.name.as_str())
        .collect();
    set(&mut list, "PodReadyToStartContainers", input.ready_sandbox().is_some(), None, None, input.now);
    set(
        &mut list,
        "Initialized",
        initialized,
        match (initialized, completed) {
            (_, true) => Some("PodCompleted"),
            (false, _) => Some("ContainersNotInitialized"),
            (true, false) => None,
        },
        (!initialized).then(|| format!("init containers not through: {}", pending_init.join(", "))),
        input.now,
    );
    let (reason, message) = if completed {
        (Some("PodCompleted"), None)
    } else if phase == "Failed" {
        (Some("PodFailed"), None)
    } else if unready.is_empty() {
        (None, None)
    } else {
        (Some("ContainersNotReady"), Some(format!("containers not ready: {}", unready.join(", "))))
    };
    let ready = unready.is_empty() && phase == "Running";
    for type_ in ["ContainersReady", "Ready"] {
        set(&mut list, type_, ready, reason, message.clone(), input.now);
    }
    match &input.facts.runtime_error {
        Some(error) => set(&mut list, RUNTIME_REACHABLE, false, Some("ContainerRuntimeDown"), Some(error.clone()), input.now),
        None => list.retain(|condition| condition.type_ != RUNTIME_REACHABLE),
    }
    list
}

/// Sets a condition; its transition time moves only when its status changes.
fn set(list: &mut Vec<PodCondition>, type_: &str, holds: bool, reason: Option<&str>, message: Option<String>, now: Timestamp) {
    let status = if holds { "True" } else { "False" };
    let reason = reason.map(str::to_owned);
    if let Some(found) = list.iter_mut().find(|condition| condition.type_ == type_) {
        if found.status != status {
            status.clone_into(&mut found.status);
            found.last_transition_time = Some(Time(now));
        }
        found.reason = reason;
        found.message = message;
    } else {
        list.push(PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        });
    }
}

#[cfg(test)]
mod tests;
