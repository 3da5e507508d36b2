//! How long it takes to find whom to stop for a large gang.
//!
//! The shape of KAI-Scheduler's benchmark (its design document on vectorizing resources): nodes
//! of eight cards, full of jobs with one card each of a queue without a guarantee; then the
//! owner of the cards asks for a tenth of the nodes at once. In memory.

use std::time::Duration;

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelSet};
use fermion_scheduler::engine::{Backfill, Engine, Members, Work, WorkId};
use fermion_scheduler::node::Facts;
use fermion_scheduler::preemption::{Candidate, Refusal};
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};

const CARDS: u8 = 8;
/// The gang asks for one node in so many.
const PART: u32 = 10;

/// What was asked and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// From the question to the full list of victims.
    pub plan: Duration,
    pub victims: usize,
    /// How many victims there must be at least.
    pub needed: usize,
    /// A gang of one node more than there are, and what is said to it.
    pub too_large: (Duration, Result<Vec<WorkId>, Refusal>),
    /// The same gang as at first, when too few may be stopped.
    pub not_enough: (Duration, Result<Vec<WorkId>, Refusal>),
}

/// Fills the nodes and asks. `clock` says how much time has passed since some moment.
pub fn run(nodes: u32, mut clock: impl FnMut() -> Duration) -> Reclaimed {
    let mut cluster = Cluster::new(Placement::Scarcity, Mix::default());
    let model = cluster.models.intern("card").expect("the first model");
    for number in 0..nodes {
        let allocatable = [(ResourceId::CPU, 96_000)].into_iter().collect();
        let facts = Facts { name: format!("node-{number:06}"), open: true, allocatable, ..Facts::default() };
        cluster.add(facts, vec![Device::new(model, 0); usize::from(CARDS)]);
    }
    let mut engine = Engine::new(cluster, Backfill::Easy);
    let small: Vec<Work> = (0..u64::from(nodes) * u64::from(CARDS)).map(|id| work(id, 1, 1)).collect();
    let started = engine.round(0, &small);
    assert_eq!(started.len(), small.len(), "the cluster holds a job for each card");
    let candidates: Vec<Candidate> = small.iter().map(|work| Candidate { work: work.id, tier: 0 }).collect();
    let members = nodes.div_ceil(PART);
    let gang = work(u64::MAX, CARDS, members);
    let mut timed = |claim: &Work, candidates: &[Candidate]| {
        let start = clock();
        let victims = engine.victims(claim, candidates);
        (clock().saturating_sub(start), victims)
    };
    let (plan, victims) = timed(&gang, &candidates);
    let too_large = timed(&work(u64::MAX, CARDS, nodes + 1), &candidates);
    let few = usize::from(CARDS) * members as usize - 1;
    let not_enough = timed(&gang, &candidates[..few]);
    let needed = members as usize * usize::from(CARDS);
    Reclaimed { plan, victims: victims.map_or(0, |victims| victims.len()), needed, too_large, not_enough }
}

/// A gang of so many members with so many cards each.
fn work(id: u64, cards: u8, count: u32) -> Work {
    let devices = Some(DeviceRequest { models: ModelSet::ANY, count: cards, each: Each::Whole });
    let demand = [(ResourceId::CPU, 1000 * i64::from(cards))].into_iter().collect();
    let sets = vec![Members { request: Request { demand, devices, ..Request::default() }, count, per_node_max: None }];
    Work::new(WorkId(id), sets)
}
