//! Work that comes and goes for days on a recorded cluster: who waits, and how long?
//!
//! Nodes and pods are openb's. Pods arrive at random (Poisson) with log-normal lifetimes, at a
//! chosen part of what all cards could do; one arrival in fifty is a training gang of one, two
//! or four members with eight cards each. Schedulers without reservations start whatever has
//! room in the order of arrival, passing over what has none; ours reserves for what waits.

pub mod report;

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::{DeviceRequest, Each, ModelSet};
use fermion_scheduler::engine::{Backfill, Engine, Members, Millis, Work, WorkId};
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};

use crate::random::Random;
use crate::simulator::{self, Arrival, Backfilling, Order, Placer, Rules, Skipping};
use crate::statistics::quantile;
use crate::trace::openb::Trace;

/// Of the log-normal lifetimes: mean, and deviation of the logarithm.
const LIFETIME_MS: f64 = 7_200_000.0;
const LIFETIME_SIGMA: f64 = 1.5;
/// No pod lives longer; it would outlive the run.
const LIFETIME_MAX_MS: f64 = 20.0 * LIFETIME_MS;
/// What passes before anything is measured, and for how long it is measured then.
const WARM_UP_MS: f64 = 6.0 * LIFETIME_MS;
const MEASURED_MS: f64 = 12.0 * LIFETIME_MS;
/// One arrival in so many is a gang.
const GANGS: usize = 50;
/// Cards and cores of a member of a gang.
const MEMBER_CARDS: u8 = 8;
const MEMBER_CPU: i64 = 64_000;
/// The part of what runs that may be moved in an hour, and what a move costs.
const MOVES_PER_HOUR: f64 = 0.01;
const RESTART_MS: Millis = 60_000;
/// Time between two rounds.
const PAUSE_MS: Millis = 30_000;
/// The part of all pods that the typical shapes cover.
const TYPICAL: f64 = 0.95;

/// Who schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// A policy of placement, and no reservations.
    Skipping(Placement),
    /// Ours; whether lifetimes are known within a factor of two, and whether up to a hundredth
    /// of what runs may be moved in an hour.
    Ours { estimates: bool, moves: bool },
}

/// What came of one run, over the time measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Steady {
    /// Cards in use, in percent of all, over time.
    pub allocated: f64,
    /// Seconds until the start of pods with fewer than eight cards, sorted.
    pub small_wait_s: Vec<f64>,
    /// Of pods and gangs with eight cards on a node, sorted.
    pub large_wait_s: Vec<f64>,
    /// Moves, in percent of what ran, in an hour.
    pub moves: f64,
    /// Work that no empty cluster would have room for.
    pub impossible: usize,
}

impl Steady {
    pub fn small_s(&self, part: f64) -> f64 {
        quantile(&self.small_wait_s, part)
    }

    pub fn large_s(&self, part: f64) -> f64 {
        quantile(&self.large_wait_s, part)
    }
}

/// Runs one scheduler. Arrivals follow from the trace, the load and the seed alone.
pub fn run(trace: &Trace, load: f64, seed: u64, scheduler: Scheduler) -> Steady {
    let estimates = matches!(scheduler, Scheduler::Ours { estimates: true, .. });
    let moves = matches!(scheduler, Scheduler::Ours { moves: true, .. });
    let capacity: f64 = trace.nodes.iter().map(|node| node.1.len() as f64).sum();
    let arrivals = arrivals(&trace.pods, capacity, load, seed, estimates);
    match scheduler {
        Scheduler::Skipping(placement) => observe(&mut Skipping::new(cluster(trace, placement)), trace, &arrivals, moves),
        Scheduler::Ours { .. } => {
            observe(&mut Backfilling(Engine::new(cluster(trace, Placement::Scarcity), Backfill::Easy)), trace, &arrivals, moves)
        }
    }
}

