//! Taking a home's runtime away: afterwards no process, mount, network, cgroup or container of
//! ours is left, whatever state things were in before.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;

use super::paths::Paths;
use super::process::{self, Process, command_line, kill, wait_until};
use super::supervision::Supervisor;
use super::{CNI_PLUGINS, Error, cgroup_parent, forget_before_boot, lock, network, require_root};
use crate::cri::{Cri, v1};
use crate::image;

/// How many pods are stopped at a time.
const STOPS_AT_A_TIME: usize = 8;
/// How long a containerd that was found dead may take to help with the removal; it starts within a
/// second or two when it can.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long killed processes may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);
/// How many times mounts are looked for: removing one can uncover another.
const UNMOUNT_ROUNDS_MAX: usize = 8;
/// Where the cgroup hierarchies are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The program that holds a pod.
const SHIM: &str = "containerd-shim-runc-v2";

/// What was there to be taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeardownReport {
    /// How many pods were stopped and removed.
    pub pods: usize,
    /// How many processes had to be killed besides, because nothing else ended them.
    pub killed: usize,
    /// How many mounts had to be removed besides.
    pub unmounted: usize,
    /// Whether a network was removed.
    pub network: bool,
}

/// Stops every pod of the home and takes away what runs outside of its files. With `purge` the
/// images and the containers' file systems go too. Doing it twice is no error; doing it while a
/// server is at work is.
pub async fn teardown(home: &Path, purge: bool) -> Result<TeardownReport, Error> {
    require_root()?;
    let paths = Paths::new(home)?;
    let mut report = TeardownReport::default();
    if !paths.home().exists() {
        return Ok(report);
    }
    let lock = lock(&paths)?;
    forget_before_boot(&paths)?;
    let network = network::find(paths.home()).await?;
    if paths.configuration().exists() {
        stop_pods(&paths, &mut report).await?;
    }
    if let Some(process) = Process::find(&paths)? {
        process.stop().await?;
    }
    report.killed += image::kill_builds(paths.home())?;
    let cgroup = network.as_ref().map(cgroup_parent);
    kill_left(&paths, cgroup.as_deref(), &mut report).await?;
    report.unmounted = unmount_all(paths.home())?;
    if let Some(network) = network {
        network::remove(&network).await?;
        report.network = true;
    }
    if let Some(cgroup) = cgroup {
        remove_cgroups(&cgroup)?;
    }
    remove_folder(&paths.run())?;
    if purge {
        remove_folder(&paths.root())?;
    }
    drop(lock);
    Ok(report)
}

/// Stops and removes the pods in the proper way, with containerd's help if it can be had.
async fn stop_pods(paths: &Paths, report: &mut TeardownReport) -> Result<(), Error> {
    let cri = Cri::new(&paths.socket());
    if Process::find(paths)?.is_none() {
        // Only containerd knows how to remove what it made, so a dead one is started once more.
        let network = network::ensure(paths.home(), None).await?;
        let supervisor = Supervisor::new(paths, Path::new(CNI_PLUGINS), &network, &cri);
        if let Err(error) = supervisor.launch(READY_TIMEOUT).await {
            tracing::warn!(%error, "containerd cannot be started; removing its containers without it");
            return Ok(());
        }
    }
    let pods = match cri.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await {
        Ok(answer) => answer.items,
        Err(error) => {
            tracing::warn!(%error, "containerd does not list its pods; removing them without it");
            return Ok(());
        }
    };
    let removed = futures::stream::iter(pods).map(|pod| {
        let cri = cri.clone();
        async move {
            let result = remove_pod(&cri, &pod.id).await;
            if let Err(error) = &result {
                tracing::warn!(%error, pod = pod.id, "removing this pod without containerd");
            }
            result.is_ok()
        }
    });
    report.pods = removed.buffer_unordered(STOPS_AT_A_TIME).filter(|removed| std::future::ready(*removed)).count().await;
    Ok(())
}

async fn remove_pod(cri: &Cri, id: &str) -> Result<(), crate::cri::Error> {
    cri.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }).await?;
    cri.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }).await?;
    Ok(())
}

