//! What a worker knows about its pod: what containerd reports ([`Observed`]) and what the worker
//! itself did and heard ([`Facts`]). [`decide`](super::decide) and
//! [`status`](super::status) are pure functions of these and the pod.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container with `restartPolicy: Always`: starts in order, then keeps running.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// The containers of a pod in starting order, with their role.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let always = container.restart_policy.as_deref() == Some("Always");
        (if always { Role::Sidecar } else { Role::Init }, container)
    });
    init.chain(spec.containers.iter().map(|container| (Role::Main, container)))
}

/// What the pod's stored status says of a container.
pub(crate) fn prior_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()).find(|found| found.name == container)
}

/// A sandbox as containerd reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxSeen {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: Timestamp,
    pub ips: Vec<String>,
}

/// The state of a container's main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerState {
    Created,
    Running,
    Exited,
    /// containerd lost track of it; it must be stopped before anything else.
    Unknown,
}

/// A container as containerd reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerSeen {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image_ref: String,
    /// How many times in a row it had ended before this start; kept in an annotation, so that
    /// back-off survives a restart of this process.
    pub ends_before: u32,
}

/// What containerd has of one pod; newest attempts first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub sandboxes: Vec<SandboxSeen>,
    pub containers: Vec<ContainerSeen>,
}

impl Observed {
    /// The newest sandbox.
    pub(crate) fn sandbox(&self) -> Option<&SandboxSeen> {
        self.sandboxes.first()
    }

    /// The newest attempt of a container.
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerSeen> {
        self.containers.iter().find(|seen| seen.name == name)
    }

    /// The attempt before the newest one.
    pub(crate) fn previous(&self, name: &str) -> Option<&ContainerSeen> {
        self.containers.iter().filter(|seen| seen.name == name).nth(1)
    }
}

/// Work under way for a pod; at most one of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Volumes,
    Sandbox,
    /// Making the image of that container present.
    Image(String),
    /// Creating and starting that container, its `postStart` hook included.
    Start(String),
    /// Stopping the container of that id.
    Kill(String),
    /// Stopping the sandbox of that id.
    StopSandbox(String),
    /// Removing all that containerd and the disk still hold of the pod.
    Cleanup,
    /// Writing the last status and deleting the object.
    Finalize,
}

/// A step that failed and is tried again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The waiting reason, such as `ErrImagePull`.
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Timestamp,
    /// Failures in a row, this one included.
    pub count: u32,
}

/// A step that must succeed once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    #[default]
    Pending,
    Done,
    Failed(Failure),
}

impl Step {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Pending | Self::Done => None,
        }
    }
}

/// Whether the pod knows the addresses of the other pods of its workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Peers {
    /// There are none to wait for, all are known, or the wait is over.
    #[default]
    Known,
    /// Some have no address yet.
    Awaited { missing: Vec<String>, until: Timestamp },
}

/// What probes say of a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The startup probe passed, or there is none.
    pub started: bool,
    /// The readiness probe passes, or there is none.
    pub ready: bool,
    /// Set when a liveness or startup probe failed too often: the container must go.
    pub unhealthy: Option<String>,
}

/// Why a pod ends as `Failed` whatever its containers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFailure {
    pub reason: String,
    pub message: String,
}

/// What the worker did and heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub failed: Option<PodFailure>,
    pub volumes: Step,
    pub sandbox: Step,
    /// By container name.
    pub images: BTreeMap<String, Step>,
    /// What an image operation last said, by container name.
    pub image_progress: BTreeMap<String, String>,
    /// Failed starts by container name; removed by a start that succeeds.
    pub starts: BTreeMap<String, Failure>,
    pub peers: Peers,
    /// By container id.
    pub health: BTreeMap<String, Health>,
    /// Grace of kills by container id, also of those that are done.
    pub kills: BTreeMap<String, Duration>,
    /// Text a container left behind on ending, by container id.
    pub termination_messages: BTreeMap<String, String>,
    /// Work under way.
    pub in_flight: std::collections::BTreeSet<Operation>,
    /// The object is gone from the API.
    pub gone: bool,
    /// Everything of an ended pod that is going away was removed from containerd and disk.
    pub cleaned: bool,
    /// What keeps containerd from answering, if it does not.
    pub runtime_error: Option<String>,
    /// The lowest attempt number a new sandbox may take.
    pub sandbox_attempt_min: u32,
}

/// Amounts that decide when things are tried again.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
    /// A container that ran this long has its count of restarts forgotten.
    pub reset_after: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { base: Duration::from_secs(10), cap: Duration::from_mins(5), reset_after: Duration::from_mins(10) }
    }
}

impl BackOff {
    /// The delay after `count` failures in a row: none for 0, then `base`, doubling up to `cap`.
    pub(crate) fn delay(&self, count: u32) -> Duration {
        let Some(doublings) = count.checked_sub(1) else {
            return Duration::ZERO;
        };
        // 2^20 times any sensible base is past any cap.
        self.base.checked_mul(1 << doublings.min(20)).map_or(self.cap, |delay| delay.min(self.cap))
    }

    /// How many times in a row the container has now ended, and how long to wait after its end.
    pub(crate) fn after_end(&self, ended: &ContainerSeen) -> (u32, Duration) {
        let ran = match (ended.started_at, ended.finished_at) {
            (Some(start), Some(end)) => Duration::try_from(end.duration_since(start)).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let ends = if ran >= self.reset_after { 1 } else { ended.ends_before + 1 };
        (ends, self.delay(ends - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_from_base_to_cap() {
        let back_off = BackOff::default();
        let delays: Vec<u64> = (0..8).map(|count| back_off.delay(count).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.delay(u32::MAX).as_secs(), 300);
    }
}
