//! A PostgreSQL on loopback, with its own defaults for durability.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        run(program("pg_ctl").args(["start", "--wait", "--silent", "--log"]).arg(data.join("log")).arg("--pgdata").arg(&data))?;
        Ok(Self { folder: folder.to_owned(), url: format!("postgres://postgres@127.0.0.1:{port}/postgres"), runs: true })
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
