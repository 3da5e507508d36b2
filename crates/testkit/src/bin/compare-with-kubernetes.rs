//! Runs the clients' scripts against a real Kubernetes, and compares what it answers with what is
//! written down, or writes it down. `cargo xtask compare` builds Kubernetes and starts this.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use fermion_testkit::{Kubernetes, Suite, Whose};

const USAGE: &str = "compare-with-kubernetes BINARIES SCRIPTS [--record] [NAME]: use `cargo xtask compare`";

fn main() -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let record = arguments.iter().any(|argument| argument == "--record");
    arguments.retain(|argument| argument != "--record");
    let [binaries, scripts, filter @ ..] = arguments.as_slice() else { anyhow::bail!(USAGE) };
    let comparable = |suite: &Suite| !suite.is_own() && !suite.runs_containers();
    let wanted = |suite: &Suite| comparable(suite) && filter.iter().all(|filter| suite.full_name().contains(filter.as_str()));
    let suites: Vec<Suite> = Suite::all(Path::new(scripts))?.into_iter().filter(wanted).collect();
    anyhow::ensure!(!suites.is_empty(), "no script is called so");
    let kubernetes = Kubernetes::start(Path::new(binaries))?;
    let mut out = std::io::stdout().lock();
    let mut failed = 0;
    for suite in &suites {
        let outcome = suite
            .run(&kubernetes.kubeconfig(), kubernetes.server())
            .and_then(|printed| if record { suite.accept(Whose::Kubernetes, &printed) } else { suite.check(Whose::Kubernetes, &printed) });
        match outcome {
            Ok(()) if record => writeln!(out, "{}: written down", suite.full_name()),
            Ok(()) => writeln!(out, "{}: answers as written down", suite.full_name()),
            Err(error) => {
                failed += 1;
                writeln!(out, "{error:#}")
            }
        }
        .context("cannot write to standard output")?;
    }
    writeln!(out, "{} passed, {failed} failed", suites.len() - failed).context("cannot write to standard output")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
