//! What pods and the machine use. Samples are taken when somebody asks, so an idle node measures
//! nothing; a rate needs two, and the first caller after a pause waits a moment for the second.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::cri::{self, v1};
use crate::pod::sandbox::{CONTAINER_NAME, NODE, POD_UID};
use crate::pod::timestamp;
use crate::shared::Shared;

/// The shortest time between two samples that make a rate.
const RATE_INTERVAL_MIN: Duration = Duration::from_millis(300);
/// An older sample says nothing about now.
const RATE_INTERVAL_MAX: Duration = Duration::from_mins(1);
/// Linux counts CPU time for programs in hundredths of a second.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// The answer: the node and each pod.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    node: NodeStats,
    pods: Vec<PodStats>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeStats {
    node_name: String,
    cpu: Cpu,
    memory: Memory,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodStats {
    pod_ref: PodRef,
    cpu: Cpu,
    memory: Memory,
    containers: Vec<ContainerStats>,
    #[serde(rename = "volume")]
    volumes: Vec<VolumeStats>,
}

#[derive(Clone, Debug, Serialize)]
struct PodRef {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Clone, Debug, Serialize)]
struct ContainerStats {
    name: String,
    cpu: Cpu,
    memory: Memory,
}

/// Disk use of one volume, as last measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeStats {
    pub name: String,
    pub used_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    time: Option<Timestamp>,
    usage_nano_cores: u64,
    usage_core_nano_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    time: Option<Timestamp>,
    working_set_bytes: u64,
}

/// CPU time so far and when it was read, both in nanoseconds.
type CpuTime = (u64, i64);

struct Sample {
    taken_at: Instant,
    machine: CpuTime,
    /// By container id.
    containers: HashMap<String, CpuTime>,
    stats: Vec<v1::ContainerStats>,
}

/// Takes samples and remembers the last one.
#[derive(Default)]
pub(crate) struct Sampler {
    last: Mutex<Option<Sample>>,
}

impl Sampler {
    /// What is used now.
    pub(crate) async fn summary(&self, shared: &Shared) -> Result<Summary, cri::Error> {
        let mut last = self.last.lock().await;
        let usable = |sample: &Sample| {
            let age = sample.taken_at.elapsed();
            age >= RATE_INTERVAL_MIN && age <= RATE_INTERVAL_MAX
        };
        let before = if let Some(before) = last.take().filter(usable) {
            before
        } else {
            let first = sample(shared).await?;
            tokio::time::sleep(RATE_INTERVAL_MIN).await;
            first
        };
        let now = sample(shared).await?;
        let summary = summarize(shared, &before, &now);
        *last = Some(now);
        Ok(summary)
    }
}

async fn sample(shared: &Shared) -> Result<Sample, cri::Error> {
    let request = v1::ListContainerStatsRequest {
        filter: Some(v1::ContainerStatsFilter {
            label_selector: HashMap::from([(NODE.to_owned(), shared.name.clone())]),
            ..Default::default()
        }),
    };
    let stats = shared.cri.list_container_stats(request).await?.stats;
    let containers =
        stats.iter().filter_map(|stats| Some((stats.attributes.as_ref()?.id.clone(), cpu_time(stats.cpu.as_ref()?)))).collect();
    let busy = fs::read_to_string("/proc/stat").ok().and_then(|text| machine_busy(&text)).unwrap_or(0);
    let now = Timestamp::now().as_nanosecond();
    Ok(Sample { taken_at: Instant::now(), machine: (busy, i64::try_from(now).unwrap_or(i64::MAX)), containers, stats })
}

fn cpu_time(cpu: &v1::CpuUsage) -> CpuTime {
    (cpu.usage_core_nano_seconds.map_or(0, |value| value.value), cpu.timestamp)
}

