//! What to do next for a pod: a pure function of what was asked, what is seen and what is known.
//!
//! Invariants:
//! - A container starts only in a ready sandbox, with its volumes, its image and, in a gang, its
//!   peers' addresses; an init container only after the ones before it ended well.
//! - The same input gives the same answer; what is under way is not asked for again. So it can be
//!   asked as often as one likes, also by a new process.
//! - Attempt numbers only grow: one more than any that containerd or the stored status knows.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::state::{
    BackOff, ContainerSeen, ContainerState, Facts, Observed, Operation, Peers, PodFailure, Role, SandboxSeen, Step, containers,
    prior_status,
};

/// Grace for pods whose object vanished without a graceful deletion: somebody asked for that.
pub(crate) const GONE_GRACE: Duration = Duration::from_secs(2);
/// Grace when the pod does not say.
pub(crate) const DEFAULT_GRACE_S: i64 = 30;

/// Everything a decision rests on.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub observed: &'a Observed,
    pub facts: &'a Facts,
    pub back_off: BackOff,
    pub now: Timestamp,
}

/// One step for the worker to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The pod fails for good; its containers are stopped.
    FailPod(PodFailure),
    MountVolumes,
    CreateSandbox {
        attempt: u32,
    },
    EnsureImage {
        container: String,
    },
    StartContainer(Start),
    KillContainer {
        id: String,
        name: String,
        grace: Duration,
        why: String,
    },
    /// Give up an operation that may take long and is no longer wanted.
    Abort(Operation),
    StopSandbox {
        id: String,
    },
    Cleanup,
    Finalize,
    /// Nothing is left: the worker ends.
    Forget,
}

/// How to start a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub container: String,
    pub attempt: u32,
    pub sandbox_id: String,
    pub ends_before: u32,
    /// A container of that attempt that was created and not started, as after a lost reply.
    pub created: Option<String>,
}

/// The steps to take now and when to ask again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
}

impl Decision {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What a container waits for or does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is to start as soon as what it needs is there.
    Start {
        attempt: u32,
        ends_before: u32,
        created: Option<String>,
    },
    /// It ended and starts again at that time.
    BackOff {
        until: Timestamp,
        delay: Duration,
    },
    Running,
    /// It ended for good.
    Ended {
        ok: bool,
    },
}

/// Whether a container that ended that way starts again.
fn restarts(spec: &PodSpec, role: Role, ok: bool) -> bool {
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    match role {
        Role::Sidecar => true,
        Role::Init => !ok && policy != "Never",
        Role::Main => policy == "Always" || (policy == "OnFailure" && !ok),
    }
}

