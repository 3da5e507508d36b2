//! etcd on loopback, with its own defaults for durability.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::spawned::{Spawned, free_address};

/// The largest database that etcd's authors recommend; by itself it takes 2 GB.
const QUOTA_BYTES: &str = "8589934592";

/// An etcd of one member.
pub(super) struct Etcd {
    folder: PathBuf,
    process: Spawned,
    pub(super) address: SocketAddr,
    pub(super) ready_after: Duration,
}

impl Etcd {
    /// Starts it on the data in a folder, if there is any, and waits until it is healthy.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[])
    }

    /// The same, with room for a million objects and their history.
    pub(super) fn start_with_room(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &["--quota-backend-bytes", QUOTA_BYTES])
    }

    fn start_with(folder: &Path, options: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let (address, peers) = (free_address()?, free_address()?);
        let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peers}"));
        let mut command = Command::new("etcd");
        command
            .args(["--name", "bench", "--log-level", "warn", "--logger", "zap"])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("bench={peer_url}")])
            .args(options);
        let mut process = Spawned::start(&mut command, &folder.join("log"))?;
        let ready_after = process.wait_until_ok(address, "/health").context("etcd is not healthy")?;
        Ok(Self { folder: folder.to_owned(), process, address, ready_after })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Stops it, for a restart by whoever has it.
    pub(super) fn ask_to_stop(&mut self) -> Result<()> {
        self.process.ask_to_stop()
    }

    pub(super) fn stop(self) -> Result<()> {
        self.process.stop()
    }

    /// Stops it and starts it again on the same data.
    pub(super) fn restart(self) -> Result<Self> {
        self.process.stop()?;
        Self::start(&self.folder)
    }
}
