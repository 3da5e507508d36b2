//! etcd on loopback, with its own defaults for durability.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::spawned::{Spawned, free_address};

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
            .args(["--initial-cluster", &format!("bench={peer_url}")]);
        let mut process = Spawned::start(&mut command, &folder.join("log"))?;
        let ready_after = process.wait_until_ok(address, "/health").context("etcd is not healthy")?;
        Ok(Self { folder: folder.to_owned(), process, address, ready_after })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
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
