//! Workloads that come to queues which lend to each other, run for a time, and end.
//!
//! The shapes are those of Kueue's performance tests
//! (<https://github.com/kubernetes-sigs/kueue>, `test/performance/scheduler/configs`). Each
//! workload is created at its own time and admitted by the scheduler; its pods run on simulated nodes for the
//! shape's run time. There the test's own runner ends a workload, without pods.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use super::CONNECTIONS;
use super::cluster::{self, NAMESPACE, Nodes, RACK};
use super::observer::Observer;
use crate::figures::{Value, milliseconds};
use crate::load::{Load, Outcome};
use crate::platform::{Http, Platform};
use crate::target::Target as _;

/// Objects in a page when all is checked in the end.
const PAGE: usize = 5_000;

/// Queues, and what comes to each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    cohorts: usize,
    /// Of each cohort.
    queues: usize,
    /// What a queue is promised, and how much it may use at most, in cores.
    promised: usize,
    limit: usize,
    sets: &'static [Set],
    nodes: Nodes,
}

/// Equal workloads of a queue.
#[derive(Clone, Copy, Debug)]
struct Set {
    class: &'static str,
    count: usize,
    /// Time between two of them; 0 when all are there from the start.
    gap_ms: u64,
    run_ms: u64,
    priority: i32,
    pods: usize,
    /// Of each pod.
    cpu: usize,
    closeness: Closeness,
}

/// Whether the pods of a workload are to stand in one rack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closeness {
    Any,
    Preferred,
    Required,
}

const fn set(class: &'static str, (count, gap_ms, run_ms): (usize, u64, u64), priority: i32, cpu: usize) -> Set {
    Set { class, count, gap_ms, run_ms, priority, pods: 1, cpu, closeness: Closeness::Any }
}

const fn gang(set: Set, pods: usize, closeness: Closeness) -> Set {
    Set { pods, closeness, ..set }
}

/// Nodes so large that only queues bound what starts, as without nodes.
const PLENTY: Nodes = Nodes { count: 10, racks: 1, cpu: 10_000, memory_gib: 10_000, pods: 10_000 };

pub(super) const BASELINE: Shape = Shape {
    cohorts: 5,
    queues: 6,
    promised: 20,
    limit: 120,
    sets: &[set("small", (350, 100, 200), 50, 1), set("medium", (100, 500, 500), 100, 5), set("large", (50, 1200, 1000), 200, 20)],
    nodes: PLENTY,
};

pub(super) const AT_ONCE: Shape = Shape {
    cohorts: 10,
    queues: 100,
    sets: &[set("small", (35, 0, 200), 50, 1), set("medium", (10, 0, 500), 100, 5), set("large", (5, 0, 1000), 200, 20)],
    ..BASELINE
};

pub(super) const LARGE_SCALE: Shape = Shape {
    cohorts: 20,
    queues: 100,
    sets: &[set("small", (20, 20, 50), 50, 1), set("medium", (7, 50, 100), 100, 5), set("large", (3, 200, 200), 200, 20)],
    ..BASELINE
};

/// Of Kueue's commit 2b63328. What is `balanced` over racks there prefers one here.
pub(super) const TOPOLOGY: Shape = Shape {
    cohorts: 2,
    queues: 3,
    promised: 8_500,
    limit: 25_500,
    sets: &[
        gang(set("small-required", (50, 200, 10_000), 50, 2), 4, Closeness::Required),
        gang(set("medium-required", (30, 500, 15_000), 100, 4), 8, Closeness::Required),
        gang(set("large-required", (20, 1000, 20_000), 200, 8), 16, Closeness::Required),
        gang(set("small-preferred", (30, 300, 12_000), 100, 2), 4, Closeness::Preferred),
        gang(set("medium-any", (20, 400, 16_000), 150, 4), 8, Closeness::Any),
        gang(set("medium-balanced", (15, 600, 18_000), 200, 4), 16, Closeness::Preferred),
        gang(set("large-balanced", (10, 800, 25_000), 250, 8), 32, Closeness::Preferred),
    ],
    nodes: Nodes { count: 640, racks: 10, cpu: 96, memory_gib: 256, pods: 110 },
};

/// One workload.
#[derive(Clone, Copy, Debug)]
struct Item {
    queue: usize,
    set: usize,
    number: usize,
    at: Duration,
}

