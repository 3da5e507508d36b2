//! Moving work together so that a gang has room, when all who move have a place elsewhere.
//!
//! Those to be moved are chosen as victims are, as few as possible; then the gang is seated,
//! and then each of them again. Where one would not have a place, nothing is moved: work is
//! interrupted for a moment, never for good.

use crate::engine::{Engine, Work, WorkId, put};
use crate::gang::{self, Placed};
use crate::preemption::Candidate;
use crate::resource::Demand;

/// Moves after which a gang has room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves {
    /// Who moves, and where to.
    pub moves: Vec<(WorkId, Vec<Placed>)>,
    /// Where the gang goes.
    pub placed: Vec<Placed>,
}

impl Engine {
    /// The moves by which the work has room, at most `most`; `None` if there are none.
    /// `movable` describes running work that may be started over elsewhere, in the order in
    /// which one would rather move it. Changes nothing.
    pub fn consolidate(&mut self, work: &Work, movable: &[Work], most: usize) -> Option<Moves> {
        let candidates: Vec<Candidate> = movable.iter().map(|one| Candidate { work: one.id, tier: 0 }).collect();
        let victims = self.victims(work, &candidates).ok()?;
        if victims.is_empty() || victims.len() > most {
            return None;
        }
        let movers: Vec<&Work> = movable.iter().filter(|one| victims.contains(&one.id)).collect();
        self.moves(work, movers)
    }

    /// Where the work has room and these have theirs elsewhere, with no place kept for anybody; `None` if there
    /// is no such arrangement. Changes nothing.
    pub(crate) fn moves(&mut self, work: &Work, movers: Vec<&Work>) -> Option<Moves> {
        self.without_reservations(|engine| engine.try_moves(work, movers))
    }

    /// Whether open nodes have this much free together, wherever it is, with no place kept for anybody.
    pub(crate) fn has_in_sum(&mut self, demand: &Demand) -> bool {
        self.without_reservations(|engine| {
            demand.iter().all(|(resource, amount)| {
                let open = engine.cluster.nodes().filter(|(_, node)| node.facts.open);
                open.map(|(_, node)| node.free.get(resource).max(0)).fold(0, i64::saturating_add) >= amount
            })
        })
    }

    fn try_moves(&mut self, work: &Work, mut movers: Vec<&Work>) -> Option<Moves> {
        for mover in &movers {
            gang::unseat(&mut self.cluster, &self.running[&mover.id].placed);
        }
        let sets = self.sets(work);
        let placed = gang::seat(&mut self.cluster, &sets, work.topology);
        let mut moves: Vec<(WorkId, Vec<Placed>)> = Vec::new();
        if placed.is_some() {
            // The largest are the hardest to seat.
            movers.sort_by_key(|mover| std::cmp::Reverse(self.running[&mover.id].placed.len()));
            for mover in &movers {
                let sets = self.sets(mover);
                let Some(new) = gang::seat(&mut self.cluster, &sets, mover.topology) else { break };
                moves.push((mover.id, new));
            }
        }
        for (_, new) in moves.iter().rev() {
            gang::unseat(&mut self.cluster, new);
        }
        if let Some(placed) = &placed {
            gang::unseat(&mut self.cluster, placed);
        }
        for mover in &movers {
            put(&mut self.cluster, &self.running[&mover.id].placed);
        }
        (moves.len() == movers.len()).then_some(Moves { moves, placed: placed? })
    }

    /// Makes moves: all leave their places, then all take their new ones.
    pub fn relocate(&mut self, moves: Vec<(WorkId, Vec<Placed>)>) {
        self.without_reservations(|engine| {
            for (id, _) in &moves {
                if let Some(running) = engine.running.get(id) {
                    gang::unseat(&mut engine.cluster, &running.placed);
                }
            }
            for (id, placed) in moves {
                if let Some(running) = engine.running.get_mut(&id) {
                    put(&mut engine.cluster, &placed);
                    running.placed = placed;
                }
            }
        });
    }
}
