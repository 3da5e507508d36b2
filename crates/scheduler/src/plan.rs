//! The order in which gangs are served, and what each gets.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::WorkId;
use crate::placement::{self, Rooms, take};
use crate::shortage::{self, Shortage};
use crate::snapshot::{Amounts, Gang, Member, MemberSet, Node, Queue, Snapshot};
use crate::table::Table;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which gangs were served.
    pub binds: Vec<Bind>,
    /// Every gang that has a member without a node once the binds are done, in order.
    pub waits: Vec<Waiting>,
}

/// Give this pod that node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub gang: String,
    pub member: String,
    pub node: String,
}

/// A gang that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub gang: String,
    pub queue: String,
    /// Place among the waiting gangs of its queue, from 1.
    pub position: u32,
    pub wait: Wait,
    /// When it is expected to start, where places are kept for it.
    pub start: Option<Start>,
}

/// Why a gang waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// The queue it names does not exist.
    QueueNotFound,
    /// The queue admits nothing now.
    QueueClosed,
    /// Some of its pods do not exist yet.
    MembersMissing { present: usize, wanted: usize },
    /// No node that it could use is ready and open to new pods.
    NoReadyNode {
        pool: String,
        /// A node it could use if that one were ready; none if the pool has no nodes.
        node: Option<String>,
    },
    /// No node meets the member's selector, affinity and tolerations.
    NoMatchingNode { pool: String, member: String },
    /// It asks for more than the pool's nodes have.
    ExceedsCapacity(Shortage),
    /// Too little is free now.
    InsufficientResources(Shortage),
    /// There is room, but it is held for gangs that go first.
    BehindOthers {
        /// The gang for whom the places are kept that it could use.
        ahead: String,
    },
    /// There seems to be room, but no arrangement of its different members was found.
    NoArrangement { pool: String },
    /// There is room, but not in one domain of the level that it must be in.
    NoDomain { pool: String },
}

/// When a gang is expected to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Whether the run times of all it waits for are known. If not, they are expected to run
    /// as long again as they have.
    pub known: bool,
}

/// Decides for every gang of the snapshot, in order: higher priority of the queue, higher
/// priority of the gang, earlier creation, smaller id.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let queues: BTreeMap<&str, &Queue> = snapshot.queues.iter().map(|queue| (queue.name.as_str(), queue)).collect();
    let mut order: Vec<&Gang> = snapshot.gangs.iter().filter(|gang| gang.sets.iter().any(|set| !set.pending.is_empty())).collect();
    order.sort_by_key(|gang| {
        let queue_priority = queues.get(gang.queue.as_str()).map_or(0, |queue| queue.priority);
        (Reverse(queue_priority), Reverse(gang.priority), gang.created_at, gang.id.as_str())
    });

    let mut round = Round::new(snapshot);
    for gang in order {
        match queues.get(gang.queue.as_str()) {
            None => round.wait(gang, Wait::QueueNotFound, None),
            Some(queue) if !queue.open => round.wait(gang, Wait::QueueClosed, None),
            Some(queue) => round.serve(gang, &queue.pool),
        }
    }
    round.plan
}

/// Members that have no place.
struct Missed {
    wait: Wait,
    start: Option<Start>,
}

/// One pass over the gangs.
struct Round<'a> {
    /// What is free, less what this plan gave out.
    free: Vec<Amounts>,
    /// What the nodes could give if nothing ran on them.
    empty: Vec<Amounts>,
    /// Sorted by name; a place is an index here and in the other lists.
    nodes: Vec<&'a Node>,
    table: Table<'a>,
    /// Gangs for which places are kept.
    holders: BTreeMap<WorkId, &'a str>,
    positions: BTreeMap<&'a str, u32>,
    plan: Plan,
}

