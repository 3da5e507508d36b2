//! The steps a worker takes: each may be cut short at any point and taken again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::container::{self, HostMount, Recipe};
use super::decide::Start;
use super::env::{self, ConfigError, Context};
use super::handler::{Handler, Target};
use super::resources::linux_resources;
use super::sandbox::{self, Identity};
use super::volumes::{self, Places};
use super::{cards, image, reference};
use crate::cri::{self, v1};
use crate::events::Severity;
use crate::shared::Shared;
use crate::start;

/// Where a container leaves its last words, unless it says otherwise.
const TERMINATION_PATH: &str = "/dev/termination-log";
/// The longest a `postStart` hook may take; the API sets no bound.
const POST_START_TIMEOUT: Duration = Duration::from_mins(5);
/// What is left of the grace for the container itself after a long `preStop` hook.
const GRACE_AFTER_HOOK_MIN: Duration = Duration::from_secs(2);

/// A step that failed: the waiting reason and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepError {
    pub reason: &'static str,
    pub message: String,
}

impl StepError {
    fn new(reason: &'static str, message: impl std::fmt::Display) -> Self {
        Self { reason, message: message.to_string() }
    }
}

/// Why a sandbox could not be made.
#[derive(Debug)]
pub(crate) struct SandboxError {
    pub message: String,
    /// The attempt number is taken by a sandbox containerd does not list (yet).
    pub name_taken: bool,
}

fn sandbox_config(shared: &Shared, identity: &Identity, spec: &PodSpec, attempt: u32) -> v1::PodSandboxConfig {
    let logs = shared.layout.pod_logs(identity);
    sandbox::config(identity, spec, attempt, &logs.to_string_lossy(), &shared.pod_cgroup(&identity.uid))
}

/// Makes the pod's sandbox.
pub(crate) async fn create_sandbox(shared: &Shared, identity: &Identity, spec: &PodSpec, attempt: u32) -> Result<(), SandboxError> {
    let logs = shared.layout.pod_logs(identity);
    fs::create_dir_all(&logs).map_err(|error| SandboxError {
        message: format!("cannot make the log directory {}: {error}", logs.display()),
        name_taken: false,
    })?;
    let request =
        v1::RunPodSandboxRequest { config: Some(sandbox_config(shared, identity, spec, attempt)), runtime_handler: String::new() };
    shared
        .cri
        .run_pod_sandbox(request)
        .await
        .map(drop)
        .map_err(|error| SandboxError { message: format!("cannot create the pod's sandbox: {error}"), name_taken: error.is_name_taken() })
}

/// Everything a start needs besides the node itself.
pub(crate) struct StartInput {
    pub identity: Identity,
    pub pod: Pod,
    pub spec: PodSpec,
    pub container: Container,
    pub start: Start,
    pub sandbox_attempt: u32,
    pub pod_ips: Vec<String>,
    pub places: Places,
}

/// Creates and starts a container and runs its `postStart` hook.
pub(crate) async fn start_container(shared: &Shared, input: StartInput) -> Result<(), StepError> {
    let id = match &input.start.created {
        Some(id) => id.clone(),
        None => create_container(shared, &input).await?,
    };
    let about = reference(&input.pod, Some(&input.container.name));
    match start::start(&shared.cri, shared.start_helper.as_ref(), &id).await {
        Ok(()) => {}
        // The next look shows how it went.
        Err(error) if error.is_unavailable() || start::is_under_way(&error) => return Err(StepError::new("RunContainerError", error)),
        Err(error) => {
            // The container is there, ended with the cause: its status and policy take over.
            let message = format!("cannot start container {}: {error}", input.container.name);
            shared.events.record(about, Severity::Warning, "Failed", message.clone());
            return Err(StepError::new("RunContainerError", message));
        }
    }
    shared.events.record(about.clone(), Severity::Normal, "Started", format!("Started container {}", input.container.name));
    let hook = input.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    if let Some(handler) = hook.and_then(Handler::of_hook) {
        let target = Target {
            cri: shared.cri.clone(),
            container_id: id.clone(),
            container: input.container.clone(),
            ip: input.pod_ips.first().cloned().unwrap_or_default(),
        };
        if let Err(why) = target.run(handler, POST_START_TIMEOUT).await {
            let message = format!("postStart hook of container {} failed: {why}", input.container.name);
            shared.events.record(about, Severity::Warning, "FailedPostStartHook", message.clone());
            let grace = Duration::from_secs(
                input.spec.termination_grace_period_seconds.unwrap_or(super::decide::DEFAULT_GRACE_S).max(0).unsigned_abs(),
            );
            shared.cri.stop_container(&id, grace).await.map_err(|error| StepError::new("PostStartHookError", error))?;
            return Err(StepError::new("PostStartHookError", message));
        }
    }
    Ok(())
}

