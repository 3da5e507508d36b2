//! The `fermion` command line, as a person would use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::home::Home;
use crate::process;

/// Namespace of the example.
pub(super) const NAMESPACE: &str = "examples";

/// How long containerd and the node may take to start; a busy machine needs some seconds.
const NODE_STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The command line of one platform.
pub(super) struct Fermion {
    binary: PathBuf,
    home: PathBuf,
}

impl Fermion {
    pub(super) fn new(binary: &Path, home: &Home) -> Self {
        Self { binary: binary.to_owned(), home: home.path().to_owned() }
    }

    /// A command in the example's namespace, on this platform whatever the person's own
    /// settings say.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--home").arg(&self.home).args(["--namespace", NAMESPACE]).args(arguments);
        for variable in ["FERMION_SERVER", "FERMION_TOKEN", "FERMION_NAMESPACE"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs it quietly and hands back what it answered.
    pub(super) fn ask(&self, arguments: &[&str], advice: &str) -> Result<String> {
        Ok(process::run(&mut self.command(arguments), advice)?.stdout)
    }

    /// Runs it with its output shown.
    pub(super) fn show(&self, arguments: &[&str], advice: &str) -> Result<()> {
        process::show(&mut self.command(arguments), advice)
    }

    /// Runs it with something to read.
    pub(super) fn tell(&self, arguments: &[&str], input: &str, advice: &str) -> Result<String> {
        Ok(process::run_with_input(&mut self.command(arguments), input, advice)?.stdout)
    }

    /// Waits until this machine can run pods; what keeps it from that stands in its Node.
    pub(super) fn wait_for_node(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let missing = "the server's log says more; `cargo xtask up` carries on once that is mended";
            let nodes = self.ask(&["get", "nodes", "--output", "json"], missing)?;
            let nodes: Value = serde_json::from_str(&nodes).context("what `fermion get nodes` printed is not JSON")?;
            let conditions = nodes["items"].as_array().into_iter().flatten().filter_map(|node| node["status"]["conditions"].as_array());
            let ready = conditions.flatten().find(|condition| condition["type"] == "Ready");
            match ready.map(|condition| (condition["status"] == "True", condition["message"].as_str().unwrap_or_default())) {
                Some((true, _)) => return Ok(()),
                Some((false, trouble)) if begun.elapsed() > NODE_STARTS_WITHIN => {
                    bail!("this machine cannot run pods: {trouble}\n  {missing}")
                }
                None if begun.elapsed() > NODE_STARTS_WITHIN => bail!("this machine did not become a node\n  {missing}"),
                _ => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// An object as JSON.
    pub(super) fn object(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.ask(&["get", kind, name, "--output", "json"], "look at it with `fermion -n examples get`")?;
        serde_json::from_str(&text).with_context(|| format!("what `fermion get {kind} {name}` printed is not JSON"))
    }
}
