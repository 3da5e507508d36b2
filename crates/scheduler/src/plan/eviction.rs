//! Who may be stopped for whom.
//!
//! Why it comes to an end: a claim takes from a queue what it has beyond its guarantee and gives
//! it to one that stays within its own; priority takes from nobody what is guaranteed to them,
//! and always gives to who is more important. Who was stopped cannot take back the place, as it
//! is kept for the claimant and counted as the claimant's from the moment of the eviction on.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Cause;
use crate::engine::WorkId;
use crate::planner::World;
use crate::preemption::Candidate;
use crate::queue::{QueueId, Queues};
use crate::resource::{Demand, ResourceId};
use crate::snapshot::{Gang, Pool};
use crate::table::{Part, Table};
use crate::titles::Titles;

/// The right by which a part of running work may be stopped for a gang; `None` if it may not.
fn cause(claimant: &Gang, demand: &Demand, victim: &Gang, size: &Demand, spare: bool, titles: &Titles, settings: &Pool) -> Option<Cause> {
    if spare {
        return Some(Cause::Spare);
    }
    let queues = titles.queue_tree();
    let (own, other) = (titles.queue(claimant)?, titles.queue(victim)?);
    if own == other {
        return (settings.preemption && victim.priority < claimant.priority).then_some(Cause::Priority);
    }
    if queues.has_claim_on(own, demand, other, size) {
        return Some(Cause::Reclaimed);
    }
    let lower = queues.config(other).priority < queues.config(own).priority;
    (settings.preemption && lower).then_some(Cause::QueuePriority)
}

/// What was taken from queues by candidates so far, that of queues below included.
#[derive(Default)]
struct Taken(BTreeMap<QueueId, Demand>);

impl Taken {
    fn get(&self, queue: QueueId, resource: ResourceId) -> i64 {
        self.0.get(&queue).map_or(0, |taken| taken.get(resource))
    }

    /// Whether the right still holds when all candidates before this one are stopped as well. If
    /// so it is a candidate too.
    fn allows(&mut self, queues: &Queues, claimant: QueueId, queue: QueueId, demand: &Demand, size: &Demand, cause: Cause) -> bool {
        let allowed = match cause {
            _ if queue == claimant => true,
            Cause::Priority | Cause::Incomplete | Cause::Moved => true,
            // Spare members count first, so that no gang ends for what they have too much.
            Cause::Spare | Cause::Reclaimed => {
                demand.iter().any(|(resource, _)| size.get(resource) > 0 && queues.own_over(queue, resource) > self.get(queue, resource))
            }
            // What is promised to a queue, and to those above it, is left to it.
            Cause::QueuePriority => queues.path(queue).all(|id| {
                size.iter().all(|(resource, amount)| {
                    let promised = queues.guarantee(id, resource);
                    promised == 0 || queues.used(id).get(resource) - self.get(id, resource) - amount >= promised
                })
            }),
        };
        if allowed {
            for id in queues.path(queue) {
                self.0.entry(id).or_default().add(size);
            }
        }
        allowed
    }
}

/// By what right, priority, amount, the latest start first, the name, and
/// the turn among the parts of the gang.
type Rank<'s> = (Cause, i32, i64, Reverse<(i64, i64)>, &'s str, usize);

/// Running work that may be stopped for a gang, those first that one would rather stop, with the
/// right to it. What was told to stop already is not among them, nor who `kept` says is to stay.
pub(super) fn candidates(
    claimant: &Gang,
    demand: &Demand,
    snapshot: &World,
    table: &Table,
    titles: &Titles,
    kept: impl Fn(WorkId, &Part) -> bool,
) -> Vec<(Candidate, Cause)> {
    let pool = snapshot.queues.iter().find(|queue| queue.name == claimant.queue).map_or("", |queue| queue.pool.as_str());
    let settings = snapshot.pools.iter().find(|one| one.name == pool).cloned().unwrap_or_default();
    let ran_enough = |gang: &Gang| snapshot.now.saturating_sub(gang.started_at) >= settings.run_ms_min;
    let mut found: Vec<(Rank<'_>, WorkId)> = Vec::new();
    for (id, part) in table.parts() {
        let victim = snapshot.gang(part.gang);
        if part.leaving || victim.id == claimant.id || !victim.preemptible || kept(*id, part) {
            continue;
        }
        if !part.spare && !ran_enough(victim) {
            continue;
        }
        let size = &part.size;
        if let Some(cause) = cause(claimant, demand, victim, size, part.spare, titles, &settings) {
            // Of equals the smaller, so that less is stopped; then the one that ran least.
            let amount: i64 = size.iter().filter(|(resource, _)| demand.get(*resource) > 0).map(|(_, amount)| amount).sum();
            found.push(((cause, victim.priority, amount, Reverse((victim.started_at, victim.created_at)), &victim.id, part.turn), *id));
        }
    }
    found.sort_unstable();
    let mut taken = Taken::default();
    let Some(own) = titles.queue(claimant) else { return Vec::new() };
    found.retain(|((cause, ..), work)| {
        let part = &table.parts()[work];
        let queue = titles.queue(snapshot.gang(part.gang));
        queue.is_some_and(|queue| taken.allows(titles.queue_tree(), own, queue, demand, &part.size, *cause))
    });
    found.into_iter().map(|((cause, ..), work)| (Candidate { work, tier: cause as u32 }, cause)).collect()
}
