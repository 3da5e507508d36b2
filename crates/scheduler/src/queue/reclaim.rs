//! Who has to give back what, so that a queue gets what it is promised.
//!
//! A claim goes up from the queue, level by level. At each level the siblings that are beyond
//! their guarantee give first, those furthest beyond first, and what they give comes from those
//! below them that are beyond theirs. Only when a level has no more to give does the next one,
//! so a branch never takes from outside what it could take inside.
//!
//! Why it ends: what is claimed is within the claimant's guarantee, so a claim makes nobody
//! exceed a guarantee, and each one lowers the sum of what is beyond guarantees. Why it is
//! enough: once nobody at a level is beyond its guarantee, the level and the claim together are
//! within the parent's, because children are never promised more than the parent.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::share::Rise;
use super::{QueueId, Queues, Reason};
use crate::resource::{Demand, ResourceId};

/// What others have to give back before a demand fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub takings: Vec<Taking>,
}

/// An amount to take from what a queue itself uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Taking {
    pub queue: QueueId,
    pub resource: ResourceId,
    pub amount: i64,
}

/// Why nothing can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoClaim {
    /// With the demand the queue would be this far beyond its own guarantee.
    BeyondGuarantee { resource: ResourceId, by: i64 },
    /// All that others have beyond their guarantees is less than needed by this: the pool has
    /// less than it promised.
    Overpromised { resource: ResourceId, missing: i64 },
}

impl Queues {
    /// What to take from whom so that the queue may use this in addition. Empty when it fits
    /// already. Costs the queues beside those on the way up that are beyond their guarantees.
    pub fn claim(&self, id: QueueId, demand: &Demand) -> Result<Claim, NoClaim> {
        let mut claim = Claim::default();
        for (resource, amount) in demand.iter() {
            if self.missing(Rise::at(id, resource, amount)) > 0 {
                let node = self.node(id);
                let by = node.inner.get(resource).saturating_add(amount) - node.guarantee(resource);
                if by > 0 {
                    return Err(NoClaim::BeyondGuarantee { resource, by });
                }
                self.claim_one(id, resource, amount, &mut claim.takings)?;
            }
        }
        Ok(claim)
    }

    /// Whether the claimant, which asks for this much, may have a workload of that size in the
    /// victim's queue ended now: it must use something that is short and that its queue has
    /// beyond its guarantee. A workload is whole, so that its queue may fall below its guarantee
    /// by it; it then has a claim itself, but never on what the claimant was promised.
    pub fn may_take(&self, claimant: QueueId, demand: &Demand, victim: QueueId, size: &Demand) -> bool {
        let used = demand.iter().filter(|(resource, _)| size.get(*resource) > 0);
        used.into_iter().any(|(resource, amount)| self.may_take_one(claimant, resource, amount, victim))
    }

    /// The same for a claimant that finds no room though the amounts are there: as long as it
    /// stays within its guarantee with the demand, it may have whatever its place takes of what
    /// others use beyond theirs.
    pub fn has_claim_on(&self, claimant: QueueId, demand: &Demand, victim: QueueId, size: &Demand) -> bool {
        let promised = demand.iter().any(|(resource, _)| self.guarantee(claimant, resource) > 0);
        let within = |resource, amount| {
            let guarantee = self.guarantee(claimant, resource);
            // What nobody was promised is no reason against it.
            guarantee == 0 || self.node(claimant).inner.get(resource).saturating_add(amount) <= guarantee
        };
        promised
            && demand.iter().all(|(resource, amount)| within(resource, amount))
            && demand.iter().any(|(resource, amount)| {
                size.get(resource) > 0 && self.guarantee(claimant, resource) > 0 && self.sides(claimant, resource, amount, victim).is_some()
            })
    }

    /// How much of what runs in this very queue would have to end so that this reason does not
    /// stand against so much more of the resource; `None` when all of it is not enough.
    pub fn to_end(&self, id: QueueId, resource: ResourceId, amount: i64, reason: Reason) -> Option<i64> {
        let rise = Rise::at(id, resource, amount);
        let stands = |ended: i64| {
            let mut stands = false;
            self.each_shortage(rise.less(ended), &mut |shortage| stands |= shortage.reason == reason);
            stands
        };
        let own = self.node(id).own.get(resource);
        let least = least(own, |ended| !stands(ended));
        (!stands(least)).then_some(least)
    }

    fn may_take_one(&self, claimant: QueueId, resource: ResourceId, amount: i64, victim: QueueId) -> bool {
        self.sides(claimant, resource, amount, victim).is_some_and(|rise| self.missing(rise) > 0)
    }

