//! A PostgreSQL of the tests' own.
//!
//! Tests run in many processes, and a cluster takes seconds to make. So the first that needs one makes
//! it, all share it with a database each, and a process beside them removes it a moment after the last
//! one has ended, however that ended: every user holds a lock on a file, which the kernel takes back.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Debian keeps PostgreSQL's programs, by version.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// Who owns the databases, and how they sign in over TCP.
const OWNER: &str = "fermion";
const PASSWORD: &str = "not a secret: gone with the test";

/// The settings of a cluster. What was answered is on disk, as in production.
const SETTINGS: &str = "\
    fsync = on\n\
    synchronous_commit = on\n\
    max_connections = 400\n\
    shared_buffers = 128MB\n\
    listen_addresses = '127.0.0.1'\n\
    max_wal_size = 2GB\n\
    log_min_messages = warning\n";

/// Removes the cluster once nobody holds the lock (descriptor 9).
const UNDERTAKER: &str = "while sleep 5; do flock --nonblock --exclusive 9 && break; done; \
    \"$1\" stop --pgdata \"$2/data\" --mode immediate --silent; rm -rf \"$2/data\" \"$2/run\" \"$2/port\"";

/// A running cluster.
pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    _lock: Option<File>,
}

impl Cluster {
    /// The cluster that all tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let directory = std::env::temp_dir().join("fermion-test-postgres");
            create(&directory);
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock")).unwrap();
            loop {
                // One at a time looks whether it is there, and makes it if not.
                lock.lock().unwrap();
                if !is_ready(&directory) {
                    let cluster = Self::make(&directory, "");
                    fs::write(directory.join("port"), cluster.port.to_string()).unwrap();
                    bury(&directory);
                }
                // The kernel may let go of one lock before it gives the other.
                lock.lock_shared().unwrap();
                if is_ready(&directory) {
                    let port = fs::read_to_string(directory.join("port")).unwrap().parse().unwrap();
                    return Self { directory, port, _lock: Some(lock) };
                }
            }
        })
    }

    /// Makes and starts a cluster in a directory.
    pub(crate) fn make(directory: &Path, settings: &str) -> Self {
        for leftover in ["data", "run"] {
            let _ = fs::remove_dir_all(directory.join(leftover));
        }
        create(&directory.join("run"));
        let data = directory.join("data");
        run(program("initdb")
            .args(["--no-sync", "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg("--pgdata")
            .arg(&data));
        let port = free_port();
        let sockets = directory.join("run");
        let configuration = format!("{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n{settings}", sockets.display());
        fs::write(data.join("postgresql.auto.conf"), configuration).unwrap();
        let cluster = Self { directory: directory.to_owned(), port, _lock: None };
        cluster.start();
        cluster.psql("postgres", &format!("CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{PASSWORD}'"));
        cluster
    }

    pub(crate) fn start(&self) {
        let log = self.directory.join("data/log");
        run(program("pg_ctl").args(["start", "--wait", "--silent", "--log"]).arg(log).arg("--pgdata").arg(self.directory.join("data")));
    }

    /// Stops it, as `immediate` as kill -9.
    pub(crate) fn stop(&self, mode: &str) {
        run(program("pg_ctl").args(["stop", "--silent", "--mode", mode]).arg("--pgdata").arg(self.directory.join("data")));
    }

    /// Runs a statement as the superuser, and returns what it prints.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=postgres", "--port", &port]);
        run(command.arg("--host").arg(self.directory.join("run")).args(["--dbname", database, "--command", sql]))
    }

    /// Makes an empty database and returns its name.
    pub(crate) fn database(&self) -> String {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"));
        name
    }

    /// The address of a database, through the cluster's socket.
    pub(crate) fn url(&self, database: &str) -> String {
        let sockets = self.directory.join("run").display().to_string().replace('/', "%2F");
        format!("postgres://{OWNER}@{sockets}:{}/{database}", self.port)
    }

    /// The address over TCP at a port, which may be that of something in between.
    pub(crate) fn tcp_url(database: &str, ports: &[u16]) -> String {
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("postgres://{OWNER}:{}@{}/{database}", PASSWORD.replace(' ', "%20").replace(':', "%3A"), hosts.join(","))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        status(&self.directory)
    }

    /// A copy of this cluster in another directory, that receives every commit before it is answered.
    pub(crate) fn standby(&self, directory: &Path) -> Self {
        create(&directory.join("run"));
        let data = directory.join("data");
        run(program("pg_basebackup")
            .args(["--checkpoint=fast", "--write-recovery-conf", "--username=postgres", "--port", &self.port.to_string()])
            .arg("--host")
            .arg(self.directory.join("run"))
            .arg("--pgdata")
            .arg(&data));
        let port = free_port();
        let own = format!("port = {port}\nunix_socket_directories = '{}'\n", directory.join("run").display());
        let configuration = data.join("postgresql.auto.conf");
        fs::write(&configuration, fs::read_to_string(&configuration).unwrap() + &own).unwrap();
        let standby = Self { directory: directory.to_owned(), port, _lock: None };
        standby.start();
        self.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("postgres", "SELECT pg_reload_conf()");
        while self.psql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").trim() != "1" {}
        standby
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        run(program("pg_ctl").args(["promote", "--wait", "--silent", "--pgdata"]).arg(self.directory.join("data")));
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether the shared cluster is there to be used.
fn is_ready(directory: &Path) -> bool {
    directory.join("port").exists() && status(directory)
}

fn status(directory: &Path) -> bool {
    let mut status = program("pg_ctl");
    status.args(["status", "--pgdata"]).arg(directory.join("data")).stdout(Stdio::null()).stderr(Stdio::null());
    status.status().unwrap().success()
}

/// Starts the process that removes the shared cluster.
#[allow(clippy::zombie_processes, reason = "it outlives every process that could wait for it")]
fn bury(directory: &Path) {
    let lock = File::open(directory.join("lock")).unwrap();
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", &format!("exec 9<\"$2/lock\"; {UNDERTAKER}"), "sh"]);
    command.arg(programs().join("pg_ctl")).arg(directory);
    own(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    drop(lock);
}

fn programs() -> PathBuf {
    let versions = fs::read_dir(PROGRAMS).expect("PostgreSQL is installed: apt-get install postgresql");
    let newest = versions
        .map(|version| version.unwrap().path())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0));
    newest.expect("PostgreSQL is installed: apt-get install postgresql").join("bin")
}

/// One of PostgreSQL's programs, as a user it consents to run as: never root.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    own(&mut command);
    command
}

fn own(command: &mut Command) {
    if let Some((user, group)) = postgres() {
        command.uid(user).gid(group).current_dir("/");
    }
}

/// The user of Debian's package, if we are root.
fn postgres() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |option: &str| run(Command::new("id").args([option, "postgres"])).trim().parse().unwrap();
    Some((id("-u"), id("-g")))
}

/// Makes a directory that PostgreSQL may write to.
pub(crate) fn create(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    if let Some((user, group)) = postgres() {
        chown(directory, Some(user), Some(group)).unwrap();
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn run(command: &mut Command) -> String {
    // Its own files, not a pipe: a server that stays would keep it open.
    let output = tempfile::tempfile().unwrap();
    let status = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap()).status().unwrap();
    let mut text = String::new();
    let mut output = output;
    std::io::Seek::rewind(&mut output).unwrap();
    std::io::Read::read_to_string(&mut output, &mut text).unwrap();
    assert!(status.success(), "{command:?}: {text}");
    text
}
