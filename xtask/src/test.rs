//! `cargo xtask test`: installs what the tests need, then runs them all.

use std::process::Command;

use anyhow::Result;

use crate::clients::Clients;
use crate::console::Console;
use crate::{packages, process, tools, workspace};

/// Tells the tests which kubectl to drive.
const KUBECTL_VARIABLE: &str = "FERMION_KUBECTL";

/// The crate that Rust programs use, whose documentation is run.
const CLIENT: &str = "fermion-client";

#[derive(Debug, clap::Args)]
pub(crate) struct TestArguments {
    /// Only tests whose names contain this
    filter: Option<String>,
}

pub(crate) fn run(arguments: TestArguments) -> Result<()> {
    let console = Console::new();
    if arguments.filter.is_none() {
        console.timed("examples in the documentation of the Rust client", examples)?;
    }
    run_with(&console, arguments.filter.as_deref())
}

/// The examples that people copy. nextest runs no tests in documentation.
fn examples() -> Result<()> {
    process::run(
        workspace::cargo("test").args(["--doc", "--quiet", "--package", CLIENT]),
        "an example does not work as it stands; `cargo test --doc -p fermion-client` runs them alone",
    )
    .map(drop)
}

/// Runs the tests; the runner's own summary comes last.
pub(crate) fn run_with(console: &Console, filter: Option<&str>) -> Result<()> {
    packages::install(console, &packages::TO_RUN)?;
    packages::install(console, &packages::TO_TEST)?;
    let kubectl = tools::kubectl(console)?;
    console.step(&format!("kubectl: {}", kubectl.display()));
    let clients = Clients::install(console)?;
    let mut runner = runner(filter);
    // cargo looks for its subcommands there.
    runner.env("PATH", tools::path_with(&tools::nextest(console)?)?);
    runner.env(KUBECTL_VARIABLE, kubectl);
    clients.announce(&mut runner);
    process::show(&mut runner, "the failed tests are listed above; `cargo xtask test NAME` runs one alone")
}

/// nextest, each test in a process of its own, bounded by .config/nextest.toml.
fn runner(filter: Option<&str>) -> Command {
    let mut command = workspace::cargo("nextest");
    command.args(["run", "--workspace", "--no-fail-fast"]).args(filter);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> String {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_runner_takes_a_filter() {
        assert_eq!(words(&runner(Some("quota"))), "nextest run --workspace --no-fail-fast quota");
        assert_eq!(words(&runner(None)), "nextest run --workspace --no-fail-fast");
    }
}
