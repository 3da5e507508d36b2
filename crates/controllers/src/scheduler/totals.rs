//! What pools and queues say of themselves, summed up from a round.

use std::collections::BTreeMap;

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

/// The status of a pool with these nodes.
pub(super) fn pool(pool: &Pool, nodes: &[plan::Node], now: Timestamp) -> PoolStatus {
    let name = pool.name_any();
    let mut status = pool.status.clone().unwrap_or_default();
    let ready: Vec<_> = nodes.iter().filter(|node| node.pool == name && node.ready).collect();
    let mut capacity = plan::Amounts::new();
    let mut allocated = plan::Amounts::new();
    for node in &ready {
        pod::add(&mut capacity, &node.allocatable);
        pod::add(&mut allocated, &node.used);
    }
    let free = capacity.iter().map(|(name, amount)| (name.clone(), amount.saturating_sub(allocated.get(name).copied().unwrap_or(0))));
    status.free = quantities(free.collect());
    status.capacity = quantities(capacity);
    status.allocated = quantities(allocated);
    status.nodes = i32::try_from(ready.len()).unwrap_or(i32::MAX);
    status.observed_generation = pool.metadata.generation;
    let (holds, why, message) = match ready.len() {
        0 => (false, reason::NO_READY_NODE, "no node of it is ready".to_owned()),
        1 => (true, reason::READY, "1 node is ready".to_owned()),
        count => (true, reason::READY, format!("{count} nodes are ready")),
    };
    conditions::set(&mut status.conditions, "Ready", holds, why, message, pool.metadata.generation, now);
    status
}

/// The status of a queue with these workloads and waiting gangs.
pub(super) fn queue(queue: &Queue, workloads: &[Arc<Workload>], waits: &[plan::Waiting]) -> QueueStatus {
    let name = queue.name_any();
    let mut status = queue.status.clone().unwrap_or_default();
    let has_place = |workload: &&Arc<Workload>| {
        let phase = workload.status.as_ref().map(|status| status.phase).unwrap_or_default();
        workload.spec.queue == name && matches!(phase, Phase::Admitted | Phase::Running)
    };
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let mut used = plan::Amounts::new();
    for requests in workloads.iter().filter(has_place).filter_map(|workload| Some(&workload.status.as_ref()?.requests)) {
        // What a controller wrote can be read; anything else is no amount.
        let amounts = requests.iter().filter_map(|(name, amount)| Some((name.clone(), quantity::parse(amount).ok()?)));
        pod::add(&mut used, &amounts.collect());
    }
    status.used = quantities(used);
    status.pending = number(waits.iter().filter(|waiting| waiting.queue == name).count());
    status.admitted = number(workloads.iter().filter(has_place).count());
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
        let status = super::queue(&queue, &workloads, &[]);
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
        let status = pool(&object, &[node("a", true), node("b", false)], Timestamp::UNIX_EPOCH);
        assert_eq!((status.nodes, status.capacity["cpu"].as_str(), status.free["cpu"].as_str()), (1, "4", "2500m"));
        assert!(conditions::holds(&status.conditions, "Ready"));
    }
}
