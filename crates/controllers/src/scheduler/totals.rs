//! What pools and queues say of themselves, summed up from a round.

use std::collections::{BTreeMap, HashMap};

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Phase;
use fermion_api::compute::pool::PoolStatus;
use fermion_api::compute::queue::QueueStatus;
use fermion_api::compute::{Pool, Queue};
use fermion_api::{conditions, pod, quantity, reason};
use fermion_scheduler as plan;
use jiff::Timestamp;
use kube::ResourceExt as _;
use std::sync::Arc;

fn quantities(amounts: plan::Amounts) -> BTreeMap<String, String> {
    amounts.into_iter().map(|(name, amount)| (name.clone(), quantity::format(&name, amount))).collect()
}

/// The status of each pool with these nodes.
pub(super) fn pools<'n>(pools: &[Arc<Pool>], nodes: impl Iterator<Item = &'n plan::Node>, now: Timestamp) -> Vec<(Arc<Pool>, PoolStatus)> {
    let mut of_pool: HashMap<&str, (usize, plan::Amounts, plan::Amounts)> = HashMap::new();
    for node in nodes.filter(|node| node.ready) {
        let (count, capacity, allocated) = of_pool.entry(&node.pool).or_default();
        *count += 1;
        pod::add(capacity, &node.allocatable);
        pod::add(allocated, &node.used);
    }
    let status = |pool: &Arc<Pool>| {
        let (ready, capacity, allocated) = of_pool.remove(pool.name_any().as_str()).unwrap_or_default();
        (Arc::clone(pool), self::pool(pool, ready, capacity, allocated, now))
    };
    pools.iter().map(status).collect()
}

/// The status of a pool with so many ready nodes, of which so much is there and given out.
fn pool(pool: &Pool, ready: usize, capacity: plan::Amounts, allocated: plan::Amounts, now: Timestamp) -> PoolStatus {
    let mut status = pool.status.clone().unwrap_or_default();
    let free = capacity.iter().map(|(name, amount)| (name.clone(), amount.saturating_sub(allocated.get(name).copied().unwrap_or(0))));
    status.free = quantities(free.collect());
    status.capacity = quantities(capacity);
    status.allocated = quantities(allocated);
    status.nodes = i32::try_from(ready).unwrap_or(i32::MAX);
    status.observed_generation = pool.metadata.generation;
    let (holds, why, message) = match ready {
        0 => (false, reason::NO_READY_NODE, "no node of it is ready".to_owned()),
        1 => (true, reason::READY, "1 node is ready".to_owned()),
        count => (true, reason::READY, format!("{count} nodes are ready")),
    };
    conditions::set(&mut status.conditions, "Ready", holds, why, message, pool.metadata.generation, now);
    status
}

/// What a queue has.
#[derive(Default)]
struct Share {
    used: plan::Amounts,
    admitted: usize,
    pending: usize,
}

/// The status of each queue with these workloads and waiting gangs.
pub(super) fn queues(queues: &[Arc<Queue>], workloads: &[Arc<Workload>], waits: &[plan::Waiting]) -> Vec<(Arc<Queue>, QueueStatus)> {
    let mut shares: HashMap<&str, Share> = HashMap::new();
    for waiting in waits {
        shares.entry(&waiting.queue).or_default().pending += 1;
    }
    for workload in workloads {
        let Some(status) = workload.status.as_ref().filter(|status| matches!(status.phase, Phase::Admitted | Phase::Running)) else {
            continue;
        };
        let share = shares.entry(&workload.spec.queue).or_default();
        share.admitted += 1;
        // What a controller wrote can be read; anything else is no amount.
        let amounts = status.requests.iter().filter_map(|(name, amount)| Some((name.clone(), quantity::parse(amount).ok()?)));
        pod::add(&mut share.used, &amounts.collect());
    }
    let status = |queue: &Arc<Queue>| {
        let share = shares.remove(queue.name_any().as_str()).unwrap_or_default();
        (Arc::clone(queue), self::queue(queue, share))
    };
    queues.iter().map(status).collect()
}

fn queue(queue: &Queue, share: Share) -> QueueStatus {
    let mut status = queue.status.clone().unwrap_or_default();
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    status.used = quantities(share.used);
    status.pending = number(share.pending);
    status.admitted = number(share.admitted);
    status.observed_generation = queue.metadata.generation;
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn queues_sum_up_what_has_its_place() {
        let queue: Queue = Queue::new("q", fermion_api::compute::QueueSpec::default());
        let workload = |queue: &str, phase: &str, cpu: &str| {
            let object = json!({
                "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "w"},
                "spec": {"queue": queue, "podSets": []}, "status": {"phase": phase, "requests": {"cpu": cpu}},
            });
            Arc::new(serde_json::from_value::<Workload>(object).expect("a workload"))
        };
        let workloads = [
            workload("q", "Running", "2"),
            workload("q", "Admitted", "500m"),
            workload("q", "Pending", "8"),
            workload("other", "Running", "16"),
        ];
        let (_, status) = super::queues(&[Arc::new(queue)], &workloads, &[]).remove(0);
        assert_eq!((status.admitted, status.used["cpu"].as_str()), (2, "2500m"));
    }

    #[test]
    fn pools_count_only_nodes_that_are_ready() {
        let object =
            json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Pool", "metadata": {"name": "local"}, "spec": {"kind": "Local"}});
        let object: Pool = serde_json::from_value(object).expect("a pool");
        let node = |name: &str, ready| plan::Node {
            name: name.into(),
            pool: "local".into(),
            ready,
            allocatable: [("cpu".to_owned(), 4000)].into(),
            used: [("cpu".to_owned(), 1500)].into(),
            ..plan::Node::default()
        };
        let nodes = [node("a", true), node("b", false)];
        let (_, status) = pools(&[Arc::new(object)], nodes.iter(), Timestamp::UNIX_EPOCH).remove(0);
        assert_eq!((status.nodes, status.capacity["cpu"].as_str(), status.free["cpu"].as_str()), (1, "4", "2500m"));
        assert!(conditions::holds(&status.conditions, "Ready"));
    }
}
