//! What a server's cluster and its work look like to a simulation.
//!
//! Nodes are told by their cores, memory, cards and racks; queues by the cards they are promised and
//! kept to; work by the cards it asks for and when it came. How long work takes is known of what
//! ended, told by people for what did not, and guessed for the rest: by the middle of what ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Phase;
use fermion_api::compute::{Queue, pool};
use fermion_api::observe::UsageRecord;
use fermion_api::quantity::{self, Milli};
use fermion_api::{duration, labels};
use fermion_sim::study::description::{Description, Group};
use fermion_sim::study::queues;
use fermion_sim::trace::jobs::{Job, Owned};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::connection::Session;
use crate::failure::{Attempt as _, Failure, Outcome};

/// Objects asked for at once.
const PAGE: u32 = 500;
/// How long work is taken to run where nothing of the kind has ended yet.
const RUN_MS_UNKNOWN: i64 = 3_600_000;
const GIB: Milli = 1000 << 30;

/// The work of a cluster.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) jobs: Vec<Owned>,
    /// How many ended, so that their run times are known.
    ended: usize,
    /// Of how many people said how long they take.
    told: usize,
    /// How many ask for no cards and are left out.
    without_cards: usize,
}

impl Work {
    /// What is known of it, in a sentence.
    pub(super) fn known(&self) -> String {
        let guessed = self.jobs.len() - self.ended - self.told;
        let rest = if self.without_cards == 0 { String::new() } else { format!("; {} without cards left out", self.without_cards) };
        format!(
            "{} workloads: {} ended, of {} the run time was declared, of {guessed} it is guessed from what ended{rest}",
            self.jobs.len(),
            self.ended,
            self.told
        )
    }
}

/// Reads nodes, queues and work of a pool: the one named, or the only one with cards.
pub(super) async fn read(session: &Session, pool: Option<&str>) -> Outcome<(Description, Work)> {
    let nodes: Vec<Node> = all(session, "nodes").await?;
    let pool = pool_of(&nodes, pool)?;
    let queues: Vec<Queue> = all(session, "queues").await?;
    let workloads: Vec<Workload> = all(session, "workloads").await?;
    let usage: Vec<UsageRecord> = all(session, "usage records").await?;
    let queues: Vec<Queue> = queues.into_iter().filter(|queue| queue.spec.pool == pool).collect();
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| in_pool(node) == pool).collect();
    let work = work(&workloads, &queues, &usage, Timestamp::now());
    Ok((describe(&nodes, &queues), work))
}

async fn all<K>(session: &Session, what: &str) -> Outcome<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(session.client.clone());
    let mut items = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.attempt(|| format!("cannot list the {what} of the whole platform"))?;
        items.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(items),
        }
    }
}

fn in_pool(node: &Node) -> &str {
    node.labels().get(labels::POOL).map_or(pool::LOCAL, String::as_str)
}

fn pool_of(nodes: &[Node], named: Option<&str>) -> Outcome<String> {
    let with_cards: BTreeSet<&str> = nodes.iter().filter(|node| cards(node).1 > 0).map(in_pool).collect();
    match (named, with_cards.len()) {
        (Some(name), _) if with_cards.contains(name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Failure::new(format!("pool `{name}` has no nodes with cards: work without them is not simulated"))),
        (None, 0) => Err(Failure::new("no node of the platform has cards: work without them is not simulated")),
        (None, 1) => Ok(with_cards.into_iter().next().unwrap_or_default().to_owned()),
        (None, _) => {
            let names = Vec::from_iter(with_cards).join(", ");
            Err(Failure::new(format!("several pools have cards: {names}")).hint("Name one with --pool."))
        }
    }
}

/// The model that a node has most cards of, and how many.
fn cards(node: &Node) -> (String, usize) {
    let allocatable = node.status.iter().flat_map(|status| status.allocatable.iter().flatten());
    let of_models = allocatable.filter_map(|(name, amount)| Some((model(name)?, quantity::milli(amount) / 1000)));
    let most = of_models.max_by_key(|(_, count)| *count).unwrap_or_default();
    (most.0.to_owned(), usize::try_from(most.1).unwrap_or(0))
}

/// The model that a resource counts whole cards of.
fn model(resource: &str) -> Option<&str> {
    resource.strip_prefix(labels::ACCELERATOR_PREFIX).filter(|model| !model.contains('.'))
}

/// Model and number of cards, cores, and memory in GiB of a node.
type Shape = (String, usize, i64, i64);

