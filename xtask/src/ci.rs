//! `cargo xtask ci`: everything a change must pass, the same here as on the build server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::console::{self, Console};
use crate::{history, licences, metadata, packages, process, test, tidy, tools, workspace};

/// One check: its name and what it does.
type Step = (&'static str, fn(&Console) -> Result<()>);

/// Cheap ones first, so that a slip is told soon.
const STEPS: [Step; 8] = [
    ("format", format),
    ("tidy", |_| tidy::run()),
    ("licences", |_| licences::run(&metadata::read()?)),
    ("lints", lints),
    ("build", build),
    ("examples in documentation", doc_tests),
    // By itself: tests beside it would take its turns.
    ("history of the stores", history::run_all),
    // Last, so that the runner's own summary closes the output.
    ("tests", tests),
];

pub(crate) fn run() -> Result<()> {
    let console = Console::new();
    keep_builds()?;
    let mut took: Vec<(&str, Duration)> = Vec::new();
    for (index, (name, step)) in STEPS.into_iter().enumerate() {
        let begun = Instant::now();
        if index + 1 == STEPS.len() {
            console::heading("ci")?;
            for (name, time) in &took {
                console::answer(&format!("{name:<26} {:>7.1} s", time.as_secs_f64()))?;
            }
        }
        console.step(name);
        step(&console).with_context(|| format!("the step `{name}` failed"))?;
        took.push((name, begun.elapsed()));
    }
    Ok(())
}

/// On a build server, what is built is kept outside the clone, which is new each time.
fn keep_builds() -> Result<()> {
    let on_server = std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1");
    if on_server && std::env::var_os("CARGO_TARGET_DIR").is_none() {
        workspace::use_target(tools::cache()?.join("target"));
    }
    Ok(())
}

fn format(_: &Console) -> Result<()> {
    process::run(workspace::cargo("fmt").args(["--all", "--check"]), "cargo fmt --all").map(drop)
}

fn lints(console: &Console) -> Result<()> {
    packages::install(console, &packages::TO_RUN)?;
    let mut clippy = workspace::cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]);
    process::run(&mut clippy, "cargo clippy --workspace --all-targets").map(drop)
}

fn build(_: &Console) -> Result<()> {
    process::run(workspace::cargo("build").args(["--workspace", "--all-targets"]), "cargo build --workspace --all-targets").map(drop)
}

fn doc_tests(_: &Console) -> Result<()> {
    process::run(workspace::cargo("test").args(["--workspace", "--doc", "--quiet"]), "cargo test --workspace --doc").map(drop)
}

fn tests(console: &Console) -> Result<()> {
    test::run_with(console, None)
}