    /// Where the ways up from the two meet, if up to there the claimant's side is within its
    /// guarantees and the victim's beyond them.
    fn sides(&self, claimant: QueueId, resource: ResourceId, amount: i64, victim: QueueId) -> Option<Rise> {
        let victims: Vec<QueueId> = self.path(victim).collect();
        let mut rise = Rise::at(claimant, resource, amount);
        let mut meets = victims.len();
        while let Some(id) = rise.next {
            if let Some(place) = victims.iter().position(|other| *other == id) {
                // A queue claims neither from itself nor from one below it.
                if id == claimant {
                    return None;
                }
                meets = place;
                break;
            }
            let node = self.node(id);
            if node.inner.get(resource).saturating_add(rise.draw) > node.guarantee(resource) {
                return None;
            }
            rise = self.rise_above(id, rise);
        }
        let mut between = victims[..meets].iter().skip(1);
        (self.own_over(victim, resource) > 0 && between.all(|id| self.node(*id).over(resource) > 0)).then_some(rise)
    }

    fn claim_one(&self, id: QueueId, resource: ResourceId, amount: i64, takings: &mut Vec<Taking>) -> Result<(), NoClaim> {
        // Nothing is in the way at the claimant itself: it is within its guarantee, which its
        // limit is not below.
        let mut rise = self.rise_above(id, Rise::at(id, resource, amount));
        let mut from = id;
        loop {
            let missing = self.missing(rise);
            if missing == 0 {
                return Ok(());
            }
            let there = self.beside(rise.next, from, resource);
            let taken = self.enough(rise, missing.min(there));
            self.take_beside(rise.next, from, resource, taken, takings);
            rise = rise.less(taken);
            let Some(above) = rise.next else {
                let missing = self.missing(rise);
                return if missing == 0 { Ok(()) } else { Err(NoClaim::Overpromised { resource, missing }) };
            };
            rise = self.rise_above(above, rise);
            from = above;
        }
    }

    /// The least to take here so that nothing is missing any more; all of it if that is not
    /// enough. Taking more never makes more missing.
    fn enough(&self, rise: Rise, all: i64) -> i64 {
        least(all, |taken| self.missing(rise.less(taken)) == 0)
    }

    /// The most that is missing anywhere from here up.
    fn missing(&self, rise: Rise) -> i64 {
        let mut most = 0;
        self.each_shortage(rise, &mut |shortage| most = most.max(shortage.missing));
        most
    }

    fn children(&self, above: Option<QueueId>) -> &BTreeSet<QueueId> {
        above.map_or(&self.top, |above| &self.node(above).children)
    }

    /// How much there is beyond guarantees directly under a queue (or at the top), except on the
    /// claimant's own way.
    fn beside(&self, above: Option<QueueId>, except: QueueId, resource: ResourceId) -> i64 {
        let children = self.children(above).iter().filter(|child| **child != except).map(|child| self.node(*child).over(resource));
        children.fold(above.map_or(0, |above| self.own_over(above, resource)), i64::saturating_add)
    }

    /// Takes that much there, or what there is. Answers what is left to take.
    fn take_beside(&self, above: Option<QueueId>, except: QueueId, resource: ResourceId, amount: i64, takings: &mut Vec<Taking>) -> i64 {
        let mut left = amount;
        if let Some(queue) = above {
            let amount = self.own_over(queue, resource).min(left);
            if amount > 0 {
                takings.push(Taking { queue, resource, amount });
            }
            left -= amount;
        }
        let children = self.children(above).iter().filter(|child| **child != except);
        let mut over: Vec<_> = children.map(|child| (Reverse(self.node(*child).over(resource)), *child)).collect();
        over.sort_unstable();
        for (Reverse(most), child) in over {
            let wanted = left.min(most);
            if wanted == 0 {
                break;
            }
            left -= wanted - self.take_beside(Some(child), child, resource, wanted, takings);
        }
        left
    }

    /// What is charged to this very queue beyond what its children leave of its guarantee.
    pub(crate) fn own_over(&self, id: QueueId, resource: ResourceId) -> i64 {
        let node = self.node(id);
        let left = node.guarantee(resource) - node.promised.get(resource);
        (node.own.get(resource) - left).max(0)
    }
}

/// The least amount, up to a most, that is enough; the most if none is. More is never worse.
fn least(most: i64, enough: impl Fn(i64) -> bool) -> i64 {
    let (mut least, mut most) = (0, most);
    while least < most {
        let middle = least + (most - least) / 2;
        if enough(middle) {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    least
}
