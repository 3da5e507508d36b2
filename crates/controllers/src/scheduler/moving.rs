//! Work that was moved so that other work has room: it has a claim to a place until it is back, and only so
//! much is moved in an hour. The count is this server's own: one that takes over begins at nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::Workload;
use fermion_api::{conditions, reason};
use fermion_scheduler::{Cause, Plan};
use tokio::time::Instant;

use super::snapshot::{self, Scene};
use crate::workload::EVICTED;

/// In which time moves are counted.
const SPAN: Duration = Duration::from_hours(1);

/// How many gangs were moved of late, by pool.
pub(super) type Moves = BTreeMap<String, usize>;

/// Gangs that were moved.
#[derive(Default)]
pub(super) struct Moving {
    /// Those that are not back.
    gangs: BTreeSet<String>,
    /// When which pool had one, the latest last.
    made: Vec<(Instant, String)>,
}

impl Moving {
    /// Those that were on their way when this began.
    pub(super) fn remember(&mut self, workloads: &[Arc<Workload>]) {
        self.gangs.extend(told(workloads));
    }

    pub(super) fn gangs(&self) -> impl Iterator<Item = &String> {
        self.gangs.iter()
    }

    /// How many were moved in the hour before this moment.
    pub(super) fn moves(&self, now: Instant) -> Moves {
        let mut moves = Moves::new();
        for (_, pool) in self.made.iter().filter(|(at, _)| now.saturating_duration_since(*at) < SPAN) {
            *moves.entry(pool.clone()).or_default() += 1;
        }
        moves
    }

    /// Takes in what a plan moves.
    pub(super) fn note(&mut self, scene: &Scene, plan: &Plan, now: Instant) {
        self.made.retain(|(at, _)| now.saturating_duration_since(*at) < SPAN);
        for eviction in plan.evictions.iter().filter(|eviction| eviction.cause == Cause::Moved) {
            self.gangs.insert(eviction.gang.clone());
            self.made.push((now, scene.pool_of(&eviction.gang).unwrap_or_default().to_owned()));
        }
    }

    /// Leaves out those that have their places again, or are to have none.
    pub(super) fn forget(&mut self, scene: &Scene, workload: impl Fn(&str) -> Option<Arc<Workload>>) {
        self.gangs.retain(|id| match scene.gangs.get(id) {
            Some(gang) => gang.placed.iter().all(|member| member.leaves_at.is_some()),
            // Its old pods are gone and its new ones are not there yet.
            None => workload(id).is_some_and(|workload| !workload.spec.suspend && workload.spec.closed.is_none()),
        });
    }
}

/// Gangs that were moved and are not back, as their Workloads say.
pub(super) fn told(workloads: &[Arc<Workload>]) -> impl Iterator<Item = String> {
    let moves = |workload: &&Arc<Workload>| {
        let status = workload.status.as_ref();
        let evicted = status.and_then(|status| conditions::find(&status.conditions, EVICTED));
        evicted.is_some_and(|condition| condition.status == "True" && condition.reason == reason::MOVED)
    };
    workloads.iter().filter(moves).map(|workload| snapshot::id(&**workload))
}
