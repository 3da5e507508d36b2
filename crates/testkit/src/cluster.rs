//! A PostgreSQL of the tests' own.
//!
//! Tests run in many processes, and a cluster takes seconds to make. So the first that needs one makes
//! it, all share it with a database each, and a process beside them removes it a moment after the last
//! one has ended, however that ended: every user holds a lock on a file, which the kernel takes back.
//!
//! What fails here panics with what PostgreSQL said: without the database there is nothing to test.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Where Debian keeps PostgreSQL's programs, by version.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// What to do where it is missing.
const INSTALL: &str = "PostgreSQL is installed: `cargo xtask test` does so, or apt-get install postgresql";
/// Who owns the databases, and how they sign in over TCP.
const OWNER: &str = "fermion";
const PASSWORD: &str = "not a secret: gone with the test";

/// The settings of a cluster. Nothing is flushed to the disk: processes are killed here, but no test cuts
/// the power, and all would wait for a disk that builds and other tests use too.
const SETTINGS: &str = "\
    fsync = off\n\
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
pub struct Cluster {
    directory: PathBuf,
    port: u16,
    _lock: Option<File>,
}

impl Cluster {
    /// The cluster that all tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let directory = std::env::temp_dir().join("fermion-test-postgres");
            create_for_postgres(&directory);
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock")).expect("a file to lock");
            loop {
                // As long as anybody holds this, the cluster stays.
                lock.lock_shared().expect("a lock");
                if is_ready(&directory) {
                    let port = fs::read_to_string(directory.join("port")).expect("the port is written down").parse().expect("a number");
                    return Self { directory, port, _lock: Some(lock) };
                }
                lock.unlock().expect("a lock");
                // One at a time makes it, when nobody uses it.
                lock.lock().expect("a lock");
                if !is_ready(&directory) {
                    let cluster = Self::make(&directory, "");
                    fs::write(directory.join("port"), cluster.port.to_string()).expect("a file for the port");
                    bury(&directory);
                }
                lock.unlock().expect("a lock");
            }
        })
    }

    /// Makes and starts a cluster in a directory, which [`create_for_postgres`] made.
    pub fn make(directory: &Path, settings: &str) -> Self {
        for leftover in ["data", "run"] {
            // Mostly there is none.
            let _ = fs::remove_dir_all(directory.join(leftover));
        }
        create_for_postgres(&directory.join("run"));
        let data = directory.join("data");
        run(postgres_program("initdb")
            .args(["--no-sync", "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg("--pgdata")
            .arg(&data));
        let port = free_port();
        let sockets = directory.join("run");
        let configuration = format!("{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n{settings}", sockets.display());
        fs::write(data.join("postgresql.auto.conf"), configuration).expect("the configuration is written");
        let cluster = Self { directory: directory.to_owned(), port, _lock: None };
        cluster.start();
        cluster.psql("postgres", &format!("CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{PASSWORD}'"));
        cluster
    }

    /// Starts it again, and waits until it answers.
    pub fn start(&self) {
        let log = self.directory.join("data/log");
        run(postgres_program("pg_ctl").args(["start", "--wait", "--silent", "--log"]).arg(log).arg("--pgdata").arg(self.data()));
    }

    /// Stops it, as `immediate` as kill -9.
    pub fn stop(&self, mode: &str) {
        run(postgres_program("pg_ctl").args(["stop", "--silent", "--mode", mode]).arg("--pgdata").arg(self.data()));
    }

    /// Runs a statement as the superuser, and returns what it prints.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        run(self.psql_command(database).args(["--command", sql]))
    }

    /// `psql` as the superuser, ready for what it is to do.
    pub fn psql_command(&self, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=postgres", "--dbname", database]);
        command.args(["--set", "ON_ERROR_STOP=1", "--port", &self.port.to_string(), "--host"]).arg(self.directory.join("run"));
        command
    }

    /// Makes an empty database and returns its name. It goes with the cluster: dropping one waits for a
    /// checkpoint of all of them.
    pub fn database(&self) -> String {
        self.database_with("")
    }

    /// The same, with more said to `CREATE DATABASE`.
    pub fn database_with(&self, options: &str) -> String {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER} {options}"));
        name
    }

    /// The address of a database, through the cluster's socket.
    pub fn url(&self, database: &str) -> String {
        let sockets = self.directory.join("run").display().to_string().replace('/', "%2F");
        format!("postgres://{OWNER}@{sockets}:{}/{database}", self.port)
    }

    /// The address over TCP at a port, which may be that of something in between.
    pub fn tcp_url(database: &str, ports: &[u16]) -> String {
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("postgres://{OWNER}:{}@{}/{database}", PASSWORD.replace(' ', "%20").replace(':', "%3A"), hosts.join(","))
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        status(&self.directory)
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.data().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A copy of this cluster in another directory, that receives every commit before it is answered.
    #[must_use]
    pub fn standby(&self, directory: &Path) -> Self {
        create_for_postgres(&directory.join("run"));
        let data = directory.join("data");
        run(postgres_program("pg_basebackup")
            .args(["--checkpoint=fast", "--write-recovery-conf", "--username=postgres", "--port", &self.port.to_string()])
            .arg("--host")
            .arg(self.directory.join("run"))
            .arg("--pgdata")
            .arg(&data));
        let port = free_port();
        let own = format!("port = {port}\nunix_socket_directories = '{}'\n", directory.join("run").display());
        let configuration = data.join("postgresql.auto.conf");
        let copied = fs::read_to_string(&configuration).expect("the primary's configuration");
        fs::write(&configuration, copied + &own).expect("the configuration is written");
        let standby = Self { directory: directory.to_owned(), port, _lock: None };
        standby.start();
        self.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("postgres", "SELECT pg_reload_conf()");
        while self.psql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").trim() != "1" {}
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        run(postgres_program("pg_ctl").args(["promote", "--wait", "--silent", "--pgdata"]).arg(self.data()));
    }
}