impl Shape {
    /// All workloads in the order of their creation, so many percent of each set.
    fn items(&self, percent: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for queue in 0..self.cohorts * self.queues {
            for (set, each) in self.sets.iter().enumerate() {
                let count = (each.count * percent).div_ceil(100);
                let at = |number: usize| Duration::from_millis(number as u64 * each.gap_ms);
                items.extend((0..count).map(|number| Item { queue, set, number, at: at(number) }));
            }
        }
        items.sort_by_key(|item| item.at);
        items
    }

    /// How long the work takes at the least when all that the queues are promised is in use all the
    /// time, or when the last that is created starts at once.
    fn bound(&self, items: &[Item]) -> Duration {
        let of = |item: &Item| self.sets[item.set];
        let work: u64 = items.iter().map(|item| of(item).run_ms * (of(item).cpu * of(item).pods) as u64).sum();
        let by_work = Duration::from_millis(work / (self.cohorts * self.queues * self.promised) as u64);
        let last = items.iter().map(|item| item.at + Duration::from_millis(of(item).run_ms)).max();
        by_work.max(last.unwrap_or_default())
    }

    fn queue(&self, queue: usize) -> String {
        format!("q-{}-{}", queue / self.queues, queue % self.queues)
    }

    fn name(&self, item: &Item) -> String {
        format!("{}-{}-{}", self.sets[item.set].class, self.queue(item.queue), item.number)
    }

    fn body(&self, item: &Item) -> Bytes {
        let set = &self.sets[item.set];
        let requests = json!({"cpu": set.cpu.to_string()});
        let template = json!({
            "metadata": {"annotations": {"fermion.dev/fake-run-time": format!("{}ms", set.run_ms)}},
            "spec": {"containers": [{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests}}]},
        });
        let scheduling = match set.closeness {
            Closeness::Any => json!({}),
            Closeness::Preferred => json!({"topology": {"preferred": RACK}}),
            Closeness::Required => json!({"topology": {"required": RACK}}),
        };
        let spec = json!({
            "queue": self.queue(item.queue), "priority": set.priority, "scheduling": scheduling,
            "podSets": [{"name": "m", "replicas": set.pods, "template": template}],
        });
        let body = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": self.name(item)}, "spec": spec,
        });
        body.to_string().into()
    }
}

/// Creates the queues, then all workloads at their times, and waits until all have ended.
pub(super) async fn run(target: &Platform, shape: Shape, percent: usize) -> anyhow::Result<Vec<Value>> {
    cluster::make(target, shape.nodes).await?;
    let mut http = target.connect().await?;
    make_queues(&mut http, shape).await?;

    let items = Arc::new(shape.items(percent));
    let bound = shape.bound(&items);
    let pods: usize = items.iter().map(|item| shape.sets[item.set].pods).sum();
    let workloads = format!("/apis/ai.fermion.dev/v1alpha1/namespaces/{NAMESPACE}/workloads");
    let ends = Observer::start(target, &workloads, "status.phase=Succeeded", items.len()).await?;
    let binds = Observer::start(target, &format!("/api/v1/namespaces/{NAMESPACE}/pods"), "spec.nodeName!=", pods).await?;
    let mut load = Load::open(target, CONNECTIONS).await?;
    let sent: Arc<Vec<OnceLock<Instant>>> = Arc::new(items.iter().map(|_| OnceLock::new()).collect());
    let begun = Instant::now();
    let submit = {
        let (items, sent, path) = (items.clone(), sent.clone(), workloads.clone());
        move |mut http: Http, number: usize| {
            let (items, sent, path) = (items.clone(), sent.clone(), path.clone());
            async move {
                let item = &items[number];
                tokio::time::sleep_until((begun + item.at).into()).await;
                let body = shape.body(item);
                sent[number].get_or_init(Instant::now);
                http.call(Method::POST, &path, body, StatusCode::CREATED).await?;
                Ok(http)
            }
        }
    };
    let mut submitted = Outcome::default();
    load.round(items.len(), &mut submitted, submit).await?;
    let submitted_after = begun.elapsed();
    eprintln!("{} workloads submitted after {:.1} s, {} have ended by then", items.len(), submitted_after.as_secs_f64(), ends.count());
    let ended = ends.all().await?;
    let last = ended.values().max().context("some workload ended")?.saturating_duration_since(begun);
    eprintln!("all ended after {:.1} s; the bound is {:.1} s", last.as_secs_f64(), bound.as_secs_f64());
    let places = binds.all().await?;
    drop((ends, binds));
    // The server has closed the first connection if it was idle for minutes.
    let mut http = target.connect().await?;
    let stopped = check(&mut http, &workloads, items.len()).await?;

    let number = |metric, unit, number| Value { metric, unit, number };
    let mut values = vec![
        number("workloads", "", items.len() as f64),
        number("all submitted after", "s", submitted_after.as_secs_f64()),
        number("all ended after", "s", last.as_secs_f64()),
        number("bound of the work", "s", bound.as_secs_f64()),
        number("workloads stopped for others", "", stopped as f64),
    ];
    for (class, metric) in [("large", "large: mean wait"), ("medium", "medium: mean wait"), ("small", "small: mean wait")] {
        let waits = waits(shape, &items, class, &sent, &places)?;
        let mean = waits.iter().sum::<Duration>() / u32::try_from(waits.len().max(1)).unwrap_or(u32::MAX);
        values.push(number(metric, "ms", milliseconds(mean)));
    }
    Ok(values)
}

