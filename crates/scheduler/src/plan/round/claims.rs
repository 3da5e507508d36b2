//! Others are stopped for gangs that have a right to it, and what they leave is kept for those.

use std::collections::{BTreeSet, HashMap};

use super::{CLAIMS_MAX, CLAIMS_TRIED_MAX, Missed, Round, needed, present};
use crate::engine::{Work, WorkId};
use crate::gang::Placed;
use crate::plan::{Cause, Eviction, Wait, eviction};
use crate::preemption::Candidate;
use crate::queue::NoClaim;
use crate::resource::Demand;
use crate::snapshot::{Gang, Member};

/// A gang for which others were told to stop.
struct Claim<'a> {
    place: usize,
    gang: &'a Gang,
    needed: Vec<&'a Member>,
    work: Work,
    ids: Vec<Vec<&'a str>>,
    demand: Demand,
}

impl<'a> Round<'a> {
    /// Gives places to those for whom others are being stopped, or keeps them, as long as it is
    /// true that they only wait for that. Answers who was served.
    pub(super) fn serve_claims(&mut self, pool: &str, places: &[usize]) -> BTreeSet<usize> {
        let world = self.world;
        let mut claims: Vec<Claim<'a>> = Vec::new();
        let mut places: Vec<usize> = places.iter().copied().filter(|place| present(world.gang(*place))).collect();
        places.sort_by_key(|place| world.gang(*place).created_at);
        for place in places {
            let gang = world.gang(place);
            let needed = needed(gang);
            let Some((work, ids)) = self.work(place, pool, gang, &needed, true).filter(|_| !needed.is_empty()) else { continue };
            let demand = self.table.asked(&needed);
            if self.titles.blockers(gang, &demand, needed.len() as u32).is_empty() {
                self.titles.charge(pool, gang, &demand);
                claims.push(Claim { place, gang, needed, work, ids, demand });
            }
        }
        let all: Vec<(usize, Demand)> = claims.iter().map(|claim| (claim.place, claim.demand.clone())).collect();
        let (claims, outcomes) = self.keep_claims(pool, claims);
        for (place, demand) in all.iter().rev().filter(|(place, _)| claims.iter().all(|claim| claim.place != *place)) {
            let gang = world.gang(*place);
            self.titles.release(pool, gang, demand, gang.placed.iter().all(|member| member.leaves_at.is_some()));
        }
        let members = self.table.parts().values().filter(|part| part.leaving).map(|part| part.members.len()).sum();
        let mut started = Vec::new();
        for (claim, placed) in claims.iter().zip(outcomes) {
            self.plan.served.push(claim.gang.id.clone());
            if let Some(placed) = placed {
                self.bind_placed(claim.gang, &claim.needed, pool, &claim.ids, &placed);
                started.push(claim.gang);
            } else {
                self.holders.insert(claim.work.id, &claim.gang.id);
                self.wait(claim.gang, *Missed::new(Wait::Evicting { members }));
            }
        }
        // More than they need they take only once all others have their places.
        for gang in started {
            self.serve_extras(gang, pool);
        }
        claims.iter().map(|claim| claim.place).collect()
    }

    /// Seats claimants, or keeps their places, so that all of them have one. Whoever finds none
    /// behind the others is tried before them; whoever finds none even so has no claim any more.
    /// Answers claims, and their seats where they have them already.
    fn keep_claims(&mut self, pool: &str, mut claims: Vec<Claim<'a>>) -> (Vec<Claim<'a>>, Vec<Option<Vec<Placed>>>) {
        let Some(engine) = self.table.pool(pool) else { return (Vec::new(), Vec::new()) };
        let mut preferred: BTreeSet<usize> = BTreeSet::new();
        loop {
            let mut outcomes = Vec::new();
            let mut failed = None;
            for (turn, claim) in claims.iter().enumerate() {
                if let Some(placed) = engine.start_now(&claim.work) {
                    outcomes.push(Some(placed));
                } else if engine.claim(&claim.work, &self.leaving) {
                    outcomes.push(None);
                } else {
                    failed = Some(turn);
                    break;
                }
            }
            let Some(turn) = failed else {
                let started = claims.iter().zip(&outcomes).filter(|(_, placed)| placed.is_some());
                self.started.extend(started.map(|(claim, _)| (pool.to_owned(), claim.work.id)));
                return (claims, outcomes);
            };
            for claim in &claims {
                engine.finish(claim.work.id);
            }
            engine.begin_round(self.world.now);
            let claim = claims.remove(turn);
            if turn > 0 && preferred.insert(claim.place) {
                claims.insert(0, claim);
            }
        }
    }

    /// Whether anybody in the pool could have a right to stop somebody.
    pub(super) fn may_evict(&mut self, pool: &str) -> bool {
        if let Some(known) = self.may_evict.get(pool) {
            return *known;
        }
        let world = self.world;
        let preempts = world.pools.iter().any(|one| one.name == pool && one.preemption);
        let promised = || world.queues.iter().any(|queue| queue.pool == pool && !queue.guaranteed.is_empty());
        let may = preempts || promised() || self.table.parts().values().any(|part| part.spare);
        self.may_evict.insert(pool.to_owned(), may);
        may
    }

