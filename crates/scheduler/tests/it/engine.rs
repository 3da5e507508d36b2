//! Rounds in time: reservations are kept, gangs are whole, nothing is given twice.

use std::collections::{BTreeMap, BTreeSet};

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelId, ModelSet, WHOLE};
use fermion_scheduler::engine::{Backfill, Engine, Members, Millis, Work, WorkId};
use fermion_scheduler::gang::Topology;
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};
use proptest::prelude::*;

/// `nodes` nodes of eight cards and 64 cores, two to a rack.
fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(Placement::BestFit, Mix::default());
    cluster.models.intern("card").expect("one model");
    for number in 0..nodes {
        let allocatable = [(ResourceId::CPU, 64_000)].into_iter().collect();
        let domains = vec![format!("rack{}", number / 2)];
        let facts = Facts { name: format!("n{number}"), open: true, allocatable, domains, ..Facts::default() };
        cluster.add(facts, vec![Device::new(ModelId(0), 0); 8]);
    }
    cluster
}

fn cards(count: u8, each: Each) -> Request {
    let devices = Some(DeviceRequest { models: ModelSet::ANY, count, each });
    Request { demand: [(ResourceId::CPU, 1000)].into_iter().collect(), devices, ..Request::default() }
}

/// A gang of members with so many whole cards each.
fn work(id: u64, members: u32, each: u8, run_ms: Option<Millis>) -> Work {
    let sets = vec![Members { request: cards(each, Each::Whole), count: members, per_node_max: None }];
    Work { run_ms, ..Work::new(WorkId(id), sets) }
}

fn started(starts: &[fermion_scheduler::engine::Start]) -> Vec<u64> {
    starts.iter().map(|start| start.work.0).collect()
}

#[test]
fn short_work_fills_the_gap_before_a_blocked_gang_and_long_work_does_not() {
    let mut engine = Engine::new(cluster(2), Backfill::Easy);
    let first = work(1, 1, 8, Some(100));
    assert_eq!(started(&engine.round(0, [&first])), [1]);
    let (gang, long, short) = (work(2, 2, 8, Some(50)), work(3, 1, 4, Some(101)), work(4, 1, 4, Some(100)));
    assert_eq!(started(&engine.round(0, [&gang, &long, &short])), [4]);
    let reservation = &engine.reservations()[0];
    assert_eq!((reservation.work, reservation.start_at, reservation.placed.len()), (WorkId(2), 100, 2));
    engine.finish(WorkId(1));
    engine.finish(WorkId(4));
    assert_eq!(started(&engine.round(100, [&gang, &long])), [2]);
}

#[test]
fn long_work_passes_where_it_leaves_the_reserved_cards_alone() {
    let mut engine = Engine::new(cluster(2), Backfill::Easy);
    engine.round(0, [&work(1, 1, 6, Some(100)), &work(2, 1, 8, Some(500))]);
    // The gang will use 6 cards of the first node; two stay for whoever comes.
    let (gang, long, longer) = (work(3, 1, 6, None), work(4, 1, 2, None), work(5, 1, 1, None));
    assert_eq!(started(&engine.round(0, [&gang, &long, &longer])), [4]);
}

#[test]
fn strict_order_lets_nothing_pass_and_what_cannot_be_helped_blocks_nobody() {
    let mut engine = Engine::new(cluster(2), Backfill::None);
    engine.round(0, [&work(1, 1, 8, Some(100))]);
    let (blocked, small) = (work(2, 2, 8, None), work(3, 1, 1, Some(1)));
    assert!(engine.round(0, [&blocked, &small]).is_empty());
    let impossible = work(9, 3, 8, None);
    assert_eq!(started(&engine.round(0, [&impossible, &small])), [3]);
}

#[test]
fn a_lost_node_ends_the_whole_gang_and_frees_its_other_places() {
    let mut engine = Engine::new(cluster(2), Backfill::Easy);
    engine.round(0, [&work(1, 2, 8, None)]);
    let node = engine.running()[&WorkId(1)].placed[0].node;
    assert_eq!(engine.lose_node(node), [WorkId(1)]);
    assert_eq!(started(&engine.round(0, [&work(2, 1, 8, None)])), [2]);
}

#[derive(Clone, Debug)]
struct Arrival {
    after: Millis,
    members: u32,
    each: u8,
    /// Below 8 a share of so many eighths of one card.
    share: bool,
    run: Millis,
    known: bool,
    rack: bool,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    (0_i64..40, 1_u32..5, 1_u8..9, any::<bool>(), 1_i64..200, prop::bool::weighted(0.8), any::<bool>())
        .prop_map(|(after, members, each, share, run, known, rack)| Arrival { after, members, each, share, run, known, rack })
}

impl Arrival {
    fn work(&self, id: u64) -> Work {
        let each = u16::from(self.each) * 125;
        let request = if self.share && self.each < 8 {
            cards(1, Each::Share { compute: each, memory_mib: 0 })
        } else {
            cards(self.each, Each::Whole)
        };
        Work {
            id: WorkId(id),
            sets: vec![Members { request, count: self.members, per_node_max: None }],
            topology: Topology { required: self.rack.then_some(0), preferred: None },
            run_ms: self.known.then_some(self.run),
            waits: true,
        }
    }
}

