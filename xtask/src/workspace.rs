//! Where the source tree and what is built from it are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Result;

use crate::console::Console;
use crate::process;

/// Beginnings of the variables by which cargo tells a program about its own package.
const OF_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The root of the source tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands in the workspace's root")
}

/// Where builds go instead of where cargo would put them.
static TARGET: OnceLock<PathBuf> = OnceLock::new();

/// Builds into another directory from now on; the first call holds.
pub(crate) fn use_target(target: PathBuf) {
    TARGET.get_or_init(|| target);
}

/// Cargo, on this workspace.
pub(crate) fn cargo(subcommand: &str) -> Command {
    // Cargo tells the programs it runs which cargo it is.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg(subcommand);
    // And which package they are of. Some build scripts depend on that, and would build everything
    // anew that a cargo without it has built, and the other way round.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OF_THIS_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    if let Some(target) = TARGET.get() {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

/// Where cargo builds into.
pub(crate) fn target() -> PathBuf {
    if let Some(target) = TARGET.get() {
        return target.clone();
    }
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |target| root().join(target))
}

/// Builds the `fermion` binary and says where it is.
pub(crate) fn build_fermion(console: &Console) -> Result<PathBuf> {
    console.timed("cargo build --bin fermion", || {
        process::run(
            cargo("build").args(["--package", "fermion-cli", "--bin", "fermion"]),
            "a compiler error is shown above; `cargo build --package fermion-cli` shows all of it",
        )
    })?;
    Ok(target().join("debug/fermion"))
}
