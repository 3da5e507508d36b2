//! The scheduler's experiments: programs of crates/sim, which need no platform and no peer.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::console::Console;
use crate::{process, workspace};

/// Where each experiment's figures are kept.
const FIGURES: &str = "docs/benchmarks";
/// The program that makes them.
const PROGRAM: &str = "fermion-experiments";

/// Runs one experiment, with its progress and its tables on the terminal.
pub(super) fn run(console: &Console, experiment: &str, json: bool, build: bool) -> Result<()> {
    if build {
        console.timed("cargo build --release --package fermion-sim", || {
            process::run(
                workspace::cargo("build").args(["--release", "--package", "fermion-sim"]),
                "a compiler error is shown above; `cargo build --release --package fermion-sim` shows all of it",
            )
        })?;
    }
    let mut command = std::process::Command::new(workspace::target().join("release").join(PROGRAM));
    command.current_dir(workspace::root()).arg(experiment).args([Path::new("--csv"), Path::new(FIGURES)]);
    if json {
        command.arg("--json");
    }
    console.step(&format!("experiment {experiment}; the figures of each run go to {FIGURES}"));
    let status = command.status().with_context(|| format!("cannot start {PROGRAM}: run it without --no-build"))?;
    ensure!(status.success(), "the experiment {experiment} failed, for the reason above");
    Ok(())
}
