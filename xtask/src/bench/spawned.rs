//! A process that a benchmark started, and that ends with it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::server;

/// How long it may take until it answers.
const READY_WAIT: Duration = Duration::from_mins(1);
/// How long it may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How often is looked whether it answers, or stopped. Short, since starts are measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Last lines of its output that are shown when it fails.
const LOG_LINES: usize = 20;

pub(super) struct Spawned {
    child: Child,
    log: PathBuf,
    begun: Instant,
}

impl Spawned {
    /// Starts it, with its output in a file.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log).with_context(|| format!("cannot open {}", log.display()))?;
        let errors = file.try_clone().context("cannot share a log file")?;
        let program = command.get_program().to_string_lossy().into_owned();
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child, log: log.to_owned(), begun })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers 200 at a path, and says how long after its start that was.
    pub(super) fn wait_until_ok(&mut self, address: SocketAddr, path: &str) -> Result<Duration> {
        loop {
            if server::answers_ok(address, path) {
                return Ok(self.begun.elapsed());
            }
            if let Some(ended) = self.child.try_wait().context("cannot wait for a process")? {
                bail!("it ended with {ended}; its last lines:\n{}", self.last_lines());
            }
            if self.begun.elapsed() > READY_WAIT {
                bail!("it does not answer after {} s; its last lines:\n{}", READY_WAIT.as_secs(), self.last_lines());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Stops it.
    pub(super) fn stop(mut self) -> Result<()> {
        self.ask_to_stop()
    }

    /// Asks it to stop and waits until it has.
    pub(super) fn ask_to_stop(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("cannot signal a process")?;
        let begun = Instant::now();
        while self.child.try_wait().context("cannot wait for a process")?.is_none() {
            if begun.elapsed() > STOP_WAIT {
                bail!("process {} did not stop within {} s", self.child.id(), STOP_WAIT.as_secs());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // It has ended already, or ends now; there is nobody to tell.
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A loopback port that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port is free")?;
    listener.local_addr().context("a listener has an address")
}
