//! The same sandbox and container by bare CRI calls, on the platform's own containerd.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fermion_node::cri::{Cri, v1};

use super::{COMMAND, STEP_TIMEOUT};

/// Who made a sandbox, for the platform's own tools; the node leaves others' alone.
const OWNER_LABEL: &str = "fermion.dev/benchmark";
/// The CPU weight and the wish to be killed first that a pod without requests gets.
const CPU_SHARES: i64 = 2;
const OOM_SCORE: i64 = 1000;

pub(super) struct Bare {
    cri: Cri,
    logs: PathBuf,
    image: String,
    cgroup_parent: String,
}

impl Bare {
    pub(super) fn open(containerd: &Path, logs: PathBuf, image: &str) -> Self {
        Self { cri: Cri::new(containerd), logs, image: image.to_owned(), cgroup_parent: String::new() }
    }

    /// Puts sandboxes where the node puts its own: beside that of a pod which runs.
    pub(super) async fn adopt_cgroup_parent(&mut self, pod: &str) -> anyhow::Result<()> {
        let there = self.cri.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.context("listing sandboxes")?;
        let is_it = |sandbox: &&v1::PodSandbox| sandbox.metadata.as_ref().is_some_and(|metadata| metadata.name == pod);
        let sandbox = there.items.iter().find(is_it).with_context(|| format!("pod {pod} has no sandbox"))?;
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: true };
        let status = self.cri.pod_sandbox_status(request).await.context("asking for a sandbox")?;
        let info = status.info.get("info").context("containerd tells no details of a sandbox")?;
        let info: serde_json::Value = serde_json::from_str(info).context("a sandbox's details are JSON")?;
        let parent = info["config"]["linux"]["cgroup_parent"].as_str().context("a sandbox has a cgroup parent")?;
        let above = Path::new(parent).parent().and_then(Path::to_str).context("a cgroup parent is a path")?;
        above.clone_into(&mut self.cgroup_parent);
        Ok(())
    }

    /// Starts a sandbox with a container, says how long that took, and removes both.
    pub(super) async fn start_and_remove(&self, name: &str) -> anyhow::Result<Duration> {
        let logs = self.logs.join(name);
        fs::create_dir_all(logs.join("main")).with_context(|| format!("cannot create {}", logs.display()))?;
        let sandbox_config = self.sandbox_config(name, &logs);
        let container_config = self.container_config();
        let mut sandbox_id = None;
        let started = tokio::time::timeout(STEP_TIMEOUT, self.start(sandbox_config, container_config, &mut sandbox_id)).await;
        if let Some(pod_sandbox_id) = sandbox_id {
            self.cri.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await?;
            self.cri.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await?;
        }
        started.context("the start took too long")?
    }

    async fn start(
        &self,
        sandbox: v1::PodSandboxConfig,
        container: v1::ContainerConfig,
        made: &mut Option<String>,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let request = v1::RunPodSandboxRequest { config: Some(sandbox.clone()), ..v1::RunPodSandboxRequest::default() };
        let pod_sandbox_id = self.cri.run_pod_sandbox(request).await?.pod_sandbox_id;
        *made = Some(pod_sandbox_id.clone());
        let request = v1::CreateContainerRequest { pod_sandbox_id, config: Some(container), sandbox_config: Some(sandbox) };
        let container_id = self.cri.create_container(request).await?.container_id;
        self.cri.start_container(v1::StartContainerRequest { container_id }).await?;
        Ok(begun.elapsed())
    }

    fn sandbox_config(&self, name: &str, logs: &Path) -> v1::PodSandboxConfig {
        let owner = HashMap::from([(OWNER_LABEL.to_owned(), "start".to_owned())]);
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("bare-{name}"),
                namespace: "bench-bare".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: logs.to_string_lossy().into_owned(),
            labels: owner,
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/bare-{name}", self.cgroup_parent),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(seccomp()),
                    ..v1::LinuxSandboxSecurityContext::default()
                }),
                ..v1::LinuxPodSandboxConfig::default()
            }),
            ..v1::PodSandboxConfig::default()
        }
    }

    fn container_config(&self) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: self.image.clone(), ..v1::ImageSpec::default() }),
            command: COMMAND.map(str::to_owned).to_vec(),
            log_path: "main/0.log".to_owned(),
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(v1::LinuxContainerResources {
                    cpu_shares: CPU_SHARES,
                    oom_score_adj: OOM_SCORE,
                    ..v1::LinuxContainerResources::default()
                }),
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(seccomp()),
                    ..v1::LinuxContainerSecurityContext::default()
                }),
            }),
            ..v1::ContainerConfig::default()
        }
    }
}

/// What a pod gets that asks for nothing.
fn namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: v1::NamespaceMode::Pod.into(),
        pid: v1::NamespaceMode::Container.into(),
        ipc: v1::NamespaceMode::Pod.into(),
        ..v1::NamespaceOption::default()
    }
}

fn seccomp() -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(), localhost_ref: String::new() }
}
