//! Placements a second, in memory.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use fermion_scheduler::scoring::Placement;
use fermion_sim::experiments::throughput::{self, Load};
use fermion_sim::table::Table;

use crate::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct ThroughputArguments {
    /// Pods of their own in each run; gangs are as many as kube-scheduler's tests have
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1000..10_000_000))]
    pods: u32,
}

/// Shapes and gangs: what runs, what it is compared with, and the rate aimed at.
const RUNS: [(&str, usize, usize, Option<usize>, &str); 4] = [
    ("pods of one shape", 1, 1, None, "680 to 810 (gates of SchedulingBasic)"),
    ("pods of 50 shapes in random order", 50, 1, None, "-"),
    ("gangs of 4 in a rack", 1, 4, Some(3000), "562 to 630; 109 to 114 with all placements scored"),
    ("gangs of 1,000 in a rack", 1, 1000, Some(9000), "953 to 975; 67 to 224 with all placements scored"),
];
const NODES: [usize; 2] = [5000, 20_000];
const PLACEMENTS: [(Placement, &str); 3] =
    [(Placement::Spread, "spread (as kube-scheduler)"), (Placement::BestFit, "best fit"), (Placement::Scarcity, "ours")];
/// Each run is repeated, and the middle one is reported: others use the machine as well.
const REPEATS: usize = 5;

pub(crate) fn measure(arguments: &ThroughputArguments) -> Result<Report> {
    let mut table =
        Table::new(["what", "nodes", "policy", "pods/s", "p50 µs", "p99 µs", "longest µs", "peak memory MB", "kube-scheduler, pods/s"]);
    let mut runs = Table::new(["what", "nodes", "policy", "repeat", "placed", "seconds", "decisions", "p50_us", "p99_us", "max_us"]);
    for (what, shapes, gang, pods, peer) in RUNS {
        for nodes in NODES {
            for (placement, name) in PLACEMENTS {
                let load = Load { nodes, pods: pods.unwrap_or(arguments.pods as usize), shapes, gang, placement };
                fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")?;
                let started = Instant::now();
                let mut speeds: Vec<_> = (0..REPEATS).map(|_| throughput::run(load, || started.elapsed())).collect();
                let memory = peak_memory_mb()?;
                for (repeat, speed) in speeds.iter().enumerate() {
                    let counts = [nodes.to_string(), name.to_owned(), repeat.to_string(), speed.placed.to_string()];
                    let times = [0.5, 0.99, 1.0].map(|part| format!("{:.2}", speed.quantile_us(part)));
                    let length = [format!("{:.6}", speed.total.as_secs_f64()), speed.decisions.len().to_string()];
                    runs.row([what.to_owned()].into_iter().chain(counts).chain(length).chain(times));
                }
                speeds.sort_by(|a, b| a.pods_per_s().total_cmp(&b.pods_per_s()));
                let middle = &speeds[REPEATS / 2];
                let times = [0.5, 0.99, 1.0].map(|part| format!("{:.1}", middle.quantile_us(part)));
                let cells = [what.to_owned(), nodes.to_string(), name.to_owned(), format!("{:.0}", middle.pods_per_s())];
                table.row(cells.into_iter().chain(times).chain([format!("{memory:.0}"), peer.to_owned()]));
                eprintln!("{what}, {nodes} nodes, {name}: {:.0} pods/s", middle.pods_per_s());
            }
        }
    }
    let sections = vec![("pods placed a second, in memory, one thread; the median of five runs".to_owned(), table)];
    Ok(Report { name: "sched-throughput", made_up: false, sections, runs })
}

/// The most memory this process had since the peak was reset.
fn peak_memory_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read this process' memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel does not say the peak of memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("the kernel says {line}"))?;
    Ok(kib * 1024.0 / 1e6)
}
