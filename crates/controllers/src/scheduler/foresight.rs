//! What would become of work that is not there: what is there, with its pods beside it, laid out and
//! planned as in a round, and nothing done.
//!
//! It looks at everything from nothing, in a thread of its own, and takes from the scheduler only what
//! no object says ([`Known`]). So a round is held up for as long as that takes to copy.
//!
//! Invariant: what it answers is what the next round would do with the same objects (held by a property
//! test).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::ai::workload::Waiting;
use fermion_scheduler::{Past, Plan, Planner};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt as _};
use tokio::sync::oneshot;

use super::moving::{self, Moves};
use super::run_times::RunTimes;
use super::snapshot::{self, Assumed, Scene, Sight};
use super::view::{Copies, Own, Ruled};
use super::{RulingCaches, affinity, claims_told, past, sentence, spread};
use crate::cache::Cache;
use crate::error::Error;
use crate::workload::workload_of;
use crate::{Shutdown, inference_service};

/// Asks the scheduler what it knows.
pub(crate) type Ask = oneshot::Sender<Known>;

/// What the scheduler knows beside the objects.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// What pods were just given, by uid.
    pub(super) assumed: HashMap<String, Assumed>,
    /// Uids of pods that were told to stop.
    pub(super) evicted: HashSet<String>,
    /// Gangs for which places are kept: others are being stopped for them, or they were moved.
    pub(super) claims: HashSet<String>,
    /// How much was moved of late in each pool.
    pub(super) moves: Moves,
    /// What people used before.
    pub(super) past: Past,
}

impl Known {
    /// What a scheduler would know that begins now.
    ///
    /// # Errors
    /// When the API does not answer.
    pub(crate) async fn at_first(client: Client, copies: &Copies) -> Result<Self, Error> {
        let past = past::read(client, Timestamp::now().as_millisecond()).await?;
        let workloads = copies.workloads.all();
        let claims = claims_told(&workloads).into_iter().chain(moving::told(&workloads)).collect();
        Ok(Self { claims, past, ..Self::default() })
    }
}

impl Copies {
    /// Copies that nobody shares.
    pub(crate) fn alone() -> Self {
        Self {
            pods: Cache::new(workload_of),
            workloads: Cache::new(inference_service::service_of),
            nodes: Cache::new(|_| None),
            queues: Cache::new(|_| None),
            pools: Cache::new(|_| None),
            models: Cache::new(|_| None),
            ruling: RulingCaches::new(),
        }
    }

    /// Keeps all of them up to date until shutdown; for copies that nobody shares.
    pub(crate) async fn run(self, client: Client, shutdown: Shutdown) {
        let new = || (client.clone(), shutdown.clone());
        let ((one, first), (two, second), (three, third)) = (new(), new(), new());
        let work = futures::future::join3(self.pods.run(one, first), self.workloads.run(two, second), self.nodes.run(three, third));
        let ((one, first), (two, second), (three, third)) = (new(), new(), new());
        let heads = futures::future::join3(self.queues.run(one, first), self.pools.run(two, second), self.models.run(three, third));
        Box::pin(futures::future::join3(work, heads, self.ruling.run(client, shutdown))).await;
    }

    /// Waits until all are filled.
    pub(crate) async fn filled(&self) -> Result<(), Error> {
        self.pods.filled().await?;
        self.workloads.filled().await?;
        self.nodes.filled().await?;
        self.queues.filled().await?;
        self.pools.filled().await?;
        self.models.filled().await?;
        self.ruling.filled().await
    }
}

/// Work that is not there.
pub(crate) struct Tried {
    /// None for a pod of its own.
    pub workload: Option<Arc<Workload>>,
    pub pods: Vec<Arc<Pod>>,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Foreseen {
    /// The queue that it would be in; none where there is nothing to place.
    pub queue: Option<String>,
    /// How many of its pods would have a place at once.
    pub placed: usize,
    /// Why it, or what it has beyond the pods it needs, would wait.
    pub waiting: Option<Waiting>,
}

/// What the next round would do with this work if it were there now.
pub(crate) fn foresee(copies: &Copies, known: &Known, tried: &Tried, now: Timestamp) -> Foreseen {
    let ruled = Ruled::of(copies);
    let (mut pods, mut workloads, nodes) = (copies.pods.all(), copies.workloads.all(), copies.nodes.all());
    pods.extend(tried.pods.iter().cloned());
    workloads.extend(tried.workload.clone());
    let run_times = RunTimes::of_all(workloads.iter().map(AsRef::as_ref));
    let own = Own { assumed: &known.assumed, evicted: &known.evicted, claims: &known.claims, moves: &known.moves, now };
    let sight = ruled.sight(own, &run_times, &pods, &workloads, &nodes);
    let scene = sight.scene();
    let Some(gang) = gang_of(&scene, tried) else { return Foreseen { queue: None, placed: 0, waiting: None } };
    let plan = plan(&sight, &scene, known, &gang);
    let waiting = plan.waits.iter().find(|waiting| waiting.gang == gang);
    Foreseen {
        queue: scene.queue_of(&gang).map(str::to_owned),
        placed: plan.binds.iter().filter(|bind| bind.gang == gang).count(),
        waiting: waiting.map(|waiting| sentence::waiting(waiting, &scene.troubles, spread::story(&scene, &gang).as_deref())),
    }
}

/// The gang that is made of the work. One that has nothing to place is none.
fn gang_of(scene: &Scene, tried: &Tried) -> Option<String> {
    let id = match (&tried.workload, tried.pods.first()) {
        (Some(workload), _) => snapshot::id(&**workload),
        (None, Some(pod)) => snapshot::gang_of_pod(&pod.namespace().unwrap_or_default(), &pod.name_any()),
        (None, None) => return None,
    };
    let gang = scene.gangs.get(&id)?;
    gang.sets.iter().any(|set| !set.pending.is_empty()).then_some(id)
}

fn plan(sight: &Sight<'_>, scene: &Scene, known: &Known, gang: &str) -> Plan {
    let mut planner = Planner::of(&scene.snapshot(), &known.past);
    planner.set_asking(gang);
    let mut plan = planner.plan(scene.now);
    if !plan.binds.is_empty()
        && let Some(around) = sight.neighbours()
    {
        affinity::together(scene, around, &mut plan);
    }
    plan
}

#[cfg(test)]
mod tests;
