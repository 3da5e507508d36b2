//! A containerd of a test's own, with pods made by bare CRI calls; gone when the test ends.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use fermion_node::cri::v1;
use fermion_node::runtime::{Runtime, RuntimeConfig, TeardownReport, teardown};

/// How long a condition may take to come true on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where containerd is supervised. Not with the test: while a failed test is cleaned up after, its
/// own thread is blocked, and the supervision would never come to let go of the home.
static SUPERVISION: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    threads.expect("an async runtime")
});

/// A home with a running containerd.
pub(crate) struct Sandbox {
    pub(crate) home: PathBuf,
    runtime: Option<Runtime>,
    // Removed after the tear-down, also when a test panics.
    folder: Option<tempfile::TempDir>,
}

impl Sandbox {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("fermion").tempdir_in("/tmp").expect("a folder for the test");
        let home = folder.path().to_owned();
        let runtime = start_runtime(&home).await;
        Self { home, runtime: Some(runtime), folder: Some(folder) }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it was not stopped")
    }

    /// As the end of a server: nobody supervises any more.
    pub(crate) async fn stop_server(&mut self) {
        self.runtime = None;
        // The supervision lets go of the lock when its aborted task is dropped.
        let lock = self.home.join("runtime.lock");
        wait_for("the server lets go of its home", || async {
            let file = std::fs::File::open(&lock).ok()?;
            file.try_lock().is_ok().then_some(())
        })
        .await;
    }

    pub(crate) async fn start_server(&mut self) {
        self.runtime = Some(start_runtime(&self.home).await);
    }

    pub(crate) async fn tear_down(mut self) -> TeardownReport {
        self.stop_server().await;
        let report = teardown(&self.home, true).await.expect("it can be taken away");
        self.folder = None;
        report
    }

    pub(crate) fn containerd_pid(&self) -> i32 {
        self.containerd_pid_now().expect("containerd runs")
    }

    /// None between two starts.
    pub(crate) fn containerd_pid_now(&self) -> Option<i32> {
        std::fs::read_to_string(self.home.join("run/containerd.pid")).ok()?.trim().parse().ok()
    }

    /// Runs a pod that does nothing but exist.
    pub(crate) async fn run_pod(&self, name: &str) -> (String, v1::PodSandboxConfig) {
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "test".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.home.join("pod-logs").join(name).display().to_string(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/{name}", self.runtime().cgroup_parent()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        // The messages are large; their futures need not be.
        let answer = Box::pin(self.runtime().cri().run_pod_sandbox(request)).await;
        (answer.expect("a pod starts").pod_sandbox_id, config)
    }

    /// Runs an image's container in a pod.
    pub(crate) async fn run_container(&self, pod: &str, pod_config: v1::PodSandboxConfig, image: &str, command: &[&str]) -> String {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            log_path: "main.log".to_owned(),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config: Some(config), sandbox_config: Some(pod_config) };
        let cri = self.runtime().cri();
        let id = Box::pin(cri.create_container(request)).await.expect("the container is created").container_id;
        let request = v1::StartContainerRequest { container_id: id.clone() };
        cri.start_container(request).await.expect("the container starts");
        id
    }

    /// Runs a shell script in a container and answers its output; it must succeed.
    pub(crate) async fn shell(&self, container: &str, script: &str) -> String {
        let command = ["sh", "-ec", script].map(str::to_owned).to_vec();
        let answer = self.runtime().cri().exec_sync(container, command, PATIENCE).await.expect("exec works");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(answer.exit_code, 0, "{script}: {}{}", text(&answer.stdout), text(&answer.stderr));
        text(&answer.stdout)
    }

    pub(crate) async fn pod_status(&self, id: &str) -> v1::PodSandboxStatus {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.runtime().cri().pod_sandbox_status(request).await;
        answer.expect("the pod is known").status.expect("with its status")
    }
}

impl Drop for Sandbox {
    /// For a test that failed; the others have torn down already.
    fn drop(&mut self) {
        if self.folder.is_none() {
            return;
        }
        self.runtime = None;
        let home = self.home.clone();
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an async runtime");
            runtime.block_on(async {
                let done = wait_for("the failed test's containerd is gone", || async { teardown(&home, true).await.ok() });
                done.await
            })
        });
        if let Err(panic) = clean.join() {
            eprintln!("the failed test's containerd is left: {panic:?}");
        }
    }
}

async fn start_runtime(home: &Path) -> Runtime {
    let config = RuntimeConfig::new(home);
    match SUPERVISION.spawn(Runtime::start(config)).await.expect("starting does not panic") {
        Ok(runtime) => runtime,
        Err(error) => panic!("these tests need root and a working containerd: {error}"),
    }
}

/// Looks until there is something; a test that waits in vain fails and says for what.
pub(crate) async fn wait_for<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_| panic!("not so within {} s: {what}", PATIENCE.as_secs()))
}
