//! Measures a running platform beside its peers: the load generator of `cargo xtask bench`,
//! which installs the peers, starts everything, runs this and shows the table.
//!
//! Invariants
//! - A platform and its peer get the same load from the same code, in alternating rounds, so
//!   that whatever else the machine does meets both.
//! - It ends nothing that it did not start, and every wait has a bound.
//! - Standard output holds one JSON document, the figures; what is going on goes to standard error.
//!
//! Start with [`kubernetes`] and [`start`], one file per benchmark.

mod api;
mod bare;
mod etcd;
mod event_lines;
mod figures;
mod frames;
mod growth;
mod kubernetes;
mod load;
mod platform;
mod scheduling;
mod sightings;
mod start;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::figures::{Figure, Value};

/// The longest one benchmark may take.
const BENCHMARK_LIMIT: Duration = Duration::from_mins(30);

#[derive(Debug, Parser)]
#[command(name = "fermion-bench", about = "Measures a running platform beside its peers")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Writes, reads, updates, lists and watches, beside kube-apiserver
    Api(kubernetes::KubernetesArguments),
    /// The server that does nothing but send watchers what is written; `api` starts it
    Bare,
    /// Writes, reads, lists and watches, beside etcd
    Etcd(api::ApiArguments),
    /// Puts the objects of `etcd` there and measures nothing
    Fill(api::ApiArguments),
    /// One server with more and more objects
    Growth(growth::GrowthArguments),
    /// Waits until kube-apiserver is ready
    WaitKubernetes(kubernetes::PeerArguments),
    /// From submission to binding on simulated nodes, or to the end of the work in queues
    Scheduling(scheduling::SchedulingArguments),
    /// From a pod's submission to its running container, beside bare CRI calls and podman
    Start(start::StartArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if matches!(arguments.benchmark, Benchmark::Bare) { bare::serve() } else { measured(arguments.benchmark).await };
    match ended {
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

/// What a benchmark came to: values beside a peer's, or those of one server.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Figures {
    Compared(Vec<Figure>),
    Alone(Vec<Value>),
}

async fn run(benchmark: Benchmark) -> anyhow::Result<Figures> {
    Ok(Figures::Compared(match benchmark {
        Benchmark::Api(arguments) => kubernetes::measure(&arguments).await?,
        Benchmark::Bare => Vec::new(),
        Benchmark::Etcd(arguments) => api::measure(&arguments).await?,
        Benchmark::Fill(arguments) => api::fill(&arguments).await.map(|()| Vec::new())?,
        Benchmark::Growth(arguments) => return growth::run(&arguments).await.map(Figures::Alone),
        Benchmark::Scheduling(arguments) => return scheduling::run(&arguments).await.map(Figures::Alone),
        Benchmark::WaitKubernetes(arguments) => kubernetes::wait_until_ready(&arguments).await.map(|()| Vec::new())?,
        Benchmark::Start(arguments) => start::measure(arguments).await?,
    }))
}
