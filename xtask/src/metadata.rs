//! What cargo knows of the packages we stand on.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{process, workspace};

/// The platform we build for; packages for others are not ours to judge.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// `cargo metadata`, as far as the checks read it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    resolve: Option<Resolve>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) license_file: Option<String>,
    /// `None` for a package of this workspace.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) manifest_path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
struct Node {
    id: String,
}

/// Asks cargo.
pub(crate) fn read() -> Result<Metadata> {
    let output = process::run(
        workspace::cargo("metadata").args(["--format-version", "1", "--locked", "--filter-platform", PLATFORM]),
        "`cargo build` brings Cargo.lock up to date; commit it",
    )?;
    serde_json::from_str(&output.stdout).context("cannot read what `cargo metadata` printed")
}

impl Metadata {
    /// Packages of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Packages of others that are built on our platform.
    pub(crate) fn others(&self) -> Vec<&Package> {
        let used =
            self.resolve.as_ref().map(|resolve| resolve.nodes.iter().map(|node| node.id.as_str()).collect::<Vec<_>>()).unwrap_or_default();
        self.packages.iter().filter(|package| package.source.is_some() && used.contains(&package.id.as_str())).collect()
    }

    /// Names that are there in more than one version.
    pub(crate) fn duplicates(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in self.others() {
            versions.entry(&package.name).or_default().push(&package.version);
        }
        versions.retain(|_, versions| versions.len() > 1);
        versions
    }
}
