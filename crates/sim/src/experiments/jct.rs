//! How long jobs take from their submission to their end, on recorded training work.
//!
//! The published orders are replayed over a pool of cards as they are stated ([`peers`]), and
//! first held against replays known from elsewhere. Ours runs on the scheduler's engine: jobs
//! are gangs on nodes of eight cards, and each stop costs the stopped job a minute.

pub mod peers;
pub mod report;

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelSet};
use fermion_scheduler::engine::{Backfill, Engine, Members, Millis, Work, WorkId};
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::{Demand, ResourceId};
use fermion_scheduler::scoring::{Mix, Placement};

use crate::random::Random;
use crate::simulator::{self, Arrival, Backfilling, Order, Rules};
use crate::trace::jobs::Job;

/// Cards of a node.
const NODE_CARDS: u32 = 8;
/// What a stop costs: saving, loading, starting again.
const RESTART_MS: Millis = 60_000;
/// How strongly short work is preferred where run times are estimated, and where they are known to the second; and how
/// much higher a rank must be to stop another. All were chosen on Muri's trace; claims about them are for the other traces.
const WEIGHT: f64 = 2.0;
const WEIGHT_OF_EXACT: f64 = 6.0;
const STOPS_ABOVE: f64 = 2.0;
/// Where nothing is known: an earlier arrival of the same level stops a later one as well.
const STOPS_ABOVE_LEVELS: f64 = 1.0;

/// What is known of run times before a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    Nothing,
    /// The run time times a factor from a half to two, its logarithm evenly distributed.
    Estimates,
    Exact,
}

/// What became of the jobs, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub started_at: Vec<Millis>,
    pub ended_at: Vec<Millis>,
    pub preemptions: usize,
}

impl Outcome {
    fn new(jobs: usize) -> Self {
        Self { started_at: vec![0; jobs], ended_at: vec![0; jobs], preemptions: 0 }
    }

    /// Seconds from submission to end, sorted.
    pub fn completion_s(&self, jobs: &[Job]) -> Vec<f64> {
        sorted(self.ended_at.iter().zip(jobs).map(|(end, job)| (end - job.submitted_at) as f64 / 1000.0).collect())
    }

    /// Seconds from submission to the first start, sorted.
    pub fn wait_s(&self, jobs: &[Job]) -> Vec<f64> {
        sorted(self.started_at.iter().zip(jobs).map(|(start, job)| (start - job.submitted_at) as f64 / 1000.0).collect())
    }

    /// Seconds from the first submission to the last end.
    pub fn makespan_s(&self, jobs: &[Job]) -> f64 {
        let first = jobs.first().map_or(0, |job| job.submitted_at);
        (self.ended_at.iter().copied().max().unwrap_or(first) - first) as f64 / 1000.0
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Runs the jobs on the scheduler's engine. The seed makes the estimates.
///
/// # Panics
/// When a job never ends because it asks for more cards than there are.
pub fn ours(jobs: &[Job], cards: u32, knowledge: Knowledge, seed: u64) -> Outcome {
    let (order, above) = match knowledge {
        Knowledge::Nothing => (Order::Levels, STOPS_ABOVE_LEVELS),
        Knowledge::Estimates => (Order::ResponseRatio { weight: WEIGHT }, STOPS_ABOVE),
        Knowledge::Exact => (Order::ResponseRatio { weight: WEIGHT_OF_EXACT }, STOPS_ABOVE),
    };
    on_nodes(jobs, cards, knowledge, seed, order, above)
}

/// The same with estimates, and another weight of short work.
///
/// # Panics
/// When a job never ends because it asks for more cards than there are.
pub fn weighted(jobs: &[Job], cards: u32, weight: f64, seed: u64) -> Outcome {
    on_nodes(jobs, cards, Knowledge::Estimates, seed, Order::ResponseRatio { weight }, STOPS_ABOVE)
}

fn on_nodes(jobs: &[Job], cards: u32, knowledge: Knowledge, seed: u64, order: Order, stops_above: f64) -> Outcome {
    let arrivals = arrivals(jobs, NODE_CARDS, knowledge, seed);
    let rules = Rules { order, stops_above: Some(stops_above), restart_ms: RESTART_MS, pause_ms: 0, moves_per_hour: 0.0 };
    let mut placer = Backfilling(Engine::new(cluster(cards), Backfill::Easy));
    let fates = simulator::run(&mut placer, &arrivals, rules, |_, _| ());
    let at = |time: Option<Millis>| time.expect("every job has room on an empty cluster");
    Outcome {
        started_at: fates.iter().map(|fate| at(fate.started_at)).collect(),
        ended_at: fates.iter().map(|fate| at(fate.ended_at)).collect(),
        preemptions: fates.iter().map(|fate| fate.stops as usize).sum(),
    }
}

/// The jobs as gangs on nodes with so many cards.
pub fn arrivals(jobs: &[Job], node_cards: u32, knowledge: Knowledge, seed: u64) -> Vec<Arrival> {
    let mut random = Random::new(seed);
    jobs.iter()
        .enumerate()
        .map(|(place, job)| {
            let told = match knowledge {
                Knowledge::Nothing => None,
                Knowledge::Estimates => Some((job.run_ms as f64 * 2_f64.powf(2.0 * random.unit() - 1.0)) as Millis),
                Knowledge::Exact => Some(job.run_ms),
            };
            Arrival { at: job.submitted_at, work: work(place, job.cards, node_cards, told), run_ms: job.run_ms }
        })
        .collect()
}

/// Nodes of eight cards; what is left over makes a smaller one.
fn cluster(cards: u32) -> Cluster {
    let mut cluster = Cluster::new(Placement::Scarcity, Mix::default());
    let model = cluster.models.intern("card").expect("the first model");
    for number in 0..cards.div_ceil(NODE_CARDS) {
        let here = NODE_CARDS.min(cards - number * NODE_CARDS);
        let allocatable = [(ResourceId::CPU, i64::from(here) * 12_000)].into_iter().collect();
        let devices = vec![Device::new(model, 0); here as usize];
        cluster.add(Facts { name: format!("node-{number:04}"), open: true, allocatable, ..Facts::default() }, devices);
    }
    cluster
}

/// A gang with as many cards on each node as it can use: whole nodes and one part of a node.
fn work(place: usize, cards: u32, node_cards: u32, run_ms: Option<Millis>) -> Work {
    let members = |cards: u32, count: u32| Members {
        request: Request {
            demand: Demand::default(),
            devices: Some(DeviceRequest { models: ModelSet::ANY, count: cards as u8, each: Each::Whole }),
            ..Request::default()
        },
        count,
        per_node_max: None,
    };
    let (whole, part) = (cards / node_cards, cards % node_cards);
    let mut sets = Vec::new();
    if whole > 0 {
        sets.push(members(node_cards, whole));
    }
    if part > 0 {
        sets.push(members(part, 1));
    }
    Work { run_ms, ..Work::new(WorkId(place as u64), sets) }
}
