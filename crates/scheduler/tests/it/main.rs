//! The plan as its users see it: tables of situations, and properties over random ones.

mod adapting;
mod cards;
mod cluster;
mod engine;
mod explain;
mod faults;
mod kept;
mod moving;
mod order;
mod preemption;
mod preference;
mod properties;
mod rounds;
mod sharing;
mod titles;
mod waits;

use fermion_scheduler::{Amounts, Gang, Member, MemberSet, Node, Queue, Snapshot};

/// Amounts in whole units.
pub(crate) fn amounts(list: &[(&str, i128)]) -> Amounts {
    list.iter().map(|(name, amount)| ((*name).to_owned(), amount * 1000)).collect()
}

pub(crate) fn node(name: &str, allocatable: &[(&str, i128)]) -> Node {
    Node { name: name.into(), pool: "local".into(), ready: true, schedulable: true, allocatable: amounts(allocatable), ..Node::default() }
}

pub(crate) fn queue(name: &str, priority: u32) -> Queue {
    Queue { name: name.into(), pool: "local".into(), priority, ..Queue::default() }
}

/// A gang of `count` equal members, all needed.
pub(crate) fn gang(id: &str, created_at: i64, count: u32, requests: &[(&str, i128)]) -> Gang {
    let member = |index| Member { id: format!("{id}-{index}"), requests: amounts(requests), ..Member::default() };
    let set = MemberSet { name: "worker".into(), min: count, settled: 0, pending: (0..count).map(member).collect() };
    Gang { id: id.into(), queue: "default".into(), created_at, sets: vec![set], ..Gang::default() }
}

pub(crate) fn snapshot(nodes: Vec<Node>, gangs: Vec<Gang>) -> Snapshot {
    Snapshot { queues: vec![queue("default", 0)], nodes, gangs, ..Snapshot::default() }
}

/// `member->node` of every bind.
pub(crate) fn binds(snapshot: &Snapshot) -> Vec<String> {
    fermion_scheduler::plan(snapshot).binds.iter().map(|bind| format!("{}->{}", bind.member, bind.node)).collect()
}
