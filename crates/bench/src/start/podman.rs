//! `podman run`, with the settings that the caller put into the environment
//! (`CONTAINERS_CONF`, `CONTAINERS_STORAGE_CONF`).

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{COMMAND, STEP_TIMEOUT};

pub(super) struct Podman {
    image: String,
}

impl Podman {
    pub(super) fn new(image: &str) -> Self {
        Self { image: image.to_owned() }
    }

    /// Starts a container, says how long that took, and removes it.
    pub(super) async fn start_and_remove(&self, name: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut run = vec!["run", "--detach", "--pull", "never", "--name", name, &self.image];
        run.extend(COMMAND);
        podman(&run).await?;
        let taken = begun.elapsed();
        podman(&["rm", "--force", "--time", "0", name]).await?;
        Ok(taken)
    }
}

async fn podman(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("podman");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(STEP_TIMEOUT, command.output())
        .await
        .with_context(|| format!("podman {} took longer than {} s", arguments[0], STEP_TIMEOUT.as_secs()))?
        .context("cannot start podman: apt-get install podman")?;
    if !output.status.success() {
        bail!("podman {} ended with {}: {}", arguments.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
