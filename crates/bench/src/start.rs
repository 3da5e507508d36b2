//! Benchmark `start`: from a pod's submission to its running container, beside the same sandbox
//! and container made by bare CRI calls, and beside `podman run`.
//!
//! The three take turns, the first one changing, so that a busy moment of the machine and the
//! clean-up of the one before meet all of them alike.

mod bare;
mod podman;
mod pods;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::figures::{Figure, Latencies};
use crate::platform::Platform;

/// Starts of each that count.
const STARTS: usize = 50;
/// Starts of each before that, which do not.
const WARM_UPS: usize = 2;
/// The pod before all of them.
const FIRST: &str = "first";
/// How long one start or removal may take.
const STEP_TIMEOUT: Duration = Duration::from_mins(1);
/// What runs in every container: waits, and ends at once when told to.
const COMMAND: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];

#[derive(Debug, clap::Args)]
pub(crate) struct StartArguments {
    /// Address of the platform's plain HTTP port
    #[arg(long)]
    platform: SocketAddr,
    /// The kubeconfig that holds the administrator's token
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The socket of the platform's containerd
    #[arg(long)]
    containerd: PathBuf,
    /// Folder for the logs of containers made by bare CRI calls
    #[arg(long)]
    logs: PathBuf,
    /// The image, there already for the platform and for podman
    #[arg(long)]
    image: String,
}

/// Measures all three in turns.
pub(crate) async fn measure(arguments: StartArguments) -> anyhow::Result<Vec<Figure>> {
    let platform = Platform::new(arguments.platform, &arguments.kubeconfig)?;
    let mut pods = pods::Pods::open(&platform, &arguments.image).await?;
    let mut bare = bare::Bare::open(&arguments.containerd, arguments.logs, &arguments.image);
    let podman = podman::Podman::new(&arguments.image);

    // The first pod tells below which cgroup the node's sandboxes are.
    pods.start(FIRST).await?;
    bare.adopt_cgroup_parent(FIRST).await?;
    pods.remove(FIRST).await?;

    let (mut ours, mut cri, mut run) = (Latencies::default(), Latencies::default(), Latencies::default());
    for start in 0..WARM_UPS + STARTS {
        let name = format!("start-{start}");
        for turn in 0..3 {
            let (latencies, taken) = match (start + turn) % 3 {
                0 => {
                    let taken = pods.start(&name).await.context("starting a pod")?;
                    pods.remove(&name).await.context("removing a pod")?;
                    (&mut ours, taken)
                }
                1 => (&mut cri, bare.start_and_remove(&name).await.context("starting a container by bare CRI calls")?),
                _ => (&mut run, podman.start_and_remove(&name).await.context("starting a container with podman")?),
            };
            if start >= WARM_UPS {
                latencies.push(taken);
            }
        }
        if start % 10 == 9 {
            eprintln!("{} of {} starts", start + 1, WARM_UPS + STARTS);
        }
    }
    let metric = "submit to running";
    Ok(vec![
        Figure::latency(metric, 0.5, &ours, &cri, "bare CRI calls"),
        Figure::latency(metric, 0.99, &ours, &cri, "bare CRI calls"),
        Figure::latency(metric, 0.5, &ours, &run, "podman run -d"),
        Figure::latency(metric, 0.99, &ours, &run, "podman run -d"),
    ])
}
