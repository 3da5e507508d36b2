//! Benchmark `idle`: what a server takes that has nothing to do, and how soon it is there.
//!
//! The peer is etcd with the same objects: only the database of what a Kubernetes control plane
//! is made of, and so a generous one. The server's containerd is a process of its own and not
//! counted.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Programs;
use super::etcd::Etcd;
use super::generator::Generator;
use super::platform::{Node, Platform};
use super::table::{Better, Row};
use crate::console::Console;

/// Starts that are measured; the middle one counts.
const STARTS: usize = 5;
/// How long the work of a start may go on before it counts as idle.
const SETTLING: Duration = Duration::from_secs(20);
/// How long is looked at it.
const WINDOW: Duration = Duration::from_secs(30);
/// The unit of times in `/proc`: USER_HZ is 100 on every architecture the platform runs on.
const TICK: Duration = Duration::from_millis(10);
const PEER: &str = "etcd alone";

/// Measures both at once, so that the machine is the same for both.
pub(super) fn measure(console: &Console, programs: &Programs, place: &Path) -> Result<Vec<Row>> {
    let mut platform = Platform::start(&programs.fermion, &place.join("h"), Node::Local)?;
    let mut etcd = Etcd::start(&place.join("e"))?;
    console.timed("writing the same objects to both", || Generator::new(&programs.generator, &platform).fill(&etcd))?;

    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    console.step(&format!("starting both {STARTS} times on their data"));
    for _ in 0..STARTS {
        platform.restart()?;
        ours.push(platform.ready_after);
        etcd = etcd.restart()?;
        peers.push(etcd.ready_after);
    }
    platform.wait_for_node()?;

    let (pid, peer_pid) = (platform.pid()?, etcd.pid());
    console.step(&format!("letting both settle for {} s, then looking for {} s", SETTLING.as_secs(), WINDOW.as_secs()));
    std::thread::sleep(SETTLING);
    let begun = Instant::now();
    let (before, peer_before) = (processor_time(pid)?, processor_time(peer_pid)?);
    std::thread::sleep(WINDOW);
    let (after, peer_after) = (processor_time(pid)?, processor_time(peer_pid)?);
    let looked = begun.elapsed();
    let share = |before: Duration, after: Duration| 100.0 * (after.saturating_sub(before)).as_secs_f64() / looked.as_secs_f64();

    let rows = vec![
        row("resident memory", "MB", resident_mb(pid)?, resident_mb(peer_pid)?),
        row("processor", "% of a core", share(before, after), share(peer_before, peer_after)),
        row("start to ready", "ms", milliseconds(median(ours)), milliseconds(median(peers))),
    ];
    etcd.stop()?;
    platform.remove()?;
    Ok(rows)
}

fn row(metric: &str, unit: &str, ours: f64, peer: f64) -> Row {
    Row { metric: metric.to_owned(), unit: unit.to_owned(), better: Better::Lower, ours, peer, peer_name: PEER.to_owned(), postgres: None }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// The same of processes that share much of it, each page counted once, in parts.
pub(super) fn shared_mb(pids: &[u32]) -> Result<f64> {
    let mut kb = 0.0;
    for pid in pids {
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        kb += kb_of(&rollup, "Pss:").context("/proc/PID/smaps_rollup has no Pss")?;
    }
    Ok(kb * 1024.0 / 1e6)
}

/// Memory of a process that is in the machine's memory now, shared program text included.
pub(super) fn resident_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// The most memory that the process has had at once.
pub(super) fn peak_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let kb = kb_of(&status, name).with_context(|| format!("/proc/PID/status has no {name}"))?;
    Ok(kb * 1024.0 / 1e6)
}

fn kb_of(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Time that all threads of a process have run so far.
pub(super) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    let ticks = processor_ticks(&stat).context("/proc/PID/stat cannot be read")?;
    Ok(TICK * u32::try_from(ticks).context("the process has run for years")?)
}

/// Fields 14 and 15, in user mode and in the kernel; the second field may hold spaces and brackets.
fn processor_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read() {
        assert_eq!(kb_of("VmHWM:\t  99 kB\nVmRSS:\t   12345 kB\nThreads:\t3", "VmRSS:"), Some(12345.0));
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345";
        assert_eq!(processor_ticks(stat), Some(300));
        assert_eq!(processor_ticks("42"), None);
    }

    #[test]
    fn own_process_has_memory_and_time() {
        assert!(resident_mb(std::process::id()).expect("we run") > 0.1);
        processor_time(std::process::id()).expect("we run");
    }

    #[test]
    fn the_median_is_the_middle() {
        let samples = [5, 1, 4, 2, 3].map(Duration::from_secs).to_vec();
        assert_eq!(median(samples), Duration::from_secs(3));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
