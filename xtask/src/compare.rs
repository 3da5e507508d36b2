//! `cargo xtask compare`: the clients' scripts against a real Kubernetes.
//!
//! What kube-apiserver with etcd answers is written down in the tree, and `cargo xtask test`
//! compares the platform with that, on every machine and without a Kubernetes. This chore holds
//! what is written down against the real thing, and writes it down anew with `--record`. It is a
//! chore of its own because Kubernetes has to be built first, which takes longer than all tests
//! together; a test that ran only where somebody had built it would be skipped everywhere else.

mod kube;

use anyhow::Result;

use crate::clients::Clients;
use crate::console::Console;
use crate::{packages, process, tools, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct CompareArguments {
    /// Only scripts whose names contain this, as `kubectl-get`
    filter: Option<String>,
    /// Write down what Kubernetes answers instead of comparing with it
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(arguments: CompareArguments) -> Result<()> {
    let console = Console::new();
    packages::install(&console, &packages::TO_TEST)?;
    packages::install(&console, &packages::TO_COMPARE)?;
    let kubectl = tools::kubectl(&console)?;
    let clients = Clients::install(&console)?;
    let binaries = kube::binaries(&console)?;
    console.step(&format!("Kubernetes: {}", binaries.display()));
    let mut compare = workspace::cargo("run");
    compare.args(["--quiet", "--package", "fermion-testkit", "--bin", "compare-with-kubernetes", "--"]);
    compare.arg(binaries).arg(workspace::root().join("crates/cli/tests/clients"));
    if arguments.record {
        compare.arg("--record");
    }
    compare.args(arguments.filter);
    compare.env("FERMION_KUBECTL", kubectl);
    clients.announce(&mut compare);
    process::show(&mut compare, "if Kubernetes is right, `cargo xtask compare --record` writes its answers down")
}
