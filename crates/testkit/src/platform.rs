//! One server process in a home of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::{Cluster, Http, Kubectl, Output, eventually_within};

/// How long a server may take until it is ready, in a debug build on a busy machine.
const READY: Duration = Duration::from_secs(120);
/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(30);
/// How long its node may take until it takes pods: containerd starts first.
const NODE_READY: Duration = Duration::from_secs(180);

/// Whether the platform runs pods on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The API, controllers and gateway only.
    None,
    /// With a containerd of its own; needs root and what `cargo xtask test` installs.
    Local,
}

/// What a platform keeps its objects in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// SQLite in its home.
    Sqlite,
    /// A database of its own in the PostgreSQL that all tests share.
    Postgres,
}

/// Files of the home that servers of one database must all have.
const SHARED_KEYS: [&str; 2] = ["secrets.key", "service-account.key"];

/// A platform under test. Dropping it ends its processes and removes everything it made.
pub struct Platform {
    binary: PathBuf,
    node: Node,
    /// Further options of the server.
    options: Vec<String>,
    /// Address of a PostgreSQL database; without one it is SQLite in the home.
    database: Option<String>,
    home: PathBuf,
    /// Deletes the home at last.
    _directory: tempfile::TempDir,
    process: Option<Child>,
    address: SocketAddr,
}

impl Platform {
    /// Starts a server in a fresh home and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready, with its log.
    pub fn start(binary: &str, node: Node) -> Self {
        Self::start_in(binary, node, home_folder())
    }

    /// Starts a server without a node and with further options.
    ///
    /// # Panics
    /// When it does not become ready, with its log.
    pub fn start_with(binary: &str, options: &[&str]) -> Self {
        let mut platform = Self::prepare(binary, Node::None, home_folder());
        platform.options = options.iter().map(|option| (*option).to_owned()).collect();
        platform.restart();
        platform
    }

    /// Starts a server whose home is (inside) the given folder.
    ///
    /// # Panics
    /// When it does not become ready, with its log.
    pub fn start_in(binary: &str, node: Node, directory: tempfile::TempDir) -> Self {
        let mut platform = Self::prepare(binary, node, directory);
        platform.restart();
        platform
    }

    /// Starts a server on one of the databases.
    ///
    /// # Panics
    /// When it does not become ready, with its log; when there is no PostgreSQL.
    pub fn start_on(binary: &str, node: Node, database: Database) -> Self {
        let mut platform = Self::prepare(binary, node, home_folder());
        if database == Database::Postgres {
            let cluster = Cluster::shared();
            platform.database = Some(cluster.url(&cluster.database()));
        }
        platform.restart();
        platform
    }

    /// Starts a server without a node on the PostgreSQL database at an address.
    ///
    /// # Panics
    /// When it does not become ready, with its log.
    pub fn start_at(binary: &str, database: &str) -> Self {
        let mut platform = Self::prepare(binary, Node::None, home_folder());
        platform.database = Some(database.to_owned());
        platform.restart();
        platform
    }

    /// Makes a home and chooses an address, and starts nothing yet.
    ///
    /// # Panics
    /// When there is no room for a home.
    pub fn prepared(binary: &str, database: Option<&str>) -> Self {
        let mut platform = Self::prepare(binary, Node::None, home_folder());
        platform.database = database.map(str::to_owned);
        platform
    }

    fn prepare(binary: &str, node: Node, directory: tempfile::TempDir) -> Self {
        let home = directory.path().join("h");
        fs::create_dir_all(&home).expect("a home");
        let address = free_address();
        Self { binary: binary.into(), node, options: Vec::new(), database: None, home, _directory: directory, process: None, address }
    }