async fn create_container(shared: &Shared, input: &StartInput) -> Result<String, StepError> {
    const CONFIG: &str = "CreateContainerConfigError";
    let StartInput { identity, pod, spec, container, start, .. } = input;
    check_user(shared, spec, container).await?;
    let cgroup = shared.pod_cgroup(&identity.uid);
    if let Err(error) = crate::cgroups::limit_processes(&cgroup, shared.limits.pod_processes_max) {
        tracing::warn!(cgroup, %error, "the pod's processes are not bounded: the machine has no pids controller for it");
    }
    let sources = shared
        .fetch(&identity.namespace, env::needed(container))
        .await
        .map_err(|error| StepError::new(CONFIG, format!("cannot read what the environment refers to: {error}")))?;
    let context =
        Context { pod, sources: &sources, allocatable: &shared.machine.allocatable, host_ip: &shared.address, pod_ips: &input.pod_ips };
    let mut environment = env::environment(container, &context).map_err(|error: ConfigError| StepError::new(CONFIG, error))?;
    let cards = cards::given(pod, container, &shared.machine.allocatable, &cards::described(&cards::CDI_DIRECTORIES));
    // Whatever a container says of the machine's cards, it has those it was given.
    environment.retain(|(name, _)| cards.variables.iter().all(|(given, _)| given != name));
    environment.extend(cards.variables);
    let mut mounts = volumes::container_mounts(shared, identity, container, &input.places, &environment)
        .map_err(|error| StepError::new(CONFIG, error))?;
    let termination = shared.layout.termination_file(&identity.uid, &container.name, start.attempt);
    make_termination_file(&termination)
        .map_err(|error| StepError::new(CONFIG, format!("cannot make {}: {error}", termination.display())))?;
    mounts.push(HostMount {
        host_path: termination.to_string_lossy().into_owned(),
        container_path: container.termination_message_path.clone().unwrap_or_else(|| TERMINATION_PATH.to_owned()),
        readonly: false,
    });
    let own_hosts = mounts.iter().any(|mount| mount.container_path == "/etc/hosts");
    if !own_hosts && spec.host_network != Some(true) {
        mounts.push(HostMount {
            host_path: shared.layout.hosts_file(&identity.uid).to_string_lossy().into_owned(),
            container_path: "/etc/hosts".to_owned(),
            readonly: false,
        });
    }
    let config = container::config(Recipe {
        identity,
        spec,
        container,
        start,
        environment,
        devices: cards.devices,
        mounts,
        resources: linux_resources(spec, container, shared.machine.memory_bytes, shared.machine.oom_score_adj_min),
        termination_file: &termination,
    });
    let logs = shared.layout.pod_logs(identity).join(&container.name);
    fs::create_dir_all(&logs).map_err(|error| StepError::new(CONFIG, format!("cannot make {}: {error}", logs.display())))?;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: start.sandbox_id.clone(),
        config: Some(config),
        sandbox_config: Some(sandbox_config(shared, identity, spec, input.sandbox_attempt)),
    };
    let reply = shared.cri.create_container(request).await.map_err(|error| {
        let message = format!("cannot create container {}: {error}", container.name);
        shared.events.record(reference(pod, Some(&container.name)), Severity::Warning, "Failed", message.clone());
        StepError::new("CreateContainerError", message)
    })?;
    shared.events.record(
        reference(pod, Some(&container.name)),
        Severity::Normal,
        "Created",
        format!("Created container {}", container.name),
    );
    Ok(reply.container_id)
}

