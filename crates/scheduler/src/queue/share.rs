//! What a queue may use now, and its sums as workloads start and end.

use smallvec::SmallVec;

use super::{QueueId, Queues};
use crate::resource::{Demand, ResourceId, Vector};

/// What stands in the way of a demand, at one queue and in one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub reason: Reason,
    pub resource: ResourceId,
    /// How much more must be there, or be allowed.
    pub missing: i64,
    /// How much of the demand arrives there; the rest comes from what queues below keep. Less
    /// than what is missing where more is used already than may be.
    pub added: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// This queue, the one asked or one above it, would go beyond its limit.
    Limit(QueueId),
    /// This queue would go beyond its guarantee, and may not borrow.
    MayNotBorrow(QueueId),
    /// All of the pool is used, or kept by queues that do not lend.
    NothingToBorrow,
}

/// How far a queue is beyond its guarantee, level by level from the top: smaller is served first.
/// Each number is the largest part of the pool's capacity, in millionths, that is borrowed of any
/// resource, divided by the queue's weight.
///
/// Comparing level by level, a parent's share decides before its children's do, however many
/// children it has (as Slurm's Fair Tree does for users).
pub type Standing = SmallVec<[i64; 4]>;

/// Millionths.
const SHARE_UNIT: i128 = 1_000_000;

impl Queues {
    /// Whether the queue may use this in addition. Answers how much of it is borrowed, that is
    /// above the queue's own guarantee, or the first thing in the way.
    pub fn fits(&self, id: QueueId, demand: &Demand) -> Result<Demand, Shortage> {
        for (resource, amount) in demand.iter() {
            let mut first = None;
            self.each_shortage(Rise::at(id, resource, amount), &mut |shortage| {
                first.get_or_insert(shortage);
            });
            if let Some(shortage) = first {
                return Err(shortage);
            }
        }
        Ok(self.borrowed(id, demand))
    }

    /// How much of a demand would be above the queue's own guarantee.
    pub fn borrowed(&self, id: QueueId, demand: &Demand) -> Demand {
        let node = self.node(id);
        let borrowed = demand.iter().map(|(resource, amount)| {
            let above = node.inner.get(resource).saturating_add(amount) - node.guarantee(resource);
            (resource, above.clamp(0, amount))
        });
        borrowed.collect()
    }

    /// What workloads of this very queue use, without those below it.
    pub fn own_use(&self, id: QueueId, resource: ResourceId) -> i64 {
        self.node(id).own.get(resource)
    }

    /// Everything that is in the way, resource by resource and from below.
    pub fn shortages(&self, id: QueueId, demand: &Demand) -> Vec<Shortage> {
        let mut found = Vec::new();
        for (resource, amount) in demand.iter() {
            self.each_shortage(Rise::at(id, resource, amount), &mut |shortage| found.push(shortage));
        }
        found
    }

    /// Counts what a workload uses from now on. It is a fact, so it is counted whether it fits or
    /// not.
    pub fn charge(&mut self, id: QueueId, demand: &Demand) {
        for (resource, amount) in demand.iter() {
            self.shift(id, resource, amount);
        }
    }

    /// Takes back what was charged.
    pub fn release(&mut self, id: QueueId, demand: &Demand) {
        for (resource, amount) in demand.iter() {
            debug_assert!(self.node(id).own.get(resource) >= amount, "more is released than was charged");
            self.shift(id, resource, -amount);
        }
    }

    /// What the queue uses above its guarantee.
    pub fn over(&self, id: QueueId) -> Vector {
        let node = self.node(id);
        node.inner.iter().map(|(resource, _)| (resource, node.over(resource))).collect()
    }

    /// How far the queue and those above it are beyond their guarantees.
    pub fn standing(&self, id: QueueId) -> Standing {
        let mut standing: Standing = self.path(id).map(|id| self.share(id)).collect();
        standing.reverse();
        standing
    }

