//! DevEnvironment: an interactive container that a person works in.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scheduling::{self, Scheduling, filled_in_by_a_hook};
use super::{checks, default_queue};
use crate::{Invalid, Refused, Rules, quantity};

/// A DevEnvironment is a long-running container to work in by hand: JupyterLab, a terminal,
/// any web tool. It is reached through the platform's own authenticated proxy, keeps its
/// home volume when it is stopped, and can stop by itself when nobody uses it.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "ai.fermion.dev",
    version = "v1alpha1",
    kind = "DevEnvironment",
    namespaced,
    status = "DevEnvironmentStatus",
    derive = "PartialEq",
    shortname = "dev",
    category = "all",
    category = "fermion",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Apps", type_ = "string", json_path = ".spec.apps[*].name"),
    printcolumn(name = "Last-Activity", type_ = "date", json_path = ".status.lastActivityAt"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DevEnvironmentSpec {
    /// Queue that admits it; the default queue when left out.
    #[serde(default = "default_queue")]
    #[schemars(transform = filled_in_by_a_hook)]
    pub queue: String,
    /// Higher goes first within the queue.
    #[serde(default)]
    pub priority: i32,
    /// True stops it; its volumes stay. False starts it again.
    #[serde(default)]
    pub suspend: bool,
    /// Tools reachable through the proxy, by name.
    #[serde(default)]
    pub apps: Vec<App>,
    /// A volume kept across stops, made with the environment and deleted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// Stops the environment when nobody used it for this long, such as `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_stop_after: Option<String>,
    /// Stops the environment this long after it started to run, such as `8h`, used or not. In a
    /// queue with a time limit, that limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// What the scheduler should know of it.
    #[serde(default, skip_serializing_if = "Scheduling::is_default")]
    pub scheduling: Scheduling,
    /// The pod; its first container is the one people work in.
    pub template: PodTemplateSpec,
}

/// A tool inside the environment.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Name in the address: `/apps/NAMESPACE/ENVIRONMENT/NAME/`.
    pub name: String,
    #[serde(default)]
    pub kind: AppKind,
    /// Port it listens on. Jupyter: 8888 when left out. A terminal has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Whether the tool expects to see the whole address (`/apps/…/NAME/x`) in requests,
    /// or only what follows the prefix (`/x`).
    #[serde(default)]
    pub keep_prefix: bool,
}

/// What the platform does to make a tool reachable.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum AppKind {
    /// Any web tool that the container starts itself.
    #[default]
    Web,
    /// JupyterLab: the platform starts it in the first container, with a token of its own
    /// that only the proxy knows.
    Jupyter,
    /// A shell in the first container, over a WebSocket.
    Terminal,
}

/// Port of JupyterLab when none is given.
pub const JUPYTER_PORT: i32 = 8888;

/// The Secret in which the platform keeps its own tokens for an environment's apps, one key
/// per app.
pub fn apps_secret_name(environment: &str) -> String {
    format!("{environment}-apps")
}

/// The claim of an environment's home volume.
pub fn home_claim_name(environment: &str) -> String {
    format!("{environment}-home")
}

/// Path on the platform's address under which an app is reached.
pub fn app_path(namespace: &str, environment: &str, app: &str) -> String {
    format!("/apps/{namespace}/{environment}/{app}/")
}

impl App {
    /// The port requests go to; `None` for a terminal.
    pub fn port(&self) -> Option<i32> {
        match self.kind {
            AppKind::Terminal => None,
            AppKind::Jupyter => Some(self.port.unwrap_or(JUPYTER_PORT)),
            AppKind::Web => self.port,
        }
    }
}

/// The volume that stays.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Home {
    /// Its size, such as `10Gi`.
    pub size: Quantity,
    /// Where the first container sees it.
    #[serde(default = "home_mount_path")]
    pub mount_path: String,
}

fn home_mount_path() -> String {
    "/home/work".to_owned()
}

/// What was observed of a DevEnvironment.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevEnvironmentStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: Phase,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Name of its pod while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Addresses of its apps, as paths on the platform's address.
    #[serde(default)]
    pub apps: Vec<AppStatus>,
    /// When the present start began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When somebody last used one of its apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<Time>,
}