/// What is free follows from what runs, card by card.
fn check_nothing_is_given_twice(engine: &mut Engine) {
    let mut used: BTreeMap<(u32, u8), u32> = BTreeMap::new();
    for running in engine.running().values() {
        for one in &running.placed {
            for held in &one.seat.grant {
                *used.entry((one.node.0, held.device)).or_default() += u32::from(held.compute);
            }
        }
    }
    for (id, node) in engine.cluster().nodes() {
        assert!(node.free.get(ResourceId::CPU) >= 0);
        for (place, device) in node.devices.iter().enumerate() {
            let held = used.get(&(id.0, place as u8)).copied().unwrap_or(0);
            assert_eq!(held + u32::from(device.free), u32::from(WHOLE), "card {place} of node {}", id.0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// In order of arrival, with true run times: nobody starts later than the first of their
    /// reservations said, whoever came after.
    #[test]
    fn what_was_reserved_is_kept(
        nodes in 1_usize..5,
        arrivals in prop::collection::vec(arrival(), 1..40),
        conservative in any::<bool>(),
    ) {
        let backfill = if conservative { Backfill::Conservative } else { Backfill::Easy };
        let mut engine = Engine::new(cluster(nodes), backfill);
        let mut now;
        let mut pending: Vec<(Work, Millis)> = Vec::new();
        let mut ends: BTreeSet<(Millis, WorkId)> = BTreeSet::new();
        let mut promised: BTreeMap<WorkId, Millis> = BTreeMap::new();
        let mut queue = arrivals.into_iter().enumerate();
        let mut next = queue.next().map(|(id, arrival)| (arrival.after, id, arrival));
        loop {
            let end = ends.first().map(|key| key.0);
            match (end, &next) {
                (None, None) => break,
                (Some(end), arriving) if arriving.as_ref().is_none_or(|arriving| end <= arriving.0) => {
                    now = end;
                    while let Some((_, id)) = ends.first().copied().filter(|first| first.0 == now) {
                        ends.pop_first();
                        engine.finish(id).expect("it ran");
                    }
                }
                _ => {
                    let (at, id, arrival) = next.take().expect("one arrives");
                    now = at;
                    let known = Arrival { known: true, ..arrival };
                    pending.push((known.work(id as u64), known.run));
                    next = queue.next().map(|(id, arrival)| (now + arrival.after, id, arrival));
                }
            }
            let starts = engine.round(now, pending.iter().map(|entry| &entry.0));
            for start in &starts {
                let place = pending.iter().position(|entry| entry.0.id == start.work).expect("it was pending");
                let (work, run) = pending.remove(place);
                let members: u32 = work.sets.iter().map(|set| set.count).sum();
                prop_assert_eq!(start.placed.len(), members as usize);
                ends.insert((now + run, work.id));
                if let Some(at) = promised.get(&work.id) {
                    prop_assert!(now <= *at, "work {} starts at {now}, was promised {at}", work.id.0);
                }
            }
            for reservation in engine.reservations() {
                prop_assert!(reservation.start_at > now);
                // The first in order alone is safe from those before it.
                if reservation.work == pending[0].0.id {
                    promised.entry(reservation.work).or_insert(reservation.start_at);
                }
            }
            check_nothing_is_given_twice(&mut engine);
        }
        // Only what is too large for the cluster, or for a rack, is left.
        for (work, _) in &pending {
            let mut empty = Engine::new(cluster(nodes), backfill);
            prop_assert!(empty.round(0, [work]).is_empty(), "work {} fits the empty cluster and never ran", work.id.0);
        }
    }

    /// With unknown run times, lost nodes and ends in any order, cards stay accounted for.
    #[test]
    fn cards_are_accounted_for_whatever_happens(
        nodes in 1_usize..5,
        arrivals in prop::collection::vec((arrival(), any::<u8>()), 1..40),
        mode in 0_usize..3,
    ) {
        let backfill = [Backfill::None, Backfill::Easy, Backfill::Conservative][mode];
        let mut engine = Engine::new(cluster(nodes), backfill);
        let mut pending: Vec<Work> = Vec::new();
        let mut now = 0;
        for (id, (arrival, chance)) in arrivals.into_iter().enumerate() {
            now += arrival.after;
            pending.push(arrival.work(id as u64));
            let starts = engine.round(now, &pending);
            pending.retain(|work| starts.iter().all(|start| start.work != work.id));
            check_nothing_is_given_twice(&mut engine);
            let running: Vec<WorkId> = engine.running().keys().copied().collect();
            if chance < 100 && !running.is_empty() {
                engine.finish(running[usize::from(chance) % running.len()]).expect("it ran");
            } else if chance > 245 && engine.cluster().len() > 1 {
                let node = engine.cluster().nodes().next().expect("there are two").0;
                engine.lose_node(node);
            }
            check_nothing_is_given_twice(&mut engine);
        }
    }
}