    /// The largest borrowed part of the pool, in millionths, over the weight.
    fn share(&self, id: QueueId) -> i64 {
        let node = self.node(id);
        let parts = self.capacity.iter().filter(|(_, capacity)| *capacity > 0).map(|(resource, capacity)| {
            let part = i128::from(node.over(resource)) * SHARE_UNIT / i128::from(capacity) / i128::from(node.config.weight);
            i64::try_from(part).unwrap_or(i64::MAX)
        });
        parts.max().unwrap_or(0)
    }

    fn shift(&mut self, id: QueueId, resource: ResourceId, amount: i64) {
        let own = &mut self.node_mut(id).own;
        own[resource] = own[resource].saturating_add(amount);
        let (mut next, mut draw) = (Some(id), amount);
        while let Some(id) = next {
            let node = self.node_mut(id);
            let before = node.drawn(resource);
            node.used[resource] = node.used[resource].saturating_add(amount);
            node.inner[resource] = node.inner[resource].saturating_add(draw);
            draw = node.drawn(resource) - before;
            next = node.config.parent;
        }
        self.drawn[resource] = self.drawn[resource].saturating_add(draw);
    }

    /// What would be in the way on the way up.
    pub(super) fn each_shortage(&self, mut rise: Rise, found: &mut impl FnMut(Shortage)) {
        let resource = rise.resource;
        let mut report = |reason, missing, added| {
            if missing > 0 {
                found(Shortage { reason, resource, missing, added });
            }
        };
        while let Some(id) = rise.next {
            let node = self.node(id);
            if let Some(limit) = node.config.limit.get(resource) {
                report(Reason::Limit(id), (node.used.get(resource) - rise.taken).saturating_add(rise.used) - limit, rise.used);
            }
            // What it keeps anyway it need not draw.
            if let Some(guarantee) = node.config.guaranteed.get(resource).filter(|_| rise.draw > 0 && !node.config.borrows) {
                report(Reason::MayNotBorrow(id), (node.inner.get(resource) - rise.left).saturating_add(rise.draw) - guarantee, rise.draw);
            }
            rise = self.rise_above(id, rise);
        }
        if let Some(capacity) = self.capacity.get(resource).filter(|_| rise.draw > 0) {
            report(Reason::NothingToBorrow, (self.drawn.get(resource) - rise.left).saturating_add(rise.draw) - capacity, rise.draw);
        }
    }

    /// The rise as it leaves a queue upwards.
    pub(super) fn rise_above(&self, id: QueueId, rise: Rise) -> Rise {
        let node = self.node(id);
        let kept = node.kept(rise.resource);
        let inner = node.inner.get(rise.resource) - rise.left;
        let drawn = inner.max(kept);
        let draw = inner.saturating_add(rise.draw).max(kept) - drawn;
        Rise { next: node.config.parent, draw, left: node.drawn(rise.resource) - drawn, ..rise }
    }
}

/// A demand for one resource as it reaches a queue from below, after some was taken from others
/// there.
#[derive(Clone, Copy)]
pub(super) struct Rise {
    /// The queue it reaches; `None` is the pool.
    pub(super) next: Option<QueueId>,
    pub(super) resource: ResourceId,
    /// What is asked, more than zero.
    pub(super) used: i64,
    /// How much of it is to be drawn from here.
    pub(super) draw: i64,
    /// How much less is used here by what was taken.
    pub(super) taken: i64,
    /// How much less is drawn from here by what was taken.
    pub(super) left: i64,
}

impl Rise {
    pub(super) fn at(id: QueueId, resource: ResourceId, amount: i64) -> Self {
        Self { next: Some(id), resource, used: amount, draw: amount, taken: 0, left: 0 }
    }

    /// The same with more taken below where it is now.
    pub(super) fn less(self, taken: i64) -> Self {
        Self { taken: self.taken + taken, left: self.left + taken, ..self }
    }
}