    /// The address of its PostgreSQL database, if it is on one.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Brings the keys that belong to another server's data into this one's home.
    ///
    /// # Panics
    /// When one of them is not there.
    pub fn take_keys_of(&self, other: &Self) {
        for name in SHARED_KEYS {
            fs::copy(other.home.join(name), self.home.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// Starts the server again in the same home and waits until it is ready.
    ///
    /// # Panics
    /// When it runs already, or does not become ready.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = self.command(&["server"]);
        command.arg("--listen").arg(self.address.to_string()).arg("--announce").arg(self.home.join("announcement"));
        command.args(&self.options);
        if self.node == Node::None {
            command.arg("--no-node");
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the server starts");
        self.process = Some(process);
        let home = self.home.clone();
        let process = self.process.as_mut().expect("just started");
        let address = self.address;
        eventually_within(READY, "the server to be ready", || {
            if let Ok(Some(status)) = process.try_wait() {
                panic!("the server ended with {status}:\n{}", fs::read_to_string(home.join("server.log")).unwrap_or_default());
            }
            match Http::new(address, String::new()).request("GET", "/readyz", &[], b"") {
                Ok(answer) if answer.code == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        if self.node == Node::Local {
            let kubectl = self.kubectl();
            kubectl.wait_field_within(NODE_READY, "default", "node/local", r#"{.status.conditions[?(@.type=="Ready")].status}"#, "True");
        }
    }

    /// `fermion` with this platform's home, ready for more settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("FERMION_HOME", &self.home).env("NO_COLOR", "1").env_remove("FERMION_TOKEN").env_remove("KUBECONFIG");
        // Not what the person at the terminal has set.
        command.env_remove("FERMION_DATABASE").env_remove("FERMION_SECRETS_KEY").env_remove("FERMION_SECRETS_KEY_FILE");
        command.envs(self.database.iter().map(|url| ("FERMION_DATABASE", url)));
        command
    }

    /// Runs `fermion` with this platform's home to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("fermion starts");
        Output::new(output, format!("fermion {}", arguments.join(" ")))
    }

    /// `kubectl` as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.home)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// The server's address as clients are told it.
    ///
    /// # Panics
    /// When the server wrote no kubeconfig.
    pub fn server(&self) -> String {
        self.read_kubeconfig()["clusters"][0]["cluster"]["server"].as_str().expect("a server").to_owned()
    }

    fn read_kubeconfig(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.kubeconfig()).expect("a kubeconfig");
        serde_yaml::from_str(&text).expect("a kubeconfig is YAML")
    }

    /// Raw HTTP as the administrator.
    ///
    /// # Panics
    /// When the server wrote no kubeconfig.
    pub fn http(&self) -> Http {
        let config = self.read_kubeconfig();
        Http::new(self.address, config["users"][0]["user"]["token"].as_str().expect("a token").to_owned())
    }

    /// Everything this platform keeps.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// Process id of the server.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Stops the server in its tracks, as a machine that is suspended would; [`Self::resume`] lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused server go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server runs");
        rustix::process::kill_process(Pid::from_child(process), signal).expect("a signal");
    }

    /// Ends the server as a power cut would: `kill -9`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.kill().expect("a signal");
        process.wait().expect("an end");
    }

    /// Ends this platform's containerd by `kill -9`, and answers which process it was.
    ///
    /// # Panics
    /// When none runs.
    pub fn kill_containerd(&self) -> u32 {
        let pid = self.containerd().expect("containerd runs");
        let handle = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(handle, Signal::KILL).expect("a signal");
        pid
    }

    /// Process id of this platform's containerd, while it runs.
    pub fn containerd(&self) -> Option<u32> {
        let text = fs::read_to_string(self.home.join("run/containerd.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        // The number may have come to mean another process.
        line.contains(self.home.to_str()?).then_some(pid)
    }

    /// Stops the server as an operator would.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        let pid = Pid::from_child(&process);
        rustix::process::kill_process(pid, Signal::TERM).expect("a signal");
        eventually_within(STOP, "the server to stop", || match process.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(60).collect::<Vec<_>>();
            eprintln!("--- the end of the server's log");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
        if self.process.is_some() {
            self.kill();
        }
        if self.node == Node::Local {
            let teardown = self.command(&["teardown", "--purge"]).output();
            match teardown {
                Ok(output) if output.status.success() => {}
                other if std::thread::panicking() => eprintln!("teardown failed: {other:?}"),
                other => panic!("teardown failed: {other:?}"),
            }
        }
    }
}

/// A folder for a home. Sockets' paths are short (107 bytes), so it is right below the temporary folder.
fn home_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("fm").rand_bytes(4).tempdir().expect("a temporary folder")
}

/// A loopback port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("its address")
}
