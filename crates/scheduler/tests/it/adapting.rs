//! Work that grows, shrinks and moves so that what is free is of use.

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelId, ModelSet};
use fermion_scheduler::elastic::Elastic;
use fermion_scheduler::engine::{Backfill, Engine, Members, Running, Work, WorkId};
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};
use proptest::prelude::*;

fn engine(nodes: usize) -> Engine {
    let mut cluster = Cluster::new(Placement::Spread, Mix::default());
    cluster.models.intern("card").expect("one model");
    for number in 0..nodes {
        let allocatable = [(ResourceId::CPU, 64_000)].into_iter().collect();
        cluster.add(Facts { name: format!("n{number}"), open: true, allocatable, ..Facts::default() }, vec![Device::new(ModelId(0), 0); 4]);
    }
    Engine::new(cluster, Backfill::Easy)
}

fn members(cards: u8, count: u32) -> Members {
    let devices = Some(DeviceRequest { models: ModelSet::ANY, count: cards, each: Each::Whole });
    let request = Request { demand: [(ResourceId::CPU, 1000)].into_iter().collect(), devices, ..Request::default() };
    Members { request, count, per_node_max: None }
}

fn work(id: u64, cards: u8, count: u32) -> Work {
    Work::new(WorkId(id), vec![members(cards, count)])
}

fn idle(engine: &mut Engine) -> usize {
    engine.cluster().nodes().map(|(_, node)| node.devices.iter().filter(|device| device.is_idle()).count()).sum()
}

#[test]
fn elastic_work_grows_evenly_into_what_is_free_and_shrinks_for_who_waits() {
    let mut engine = engine(2);
    engine.round(0, [&work(1, 1, 2), &work(2, 1, 1)]);
    let elastic = [1, 2].map(|id| Elastic { parent: WorkId(id), member: members(1, 1), more: 4 });
    let mut number = 100;
    let grown = engine.grow(10, &elastic, || {
        number += 1;
        WorkId(number)
    });
    let of = |id| grown.iter().filter(|one| one.parent == WorkId(id)).count();
    assert_eq!((of(1), of(2), idle(&mut engine)), (3, 2, 0));
    let waiting = work(3, 1, 2);
    assert!(engine.round(20, [&waiting]).is_empty());
    let shrunk = engine.shrink_for(&waiting);
    assert_eq!(shrunk, [WorkId(105), WorkId(104)], "the last to come go first, and no more than needed");
    for id in shrunk {
        engine.finish(id);
    }
    assert_eq!(engine.round(20, [&waiting]).len(), 1);
    // With the parent go its members.
    engine.finish(WorkId(1));
    assert_eq!(idle(&mut engine), 4);
    assert!(engine.shrink_for(&work(4, 4, 2)).is_empty(), "not enough, so nobody shrinks");
}

#[test]
fn what_is_kept_for_waiting_work_is_not_grown_into() {
    let mut engine = engine(2);
    engine.round(0, [&Work { run_ms: Some(100), ..work(1, 4, 1) }, &work(2, 1, 1)]);
    assert!(engine.round(0, [&work(3, 3, 2)]).is_empty());
    let elastic = [Elastic { parent: WorkId(2), member: members(1, 1), more: 4 }];
    assert!(engine.grow(0, &elastic, || WorkId(100)).is_empty());
}

#[test]
fn scattered_work_moves_together_for_a_gang_and_only_as_far_as_needed() {
    let mut engine = engine(3);
    let small: Vec<Work> = (0..3).map(|id| work(id, 2, 1)).collect();
    assert_eq!(engine.round(0, &small).len(), 3);
    let gang = work(9, 4, 1);
    assert!(engine.round(0, [&gang]).is_empty(), "six cards are free, no four on one node");
    let moves = engine.consolidate(&gang, &small, 4).expect("one move is enough");
    assert_eq!(moves.moves.len(), 1);
    assert!(engine.consolidate(&gang, &small, 0).is_none());
    engine.relocate(moves.moves);
    assert_eq!(engine.round(0, [&gang]).len(), 1);
    assert!(engine.consolidate(&work(10, 4, 1), &small, 4).is_none(), "there is no place elsewhere any more");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn moves_that_are_named_can_be_made(running in prop::collection::vec((1_u8..5, 1_u32..3), 1..8), gone in any::<u8>(), claim in (1_u8..5, 1_u32..3)) {
        let mut engine = engine(3);
        let all: Vec<Work> = running.iter().enumerate().map(|(id, (cards, count))| work(id as u64, *cards, *count)).collect();
        engine.round(0, &all);
        for id in 0..8 {
            if gone >> id & 1 == 1 {
                engine.finish(WorkId(id));
            }
        }
        let still: Vec<Work> = all.into_iter().filter(|work| engine.running().contains_key(&work.id)).collect();
        let gang = work(99, claim.0, claim.1);
        let before: Vec<_> = engine.cluster().nodes().map(|(_, node)| node.devices.clone()).collect();
        let moves = engine.consolidate(&gang, &still, 8);
        let after: Vec<_> = engine.cluster().nodes().map(|(_, node)| node.devices.clone()).collect();
        prop_assert_eq!(before, after, "asking changes nothing");
        if let Some(moves) = moves {
            engine.relocate(moves.moves);
            engine.restore(gang.id, Running { placed: moves.placed, started_at: 0, ends_at: None, parent: None });
            for (id, node) in engine.clone().cluster().nodes() {
                let placed = engine.running().values().flat_map(|running| &running.placed).filter(|one| one.node == id);
                let mut held: Vec<u8> = placed.flat_map(|one| &one.seat.grant).map(|held| held.device).collect();
                held.sort_unstable();
                let taken: Vec<u8> = (0..4).filter(|card| !node.devices[usize::from(*card)].is_idle()).collect();
                prop_assert_eq!(held, taken, "each card is held once");
            }
        }
    }
}
