//! Our own containerd: started on first need, watched, and taken away without a trace.
//!
//! It shares nothing with any other containerd of the machine: socket, state, images, network and
//! cgroups are the home's own. It is no child of the server and lives on when the server ends in
//! whatever way, and so do all containers; the next [`Runtime::start`] on the same home finds it.
//! If containerd itself dies it is started again (with back-off); containers do not notice, since
//! their shims hold them.
//!
//! Where things are, under the home:
//!
//! | path | what |
//! |---|---|
//! | `run/containerd.sock` | the socket (CRI, and `ctr -a`) |
//! | `run/` | state that means nothing after a restart of the machine, and is removed then |
//! | `containerd/` | images and the containers' file systems |
//! | `logs/containerd.log` | its log |
//! | `runtime.lock` | held while a server supervises it, so two servers never do |
//!
//! By hand, as root: `cargo run -p fermion-node --example containerd -- HOME` starts it and prints
//! the socket, `… -- HOME down` takes it away again. Then
//! `ctr -a HOME/run/containerd.sock -n k8s.io containers ls` and the like. A test starts its own:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fermion_node::runtime::{Runtime, RuntimeConfig, teardown};
//!
//! let home = std::path::Path::new("/tmp/fermion-test");
//! let runtime = Runtime::start(RuntimeConfig::new(home)).await?;
//! println!("{}", runtime.socket().display());
//! drop(runtime); // containerd goes on …
//! teardown(home, true).await?; // … until now
//! # Ok(())
//! # }
//! ```

mod configuration;
mod network;
mod paths;
mod pause;
pub(crate) mod process;
mod supervision;
mod teardown;
pub(crate) mod tool;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

pub use network::{Network, Subnet};
pub use supervision::Health;
pub use teardown::{TeardownReport, teardown};
pub use tool::Error as ToolError;

use crate::cri::{self, Cri};
use paths::Paths;
use supervision::Supervisor;

/// Debian's folder of network plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Why the runtime could not be started, used or taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only root may start containers.
    #[error("running containers takes root: start the server as root, or without the node role")]
    NotRoot,
    /// The home cannot be used as a path.
    #[error("{} cannot be used as FERMION_HOME", home.display())]
    Home {
        /// The home.
        home: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The home's name is not text.
    #[error("FERMION_HOME must be valid UTF-8, and {} is not", home.display())]
    HomeNotText {
        /// The home.
        home: PathBuf,
    },
    /// The home's name is so long that no socket can be made in it.
    #[error(
        "FERMION_HOME is {over} bytes too long: a unix socket's path holds 107 bytes and \
         {}/run/containerd.sock.ttrpc must be one; choose a shorter folder",
        home.display()
    )]
    HomeTooLong {
        /// The home.
        home: PathBuf,
        /// By how much.
        over: usize,
    },
    /// A server, or another tear-down, is at work on this home.
    #[error(
        "another server runs the containers of {}: stop it first, or use another FERMION_HOME",
        home.display()
    )]
    InUse {
        /// The home.
        home: PathBuf,
    },
    /// A file could not be read or written.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A process could not be watched or ended.
    #[error("could not {action} process {pid}")]
    Process {
        /// What was attempted.
        action: &'static str,
        /// With which process.
        pid: i32,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// One of the machine's tools failed.
    #[error(transparent)]
    Tool(#[from] tool::Error),
    /// A tool wrote something we cannot read.
    #[error("could not read the answer of `{command}`")]
    Answer {
        /// The tool's command line.
        command: &'static str,
        /// What is wrong with its answer.
        #[source]
        source: serde_json::Error,
    },
    /// A bridge of ours has a description that is not ours.
    #[error("the alias of network interface {bridge} is damaged ({reason}): `ip link delete {bridge}`")]
    Network {
        /// The interface.
        bridge: String,
        /// What is wrong.
        reason: String,
    },
    /// No range of addresses is free.
    #[error(
        "no free network for the pods{}: every candidate overlaps a route of this machine or its \
         {networks_max} bridges fermion0, fermion1, … are taken; `ip route` and `ip link` show \
         them; name a free range with `pod_subnet`",
        wanted.map(|subnet| format!(" in {subnet}")).unwrap_or_default()
    )]
    NoFreeNetwork {
        /// The range that was asked for.
        wanted: Option<Subnet>,
        /// How many networks there can be.
        networks_max: u8,
    },
    /// The network plugins are not installed.
    #[error(
        "the network plugins are not in {}: `apt-get install containernetworking-plugins` brings them",
        folder.display()
    )]
    NoNetworkPlugins {
        /// Where they should be.
        folder: PathBuf,
    },
    /// containerd ended while it started.
    #[error("containerd ended at its start; {} says:\n{tail}", log.display())]
    EndedAtStart {
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// containerd runs, but does not become ready.
    #[error("containerd was not ready after {after_s} s ({last}); its log is {}", log.display())]
    NotReady {
        /// The bound that was reached.
        after_s: u64,
        /// What it said last.
        last: String,
        /// Its log.
        log: PathBuf,
    },
    /// There is no program to hold a pod open on this architecture.
    #[error("no pause program is known for {architecture}: containers run on x86_64 and aarch64")]
    Architecture {
        /// This machine's architecture.
        architecture: &'static str,
    },
    /// An image could not be handed to containerd.
    #[error("could not import image {reference} into containerd")]
    Import {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: crate::image::ImportError,
    },
    /// containerd refused a call.
    #[error("containerd could not {action}")]
    Cri {
        /// What was attempted.
        action: String,
        /// What it said.
        #[source]
        source: cri::Error,
    },
    /// Something of ours could not be taken away.
    #[error("could not take away all of the runtime of {}: left are {}", home.display(), left.join(", "))]
    Left {
        /// The home.
        home: PathBuf,
        /// What is still there.
        left: Vec<String>,
    },
}

