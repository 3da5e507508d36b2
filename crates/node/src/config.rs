//! What the node is told by whoever starts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::official::ImageProvider;
use crate::pod::{BackOff, HostAccess};
use crate::start::StartHelper;

/// How to start a node. [`NodeConfig::new`] has the usual values.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's name in the API.
    pub name: String,
    /// The Pool the node belongs to.
    pub pool: String,
    /// `FERMION_HOME`: volumes, logs and the pods' own files go below it.
    pub home: PathBuf,
    /// How the node reaches the API.
    pub client: kube::Client,
    /// containerd's socket.
    pub runtime_socket: PathBuf,
    /// Who makes the official images.
    pub images: Arc<dyn ImageProvider>,
    /// The machine's address as pods and people see it.
    pub address: String,
    /// The cgroup under which all pods are.
    pub cgroup_parent: String,
    /// What pods may do to the machine.
    pub access: HostAccess,
    /// What is kept back for the platform and the machine itself.
    pub reserved: Reserved,
    /// Who starts containers, so that a start outlives this process; without one it does so itself, and
    /// a start that it does not live to see the end of fails.
    pub start_helper: Option<StartHelper>,
    /// Bounds and times.
    pub limits: Limits,
}

/// Resources that pods do not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a core.
    pub cpu_milli: i128,
    /// Bytes.
    pub memory_bytes: i128,
}

impl Default for Reserved {
    fn default() -> Self {
        // What the server and containerd need when busy, with room to spare.
        Self { cpu_milli: 100, memory_bytes: 512 << 20 }
    }
}

/// Bounds and times of the node.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pods at once.
    pub pods_max: u32,
    /// Processes and threads of one pod, so that none can take all the machine has.
    pub pod_processes_max: u32,
    /// Delays between restarts of a container.
    pub restart: BackOff,
    /// Delays between tries of what a container needs before it starts: images, volumes, sandbox.
    pub retry: BackOff,
    /// How long the members of a gang wait for each other's addresses.
    pub peers_wait: Duration,
    /// How often each pod is looked at when nothing happens.
    pub sweep: Duration,
    /// How often files made from ConfigMaps and Secrets are brought up to date.
    pub refresh: Duration,
    /// How often the node's status is written and disk use is measured.
    pub housekeeping: Duration,
    /// How often the lease is renewed.
    pub lease_renewal: Duration,
    /// Size at which a log file is put aside, in bytes.
    pub log_file_bytes_max: u64,
    /// Log files kept per container, the current one included.
    pub log_files_max: usize,
    /// Share of the disk in use at which unused images are removed, in percent.
    pub image_disk_percent_max: u8,
    /// Share of the disk in use at which the node reports pressure, in percent.
    pub disk_pressure_percent: u8,
    /// How long the data of a deleted claim is kept.
    pub claim_retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let retry = BackOff { base: Duration::from_secs(1), cap: Duration::from_mins(2), reset_after: Duration::from_mins(10) };
        Self {
            pods_max: 256,
            pod_processes_max: 16_384,
            restart: BackOff::default(),
            retry,
            peers_wait: Duration::from_mins(1),
            sweep: Duration::from_secs(30),
            refresh: Duration::from_mins(1),
            housekeeping: Duration::from_secs(30),
            lease_renewal: Duration::from_secs(10),
            log_file_bytes_max: 10 << 20,
            log_files_max: 5,
            image_disk_percent_max: 85,
            disk_pressure_percent: 95,
            claim_retention: Duration::from_mins(10),
        }
    }
}

impl NodeConfig {
    /// The usual node of one machine: named and in the pool `local`, no host access.
    pub fn new(home: &Path, client: kube::Client, runtime_socket: &Path, images: Arc<dyn ImageProvider>) -> Self {
        Self {
            name: "local".to_owned(),
            pool: "local".to_owned(),
            home: home.to_owned(),
            client,
            runtime_socket: runtime_socket.to_owned(),
            images,
            address: "127.0.0.1".to_owned(),
            cgroup_parent: "/fermion".to_owned(),
            access: HostAccess::default(),
            reserved: Reserved::default(),
            start_helper: None,
            limits: Limits::default(),
        }
    }
}