    /// Stops others so that the work has room, where there is a right to it, and keeps the room
    /// for it. `first` are to be stopped in any case. Answers how many members are stopped.
    pub(super) fn evict_for(
        &mut self,
        gang: &'a Gang,
        work: &Work,
        demand: &Demand,
        pool: &str,
        first: &BTreeSet<WorkId>,
    ) -> Option<usize> {
        if self.claims >= CLAIMS_MAX || self.claims_tried >= CLAIMS_TRIED_MAX || !self.may_evict(pool) {
            return None;
        }
        self.claims_tried += 1;
        let candidates = eviction::candidates(gang, demand, self.world, self.table, self.titles, |id, part| {
            self.leaving.contains(&id) || self.given.contains(self.world.gang(part.gang).id.as_str())
        });
        if candidates.is_empty() && first.is_empty() && self.leaving.is_empty() {
            return None;
        }
        let gone: BTreeSet<WorkId> = self.leaving.union(first).copied().collect();
        let who: Vec<Candidate> = candidates.iter().map(|(candidate, _)| *candidate).filter(|one| !gone.contains(&one.work)).collect();
        let engine = self.table.pool(pool)?;
        let victims = engine.when_gone(&gone, |engine| if engine.fits(work) { Ok(Vec::new()) } else { engine.victims(work, &who) });
        let mut victims: Vec<WorkId> = victims.ok()?;
        victims.extend(first.iter().copied());
        if victims.is_empty() {
            // It only waits for those who leave anyway; that is no claim on them.
            return None;
        }
        let causes: HashMap<WorkId, Cause> = candidates.iter().map(|(candidate, cause)| (candidate.work, *cause)).collect();
        let all: BTreeSet<WorkId> = gone.iter().chain(&victims).copied().collect();
        let engine = self.table.pool(pool)?;
        if !engine.claim(work, &all) {
            return None;
        }
        self.claims += 1;
        self.holders.insert(work.id, &gang.id);
        let before = std::mem::replace(&mut self.leaving, all);
        let mut count = 0;
        let mut whole: BTreeSet<usize> = BTreeSet::new();
        for id in &victims {
            whole.extend(self.table.parts().get(id).filter(|part| !part.spare).map(|part| part.gang));
        }
        let touched: BTreeSet<usize> = victims.iter().filter_map(|id| Some(self.table.parts().get(id)?.gang)).collect();
        let mut touched: Vec<usize> = touched.into_iter().collect();
        touched.sort_by_key(|place| &self.world.gang(*place).id);
        for place in touched {
            let mut stopped: Option<(Vec<String>, Cause, Demand)> = None;
            for id in self.world.kept(place).parts() {
                // With its needed members a gang gives up those beyond.
                let Some(part) = self.table.parts().get(id) else { continue };
                if before.contains(id) || !(victims.contains(id) || whole.contains(&place)) {
                    continue;
                }
                let cause = causes.get(id).copied().unwrap_or(Cause::Reclaimed);
                let entry = stopped.get_or_insert_with(|| (Vec::new(), cause, Demand::default()));
                entry.0.extend(part.members.iter().cloned());
                entry.1 = if whole.contains(&place) && part.spare { entry.1 } else { cause };
                entry.2.add(&part.size);
                self.leaving.insert(*id);
            }
            let Some((members, cause, size)) = stopped else { continue };
            let victim = self.world.gang(place);
            count += members.len();
            self.titles.release(pool, victim, &size, whole.contains(&place));
            if whole.contains(&place) {
                self.stopped.insert(place, &gang.id);
            }
            let (gang, claimant) = (victim.id.clone(), gang.id.clone());
            self.plan.evictions.push(Eviction { gang, members, whole: whole.contains(&place), claimant, cause });
        }
        self.titles.charge(pool, gang, demand);
        Some(count)
    }

    /// Work whose end gives the queue what it is promised of the limits above it.
    pub(super) fn reclaimed(&self, gang: &Gang, demand: &Demand) -> Option<BTreeSet<WorkId>> {
        let queues = self.titles.queue_tree();
        let own = self.titles.queue(gang)?;
        let claim = match queues.claim(own, demand) {
            Ok(claim) if !claim.takings.is_empty() => claim,
            Ok(_) | Err(NoClaim::BeyondGuarantee { .. } | NoClaim::Overpromised { .. }) => return None,
        };
        let candidates = eviction::candidates(gang, demand, self.world, self.table, self.titles, |id, part| {
            self.leaving.contains(&id) || self.given.contains(self.world.gang(part.gang).id.as_str())
        });
        let mut first = BTreeSet::new();
        for taking in claim.takings {
            let mut left = taking.amount;
            for (candidate, _) in &candidates {
                let part = &self.table.parts()[&candidate.work];
                let victim = self.world.gang(part.gang);
                if left <= 0 || self.titles.queue(victim) != Some(taking.queue) {
                    continue;
                }
                let size = part.size.get(taking.resource);
                if size > 0 {
                    left -= size;
                    first.insert(candidate.work);
                }
            }
            if left > 0 {
                return None;
            }
        }
        Some(first)
    }

    /// Stops what a gang has of the members it needs, as it cannot have the rest.
    pub(super) fn give_up(&mut self, place: usize, gang: &'a Gang, pool: &str) {
        let parts = self.world.kept(place).parts().iter().copied();
        let parts: Vec<WorkId> = parts.filter(|id| self.table.parts().contains_key(id) && !self.leaving.contains(id)).collect();
        let mut members = Vec::new();
        let mut size = Demand::default();
        for id in &parts {
            let part = &self.table.parts()[id];
            members.extend(part.members.iter().cloned());
            size.add(&part.size);
        }
        let soon = self.world.now.saturating_add(1);
        if let Some(engine) = self.table.pool(pool) {
            for id in &parts {
                engine.expect_end(*id, Some(soon));
            }
        }
        self.leaving.extend(parts);
        self.titles.release(pool, gang, &size, true);
        let (gang, claimant) = (gang.id.clone(), gang.id.clone());
        self.plan.evictions.push(Eviction { gang, members, whole: true, claimant, cause: Cause::Incomplete });
    }
}