impl<'a> Input<'a> {
    /// The ready sandbox, if the newest one is.
    pub(crate) fn ready_sandbox(&self) -> Option<&'a SandboxSeen> {
        self.observed.sandbox().filter(|sandbox| sandbox.ready)
    }

    /// What comes next for a container.
    pub(crate) fn next(&self, role: Role, container: &Container) -> Next {
        if let Some(seen) = self.observed.container(&container.name) {
            return self.next_of_seen(role, seen);
        }
        let fresh = Next::Start { attempt: 0, ends_before: 0, created: None };
        let Some(prior) = prior_status(self.pod, &container.name) else {
            return fresh;
        };
        // containerd knows nothing of a container that the stored status has seen.
        let Some(state) = &prior.state else { return fresh };
        let exit_code = match (&state.running, &state.terminated) {
            (_, Some(ended)) => ended.exit_code,
            (Some(_), None) => super::status::LOST_EXIT_CODE,
            (None, None) => match prior.last_state.as_ref().and_then(|last| last.terminated.as_ref()) {
                Some(ended) => ended.exit_code,
                None => return fresh,
            },
        };
        let ok = exit_code == 0;
        if role == Role::Init && ok && !self.mains_began_in_current_sandbox() {
            return Next::Start { attempt: prior.restart_count.unsigned_abs() + 1, ends_before: 0, created: None };
        }
        if restarts(self.spec, role, ok) {
            let attempt = prior.restart_count.unsigned_abs() + 1;
            Next::Start { attempt, ends_before: attempt, created: None }
        } else {
            Next::Ended { ok }
        }
    }

    fn next_of_seen(&self, role: Role, seen: &ContainerSeen) -> Next {
        match seen.state {
            ContainerState::Running | ContainerState::Unknown => Next::Running,
            ContainerState::Created => {
                let usable = self.ready_sandbox().is_some_and(|sandbox| sandbox.id == seen.sandbox_id);
                Next::Start {
                    attempt: seen.attempt + u32::from(!usable),
                    ends_before: seen.ends_before,
                    created: usable.then(|| seen.id.clone()),
                }
            }
            ContainerState::Exited => {
                let ok = seen.exit_code == 0;
                let here = self.observed.sandbox().is_some_and(|sandbox| sandbox.id == seen.sandbox_id);
                // A new sandbox means that the machine or the sandbox went down: what init
                // containers prepared may be gone, so they run again.
                let again = role == Role::Init && ok && !here;
                if !again && !restarts(self.spec, role, ok) {
                    return Next::Ended { ok };
                }
                let (ends, delay) = self.back_off.after_end(seen);
                let until = seen.finished_at.unwrap_or(self.now).saturating_add(delay).unwrap_or(Timestamp::MAX);
                if until > self.now && !again {
                    Next::BackOff { until, delay }
                } else {
                    Next::Start { attempt: seen.attempt + 1, ends_before: ends, created: None }
                }
            }
        }
    }

    fn mains_began_in_current_sandbox(&self) -> bool {
        self.observed.sandbox().is_some_and(|sandbox| {
            self.observed
                .containers
                .iter()
                .any(|seen| seen.sandbox_id == sandbox.id && self.spec.containers.iter().any(|main| main.name == seen.name))
        })
    }

    /// How the pod ended, if no container of it will run again: whether all went well.
    pub(crate) fn ended(&self) -> Option<bool> {
        if self.facts.failed.is_some() {
            return Some(false);
        }
        match fermion_api::pod::phase(self.pod) {
            "Succeeded" => return Some(true),
            "Failed" => return Some(false),
            _ => {}
        }
        let mut all_ok = true;
        for (role, container) in containers(self.spec) {
            match (role, self.next(role, container)) {
                (Role::Init, Next::Ended { ok: false }) => return Some(false),
                (Role::Main, Next::Ended { ok }) => all_ok &= ok,
                (Role::Main, _) => return None,
                (Role::Init | Role::Sidecar, _) => {}
            }
        }
        Some(all_ok)
    }

    /// Whether every init container is through, so that the main ones may start.
    pub(crate) fn initialized(&self) -> bool {
        self.due_init().is_none()
    }

    /// The first init container or sidecar that holds back the ones after it.
    fn due_init(&self) -> Option<(Role, &'a Container)> {
        if self.mains_began_in_current_sandbox() {
            return None;
        }
        containers(self.spec).filter(|(role, _)| *role != Role::Main).find(|(role, container)| match (role, self.next(*role, container)) {
            (Role::Init, Next::Ended { ok }) => !ok,
            (Role::Sidecar, Next::Running) => !self.is_started(&container.name),
            _ => true,
        })
    }

    fn is_started(&self, container: &str) -> bool {
        self.observed.container(container).and_then(|seen| self.facts.health.get(&seen.id)).is_some_and(|health| health.started)
            && !self.facts.in_flight.contains(&Operation::Start(container.to_owned()))
    }

    /// How long the pod's containers have to end.
    pub(crate) fn grace(&self) -> Duration {
        if self.facts.gone && self.pod.metadata.deletion_timestamp.is_none() {
            return GONE_GRACE;
        }
        let seconds =
            self.pod.metadata.deletion_grace_period_seconds.or(self.spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE_S);
        Duration::from_secs(seconds.max(0).unsigned_abs())
    }

    fn busy(&self, operation: &Operation) -> bool {
        self.facts.in_flight.contains(operation)
    }
}

/// What to do now.
pub(crate) fn decide(input: &Input<'_>) -> Decision {
    let mut decision = Decision::default();
    let going_away = input.facts.gone || input.pod.metadata.deletion_timestamp.is_some();
    if going_away {
        leave(input, &mut decision);
        return decision;
    }
    if input.ended().is_some() {
        // `ended` is also true by the stored status: a new process stops what still runs.
        tear_down(input, "the pod has ended", &mut decision);
        return decision;
    }
    if let Some(failure) = deadline(input, &mut decision).or_else(|| sandbox_lost(input)) {
        decision.actions.push(Action::FailPod(failure));
        return decision;
    }
    kill_strays(input, &mut decision);
    run(input, &mut decision);
    decision
}

