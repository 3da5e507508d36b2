//! A PostgreSQL on loopback, with its own defaults for durability.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::spawned::free_address;
use crate::process;

/// Where Debian keeps the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Whom Debian made for it: it does not run as root.
const USER: &str = "postgres";

pub(super) struct Postgres {
    folder: PathBuf,
    /// Its address, as the platform takes it.
    pub(super) url: String,
    runs: bool,
}

impl Postgres {
    /// Makes an empty cluster in a folder and starts it.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // The user must get to the folder, and own it.
        let parent = folder.parent().context("a folder in the benchmark's place")?;
        fs::set_permissions(parent, fs::Permissions::from_mode(0o711)).context("cannot open the benchmark's folder")?;
        process::run(Command::new("chown").arg(USER).arg(folder), "apt-get install postgresql")?;
        let port = free_address()?.port();
        let data = folder.join("data");
        run(program("initdb").args(["--username=postgres", "--auth=trust", "--pgdata"]).arg(&data))?;
        let settings = format!("port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\n");
        fs::write(data.join("postgresql.auto.conf"), settings).context("cannot write PostgreSQL's settings")?;
        let mut postgres = Self { folder: folder.to_owned(), url: format!("postgres://postgres@127.0.0.1:{port}/postgres"), runs: false };
        postgres.launch()?;
        Ok(postgres)
    }

    fn launch(&mut self) -> Result<()> {
        let data = self.folder.join("data");
        run(program("pg_ctl").args(["start", "--wait", "--silent", "--log"]).arg(data.join("log")).arg("--pgdata").arg(&data))?;
        self.runs = true;
        Ok(())
    }

    /// Stops it and starts it again on the same data. Says how long the start took.
    pub(super) fn restart(&mut self) -> Result<Duration> {
        self.runs = false;
        run(&mut self.stopping("fast"))?;
        let begun = Instant::now();
        self.launch()?;
        Ok(begun.elapsed())
    }

    /// The server process and those that serve its clients.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        let file = self.folder.join("data/postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let first: u32 = text.lines().next().and_then(|line| line.parse().ok()).context("postmaster.pid begins with a number")?;
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).context("PostgreSQL has ended")?;
        Ok(std::iter::once(first).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect())
    }

    pub(super) fn stop(mut self) -> Result<()> {
        self.runs = false;
        run(&mut self.stopping("fast"))
    }

    fn stopping(&self, mode: &str) -> Command {
        let mut command = program("pg_ctl");
        command.args(["stop", "--silent", "--mode", mode, "--pgdata"]).arg(self.folder.join("data"));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Something failed before: that is what is told, unless this fails too.
        if self.runs
            && let Err(error) = run(&mut self.stopping("immediate"))
        {
            crate::console::error(&error);
        }
    }
}

fn program(name: &str) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", USER, "--"]).arg(Path::new(PROGRAMS).join(name)).current_dir("/");
    command
}

fn run(command: &mut Command) -> Result<()> {
    process::run(command, "what PostgreSQL says stands above; its log is in the benchmark's folder").map(drop)
}
