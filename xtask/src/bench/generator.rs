//! The load generator, crates/bench, as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::etcd::Etcd;
use super::kubernetes::Kubernetes;
use super::platform::Platform;
use super::podman::Podman;
use super::table::Row;
use crate::process;

pub(super) struct Generator<'a> {
    program: PathBuf,
    platform: &'a Platform,
}

impl<'a> Generator<'a> {
    pub(super) fn new(program: &Path, platform: &'a Platform) -> Self {
        Self { program: program.to_owned(), platform }
    }

    fn command(&self, benchmark: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(benchmark).args(["--platform", &self.platform.address.to_string()]);
        command.arg("--kubeconfig").arg(self.platform.kubeconfig());
        command
    }

    pub(super) fn beside_etcd(&self, etcd: &Etcd) -> Result<Vec<Row>> {
        measure(self.command("etcd").args(["--etcd", &etcd.address.to_string()]))
    }

    /// Gives platform and etcd the same objects.
    pub(super) fn fill(&self, etcd: &Etcd) -> Result<()> {
        measure::<Row>(self.command("fill").args(["--etcd", &etcd.address.to_string()])).map(drop)
    }

    /// The platform, the same on PostgreSQL, and kube-apiserver under load.
    pub(super) fn beside_kubernetes(&self, postgres: &Platform, peer: &Kubernetes) -> Result<Vec<Row>> {
        measure(&mut self.among_three(postgres, peer))
    }

    /// Gives all three so many objects.
    pub(super) fn fill_beside_kubernetes(&self, postgres: &Platform, peer: &Kubernetes, objects: usize) -> Result<()> {
        measure::<Row>(self.among_three(postgres, peer).args(["--fill", &objects.to_string()])).map(drop)
    }

    fn among_three(&self, postgres: &Platform, peer: &Kubernetes) -> Command {
        let mut command = self.command("api");
        command.args(["--postgres", &postgres.address.to_string()]);
        command.arg("--postgres-kubeconfig").arg(postgres.kubeconfig());
        peer.arguments(&mut command);
        command
    }

    pub(super) fn start(&self, podman: &Podman, image: &str) -> Result<Vec<Row>> {
        let mut command = self.command("start");
        command.arg("--containerd").arg(self.platform.containerd());
        command.arg("--logs").arg(self.platform.home().join("logs/bare"));
        command.args(["--image", image]).envs(podman.environment());
        measure(&mut command)
    }
}

/// Runs the load generator and reads the figures that it prints.
pub(super) fn measure<F: DeserializeOwned>(command: &mut Command) -> Result<Vec<F>> {
    let output = process::run(command, "what failed is told above; is the machine very busy?")?;
    serde_json::from_str(&output.stdout).context("the load generator printed no figures")
}