impl<'a> Round<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut nodes: Vec<_> = snapshot.nodes.iter().collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let free = |node: &&Node| {
            let mut free = node.allocatable.clone();
            take(&mut free, &node.used, 1);
            free
        };
        Self {
            empty: nodes.iter().map(|node| node.allocatable.clone()).collect(),
            table: Table::begin(snapshot),
            holders: BTreeMap::new(),
            free: nodes.iter().map(free).collect(),
            nodes,
            positions: BTreeMap::new(),
            plan: Plan::default(),
        }
    }

    fn wait(&mut self, gang: &'a Gang, wait: Wait, start: Option<Start>) {
        let position = self.positions.entry(&gang.queue).or_default();
        *position += 1;
        let (gang, queue) = (gang.id.clone(), gang.queue.clone());
        self.plan.waits.push(Waiting { gang, queue, position: *position, wait, start });
    }

    fn serve(&mut self, gang: &'a Gang, pool: &str) {
        let present: usize = gang.sets.iter().map(|set| set.pending.len().min(set.needed())).sum();
        let wanted: usize = gang.sets.iter().map(MemberSet::needed).sum();
        if present < wanted {
            self.wait(gang, Wait::MembersMissing { present, wanted }, None);
            return;
        }
        let needed: Vec<&Member> = gang.sets.iter().flat_map(|set| &set.pending[..set.needed()]).collect();
        if !needed.is_empty()
            && let Err(missed) = self.place(gang, &needed, pool, true)
        {
            self.wait(gang, missed.wait, missed.start);
            return;
        }
        // Extras. One that found no place speaks for those like it.
        let mut left: Vec<(&Member, Wait)> = Vec::new();
        for extra in gang.sets.iter().flat_map(|set| &set.pending[set.needed()..]) {
            if left.iter().any(|(other, _)| placement::same(other, extra)) {
                continue;
            }
            if let Err(missed) = self.place(gang, &[extra], pool, false) {
                left.push((extra, missed.wait));
            }
        }
        if let Some((_, wait)) = left.into_iter().next() {
            self.wait(gang, wait, None);
        }
    }

    /// Gives all of these members their nodes, or none and says why, and when they will have
    /// them where that can be told.
    fn place(&mut self, gang: &'a Gang, members: &[&'a Member], pool: &str, waits: bool) -> Result<(), Box<Missed>> {
        let Some((work, ids)) = self.table.work(pool, gang, members, waits) else {
            return Err(Box::new(Missed { wait: self.reason(gang, members, pool, None), start: None }));
        };
        let engine = self.table.pool(pool).expect("work was made for it");
        let Some(placed) = engine.offer(&work) else {
            let ahead = engine.held_by(&work).and_then(|holder| self.holders.get(&holder).copied());
            let reservation = engine.reservations().iter().find(|reservation| reservation.work == work.id);
            let start = reservation.map(|reservation| Start { at: reservation.start_at, known: engine.is_certain(reservation) });
            if start.is_some() {
                self.holders.insert(work.id, &gang.id);
            }
            return Err(Box::new(Missed { wait: self.reason(gang, members, pool, ahead), start }));
        };
        let mut next = vec![0; ids.len()];
        let places: Vec<(&str, String)> = placed
            .iter()
            .map(|one| {
                next[one.set] += 1;
                (ids[one.set][next[one.set] - 1], engine.node_name(one.node).to_owned())
            })
            .collect();
        self.bind(gang, members, &places);
        Ok(())
    }

    /// Why these members have no place.
    fn reason(&self, gang: &Gang, members: &[&Member], pool: &str, ahead: Option<&str>) -> Wait {
        let nodes = &self.nodes;
        let in_pool = |place: usize| nodes[place].pool == pool;
        let usable = |place: usize| in_pool(place) && nodes[place].ready && nodes[place].schedulable;
        let now = Rooms { nodes, free: &self.free };
        let empty = Rooms { nodes, free: &self.empty };

        if let Some(ahead) = ahead {
            return Wait::BehindOthers { ahead: ahead.to_owned() };
        }
        let classes = placement::classes(members, nodes, usable);
        let Err(stuck) = placement::place(&classes, now) else {
            let pool = pool.to_owned();
            // Or one that the engine did not find within its bounds.
            return if gang.topology.required.is_some() { Wait::NoDomain { pool } } else { Wait::NoArrangement { pool } };
        };
        let Err(stuck_on_empty) = placement::place(&classes, empty) else {
            let shortage = shortage::find(&classes, now, &stuck, pool)
                .expect("members that fit on empty nodes and not on these lack some resource on one of them");
            return Wait::InsufficientResources(shortage);
        };

        // Less load would not help: the nodes themselves do not do.
        let known = |place: usize| in_pool(place) && nodes[place].is_known();
        let existing = placement::classes(members, nodes, known);
        let pool = pool.to_owned();
        // A node that has not said yet what it has may do.
        let unknown = (0..nodes.len()).find(|place| in_pool(*place) && !known(*place));
        let unknown = unknown.map(|place| nodes[place].name.clone());
        if !(0..nodes.len()).any(known) {
            return Wait::NoReadyNode { pool, node: unknown };
        }
        if let Some(class) = existing.iter().find(|class| class.suited.is_empty()) {
            return Wait::NoMatchingNode { pool, member: class.member.id.clone() };
        }
        let stuck_on_existing = match placement::place(&existing, empty) {
            Ok(placed) => {
                let down = placed.iter().map(|(_, place)| *place).filter(|place| !usable(*place)).min();
                return Wait::NoReadyNode { pool, node: down.map(|place| nodes[place].name.clone()) };
            }
            Err(_) if unknown.is_some() => return Wait::NoReadyNode { pool, node: unknown },
            Err(stuck) => stuck,
        };
        // The nodes in use are too small; where none is in use, say so of those that are down.
        let shortage = shortage::find(&classes, empty, &stuck_on_empty, &pool)
            .or_else(|| shortage::find(&existing, empty, &stuck_on_existing, &pool))
            .expect("every member suits some node, so one that fits nowhere lacks a resource there");
        Wait::ExceedsCapacity(shortage)
    }

    fn bind(&mut self, gang: &Gang, members: &[&Member], placed: &[(&str, String)]) {
        let requests: BTreeMap<&str, &Amounts> = members.iter().map(|member| (member.id.as_str(), &member.requests)).collect();
        for (member, node) in placed {
            let place = self.nodes.partition_point(|other| other.name < *node);
            take(&mut self.free[place], requests[member], 1);
            self.plan.binds.push(Bind { gang: gang.id.clone(), member: (*member).to_owned(), node: node.clone() });
        }
    }
}