/// Stops and removes everything, then lets go of the object.
fn leave(input: &Input<'_>, decision: &mut Decision) {
    if !tear_down(input, "the pod is being deleted", decision) {
        return;
    }
    if !input.facts.cleaned {
        if !input.busy(&Operation::Cleanup) {
            decision.actions.push(Action::Cleanup);
        }
    } else if input.facts.gone {
        decision.actions.push(Action::Forget);
    } else if !input.busy(&Operation::Finalize) {
        decision.actions.push(Action::Finalize);
    }
}

/// Stops containers, sidecars last, then the sandboxes. Answers whether all is quiet.
fn tear_down(input: &Input<'_>, why: &str, decision: &mut Decision) -> bool {
    let mut quiet = true;
    for operation in &input.facts.in_flight {
        match operation {
            Operation::Image(_) => decision.actions.push(Action::Abort(operation.clone())),
            Operation::Volumes | Operation::Sandbox | Operation::Start(_) => {}
            Operation::Kill(_) | Operation::StopSandbox(_) | Operation::Cleanup | Operation::Finalize => continue,
        }
        quiet = false;
    }
    let is_sidecar = |name: &str| containers(input.spec).any(|(role, container)| role == Role::Sidecar && container.name == name);
    let live = |seen: &&ContainerSeen| matches!(seen.state, ContainerState::Running | ContainerState::Unknown);
    let mains_live = input.observed.containers.iter().filter(live).any(|seen| !is_sidecar(&seen.name));
    for seen in input.observed.containers.iter().filter(live) {
        quiet = false;
        if mains_live && is_sidecar(&seen.name) {
            continue;
        }
        kill(input, seen, input.grace(), why, decision);
    }
    if !quiet {
        return false;
    }
    for sandbox in input.observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
        quiet = false;
        if !input.busy(&Operation::StopSandbox(sandbox.id.clone())) {
            decision.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        }
    }
    quiet
}

/// Asks for a kill unless one with as little grace is under way.
fn kill(input: &Input<'_>, seen: &ContainerSeen, grace: Duration, why: &str, decision: &mut Decision) {
    let under_way = input.busy(&Operation::Kill(seen.id.clone())) && input.facts.kills.get(&seen.id).is_some_and(|given| *given <= grace);
    if !under_way {
        decision.actions.push(Action::KillContainer { id: seen.id.clone(), name: seen.name.clone(), grace, why: why.to_owned() });
    }
}

/// The failure that `activeDeadlineSeconds` brings, if the time is over.
fn deadline(input: &Input<'_>, decision: &mut Decision) -> Option<PodFailure> {
    let seconds = input.spec.active_deadline_seconds?;
    let start = input.pod.status.as_ref()?.start_time.as_ref()?;
    let end = start.0.saturating_add(Duration::from_secs(seconds.max(0).unsigned_abs())).unwrap_or(Timestamp::MAX);
    if end <= input.now {
        return Some(PodFailure {
            reason: "DeadlineExceeded".to_owned(),
            message: format!("the pod ran longer than its activeDeadlineSeconds of {seconds} s"),
        });
    }
    decision.wake(end);
    None
}

/// With `restartPolicy: Never` a pod that began does not begin again in another sandbox.
fn sandbox_lost(input: &Input<'_>) -> Option<PodFailure> {
    let sandbox = input.observed.sandbox()?;
    let never = input.spec.restart_policy.as_deref() == Some("Never");
    (never && !sandbox.ready && input.mains_began_in_current_sandbox()).then(|| PodFailure {
        reason: "SandboxLost".to_owned(),
        message: "the pod's sandbox ended before all its containers had run, and restartPolicy is Never".to_owned(),
    })
}

