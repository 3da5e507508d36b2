//! Where the platform keeps its files, and which of them the chores use.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// `FERMION_HOME`.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// The given directory, else `~/.fermion`.
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self> {
        let path = given
            .filter(|path| !path.as_os_str().is_empty())
            .or_else(|| std::env::home_dir().map(|home| home.join(".fermion")))
            .context("neither FERMION_HOME nor HOME is set: say with --home where to keep everything")?;
        Ok(Self(std::path::absolute(&path).with_context(|| format!("cannot make {} absolute", path.display()))?))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is where everything looks for it unasked.
    pub(crate) fn is_default(&self) -> bool {
        std::env::home_dir().is_some_and(|home| home.join(".fermion") == self.0)
    }

    /// What the server prints.
    pub(crate) fn server_log(&self) -> PathBuf {
        self.0.join("log/server.log")
    }

    /// The process that `up` started.
    pub(crate) fn server_pid(&self) -> PathBuf {
        self.0.join("server.pid")
    }

    /// Where the server leaves the first administrator's password for `up` to pass on.
    pub(crate) fn announcement(&self) -> PathBuf {
        self.0.join("announcement")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// Makes the directories that must be there before the server starts.
    pub(crate) fn create(&self) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.0.join("log"))
            .with_context(|| format!("cannot create {}: is the directory above writable?", self.0.display()))
    }
}
