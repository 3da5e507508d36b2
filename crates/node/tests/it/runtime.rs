//! Our own containerd: what it survives and what is left of it.

use std::path::{Path, PathBuf};

use fermion_node::cri::v1;
use fermion_node::runtime::{Error, Health, Runtime, RuntimeConfig, teardown};

use crate::sandbox::{Sandbox, wait_for};

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
}

/// Arguments and state of every process that names a path in its arguments.
fn processes_of(home: &Path) -> Vec<String> {
    let home = home.display().to_string();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| {
            let bytes = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
            let ours = line.contains(&home) && !line.contains("fermion_node");
            ours.then_some(line)
        })
        .collect()
}

fn mounts_of(home: &Path) -> Vec<String> {
    std::fs::read_to_string("/proc/self/mounts")
        .expect("the mounts")
        .lines()
        .filter(|line| line.contains(&home.display().to_string()))
        .map(str::to_owned)
        .collect()
}

fn cgroups_of(parent: &str) -> Vec<PathBuf> {
    std::fs::read_dir("/sys/fs/cgroup")
        .expect("the cgroups")
        .flatten()
        .map(|entry| entry.path().join(parent.trim_start_matches('/')))
        .filter(|path| path.exists())
        .collect()
}

#[tokio::test]
async fn containers_outlive_a_killed_containerd() {
    let sandbox = Sandbox::start().await;
    let (pod, _) = sandbox.run_pod("lasting").await;
    let before = sandbox.pod_status(&pod).await;
    let mut health = sandbox.runtime().health();
    assert_eq!(*health.borrow_and_update(), Health::Ready);
    let old = sandbox.containerd_pid();

    kill(old);
    health.wait_for(|health| matches!(health, Health::Restarting { attempt: 1, .. })).await.expect("it is supervised");
    health.wait_for(|health| *health == Health::Ready).await.expect("it is supervised");

    assert_ne!(sandbox.containerd_pid(), old);
    let after = sandbox.pod_status(&pod).await;
    assert_eq!(after.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(after.created_at, before.created_at);
    assert_eq!(after.network, before.network);
    sandbox.tear_down().await;
}

#[tokio::test]
async fn containers_and_containerd_outlive_the_server() {
    let mut sandbox = Sandbox::start().await;
    let (pod, _) = sandbox.run_pod("lasting").await;
    let containerd = sandbox.containerd_pid();
    sandbox.stop_server().await;
    sandbox.start_server().await;
    assert_eq!(sandbox.containerd_pid(), containerd);
    let status = sandbox.pod_status(&pod).await;
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    sandbox.tear_down().await;
}

#[tokio::test]
async fn teardown_leaves_nothing() {
    let sandbox = Sandbox::start().await;
    let (pod, _) = sandbox.run_pod("short-lived").await;
    let home = sandbox.home.clone();
    let bridge = sandbox.runtime().network().bridge.clone();
    let cgroup = sandbox.runtime().cgroup_parent().to_owned();
    let address = sandbox.pod_status(&pod).await.network.expect("a network").ip;
    assert!(!address.is_empty());
    assert!(!cgroups_of(&cgroup).is_empty());

    let report = sandbox.tear_down().await;

    assert_eq!((report.pods, report.killed), (1, 0), "{report:?}");
    assert_gone(&home, &bridge, &cgroup).await;
}

#[tokio::test]
async fn a_test_that_fails_leaves_nothing() {
    let sandbox = Sandbox::start().await;
    let (home, containerd) = (sandbox.home.clone(), sandbox.containerd_pid());
    // As a panic does.
    drop(sandbox);
    assert!(!home.exists());
    let command = std::fs::read_to_string(format!("/proc/{containerd}/cmdline")).unwrap_or_default();
    assert!(!command.contains("containerd"), "{command}");
}

#[tokio::test]
async fn teardown_needs_no_containerd() {
    let mut sandbox = Sandbox::start().await;
    sandbox.run_pod("orphan").await;
    let home = sandbox.home.clone();
    let bridge = sandbox.runtime().network().bridge.clone();
    let cgroup = sandbox.runtime().cgroup_parent().to_owned();
    let containerd = sandbox.containerd_pid();
    sandbox.stop_server().await;
    kill(containerd);
    // A damaged database: containerd cannot start again, so all must go without it.
    let database = home.join("containerd/io.containerd.metadata.v1.bolt/meta.db");
    std::fs::write(&database, "damaged").expect("it can be damaged");

    let report = sandbox.tear_down().await;

    assert!(report.killed >= 2, "the shim and the pod: {report:?}");
    assert_gone(&home, &bridge, &cgroup).await;
}

async fn assert_gone(home: &Path, bridge: &str, cgroup: &str) {
    // A process that has ended stays listed until its parent has looked.
    wait_for("no process of the home is left", || async { processes_of(home).is_empty().then_some(()) }).await;
    assert_eq!(mounts_of(home), Vec::<String>::new());
    assert!(!Path::new("/sys/class/net").join(bridge).exists());
    assert_eq!(cgroups_of(cgroup), Vec::<PathBuf>::new());
    let rules = std::process::Command::new("iptables-save").output().expect("iptables-save");
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let word = format!("--comment {bridge} ");
    assert!(!rules.contains(&word), "{rules}");
    let left = std::fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
    let prefix = format!("{bridge}-");
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!home.exists());
}

#[tokio::test]
async fn a_second_server_on_the_home_is_refused() {
    let sandbox = Sandbox::start().await;
    let second = Runtime::start(RuntimeConfig::new(&sandbox.home)).await;
    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    let down = teardown(&sandbox.home, true).await;
    assert!(matches!(down, Err(Error::InUse { .. })), "{down:?}");
    sandbox.tear_down().await;
}

#[tokio::test]
async fn two_homes_share_no_network() {
    let (one, other) = (Sandbox::start().await, Sandbox::start().await);
    let (network, second) = (one.runtime().network(), other.runtime().network());
    assert_ne!(network.bridge, second.bridge);
    assert!(!network.subnet.overlaps(second.subnet));
    let (pod, _) = one.run_pod("first").await;
    one.tear_down().await;
    // The other home is untouched.
    let (second_pod, _) = other.run_pod("second").await;
    let status = other.pod_status(&second_pod).await;
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_ne!(pod, second_pod);
    other.tear_down().await;
}
