//! Benchmark `scheduling`: the scheduler of a live server, on nodes that exist only as objects.
//!
//! A client like any other makes the pool and the queues, submits the work over TLS, and learns by
//! watches what became of it; what is measured is the whole way, with every write on disk before
//! it is answered. The server makes nodes and runs pods of a pool of kind `Fake` itself.

mod cluster;
mod observer;
mod pods;
mod queues;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::figures::Value;
use crate::platform::Platform;

/// Connections at once, each with one request in flight.
const CONNECTIONS: usize = 64;
/// How long all of the work may take.
const WORK_LIMIT: Duration = Duration::from_mins(20);

#[derive(Debug, clap::Args)]
pub(crate) struct SchedulingArguments {
    /// Address of the server's port
    #[arg(long)]
    server: SocketAddr,
    /// The kubeconfig that holds its administrator's token and its authority
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    shape: Shape,
    /// Nodes of the pool, where the shape does not say it
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Pods, where the shape does not say it
    #[arg(long, default_value_t = 1000)]
    pods: usize,
    /// How much of the shape's workloads, in percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
}

/// What is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// kube-scheduler's SchedulingBasic: small pods of their own
    Basic,
    /// Gangs of 4 that must stand in one rack
    Gangs4,
    /// Gangs of 1,000 that must stand in one rack
    Gangs1000,
    /// Kueue's baseline: 30 queues in 5 cohorts, 15,000 workloads
    Baseline,
    /// 50,000 workloads at once in 1,000 queues of 10 cohorts
    AtOnce,
    /// Kueue's large-scale at its commit 3aef7a8: 60,000 workloads in 2,000 queues
    LargeScale,
    /// Kueue's topology-aware shape: gangs in 10 racks of 64 nodes
    Topology,
}

pub(crate) async fn run(arguments: &SchedulingArguments) -> anyhow::Result<Vec<Value>> {
    let target = Platform::secure(arguments.server, &arguments.kubeconfig)?;
    match arguments.shape {
        Shape::Basic => pods::run(&target, 1, arguments.nodes, arguments.pods).await,
        Shape::Gangs4 => pods::run(&target, 4, arguments.nodes, arguments.pods).await,
        Shape::Gangs1000 => pods::run(&target, 1000, arguments.nodes, arguments.pods).await,
        Shape::Baseline => queues::run(&target, queues::BASELINE, usize::from(arguments.percent)).await,
        Shape::AtOnce => queues::run(&target, queues::AT_ONCE, usize::from(arguments.percent)).await,
        Shape::LargeScale => queues::run(&target, queues::LARGE_SCALE, usize::from(arguments.percent)).await,
        Shape::Topology => queues::run(&target, queues::TOPOLOGY, usize::from(arguments.percent)).await,
    }
}