fn observe<P: Placer>(placer: &mut P, trace: &Trace, arrivals: &[Arrival], moves: bool) -> Steady {
    let measured = WARM_UP_MS as Millis..(WARM_UP_MS + MEASURED_MS) as Millis;
    let rules = Rules {
        order: Order::Arrival,
        stops_above: None,
        restart_ms: RESTART_MS,
        pause_ms: PAUSE_MS,
        moves_per_hour: if moves { MOVES_PER_HOUR } else { 0.0 },
    };
    let (mut before, mut cards, mut sum) = (0, 0_i64, 0_i128);
    let (mut running, mut ran) = (0, 0.0);
    let fates = simulator::run(placer, arrivals, rules, |moment, _| {
        let (from, to) = (Millis::max(before, measured.start), moment.now.min(measured.end));
        sum += i128::from(cards) * i128::from((to - from).max(0));
        ran += f64::from(running) * (moment.now - before) as f64 / 3_600_000.0;
        (before, cards, running) = (moment.now, moment.cards, moment.running as u32);
    });
    let capacity: i64 = trace.nodes.iter().map(|node| node.1.len() as i64 * 1000).sum();
    let allocated = sum as f64 / (capacity as f64 * MEASURED_MS) * 100.0;
    let moves = fates.iter().map(|fate| f64::from(fate.moves)).sum::<f64>() / ran * 100.0;
    let mut steady = Steady { allocated, moves, small_wait_s: Vec::new(), large_wait_s: Vec::new(), impossible: 0 };
    for (fate, arrival) in fates.iter().zip(arrivals).filter(|(fate, _)| measured.contains(&fate.submitted_at)) {
        let Some(started_at) = fate.started_at else {
            steady.impossible += 1;
            continue;
        };
        let is_large = arrival.work.sets[0].request.devices.is_some_and(|devices| devices.count >= MEMBER_CARDS);
        let waits = if is_large { &mut steady.large_wait_s } else { &mut steady.small_wait_s };
        waits.push((started_at - fate.submitted_at) as f64 / 1000.0);
    }
    steady.small_wait_s.sort_by(f64::total_cmp);
    steady.large_wait_s.sort_by(f64::total_cmp);
    steady
}

/// Pods drawn from a list, with gangs among them, that keep a `load` of so many cards busy.
/// With `estimates`, lifetimes are told within a factor of two.
pub fn arrivals(list: &[Request], capacity: f64, load: f64, seed: u64, estimates: bool) -> Vec<Arrival> {
    let mut random = Random::new(seed);
    let pods = list.iter().map(|pod| pod.cards() as f64 / 1000.0).sum::<f64>() / list.len() as f64;
    // One member seven times in ten, two twice, four once.
    let gang = f64::from(MEMBER_CARDS) * (7.0 + 2.0 * 2.0 + 4.0) / 10.0;
    let cards = (pods * (GANGS - 1) as f64 + gang) / GANGS as f64;
    let gap_ms = cards * LIFETIME_MS / (capacity * load);
    let mu = LIFETIME_MS.ln() - LIFETIME_SIGMA * LIFETIME_SIGMA / 2.0;
    let mut arrivals = Vec::new();
    let mut at = 0.0;
    while at < WARM_UP_MS + MEASURED_MS {
        let (request, count) = if random.below(GANGS) == 0 {
            let members = [1, 1, 1, 1, 1, 1, 1, 2, 2, 4][random.below(10)];
            let devices = DeviceRequest { models: ModelSet::ANY, count: MEMBER_CARDS, each: Each::Whole };
            let demand = [(ResourceId::CPU, MEMBER_CPU)].into_iter().collect();
            (Request { demand, devices: Some(devices), ..Request::default() }, members)
        } else {
            (list[random.below(list.len())].clone(), 1)
        };
        let run_ms = (mu + LIFETIME_SIGMA * random.normal()).exp().min(LIFETIME_MAX_MS);
        let told = run_ms * 2_f64.powf(2.0 * random.unit() - 1.0);
        let members = vec![Members { request, count, per_node_max: None }];
        let work = Work { run_ms: estimates.then_some(told as Millis + 1), ..Work::new(WorkId(arrivals.len() as u64), members) };
        arrivals.push(Arrival { at: at as Millis, work, run_ms: run_ms as Millis + 1 });
        at += random.exponential(gap_ms);
    }
    arrivals
}

fn cluster(trace: &Trace, placement: Placement) -> Cluster {
    let mut cluster = Cluster::new(placement, Mix::typical(&trace.pods, TYPICAL));
    cluster.models = trace.models.clone();
    for (facts, devices) in &trace.nodes {
        cluster.add(facts.clone(), devices.clone());
    }
    cluster
}