/// Kills what must not run: unhealthy containers, containers containerd lost track of, and those
/// of dead sandboxes.
fn kill_strays(input: &Input<'_>, decision: &mut Decision) {
    let current = input.ready_sandbox().map(|sandbox| sandbox.id.as_str());
    for seen in &input.observed.containers {
        match seen.state {
            ContainerState::Unknown => {
                kill(input, seen, GONE_GRACE, "containerd lost track of it", decision);
            }
            ContainerState::Running if current != Some(seen.sandbox_id.as_str()) => {
                kill(input, seen, GONE_GRACE, "its sandbox is gone", decision);
            }
            ContainerState::Running => {
                let known = containers(input.spec).find(|(_, container)| container.name == seen.name);
                let Some((_, container)) = known else {
                    kill(input, seen, GONE_GRACE, "the pod has no such container", decision);
                    continue;
                };
                let unhealthy = input.facts.health.get(&seen.id).and_then(|health| health.unhealthy.as_deref());
                if let Some(why) = unhealthy {
                    let grace = probe_grace(container).map_or_else(|| input.grace(), Duration::from_secs);
                    kill(input, seen, grace, why, decision);
                }
            }
            ContainerState::Created | ContainerState::Exited => {}
        }
    }
}

fn probe_grace(container: &Container) -> Option<u64> {
    [&container.liveness_probe, &container.startup_probe]
        .into_iter()
        .flatten()
        .find_map(|probe| probe.termination_grace_period_seconds)
        .map(|seconds| seconds.max(0).unsigned_abs())
}

/// Moves the containers that are due towards running.
fn run(input: &Input<'_>, decision: &mut Decision) {
    let mut due = Vec::new();
    let mut consider = |role: Role, container: &Container| match input.next(role, container) {
        Next::Start { attempt, ends_before, created } => {
            due.push((container.name.clone(), attempt, ends_before, created));
        }
        Next::BackOff { until, .. } => decision.wake(until),
        Next::Running | Next::Ended { .. } => {}
    };
    let held_by = input.due_init().map(|(_, container)| container.name.as_str());
    for (role, container) in containers(input.spec) {
        match (role, held_by) {
            (Role::Main, Some(_)) => break,
            // Sidecars that already ran keep running, whoever holds.
            (Role::Init, None) => {}
            _ => consider(role, container),
        }
        if held_by == Some(container.name.as_str()) {
            break;
        }
    }
    if due.is_empty() {
        return;
    }
    if retry(&input.facts.volumes, &Operation::Volumes, input, decision) {
        decision.actions.push(Action::MountVolumes);
    }
    match input.ready_sandbox() {
        Some(_) => {}
        None if input.busy(&Operation::Sandbox) => {}
        None => {
            let ready_at = input.facts.sandbox.failure().map(|failure| failure.retry_at);
            match ready_at.filter(|at| *at > input.now) {
                Some(at) => decision.wake(at),
                None => decision.actions.push(Action::CreateSandbox {
                    attempt: input.observed.sandbox().map_or(0, |sandbox| sandbox.attempt + 1).max(input.facts.sandbox_attempt_min),
                }),
            }
        }
    }
    for (container, attempt, ends_before, created) in due {
        start_when_ready(input, container, attempt, ends_before, created, decision);
    }
}

/// Whether a step that is neither done nor under way is due now; else notes when it will be.
fn retry(step: &Step, operation: &Operation, input: &Input<'_>, decision: &mut Decision) -> bool {
    if input.busy(operation) {
        return false;
    }
    match step {
        Step::Pending => true,
        Step::Done => false,
        Step::Failed(failure) if failure.retry_at > input.now => {
            decision.wake(failure.retry_at);
            false
        }
        Step::Failed(_) => true,
    }
}

fn start_when_ready(
    input: &Input<'_>,
    container: String,
    attempt: u32,
    ends_before: u32,
    created: Option<String>,
    decision: &mut Decision,
) {
    if input.busy(&Operation::Start(container.clone())) {
        return;
    }
    if let Some(failure) = input.facts.starts.get(&container).filter(|failure| failure.retry_at > input.now) {
        decision.wake(failure.retry_at);
        return;
    }
    let image = input.facts.images.get(&container).unwrap_or(&Step::Pending);
    if retry(image, &Operation::Image(container.clone()), input, decision) {
        decision.actions.push(Action::EnsureImage { container });
        return;
    }
    if let Peers::Awaited { until, .. } = &input.facts.peers {
        decision.wake(*until);
        return;
    }
    let Some(sandbox) = input.ready_sandbox() else { return };
    if image.is_done() && input.facts.volumes.is_done() {
        decision.actions.push(Action::StartContainer(Start { container, attempt, sandbox_id: sandbox.id.clone(), ends_before, created }));
    }
}

#[cfg(test)]
mod tests;