fn describe(nodes: &[Node], queues: &[Queue]) -> Description {
    let mut groups: BTreeMap<Shape, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for node in nodes {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let amount = |name: &str, unit: Milli| {
            let amount = allocatable.and_then(|all| all.get(name)).map_or(0, quantity::milli);
            i64::try_from(amount / unit).unwrap_or(i64::MAX)
        };
        let (model, count) = cards(node);
        let (nodes, racks) = groups.entry((model, count, amount("cpu", 1000), amount("memory", GIB))).or_default();
        *nodes += 1;
        racks.extend(node.labels().get(labels::RACK).map(String::as_str));
    }
    let group = |((model, cards, cpu, memory_gib), (count, racks)): (Shape, (usize, BTreeSet<&str>))| {
        let model = if cards == 0 { String::new() } else { model };
        Group { count, cpu, memory_gib, cards, model, racks: racks.len() }
    };
    let queue = |queue: &Queue| queues::Queue {
        name: queue.name_any(),
        parent: queue.spec.parent.clone(),
        guarantee: sum_of_cards(&queue.spec.guaranteed),
        limit: sum_of_cards(&queue.spec.limit),
        priority: u32::try_from(queue.spec.priority).unwrap_or(0),
    };
    Description { nodes: groups.into_iter().map(group).collect(), queues: queues.iter().map(queue).collect() }
}

/// Cards of all models; `None` where none is named.
fn sum_of_cards(amounts: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<u32> {
    let named: Vec<Milli> = amounts.iter().filter(|(name, _)| model(name).is_some()).map(|(_, amount)| quantity::milli(amount)).collect();
    (!named.is_empty()).then(|| u32::try_from(named.iter().sum::<Milli>() / 1000).unwrap_or(u32::MAX))
}

fn work(workloads: &[Workload], queues: &[Queue], usage: &[UsageRecord], now: Timestamp) -> Work {
    let names: BTreeSet<String> = queues.iter().map(kube::ResourceExt::name_any).collect();
    let spans = spans(usage);
    let mut work = Work::default();
    let mut guessed = Vec::new();
    for workload in workloads.iter().filter(|workload| names.contains(&workload.spec.queue)) {
        let cards = cards_of(workload);
        if cards == 0 {
            work.without_cards += 1;
            continue;
        }
        let ran = spans.get(&(workload.namespace().unwrap_or_default(), workload.name_any())).map(|(from, until)| millis(*from, *until));
        let phase = workload.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let run_ms = match (phase, ran, declared(workload)) {
            (Phase::Succeeded | Phase::Failed, Some(ran), _) => {
                work.ended += 1;
                Some(ran)
            }
            // It never ran, and never will.
            (Phase::Succeeded | Phase::Failed, None, _) => continue,
            (_, ran, Some(told)) => {
                work.told += 1;
                Some(told.max(ran.unwrap_or(0)))
            }
            (_, _, None) => None,
        };
        let submitted_at = workload.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0).as_millisecond();
        let user = workload.annotations().get(labels::CREATED_BY).cloned().unwrap_or_default();
        let job = Job { submitted_at, cards, run_ms: run_ms.unwrap_or_else(|| ran.unwrap_or(0)).max(1) };
        if run_ms.is_none() {
            guessed.push(work.jobs.len());
        }
        work.jobs.push(Owned { job, queue: workload.spec.queue.clone(), user, priority: workload.spec.priority });
    }
    let mut known: Vec<i64> =
        (0..work.jobs.len()).filter(|place| !guessed.contains(place)).map(|place| work.jobs[place].job.run_ms).collect();
    known.sort_unstable();
    let middle = known.get(known.len() / 2).copied().unwrap_or(RUN_MS_UNKNOWN);
    for place in guessed {
        let job = &mut work.jobs[place].job;
        job.run_ms = job.run_ms.max(middle);
    }
    work.jobs.sort_by_key(|owned| owned.job.submitted_at);
    let first = work.jobs.first().map_or(0, |owned| owned.job.submitted_at);
    for owned in &mut work.jobs {
        owned.job.submitted_at -= first;
    }
    work
}

/// From when to when pods of each workload ran, by namespace and name.
fn spans(usage: &[UsageRecord]) -> HashMap<(String, String), (Timestamp, Timestamp)> {
    let mut spans: HashMap<(String, String), (Timestamp, Timestamp)> = HashMap::new();
    for record in usage {
        let Some(workload) = record.spec.workload.clone() else { continue };
        let (from, until) = (record.spec.started_at.0, record.spec.ended_at.0);
        let span = spans.entry((record.namespace().unwrap_or_default(), workload)).or_insert((from, until));
        *span = (span.0.min(from), span.1.max(until));
    }
    spans
}

fn millis(from: Timestamp, until: Timestamp) -> i64 {
    until.as_millisecond().saturating_sub(from.as_millisecond()).max(1)
}

/// How long people said that it takes: as a guess, or else as a limit.
fn declared(workload: &Workload) -> Option<i64> {
    let limit = || workload.spec.max_duration.as_deref().and_then(|text| duration::parse(text).ok());
    let span = workload.spec.scheduling.run_time().or_else(limit)?;
    i64::try_from(span.as_millis()).ok()
}