/// Where an app is reached.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    pub name: String,
    /// Path on the platform's address.
    pub path: String,
}

/// Phases of a DevEnvironment.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Waits for room, or for its container to be ready.
    #[default]
    Starting,
    Running,
    /// Its container is being stopped.
    Stopping,
    Stopped,
    /// Its container cannot run; the Ready condition says why.
    Failed,
}

/// What can happen to a DevEnvironment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    PodReady,
    PodNotReady,
    PodFailed,
    Suspended,
    PodGone,
    Resumed,
}

impl Phase {
    pub const ALL: [Self; 5] = [Self::Starting, Self::Running, Self::Stopping, Self::Stopped, Self::Failed];

    /// The next phase.
    ///
    /// # Errors
    /// When the event cannot happen in this phase.
    pub fn apply(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        match (self, event) {
            (Self::Starting | Self::Running | Self::Failed, E::PodReady) => Ok(Self::Running),
            (Self::Starting | Self::Running | Self::Failed, E::PodNotReady) => Ok(Self::Starting),
            (Self::Starting | Self::Running | Self::Failed, E::PodFailed) => Ok(Self::Failed),
            (Self::Starting | Self::Running | Self::Failed | Self::Stopping, E::Suspended) => Ok(Self::Stopping),
            (Self::Stopped, E::Suspended) => Ok(Self::Stopped),
            (Self::Stopping, E::PodGone) => Ok(Self::Stopped),
            (Self::Starting | Self::Running | Self::Failed, E::PodGone) => Ok(Self::Starting),
            (Self::Stopping | Self::Stopped, E::Resumed) => Ok(Self::Starting),
            (Self::Stopping, E::PodReady | E::PodNotReady | E::PodFailed)
            | (Self::Stopped, E::PodReady | E::PodNotReady | E::PodFailed | E::PodGone)
            | (Self::Starting | Self::Running | Self::Failed, E::Resumed) => Err(Refused::new(self, event)),
        }
    }
}

impl Event {
    pub const ALL: [Self; 6] = [Self::PodReady, Self::PodNotReady, Self::PodFailed, Self::Suspended, Self::PodGone, Self::Resumed];
}

impl Rules for DevEnvironment {
    fn check(&self, old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        checks::name(self.metadata.name.as_deref(), &mut problems);
        checks::priority(spec.priority, &mut problems);
        checks::template("spec.template", &spec.template, true, &mut problems);
        checks::span("spec.idleStopAfter", spec.idle_stop_after.as_deref(), &mut problems);
        checks::span("spec.maxDuration", spec.max_duration.as_deref(), &mut problems);
        scheduling::check(&spec.scheduling, &mut problems);
        let mut jupyters = 0;
        for (index, app) in spec.apps.iter().enumerate() {
            let at = |field: &str| format!("spec.apps[{index}].{field}");
            checks::label(&at("name"), &app.name, &mut problems);
            if spec.apps[..index].iter().any(|other| other.name == app.name) {
                problems.push(Invalid::new(at("name"), format!("`{}` is used twice", app.name)));
            }
            if app.kind == AppKind::Web && app.port.is_none() {
                problems.push(Invalid::new(at("port"), "is required for an app of kind Web"));
            }
            jupyters += usize::from(app.kind == AppKind::Jupyter);
        }
        if jupyters > 1 {
            problems.push(Invalid::new("spec.apps", "may hold one app of kind Jupyter"));
        }
        if let Some(home) = &spec.home {
            if !quantity::parse(&home.size.0).is_ok_and(|size| size > 0) {
                problems.push(Invalid::new("spec.home.size", "must be a quantity above zero, such as 10Gi"));
            }
            if !home.mount_path.starts_with('/') || home.mount_path.split('/').any(|part| part == "..") {
                problems.push(Invalid::new("spec.home.mountPath", "must be an absolute path without `..`"));
            }
        }
        if let Some(old) = old
            && old.spec.template != spec.template
            && !(old.spec.suspend || spec.suspend)
        {
            problems.push(Invalid::new("spec.template", "can only be changed while the environment is stopped (spec.suspend: true)"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_answers_every_event() {
        insta::assert_snapshot!(crate::rules::matrix(&Phase::ALL, &Event::ALL, Phase::apply));
    }
}
