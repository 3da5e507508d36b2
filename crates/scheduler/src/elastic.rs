//! Members beyond the minimum: they take what nobody waits for, and give it back first.
//!
//! Each such member runs as a piece of work of its own beside its parent, so that it can be
//! stopped alone and is counted like everything else. It holds no reservation and none is
//! made for it.

use crate::cluster::Cluster;
use crate::engine::{Engine, Members, Millis, Running, Work, WorkId};
use crate::gang::{self, Placed, Set};
use crate::preemption::Candidate;

/// Running work that could use more members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elastic {
    pub parent: WorkId,
    /// One member more, of the set that can grow.
    pub member: Members,
    /// How many more, at most.
    pub more: u32,
}

/// A member more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    pub parent: WorkId,
    /// The number it runs under.
    pub id: WorkId,
    pub placed: Placed,
}

impl Engine {
    /// Gives what is free to work that can use it: one member each in turn, so that all grow
    /// alike, in the order given. Places kept for work that waits are left alone. `next` makes
    /// the numbers of new members.
    pub fn grow(&mut self, now: Millis, elastic: &[Elastic], mut next: impl FnMut() -> WorkId) -> Vec<Grown> {
        let mut grown = Vec::new();
        let mut left: Vec<(&Elastic, u32)> =
            elastic.iter().filter(|one| self.running.contains_key(&one.parent)).map(|one| (one, one.more)).collect();
        while !left.is_empty() {
            left.retain_mut(|(one, more)| {
                if *more == 0 {
                    return false;
                }
                let Some(placed) = seat_one(&mut self.cluster, &one.member) else { return false };
                let id = next();
                let ends_at = self.running[&one.parent].ends_at;
                let running = Running { placed: vec![placed.clone()], started_at: now, ends_at, parent: Some(one.parent) };
                self.running.insert(id, running);
                self.members.entry(one.parent).or_default().insert(id);
                grown.push(Grown { parent: one.parent, id, placed });
                *more -= 1;
                true
            });
        }
        grown
    }

    /// Members beyond the minimum by whose end the work has room; none when they are not
    /// enough, or not needed.
    pub fn shrink_for(&mut self, work: &Work) -> Vec<WorkId> {
        let extras = self.running.iter().filter(|(_, running)| running.parent.is_some());
        // Those that came last go first.
        let mut extras: Vec<(Millis, WorkId)> = extras.map(|(id, running)| (running.started_at, *id)).collect();
        extras.sort_unstable_by(|a, b| b.cmp(a));
        let candidates: Vec<Candidate> = extras.into_iter().map(|(_, work)| Candidate { work, tier: 0 }).collect();
        if candidates.is_empty() { Vec::new() } else { self.victims(work, &candidates).unwrap_or_default() }
    }
}

fn seat_one(cluster: &mut Cluster, member: &Members) -> Option<Placed> {
    let set = Set { class: cluster.class(&member.request), count: 1, per_node_max: None };
    gang::seat(cluster, &[set], gang::Topology::default()).and_then(|mut placed| placed.pop())
}
