//! The order in which gangs are served, and what each gets.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::placement::{self, Class, Rooms, fits, take};
use crate::shortage::{self, Shortage};
use crate::snapshot::{Amounts, Gang, Member, MemberSet, Node, Queue, Snapshot};

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
        /// The first gang that holds nodes it could use.
        ahead: String,
    },
}

impl Wait {
    /// Whether less load would help: then the gang holds its nodes against those behind it.
    fn is_for_room(&self) -> bool {
        match self {
            Self::InsufficientResources(_) | Self::BehindOthers { .. } => true,
            Self::QueueNotFound
            | Self::QueueClosed
            | Self::MembersMissing { .. }
            | Self::NoReadyNode { .. }
            | Self::NoMatchingNode { .. }
            | Self::ExceedsCapacity(_) => false,
        }
    }
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
            None => round.wait(gang, Wait::QueueNotFound),
            Some(queue) if !queue.open => round.wait(gang, Wait::QueueClosed),
            Some(queue) => round.serve(gang, &queue.pool),
        }
    }
    round.plan
}

/// One pass over the gangs.
struct Round<'a> {
    /// What is free, less what this plan gave out.
    free: Vec<Amounts>,
    /// What the nodes could give if nothing ran on them.
    empty: Vec<Amounts>,
    /// Sorted by name; a place is an index here and in the other lists.
    nodes: Vec<&'a Node>,
    /// By place: the first gang that holds the node.
    held: Vec<Option<&'a str>>,
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
            held: vec![None; nodes.len()],
            free: nodes.iter().map(free).collect(),
            nodes,
            positions: BTreeMap::new(),
            plan: Plan::default(),
        }
    }

    fn wait(&mut self, gang: &'a Gang, wait: Wait) {
        let position = self.positions.entry(&gang.queue).or_default();
        *position += 1;
        let (gang, queue) = (gang.id.clone(), gang.queue.clone());
        self.plan.waits.push(Waiting { gang, queue, position: *position, wait });
    }

    fn serve(&mut self, gang: &'a Gang, pool: &str) {
        let present: usize = gang.sets.iter().map(|set| set.pending.len().min(set.needed())).sum();
        let wanted: usize = gang.sets.iter().map(MemberSet::needed).sum();
        if present < wanted {
            self.wait(gang, Wait::MembersMissing { present, wanted });
            return;
        }
        let needed: Vec<&Member> = gang.sets.iter().flat_map(|set| &set.pending[..set.needed()]).collect();
        if let Err(wait) = self.place(gang, &needed, pool) {
            if wait.is_for_room() {
                self.hold(gang, &needed, pool);
            }
            self.wait(gang, wait);
            return;
        }
        // Extras. One that found no place speaks for those like it.
        let mut left: Vec<(&Member, Wait)> = Vec::new();
        for extra in gang.sets.iter().flat_map(|set| &set.pending[set.needed()..]) {
            if left.iter().any(|(other, _)| placement::same(other, extra)) {
                continue;
            }
            if let Err(wait) = self.place(gang, &[extra], pool) {
                left.push((extra, wait));
            }
        }
        if let Some((_, wait)) = left.into_iter().next() {
            self.wait(gang, wait);
        }
    }

    /// Gives all of these members their nodes, or none and says why.
    fn place(&mut self, gang: &'a Gang, members: &[&'a Member], pool: &str) -> Result<(), Wait> {
        let nodes = &self.nodes;
        let in_pool = |place: usize| nodes[place].pool == pool;
        let usable = |place: usize| in_pool(place) && nodes[place].ready && nodes[place].schedulable;
        let now = Rooms { nodes, free: &self.free };
        let empty = Rooms { nodes, free: &self.empty };

        let open = placement::classes(members, nodes, |place| usable(place) && self.held[place].is_none());
        if let Ok(placed) = placement::place(&open, now) {
            self.bind(gang, members, &placed);
            return Ok(());
        }

        let classes = placement::classes(members, nodes, usable);
        let Err(stuck) = placement::place(&classes, now) else { return Err(self.behind(&classes)) };
        let Err(stuck_on_empty) = placement::place(&classes, empty) else {
            let shortage = shortage::find(&classes, now, &stuck, pool)
                .expect("members that fit on empty nodes and not on these lack some resource on one of them");
            return Err(Wait::InsufficientResources(shortage));
        };

        // Less load would not help: the nodes themselves do not do.
        let known = |place: usize| in_pool(place) && nodes[place].is_known();
        let existing = placement::classes(members, nodes, known);
        let pool = pool.to_owned();
        // A node that has not said yet what it has may do.
        let unknown = (0..nodes.len()).find(|place| in_pool(*place) && !known(*place));
        let unknown = unknown.map(|place| nodes[place].name.clone());
        if !(0..nodes.len()).any(known) {
            return Err(Wait::NoReadyNode { pool, node: unknown });
        }
        if let Some(class) = existing.iter().find(|class| class.suited.is_empty()) {
            return Err(Wait::NoMatchingNode { pool, member: class.member.id.clone() });
        }
        let stuck_on_existing = match placement::place(&existing, empty) {
            Ok(placed) => {
                let down = placed.iter().map(|(_, place)| *place).filter(|place| !usable(*place)).min();
                return Err(Wait::NoReadyNode { pool, node: down.map(|place| nodes[place].name.clone()) });
            }
            Err(_) if unknown.is_some() => return Err(Wait::NoReadyNode { pool, node: unknown }),
            Err(stuck) => stuck,
        };
        // The nodes in use are too small; where none is in use, say so of those that are down.
        let shortage = shortage::find(&classes, empty, &stuck_on_empty, &pool)
            .or_else(|| shortage::find(&existing, empty, &stuck_on_existing, &pool))
            .expect("every member suits some node, so one that fits nowhere lacks a resource there");
        Err(Wait::ExceedsCapacity(shortage))
    }

    fn bind(&mut self, gang: &Gang, members: &[&Member], placed: &[(&str, usize)]) {
        let requests: BTreeMap<&str, &Amounts> = members.iter().map(|member| (member.id.as_str(), &member.requests)).collect();
        for &(member, place) in placed {
            take(&mut self.free[place], requests[member], 1);
            let node = self.nodes[place].name.clone();
            self.plan.binds.push(Bind { gang: gang.id.clone(), member: member.to_owned(), node });
        }
    }

    /// The wait of a gang for which there is room on nodes that are held.
    fn behind(&self, classes: &[Class<'_>]) -> Wait {
        let holders = classes.iter().flat_map(|class| &class.suited).filter_map(|&place| self.held[place]);
        // The first in order is the first that waits.
        let first = holders.min_by_key(|holder| self.plan.waits.iter().position(|waiting| waiting.gang == **holder));
        Wait::BehindOthers { ahead: first.unwrap_or_default().to_owned() }
    }

    /// Keeps the nodes that the gang could use from those behind it.
    fn hold(&mut self, gang: &'a Gang, members: &[&'a Member], pool: &str) {
        let nodes = &self.nodes;
        let usable = |place: usize| nodes[place].pool == pool && nodes[place].ready && nodes[place].schedulable;
        for class in placement::classes(members, nodes, usable) {
            for place in class.suited {
                if fits(&class.member.requests, &self.empty[place]) {
                    self.held[place].get_or_insert(&gang.id);
                }
            }
        }
    }
}
