//! Who places: the scheduler's engine, or what schedulers without reservations do.

use std::collections::{BTreeMap, HashSet};

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::engine::{Engine, Millis, Work, WorkId};
use fermion_scheduler::gang::{self, Placed, Set, Topology};
use fermion_scheduler::preemption::Candidate;

/// Places work on a cluster.
pub trait Placer {
    /// Starts what can start, in this order. Answers the numbers of what started.
    fn round(&mut self, now: Millis, pending: &[&Work]) -> Vec<usize>;

    /// Frees what ended or was stopped.
    fn finish(&mut self, work: WorkId);

    /// Moves by which the work has room, at most `most`; makes them. Answers who moved.
    fn make_room(&mut self, work: &Work, movable: &[Work], most: usize) -> Option<Vec<WorkId>>;

    /// Who must stop so that the work has room; `None` when that cannot be.
    fn victims(&mut self, work: &Work, candidates: &[Candidate]) -> Option<Vec<WorkId>>;
}

/// The scheduler's engine, with its reservations.
#[derive(Clone, Debug)]
pub struct Backfilling(pub Engine);

impl Placer for Backfilling {
    fn round(&mut self, now: Millis, pending: &[&Work]) -> Vec<usize> {
        self.0.round(now, pending.iter().copied()).into_iter().map(|start| start.work.0 as usize).collect()
    }

    fn finish(&mut self, work: WorkId) {
        self.0.finish(work);
    }

    fn make_room(&mut self, work: &Work, movable: &[Work], most: usize) -> Option<Vec<WorkId>> {
        let moves = self.0.consolidate(work, movable, most)?.moves;
        let moved = moves.iter().map(|entry| entry.0).collect();
        self.0.relocate(moves);
        Some(moved)
    }

    fn victims(&mut self, work: &Work, candidates: &[Candidate]) -> Option<Vec<WorkId>> {
        self.0.victims(work, candidates).ok()
    }
}

/// Each starts as soon as there is room for it, whoever waits before it: no reservations, as
/// in the schedulers of the published experiments.
#[derive(Clone, Debug)]
pub struct Skipping {
    cluster: Cluster,
    running: BTreeMap<WorkId, Vec<Placed>>,
}

impl Skipping {
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, running: BTreeMap::new() }
    }
}

impl Placer for Skipping {
    fn round(&mut self, _: Millis, pending: &[&Work]) -> Vec<usize> {
        let mut started = Vec::new();
        // What had no room has none later in the round.
        let mut failed: HashSet<(Vec<Set>, Topology)> = HashSet::new();
        for work in pending {
            let set = |members: &fermion_scheduler::engine::Members| Set {
                class: self.cluster.class(&members.request),
                count: members.count,
                per_node_max: members.per_node_max,
            };
            let key = (work.sets.iter().map(set).collect::<Vec<_>>(), work.topology);
            if failed.contains(&key) {
                continue;
            }
            match gang::seat(&mut self.cluster, &key.0, work.topology) {
                Some(placed) => {
                    self.running.insert(work.id, placed);
                    started.push(work.id.0 as usize);
                }
                None => {
                    failed.insert(key);
                }
            }
        }
        started
    }

    fn finish(&mut self, work: WorkId) {
        if let Some(placed) = self.running.remove(&work) {
            gang::unseat(&mut self.cluster, &placed);
        }
    }

    fn make_room(&mut self, _: &Work, _: &[Work], _: usize) -> Option<Vec<WorkId>> {
        None
    }

    fn victims(&mut self, _: &Work, _: &[Candidate]) -> Option<Vec<WorkId>> {
        None
    }
}
