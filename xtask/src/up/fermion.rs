//! The `fermion` command line, as a person would use it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::home::Home;
use crate::process;

/// Namespace of the example.
pub(super) const NAMESPACE: &str = "examples";

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

    /// An object as JSON.
    pub(super) fn object(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.ask(&["get", kind, name, "--output", "json"], "look at it with `fermion -n examples get`")?;
        serde_json::from_str(&text).with_context(|| format!("what `fermion get {kind} {name}` printed is not JSON"))
    }
}