/// What a runtime is started with.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// `FERMION_HOME`.
    pub home: PathBuf,
    /// The range of the pods' addresses; by default one that no route of this machine overlaps.
    pub pod_subnet: Option<Subnet>,
    /// Where the network plugins are.
    pub cni_plugins: PathBuf,
}

impl RuntimeConfig {
    /// The usual settings for a home.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into(), pod_subnet: None, cni_plugins: PathBuf::from(CNI_PLUGINS) }
    }
}

/// A supervised containerd. Dropping it ends the supervision, never containerd or a container.
#[derive(Debug)]
pub struct Runtime {
    paths: Paths,
    cri: Cri,
    network: Network,
    cgroup_parent: String,
    health: watch::Receiver<Health>,
    supervision: tokio::task::JoinHandle<()>,
    /// Held for as long as we supervise.
    _lock: Arc<File>,
}

impl Runtime {
    /// Finds the home's containerd or starts one, and watches it from now on. Ready when it
    /// returns: the network is up and the pause image is there.
    pub async fn start(config: RuntimeConfig) -> Result<Self, Error> {
        require_root()?;
        let paths = Paths::new(&config.home)?;
        if !config.cni_plugins.join("bridge").exists() {
            return Err(Error::NoNetworkPlugins { folder: config.cni_plugins });
        }
        create_folder(paths.home())?;
        let lock = Arc::new(lock(&paths)?);
        forget_before_boot(&paths)?;
        let network = network::ensure(paths.home(), config.pod_subnet).await?;
        let cgroup_parent = cgroup_parent(&network);
        let cri = Cri::new(&paths.socket());
        let supervisor = Supervisor::new(&paths, &config.cni_plugins, &network, &cri);
        let process = supervisor.launch(supervision::READY_TIMEOUT).await?;
        let (health, supervision) = supervisor.watch(process, Arc::clone(&lock));
        Ok(Self { paths, cri, network, cgroup_parent, health, supervision, _lock: lock })
    }

    /// containerd's socket.
    pub fn socket(&self) -> PathBuf {
        self.paths.socket()
    }

    /// A client of containerd's CRI.
    pub fn cri(&self) -> &Cri {
        &self.cri
    }

    /// How containerd is, with every change.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The pods' network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What every pod's cgroup parent must start with, so that [`teardown`] finds it.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.supervision.abort();
    }
}

fn require_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// `/fermion/0` for the pods on `fermion0`.
fn cgroup_parent(network: &Network) -> String {
    format!("/fermion/{}", network.index)
}

fn create_folder(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| Error::File {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Takes the home's runtime lock, or says who has it.
fn lock(paths: &Paths) -> Result<File, Error> {
    let path = paths.lock();
    let failed = |source| Error::File { action: "lock", path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse { home: paths.home().to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes `run/` if it is of before the machine's last start: its sockets, pids and addresses
/// mean nothing any more. A machine whose `/run` is in memory forgets by itself; a home is on disk.
fn forget_before_boot(paths: &Paths) -> Result<(), Error> {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let file_error = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    };
    let now = std::fs::read_to_string(BOOT_ID).map_err(file_error("read", Path::new(BOOT_ID)))?;
    let run = paths.run();
    let then = std::fs::read_to_string(paths.boot_id()).unwrap_or_default();
    if then == now {
        return Ok(());
    }
    match std::fs::remove_dir_all(&run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error("remove", &run)(error));
        }
        _ => {}
    }
    create_folder(&run)?;
    std::fs::write(paths.boot_id(), now).map_err(file_error("write", &paths.boot_id()))
}