/// Cards of all models that all its pods ask for.
fn cards_of(workload: &Workload) -> u32 {
    let mut sum: Milli = 0;
    for set in &workload.spec.pod_sets {
        let asked = set.template.spec.as_ref().map(fermion_api::pod::requests).unwrap_or_default();
        let each: Milli = asked.iter().filter(|(name, _)| model(name).is_some()).map(|(_, amount)| *amount).sum();
        sum = sum.saturating_add(each.saturating_mul(Milli::from(set.replicas)));
    }
    u32::try_from(sum / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    fn node(name: &str, pool: &str, rack: &str, cards: &str) -> Node {
        let amounts = json!({"cpu": "96", "memory": "768Gi", "gpu.fermion.dev/h100": cards});
        object(json!({
            "metadata": {"name": name, "labels": {"fermion.dev/pool": pool, "topology.fermion.dev/rack": rack}},
            "status": {"allocatable": amounts},
        }))
    }

    fn workload(name: &str, more: Value, phase: &str) -> Workload {
        let container = json!({"name": "main", "image": "x", "resources": {"requests": {"gpu.fermion.dev/h100": "4"}}});
        let set = json!({"name": "w", "replicas": 2, "template": {"spec": {"containers": [container]}}});
        let mut spec = json!({"queue": "lab", "podSets": [set]});
        for (field, value) in more.as_object().expect("an object") {
            spec[field] = value.clone();
        }
        object(json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": name, "namespace": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"fermion.dev/created-by": "ann"}},
            "spec": spec, "status": {"phase": phase},
        }))
    }

    #[test]
    fn equal_nodes_are_one_group_and_queues_count_cards() {
        let nodes = [node("a", "sim", "r1", "8"), node("b", "sim", "r2", "8"), node("c", "sim", "r1", "4")];
        let queue = object(json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "lab"},
            "spec": {"pool": "sim", "guaranteed": {"gpu.fermion.dev/h100": "8", "cpu": "4"}, "priority": 3},
        }));
        let description = describe(&nodes, &[queue]);
        let group = |count, cards, racks| Group { count, cpu: 96, memory_gib: 768, cards, model: "h100".into(), racks };
        assert_eq!(description.nodes, [group(1, 4, 1), group(2, 8, 2)]);
        let lab = queues::Queue { name: "lab".into(), guarantee: Some(8), priority: 3, ..queues::Queue::default() };
        assert_eq!(description.queues, [lab]);
        assert_eq!(pool_of(&nodes, None).expect("the only one"), "sim");
        let two = [node("a", "sim", "r1", "8"), node("b", "lab", "r2", "8")];
        assert_eq!(pool_of(&two, None).expect_err("two").to_string().lines().next(), Some("error: several pools have cards: lab, sim"));
        assert_eq!(pool_of(&two, Some("lab")).expect("it is there"), "lab");
        assert!(pool_of(&two, Some("other")).is_err());
    }

    #[test]
    fn run_times_are_known_told_or_guessed() {
        let workloads = [
            workload("ended", json!({}), "Succeeded"),
            workload("told", json!({"scheduling": {"runTime": "2h"}}), "Pending"),
            workload("limited", json!({"maxDuration": "10m"}), "Running"),
            workload("unknown", json!({}), "Pending"),
            workload("never", json!({}), "Failed"),
            workload("other", json!({"queue": "elsewhere"}), "Pending"),
            workload("plain", json!({"podSets": []}), "Pending"),
        ];
        let queue: Queue = object(json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "lab"}, "spec": {"pool": "sim"},
        }));
        let record = |workload: &str, from: &str, until: &str| -> UsageRecord {
            object(json!({
                "apiVersion": "observe.fermion.dev/v1alpha1", "kind": "UsageRecord", "metadata": {"name": from, "namespace": "a"},
                "pod": "p", "podUid": from, "node": "n", "workload": workload, "requests": {}, "seconds": 1.0, "open": false,
                "startedAt": from, "endedAt": until,
            }))
        };
        let usage = [
            record("ended", "2026-01-01T00:10:00.000000Z", "2026-01-01T00:20:00.000000Z"),
            record("ended", "2026-01-01T00:05:00.000000Z", "2026-01-01T00:15:00.000000Z"),
            record("limited", "2026-01-01T00:00:00.000000Z", "2026-01-01T00:20:00.000000Z"),
        ];
        let work = work(&workloads, &[queue], &usage, Timestamp::UNIX_EPOCH);
        let minutes: Vec<i64> = work.jobs.iter().map(|owned| owned.job.run_ms / 60_000).collect();
        assert_eq!(minutes, [15, 120, 20, 20]);
        assert!(work.jobs.iter().all(|owned| owned.job.cards == 8 && owned.user == "ann" && owned.job.submitted_at == 0));
        let words = "4 workloads: 1 ended, of 2 the run time was declared, of 1 it is guessed from what ended; 1 without cards left out";
        assert_eq!(work.known(), words);
    }
}