async fn make_queues(http: &mut Http, shape: Shape) -> anyhow::Result<()> {
    let amounts = |cores: usize| json!({"cpu": cores.to_string()});
    for cohort in 0..shape.cohorts {
        let all = amounts(shape.queues * shape.promised);
        let parent = format!("cohort-{cohort}");
        cluster::make_queue(http, &parent, json!({"guaranteed": all, "limit": all})).await?;
        for queue in cohort * shape.queues..(cohort + 1) * shape.queues {
            let spec = json!({
                "parent": parent, "jobOrder": "Priority", "guaranteed": amounts(shape.promised),
                "limit": amounts(shape.limit.min(shape.queues * shape.promised)),
            });
            cluster::make_queue(http, &shape.queue(queue), spec).await?;
        }
    }
    Ok(())
}

/// From the submission of each workload of a class until its last pod was first given a place.
fn waits(
    shape: Shape,
    items: &[Item],
    class: &str,
    sent: &[OnceLock<Instant>],
    places: &HashMap<String, Instant>,
) -> anyhow::Result<Vec<Duration>> {
    let of_class = items.iter().zip(sent).filter(|(item, _)| shape.sets[item.set].class.starts_with(class));
    of_class
        .map(|(item, sent)| {
            let name = shape.name(item);
            let sent = sent.get().with_context(|| format!("{name} was not submitted"))?;
            let last = (0..shape.sets[item.set].pods).map(|index| places.get(&format!("{name}-m-{index}"))).max().flatten();
            Ok(last.with_context(|| format!("{name} had no place"))?.saturating_duration_since(*sent))
        })
        .collect()
}

/// Whether all are over with success; answers how many were stopped for others meanwhile.
async fn check(http: &mut Http, workloads: &str, expected: usize) -> anyhow::Result<usize> {
    let (mut count, mut stopped) = (0, 0);
    let mut more = String::new();
    loop {
        let list = cluster::get(http, &format!("{workloads}?limit={PAGE}{more}")).await?;
        for workload in list["items"].as_array().context("a list has items")? {
            count += 1;
            ensure!(workload["status"]["phase"] == "Succeeded", "{} is {}", workload["metadata"]["name"], workload["status"]["phase"]);
            let conditions = workload["status"]["conditions"].as_array().into_iter().flatten();
            stopped += conditions.filter(|condition| condition["type"] == "Evicted").count();
        }
        match list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => more = format!("&continue={token}"),
            None => break,
        }
    }
    ensure!(count == expected, "there are {count} of {expected} workloads");
    Ok(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_are_kueues() {
        let of = |shape: Shape| {
            let items = shape.items(100);
            (items.len(), shape.bound(&items).as_secs_f64())
        };
        assert_eq!(of(BASELINE), (15_000, 66.0));
        assert_eq!(of(AT_ONCE), (50_000, 6.6));
        assert_eq!(of(LARGE_SCALE).0, 60_000);
        assert_eq!(of(TOPOLOGY).0, 1_050);
        assert_eq!(BASELINE.items(10).len(), 30 * (35 + 10 + 5));
    }
}