async fn check_user(shared: &Shared, spec: &PodSpec, container: &Container) -> Result<(), StepError> {
    let asks = |value: Option<bool>| value == Some(true);
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    let pod = spec.security_context.as_ref().and_then(|context| context.run_as_non_root);
    if !asks(own) && !asks(pod) {
        return Ok(());
    }
    let name = container.image.as_deref().unwrap_or_default();
    let found = image::lookup(shared, name).await.map_err(|error| StepError::new("CreateContainerConfigError", error))?.unwrap_or_default();
    let uid = found.uid.map(|uid| uid.value);
    match container::would_run_as_root(spec, container, uid, &found.username) {
        Some(why) => Err(StepError::new("CreateContainerConfigError", why)),
        None => Ok(()),
    }
}

/// An empty file that any user of the container may write to.
fn make_termination_file(path: &std::path::Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o666))
}

/// Runs the `preStop` hook of a container, if any, and stops it within the grace.
pub(crate) async fn kill_container(
    shared: &Shared,
    pod: &Pod,
    container: Option<&Container>,
    id: &str,
    ip: String,
    grace: Duration,
) -> Result<(), cri::Error> {
    let begun = Instant::now();
    let hook = container.and_then(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
    if let (Some(handler), Some(container), false) = (hook.and_then(Handler::of_hook), container, grace.is_zero()) {
        let target = Target { cri: shared.cri.clone(), container_id: id.to_owned(), container: container.clone(), ip };
        if let Err(why) = target.run(handler, grace).await {
            shared.events.record(
                reference(pod, Some(&container.name)),
                Severity::Warning,
                "FailedPreStopHook",
                format!("preStop hook of container {} failed: {why}", container.name),
            );
        }
    }
    let left = grace.saturating_sub(begun.elapsed()).max(GRACE_AFTER_HOOK_MIN.min(grace));
    match shared.cri.stop_container(id, left).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Stops a sandbox: what still runs in it ends, its address is given back.
pub(crate) async fn stop_sandbox(shared: &Shared, id: &str) -> Result<(), cri::Error> {
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
    match shared.cri.stop_pod_sandbox(request).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Removes a sandbox with its containers.
pub(crate) async fn remove_sandbox(shared: &Shared, id: &str) -> Result<(), cri::Error> {
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
    match shared.cri.remove_pod_sandbox(request).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Removes all that containerd and the disk hold of a pod whose containers have ended.
pub(crate) async fn clean_up(shared: &Shared, identity: &Identity, sandboxes: &[String]) -> Result<(), String> {
    for id in sandboxes {
        remove_sandbox(shared, id).await.map_err(|error| error.to_string())?;
    }
    volumes::remove(shared, &identity.uid).map_err(|error| format!("cannot remove the pod's volumes: {error}"))?;
    let logs = shared.layout.pod_logs(identity);
    match fs::remove_dir_all(&logs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("cannot remove the logs {}: {error}", logs.display()));
        }
        _ => {}
    }
    crate::cgroups::remove(&shared.pod_cgroup(&identity.uid));
    Ok(())
}

/// Deletes the pod's object, which waited for this node to let go of it.
pub(crate) async fn finalize(shared: &Shared, identity: &Identity) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &identity.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(identity.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&identity.name, &parameters).await {
        // Gone already, or another pod has the name by now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}
