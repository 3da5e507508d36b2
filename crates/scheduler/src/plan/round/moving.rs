//! Running work is moved together so that a gang has room.
//!
//! Who is moved is stopped and starts over elsewhere: its new place is kept from the decision on until
//! it has it. Why it comes to an end: nobody is moved before they ran a while where they are, so many
//! in an hour, and only for the first that waits, while no place is kept for anybody else.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{CLAIMS_MAX, CLAIMS_TRIED_MAX, Round};
use crate::engine::{Work, WorkId};
use crate::environment::Environment;
use crate::plan::{Cause, Eviction};
use crate::preemption::Candidate;
use crate::resource::Demand;
use crate::snapshot::{Consolidation, Gang, Member, PlacedMember};
use crate::table::Part;

impl<'a> Round<'a> {
    /// Moves others so that the work has room, if all of them have a place elsewhere, and keeps those places.
    /// Answers how many members are stopped.
    pub(super) fn move_for(&mut self, gang: &'a Gang, work: &Work, demand: &Demand, pool: &str) -> Option<usize> {
        let settings = self.world.pools.iter().find(|one| one.name == pool)?.consolidation?;
        let most = settings.moves_max.min(settings.moves_left);
        if most == 0 || self.claims >= CLAIMS_MAX || self.claims_tried >= CLAIMS_TRIED_MAX || !self.leaving.is_empty() {
            return None;
        }
        let engine = self.table.pool(pool)?;
        if engine.reservations().iter().any(|reservation| reservation.work != work.id) || !engine.has_in_sum(demand) {
            return None;
        }
        self.claims_tried += 1;
        let candidates = self.movable(gang, settings);
        let engine = self.table.pool(pool)?;
        let victims = engine.victims(work, &candidates).ok()?;
        if victims.is_empty() || victims.len() > most {
            return None;
        }
        let movers: Vec<(&'a Gang, Work)> = victims.iter().map(|id| self.mover(*id, pool)).collect::<Option<_>>()?;
        let engine = self.table.pool(pool)?;
        engine.moves(work, movers.iter().map(|(_, mover)| mover).collect())?;
        let gone: BTreeSet<WorkId> = victims.into_iter().collect();
        if !engine.claim(work, &gone) {
            return None;
        }
        self.claims += 1;
        self.holders.insert(work.id, &gang.id);
        self.titles.charge(pool, gang, demand);
        let mut count = 0;
        for (mover, again) in movers {
            let place = self.world.slot(&mover.id).expect("it runs");
            let id = self.table.fresh();
            self.keep_elsewhere(mover, Work { id, ..again }, pool, &gone);
            self.stopped.insert(place, &gang.id);
            let members: Vec<String> = mover.placed.iter().map(|member| member.id.clone()).collect();
            count += members.len();
            let (id, claimant) = (mover.id.clone(), gang.id.clone());
            self.plan.evictions.push(Eviction { gang: id, members, whole: true, claimant, cause: Cause::Moved });
        }
        self.leaving = gone;
        Some(count)
    }

    /// Counts those who were moved and have not stopped yet as if they ran, so that they can start over. Answers them, as
    /// they will.
    pub(super) fn charge_moved(&mut self, pool: &str, places: &[usize]) -> Vec<(&'a Gang, Work)> {
        let world = self.world;
        let leaves = |slot: &usize| {
            let gang = world.gang(*slot);
            !gang.placed.is_empty() && gang.placed.iter().all(|member| member.leaves_at.is_some() && member.again.is_some())
        };
        let mut moved = Vec::new();
        for slot in places.iter().copied().filter(leaves) {
            let gang = world.gang(slot);
            let Some((work, size)) = self.again(slot, pool) else { continue };
            if self.titles.blockers(gang, &size, gang.placed.len() as u32).is_empty() {
                self.titles.charge(pool, gang, &size);
                moved.push((gang, work));
            }
        }
        moved
    }

    /// Keeps places for them.
    pub(super) fn keep_for_moved(&mut self, pool: &str, moved: Vec<(&'a Gang, Work)>) {
        for (gang, work) in moved {
            let leaving = self.leaving.clone();
            self.keep_elsewhere(gang, work, pool, &leaving);
        }
    }

    fn keep_elsewhere(&mut self, gang: &'a Gang, work: Work, pool: &str, leaving: &BTreeSet<WorkId>) {
        // Where others were quicker it waits like everybody.
        if self.table.pool(pool).is_some_and(|engine| engine.claim(&work, leaving)) {
            self.holders.insert(work.id, &gang.id);
        }
    }

    /// Running work that may be moved for a gang, those first of whom least is stopped, and lost.
    fn movable(&self, claimant: &Gang, settings: Consolidation) -> Vec<Candidate> {
        let goes_again = |member: &PlacedMember| member.again.is_some() && !member.spare && member.leaves_at.is_none();
        let may = |part: &Part| {
            let gang = self.world.gang(part.gang);
            gang.preemptible
                && gang.environment != Environment::Development
                && gang.id != claimant.id
                && self.world.now.saturating_sub(gang.started_at) >= settings.run_ms_min
                && gang.placed.len() == part.members.len()
                && gang.placed.iter().all(goes_again)
                && gang.sets.iter().all(|set| set.pending.is_empty())
                && !self.given.contains(gang.id.as_str())
        };
        let mut found: Vec<_> = self
            .table
            .parts()
            .iter()
            .filter(|(_, part)| may(part))
            .map(|(id, part)| {
                let gang = self.world.gang(part.gang);
                (part.members.len(), Reverse(gang.started_at), gang.id.as_str(), *id)
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(.., work)| Candidate { work, tier: 0 }).collect()
    }

    /// What is to be moved, if rules let it start over now.
    fn mover(&mut self, id: WorkId, pool: &str) -> Option<(&'a Gang, Work)> {
        let world = self.world;
        let slot = self.table.parts().get(&id)?.gang;
        let gang = world.gang(slot);
        let (work, size) = self.again(slot, pool)?;
        let anew = Gang { placed: Vec::new(), ..gang.clone() };
        self.titles.release(pool, gang, &size, true);
        let free = self.titles.blockers(&anew, &size, gang.placed.len() as u32).is_empty();
        self.titles.charge(pool, &anew, &size);
        let starts = self.queues.get(gang.queue.as_str()).is_some_and(|queue| queue.state.starts());
        (free && starts).then_some((gang, Work { id, ..work }))
    }

    /// What runs of a gang, as it would start over.
    fn again(&mut self, slot: usize, pool: &str) -> Option<(Work, Demand)> {
        let world = self.world;
        let gang = world.gang(slot);
        let members: Vec<&Arc<Member>> = gang.placed.iter().map(|member| member.again.as_ref()).collect::<Option<_>>()?;
        let members: Vec<&Member> = members.into_iter().map(AsRef::as_ref).collect();
        if !self.table.has_pool(pool) {
            return None;
        }
        let (sets, _) = self.table.kinds(&members, self.table.sharing(slot, gang));
        let work = Work { run_ms: gang.run_ms, topology: gang.topology, waits: true, ..Work::new(self.table.fresh(), sets) };
        Some((work, self.table.asked(&members)))
    }
}