/// Kills what is left: first the shims, which would otherwise tidy up behind our back, then
/// whatever runs in our cgroups.
async fn kill_left(paths: &Paths, cgroup: Option<&str>, report: &mut TeardownReport) -> Result<(), Error> {
    let socket = paths.socket();
    let is_shim = |pid| {
        command_line(pid).is_some_and(|line| {
            line.first().is_some_and(|program| program.ends_with(SHIM)) && line.iter().any(|arg| Path::new(arg) == socket)
        })
    };
    let shims: Vec<i32> = process::all().into_iter().filter(|pid| is_shim(*pid)).collect();
    for pid in &shims {
        kill(*pid, is_shim)?;
    }
    report.killed += shims.len();
    let mut left: Vec<i32> = Vec::new();
    if let Some(cgroup) = cgroup {
        let in_cgroup = members(cgroup);
        report.killed += in_cgroup.len();
        for pid in in_cgroup {
            kill(pid, |pid| members(cgroup).contains(&pid))?;
        }
    }
    let gone = wait_until(KILL_TIMEOUT, || {
        left = process::all().into_iter().filter(|pid| is_shim(*pid)).collect();
        left.extend(cgroup.map(members).unwrap_or_default());
        left.is_empty().then_some(())
    });
    gone.await.ok_or_else(|| Error::Left { home: paths.home().to_owned(), left: left.iter().map(|pid| format!("process {pid}")).collect() })
}

/// The processes in a cgroup and below it, in any hierarchy.
fn members(cgroup: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = cgroup_folders(cgroup)
        .iter()
        .flat_map(|folder| {
            fs::read_to_string(folder.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A cgroup's folders in every hierarchy, the deepest first.
fn cgroup_folders(cgroup: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for root in hierarchies() {
        collect_folders(&root.join(relative(cgroup)), &mut folders);
    }
    folders
}

fn relative(cgroup: &str) -> &str {
    cgroup.trim_start_matches('/')
}

/// The roots of the machine's cgroup hierarchies; with cgroup v2 alone there is just the one.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    fs::read_dir(CGROUPS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .chain([PathBuf::from(CGROUPS)])
        // `cpu` is a link to `cpu,cpuacct` where they are one: looking once is enough.
        .filter(|root| !root.is_symlink())
}

fn collect_folders(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_folders(&entry.path(), into);
        }
    }
    into.push(folder.to_owned());
}

fn remove_cgroups(cgroup: &str) -> Result<(), Error> {
    for folder in cgroup_folders(cgroup) {
        match fs::remove_dir(&folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { action: "remove", path: folder, source });
            }
            _ => {}
        }
    }
    // `/fermion` itself goes with the last home's; as long as another home has one it stays.
    if let Some(parent) = Path::new(cgroup).parent().and_then(Path::to_str) {
        for root in hierarchies() {
            let _ = fs::remove_dir(root.join(relative(parent)));
        }
    }
    Ok(())
}

/// Removes every mount below the home, the deepest first.
fn unmount_all(home: &Path) -> Result<usize, Error> {
    let mut count = 0;
    for _ in 0..UNMOUNT_ROUNDS_MAX {
        let mounts = mounts_below(home)?;
        if mounts.is_empty() {
            return Ok(count);
        }
        for mount in mounts.into_iter().rev() {
            let detached = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW);
            match detached {
                Ok(()) => count += 1,
                // It went with the one above it.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Error::File { action: "unmount", path: mount, source: errno.into() });
                }
            }
        }
    }
    Err(Error::Left { home: home.to_owned(), left: mounts_below(home)?.iter().map(|mount| format!("mount {}", mount.display())).collect() })
}

/// Mount points below a folder (not the folder itself), in the order in which they were made.
fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let text = fs::read_to_string(MOUNTS).map_err(|source| Error::File { action: "read", path: MOUNTS.into(), source })?;
    Ok(mount_points(&text).filter(|point| point.starts_with(folder) && point != folder).collect())
}

fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> + '_ {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(unescaped(point)))
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "36 35 98:0 / /mnt/a\\040b rw - ext4 /dev/sda rw\n\
                    37 35 98:0 / /mnt/c rw master:1 - ext4 /dev/sda rw\n";
        let points: Vec<PathBuf> = mount_points(text).collect();
        assert_eq!(points, [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt/c")]);
    }

    #[tokio::test]
    async fn a_home_that_is_not_there_needs_no_teardown() {
        if !rustix::process::geteuid().is_root() {
            let refused = teardown(Path::new("/nonexistent/home"), true).await;
            assert!(matches!(refused, Err(Error::NotRoot)));
            return;
        }
        let report = teardown(Path::new("/nonexistent/home"), true).await.unwrap();
        assert_eq!(report, TeardownReport::default());
    }
}