/// Time the machine's cores have worked, in nanoseconds, from the first line of `/proc/stat`.
fn machine_busy(stat: &str) -> Option<u64> {
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
    let busy: u64 = [0, 1, 2, 5, 6].into_iter().filter_map(|index| ticks.get(index)).sum();
    Some(busy * NANOSECONDS_PER_TICK)
}

fn rate(before: Option<&CpuTime>, now: CpuTime) -> u64 {
    let Some(before) = before else { return 0 };
    let elapsed = u64::try_from(now.1 - before.1).unwrap_or(0);
    if elapsed == 0 {
        return 0;
    }
    let used = now.0.saturating_sub(before.0);
    u64::try_from(u128::from(used) * 1_000_000_000 / u128::from(elapsed)).unwrap_or(u64::MAX)
}

fn summarize(shared: &Shared, before: &Sample, now: &Sample) -> Summary {
    let time = Some(Timestamp::now());
    let used = shared.machine.memory_bytes - crate::machine::memory_available().unwrap_or(0);
    let node = NodeStats {
        node_name: shared.name.clone(),
        cpu: Cpu { time, usage_nano_cores: rate(Some(&before.machine), now.machine), usage_core_nano_seconds: now.machine.0 },
        memory: Memory { time, working_set_bytes: u64::try_from(used).unwrap_or(0) },
    };
    let mut by_pod: BTreeMap<&str, Vec<ContainerStats>> = BTreeMap::new();
    for stats in &now.stats {
        let Some(attributes) = &stats.attributes else { continue };
        let (Some(uid), Some(name)) = (attributes.labels.get(POD_UID), attributes.labels.get(CONTAINER_NAME)) else {
            continue;
        };
        let cpu = stats.cpu.as_ref().map(cpu_time).unwrap_or_default();
        let memory = stats.memory.unwrap_or_default();
        by_pod.entry(uid).or_default().push(ContainerStats {
            name: name.clone(),
            cpu: Cpu {
                time: timestamp(cpu.1),
                usage_nano_cores: rate(before.containers.get(&attributes.id), cpu),
                usage_core_nano_seconds: cpu.0,
            },
            memory: Memory {
                time: timestamp(memory.timestamp),
                working_set_bytes: memory.working_set_bytes.map_or(0, |value| value.value),
            },
        });
    }
    let mut pods: Vec<PodStats> = shared
        .pods
        .pods()
        .iter()
        .filter_map(|pod| {
            let uid = pod.metadata.uid.clone()?;
            let containers = by_pod.remove(uid.as_str()).unwrap_or_default();
            let sum = |of: fn(&ContainerStats) -> u64| containers.iter().map(of).sum();
            Some(PodStats {
                cpu: Cpu {
                    time,
                    usage_nano_cores: sum(|container| container.cpu.usage_nano_cores),
                    usage_core_nano_seconds: sum(|container| container.cpu.usage_core_nano_seconds),
                },
                memory: Memory { time, working_set_bytes: sum(|container| container.memory.working_set_bytes) },
                volumes: shared.pods.volume_use(&uid),
                pod_ref: PodRef { name: pod.metadata.name.clone()?, namespace: pod.metadata.namespace.clone()?, uid },
                containers,
            })
        })
        .collect();
    pods.sort_by(|a, b| (&a.pod_ref.namespace, &a.pod_ref.name).cmp(&(&b.pod_ref.namespace, &b.pod_ref.name)));
    Summary { node, pods }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_from_two_samples() {
        assert_eq!(rate(Some(&(1_000, 0)), (501_000, 1_000_000)), 500_000_000);
        assert_eq!(rate(None, (5, 5)), 0);
        assert_eq!(rate(Some(&(5, 5)), (9, 5)), 0);
        // A container that was replaced counts from zero again.
        assert_eq!(rate(Some(&(9, 5)), (5, 10)), 0);
        assert_eq!(machine_busy("cpu  1 2 3 400 500 6 7 8 9 9\ncpu0 1"), Some(19 * NANOSECONDS_PER_TICK));
    }
}