/// A cluster of a test's own, in a directory of its own: to be stopped, filled and replaced.
pub struct OwnCluster {
    cluster: Cluster,
    // After the cluster, which is stopped first.
    _directory: Option<TempDir>,
}

impl OwnCluster {
    /// Makes and starts one.
    pub fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        create_for_postgres(directory.path());
        Self { cluster: Cluster::make(directory.path(), settings), _directory: Some(directory) }
    }

    /// Makes and starts one in a directory that somebody else removes.
    pub fn within(directory: &Path, settings: &str) -> Self {
        create_for_postgres(directory);
        Self { cluster: Cluster::make(directory, settings), _directory: None }
    }

    /// Starts a standby of another one.
    pub fn standby_of(primary: &Cluster) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        create_for_postgres(directory.path());
        Self { cluster: primary.standby(directory.path()), _directory: Some(directory) }
    }
}

impl std::ops::Deref for OwnCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if self.cluster.runs() {
            self.cluster.stop("immediate");
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("its address").port()
}

/// Whether the shared cluster is there to be used.
fn is_ready(directory: &Path) -> bool {
    directory.join("port").exists() && status(directory)
}

fn status(directory: &Path) -> bool {
    let mut status = postgres_program("pg_ctl");
    status.args(["status", "--pgdata"]).arg(directory.join("data")).stdout(Stdio::null()).stderr(Stdio::null());
    status.status().expect("pg_ctl starts").success()
}

/// Starts the process that removes the shared cluster.
#[allow(clippy::zombie_processes, reason = "it outlives every process that could wait for it")]
fn bury(directory: &Path) {
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", &format!("exec 9<\"$2/lock\"; {UNDERTAKER}"), "sh"]);
    command.arg(programs().join("pg_ctl")).arg(directory);
    own(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("setsid starts");
}

fn programs() -> PathBuf {
    let versions = fs::read_dir(PROGRAMS).expect(INSTALL);
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    versions.filter_map(|version| Some(version.ok()?.path())).max_by_key(number).expect(INSTALL).join("bin")
}

/// One of PostgreSQL's programs, as a user it consents to run as: never root.
fn postgres_program(name: &str) -> Command {
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
    let id = |option: &str| run(Command::new("id").args([option, "postgres"])).trim().parse().expect("a number");
    Some((id("-u"), id("-g")))
}

/// Makes a directory that PostgreSQL may write to.
pub fn create_for_postgres(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory for PostgreSQL");
    give_to_postgres(directory, 0o755);
}

/// Makes a file or directory PostgreSQL's, with permissions.
pub fn give_to_postgres(path: &Path, mode: u32) {
    if let Some((user, group)) = postgres() {
        chown(path, Some(user), Some(group)).expect("it can be given away");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its permissions can be set");
}

fn run(command: &mut Command) -> String {
    // Its own files, not a pipe: a server that stays would keep it open.
    let mut output = tempfile::tempfile().expect("a temporary file");
    let files = || output.try_clone().expect("a descriptor");
    let status = command.stdin(Stdio::null()).stdout(files()).stderr(files()).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let mut text = String::new();
    std::io::Seek::rewind(&mut output).and_then(|()| std::io::Read::read_to_string(&mut output, &mut text)).expect("what it printed");
    assert!(status.success(), "{command:?}: {text}");
    text
}
