//! Measures a running platform beside its peers: the load generator of `cargo xtask bench`,
//! which installs the peers, starts everything, runs this and shows the table.
//!
//! Invariants
//! - A platform and its peer get the same load from the same code, in alternating rounds, so
//!   that whatever else the machine does meets both.
//! - It ends nothing that it did not start, and every wait has a bound.
//! - Standard output holds one JSON document, the figures; what is going on goes to standard error.
//!
//! Start with [`api`] and [`start`], one file per benchmark.

mod api;
mod etcd;
mod figures;
mod kubernetes;
mod load;
mod platform;
mod start;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::figures::Figure;

/// The longest one benchmark may take.
const BENCHMARK_LIMIT: Duration = Duration::from_mins(15);

#[derive(Debug, Parser)]
#[command(name = "fermion-bench", about = "Measures a running platform beside its peers")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Writes, reads, lists and watches, beside etcd
    Api(api::ApiArguments),
    /// Puts the objects of `api` there and measures nothing
    Fill(api::ApiArguments),
    /// Writes, reads, lists and watches, beside kube-apiserver
    Kubernetes(kubernetes::KubernetesArguments),
    /// Waits until kube-apiserver is ready
    WaitKubernetes(kubernetes::PeerArguments),
    /// From a pod's submission to its running container, beside bare CRI calls and podman
    Start(start::StartArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measured(arguments.benchmark).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measured(benchmark: Benchmark) -> anyhow::Result<()> {
    let figures = tokio::time::timeout(BENCHMARK_LIMIT, run(benchmark))
        .await
        .with_context(|| format!("the benchmark took longer than {} minutes", BENCHMARK_LIMIT.as_secs() / 60))??;
    serde_json::to_writer(std::io::stdout().lock(), &figures).context("cannot write the figures")
}

async fn run(benchmark: Benchmark) -> anyhow::Result<Vec<Figure>> {
    match benchmark {
        Benchmark::Api(arguments) => api::measure(&arguments).await,
        Benchmark::Fill(arguments) => api::fill(&arguments).await.map(|()| Vec::new()),
        Benchmark::Kubernetes(arguments) => kubernetes::measure(&arguments).await,
        Benchmark::WaitKubernetes(arguments) => kubernetes::wait_until_ready(&arguments).await.map(|()| Vec::new()),
        Benchmark::Start(arguments) => start::measure(arguments).await,
    }
}
