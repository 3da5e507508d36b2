//! The platform under measurement, in a home of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::spawned::{Spawned, free_address};
use crate::process;

/// How long the node may take until it takes pods: containerd starts first.
const NODE_WAIT: Duration = Duration::from_mins(2);
/// How often is looked whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the first container may take: its image may have to be built, in seconds.
const WARM_UP_SECONDS: &str = "1200";

/// Whether the platform runs pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    None,
    Local,
}

pub(super) struct Platform {
    binary: PathBuf,
    home: PathBuf,
    node: Node,
    /// Address of the PostgreSQL that holds everything; SQLite in the home if there is none.
    database: Option<String>,
    process: Option<Spawned>,
    pub(super) address: SocketAddr,
    pub(super) ready_after: Duration,
    /// Whether a tear-down is still to be done.
    standing: bool,
}

impl Platform {
    /// Starts a server in a new home and waits until it, and its node, are ready.
    pub(super) fn start(binary: &Path, home: &Path, node: Node) -> Result<Self> {
        Self::start_on(binary, home, node, None)
    }

    /// The same, with everything in a PostgreSQL.
    pub(super) fn start_on(binary: &Path, home: &Path, node: Node, database: Option<String>) -> Result<Self> {
        std::fs::create_dir(home).with_context(|| format!("cannot create {}", home.display()))?;
        let mut platform = Self {
            binary: binary.to_owned(),
            home: home.to_owned(),
            node,
            database,
            process: None,
            address: free_address()?,
            ready_after: Duration::ZERO,
            standing: node == Node::Local,
        };
        platform.launch()?;
        platform.wait_for_node()?;
        Ok(platform)
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("server").arg("--home").arg(&self.home).args(["--listen", &self.address.to_string()]);
        command.arg("--announce").arg(self.home.join("announcement")).current_dir("/");
        if self.node == Node::None {
            command.arg("--no-node");
        }
        if let Some(database) = &self.database {
            command.env("FERMION_DATABASE", database);
        }
        let mut process = Spawned::start(&mut command, &self.home.join("server.log"))?;
        self.ready_after = process.wait_until_ok(self.address, "/readyz").context("the server is not ready")?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops the server and starts it again on the same data.
    pub(super) fn restart(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.stop()?;
        }
        self.launch()
    }

    pub(super) fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Spawned::pid).context("the server runs")
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    pub(super) fn containerd(&self) -> PathBuf {
        self.home.join("run/containerd.sock")
    }

    /// A program that acts on this platform, whatever the person's own settings say.
    fn command(program: &Path) -> Command {
        let mut command = Command::new(program);
        for variable in ["FERMION_SERVER", "FERMION_TOKEN", "FERMION_NAMESPACE"] {
            command.env_remove(variable);
        }
        command
    }

    /// Waits until the node says that it is ready.
    pub(super) fn wait_for_node(&self) -> Result<()> {
        if self.node == Node::None {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let mut command = Self::command(&self.binary);
            command.arg("--home").arg(&self.home).args(["get", "nodes", "--output", "json"]);
            let nodes: Value = serde_json::from_str(&process::run(&mut command, "is the server well?")?.stdout).context("not JSON")?;
            if is_ready(&nodes) {
                return Ok(());
            }
            if begun.elapsed() > NODE_WAIT {
                bail!("the node is not ready after {} s; see {}", NODE_WAIT.as_secs(), self.home.join("server.log").display());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Runs one container of the image to its end, so that the image is there.
    pub(super) fn warm_up(&self, image: &str) -> Result<()> {
        let mut command = Self::command(Path::new("timeout"));
        command.arg(WARM_UP_SECONDS).arg(&self.binary).arg("--home").arg(&self.home);
        command.args(["run", "--rm", "--cpu", "100m", "--memory", "64Mi", "--image", image, "--", "true"]);
        process::run(&mut command, "the first container did not run to its end").map(drop)
    }

    /// Stops the server and takes everything of it away.
    pub(super) fn remove(mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.stop()?;
        }
        if std::mem::take(&mut self.standing) {
            process::run(&mut self.teardown(), "what it names above may need a hand")?;
        }
        Ok(())
    }

    fn teardown(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["teardown", "--purge", "--home"]).arg(&self.home);
        command
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // Something failed before: that is what is told, unless this fails too.
        drop(self.process.take());
        if self.standing
            && let Err(error) = process::run(&mut self.teardown(), "what it names above may need a hand")
        {
            crate::console::error(&error);
        }
    }
}

fn is_ready(nodes: &Value) -> bool {
    let conditions = nodes["items"].as_array().into_iter().flatten().filter_map(|node| node["status"]["conditions"].as_array()).flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ready_when_it_says_so() {
        let nodes = |status: &str| json!({"items": [{"status": {"conditions": [{"type": "Ready", "status": status}]}}]});
        assert!(is_ready(&nodes("True")));
        assert!(!is_ready(&nodes("False")));
        assert!(!is_ready(&json!({"items": [{}]})));
        assert!(!is_ready(&json!({"items": []})));
    }
}
