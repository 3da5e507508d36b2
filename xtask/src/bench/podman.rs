//! podman with storage, network and settings of its own, so that it never touches the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit};
use serde_json::json;

use crate::process;

/// The bridge its containers are on.
const BRIDGE: &str = "fmbench0";
/// Addresses that are set aside for benchmarks (RFC 2544, section C.2.2).
const SUBNET: &str = "198.18.250.0/24";
/// The most open files and processes a container gets. A machine that may not raise its limits
/// refuses more than it has.
const LIMIT_MAX: u64 = 10_000;
/// Where podman keeps its containers' control groups.
const CGROUP_PARENT: &str = "libpod_parent";
const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) struct Podman {
    folder: PathBuf,
    /// Control groups that were there before, and stay.
    cgroups_before: Vec<PathBuf>,
    /// Whether something is still to be taken away.
    standing: bool,
}

impl Podman {
    /// Writes its settings; nothing runs yet.
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        let podman = Self { folder: folder.to_owned(), cgroups_before: cgroups(), standing: true };
        let networks = folder.join("networks");
        fs::create_dir_all(&networks).with_context(|| format!("cannot create {}", networks.display()))?;
        let write = |file: PathBuf, text: String| fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()));
        write(networks.join("bench.conflist"), network(&folder.join("addresses")))?;
        write(podman.settings(), settings(folder, limit(Resource::Nofile), limit(Resource::Nproc)))?;
        write(podman.storage(), storage(folder))?;
        Ok(podman)
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("containers.conf")
    }

    fn storage(&self) -> PathBuf {
        self.folder.join("storage.conf")
    }

    /// What tells any podman to be this one.
    pub(super) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("CONTAINERS_CONF", self.settings()), ("CONTAINERS_STORAGE_CONF", self.storage())]
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.envs(self.environment());
        command
    }

    /// Copies an image over from a containerd.
    pub(super) fn load_from(&self, containerd: &Path, image: &str) -> Result<()> {
        let archive = self.folder.join("image.tar");
        let mut export = Command::new("ctr");
        export.arg("--address").arg(containerd).args(["--namespace", "k8s.io", "images", "export"]).arg(&archive).arg(image);
        process::run(&mut export, "is the disk full?")?;
        process::run(self.command().args(["load", "--quiet", "--input"]).arg(&archive), "is the disk full?")?;
        fs::remove_file(&archive).context("cannot remove the image's archive")
    }

    /// Removes its containers, its bridge and its control groups.
    pub(super) fn remove(mut self) -> Result<()> {
        self.standing = false;
        self.take_away()
    }

    fn take_away(&self) -> Result<()> {
        process::run(self.command().args(["rm", "--all", "--force", "--time", "0"]), "`podman ps --all` shows what is left")?;
        if Path::new("/sys/class/net").join(BRIDGE).exists() {
            process::run(Command::new("ip").args(["link", "delete", BRIDGE]), "`ip link` shows it")?;
        }
        for group in cgroups().into_iter().filter(|group| !self.cgroups_before.contains(group)) {
            remove_cgroup(&group).with_context(|| format!("cannot remove {}", group.display()))?;
        }
        Ok(())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if self.standing
            && let Err(error) = self.take_away()
        {
            crate::console::error(&error);
        }
    }
}

/// podman's parent group in every hierarchy.
fn cgroups() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    let parents = std::iter::once(PathBuf::from(CGROUPS)).chain(hierarchies).map(|hierarchy| hierarchy.join(CGROUP_PARENT));
    // Several names may mean one hierarchy (`cpu`, `cpu,cpuacct`).
    parents.filter(|parent| parent.is_dir()).filter_map(|parent| parent.canonicalize().ok()).collect()
}

/// A group can be removed when nothing is below it; its files do not count.
fn remove_cgroup(group: &Path) -> std::io::Result<()> {
    let below = match fs::read_dir(group) {
        Ok(below) => below,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in below {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The hard limit of this process, within reason.
fn limit(resource: Resource) -> u64 {
    getrlimit(resource).maximum.map_or(LIMIT_MAX, |limit| limit.min(LIMIT_MAX))
}

/// The network the platform gives its pods, on another bridge.
fn network(addresses: &Path) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": BRIDGE,
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": SUBNET}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": addresses,
            },
        }],
    })
    .to_string()
}

/// runc, as for the platform: crun refuses machines with both cgroup versions.
fn settings(folder: &Path, open_files: u64, processes: u64) -> String {
    let folder = folder.display();
    format!(
        "[containers]\n\
         default_ulimits = [\"nofile={open_files}:{open_files}\", \"nproc={processes}:{processes}\"]\n\
         [network]\n\
         network_backend = \"cni\"\n\
         cni_plugin_dirs = [\"/usr/lib/cni\"]\n\
         network_config_dir = \"{folder}/networks\"\n\
         default_network = \"{BRIDGE}\"\n\
         [engine]\n\
         runtime = \"runc\"\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"none\"\n\
         tmp_dir = \"{folder}/tmp\"\n"
    )
}

fn storage(folder: &Path) -> String {
    let folder = folder.display();
    format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{folder}/root\"\nrunroot = \"{folder}/run\"\n")
}
