//! Why work has no room.

use super::Round;
use crate::engine::Work;
use crate::placement::{self, Rooms};
use crate::plan::Wait;
use crate::sharing::Sharing;
use crate::shortage;
use crate::snapshot::{Amounts, Gang, Member, Milli, Node};
use crate::table::CPU;

impl<'a> Round<'a> {
    /// Why work has no room. Of what asks for the same one speaks for all, as long as nothing is
    /// given or kept in between.
    pub(super) fn reason_of(&mut self, gang: &'a Gang, members: &[&'a Member], work: &Work, pool: &str) -> Wait {
        let engine = self.table.pool(pool).expect("work was made for it");
        let stamp = (self.plan.binds.len(), self.plan.evictions.len(), engine.reservations().len());
        let key = (pool.to_owned(), work.sets.clone(), work.topology);
        if let Some((at, wait)) = self.reasons.get(&key)
            && *at == stamp
        {
            return wait.clone();
        }
        let ahead = engine.held_by(work).and_then(|holder| self.holders.get(&holder).copied());
        let clean = ahead.is_none() && self.plan.binds.is_empty();
        let known = if clean { self.memory.reasons.get(&key).cloned() } else { None };
        let wait = known.unwrap_or_else(|| self.reason(gang, members, pool, ahead));
        // That one names a member.
        if !matches!(wait, Wait::NoMatchingNode { .. }) {
            // What is kept for others, which changes with time, counts in which card comes nearest.
            if clean && !matches!(wait, Wait::NoCard(_)) {
                self.memory.reasons.insert(key.clone(), wait.clone());
            }
            self.reasons.insert(key, (stamp, wait.clone()));
        }
        wait
    }

    /// Whether somebody has this node alone, or was just given it.
    pub(super) fn is_closed(&self, node: &Node) -> bool {
        let whole = |gang: &Gang| self.table.takes_whole_nodes(&gang.queue);
        let given = || self.plan.binds.iter().filter(|bind| bind.node == node.name).filter_map(|bind| self.world.slot(&bind.gang));
        self.table.gives_whole_nodes() && self.table.gangs_on(&node.name).chain(given()).any(|slot| whole(self.world.gang(slot)))
    }

    /// What is free for members of a gang, where it is not what all others do not ask for: nothing of a node that
    /// somebody has alone, and what those leave who share processors. `None` where no queue has its own way.
    pub(super) fn free_for(&mut self, gang: &Gang, pool: &str) -> Option<Vec<Amounts>> {
        if self.table.is_plain() {
            return None;
        }
        let sharing = self.world.slot(&gang.id).map_or_else(Sharing::default, |slot| self.table.sharing(slot, gang));
        let mut free = self.free.clone();
        for (node, cores) in self.table.cores_beside(pool, sharing) {
            free[self.nodes.partition_point(|other| other.name < node)].insert(CPU.to_owned(), Milli::from(cores));
        }
        for place in (0..free.len()).filter(|place| self.nodes[*place].pool == pool && self.is_closed(self.nodes[*place])) {
            free[place].clear();
        }
        Some(free)
    }

    /// Why these members have no place.
    pub(super) fn reason(&mut self, gang: &Gang, members: &[&Member], pool: &str, ahead: Option<&str>) -> Wait {
        if let Some(ahead) = ahead {
            return Wait::BehindOthers { ahead: ahead.to_owned() };
        }
        let free = self.free_for(gang, pool);
        let nodes = &self.nodes;
        let in_pool = |place: usize| nodes[place].pool == pool;
        let usable = |place: usize| in_pool(place) && nodes[place].ready && nodes[place].schedulable;
        let now = Rooms { nodes, free: free.as_deref().unwrap_or(&self.free[..]) };
        let empty = Rooms { nodes, free: &self.world.empty };
        let classes = placement::classes(members, nodes, usable);
        if self.table.takes_whole_nodes(&gang.queue) && placement::place(&classes, empty).is_ok() {
            return Wait::NoEmptyNode { pool: pool.to_owned() };
        }
        let Err(stuck) = placement::place(&classes, now) else {
            if let Some(lack) = members.iter().find_map(|member| self.table.no_card(pool, member)) {
                return Wait::NoCard(lack);
            }
            let pool = pool.to_owned();
            let alone = members.iter().filter(|member| member.alone).count();
            if alone > 1 {
                return Wait::TooFewNodes { pool, members: alone };
            }
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
}
