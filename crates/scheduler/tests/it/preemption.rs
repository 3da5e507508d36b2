//! Victims: enough, none in vain, and no more than a search over all sets would find.

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelId, ModelSet};
use fermion_scheduler::engine::{Backfill, Engine, Members, Work, WorkId};
use fermion_scheduler::gang::{self, Topology};
use fermion_scheduler::node::Facts;
use fermion_scheduler::preemption::{Candidate, Refusal};
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};
use proptest::prelude::*;

fn engine(nodes: usize, cards: usize) -> Engine {
    let mut cluster = Cluster::new(Placement::Spread, Mix::default());
    cluster.models.intern("card").expect("one model");
    for number in 0..nodes {
        let allocatable = [(ResourceId::CPU, 16_000)].into_iter().collect();
        let domains = vec![format!("rack{}", number / 2)];
        let facts = Facts { name: format!("n{number}"), open: true, allocatable, domains, ..Facts::default() };
        cluster.add(facts, vec![Device::new(ModelId(0), 0); cards]);
    }
    Engine::new(cluster, Backfill::Easy)
}

fn members(cores: i64, cards: u8, count: u32) -> Members {
    let devices = (cards > 0).then_some(DeviceRequest { models: ModelSet::ANY, count: cards, each: Each::Whole });
    let request = Request { demand: [(ResourceId::CPU, cores * 1000)].into_iter().collect(), devices, ..Request::default() };
    Members { request, count, per_node_max: None }
}

fn work(id: u64, sets: Vec<Members>) -> Work {
    Work::new(WorkId(id), sets)
}

fn candidates(engine: &Engine, tier: impl Fn(u64) -> u32) -> Vec<Candidate> {
    engine.running().keys().map(|work| Candidate { work: *work, tier: tier(work.0) }).collect()
}

/// Whether the work would start if these were gone.
fn fits_without(engine: &Engine, work: &Work, gone: &[WorkId]) -> bool {
    let mut engine = engine.clone();
    for id in gone {
        engine.finish(*id).expect("victims run");
    }
    !engine.round(0, [work]).is_empty()
}

#[test]
fn exactly_what_is_needed_is_stopped_on_the_cheapest_nodes() {
    let mut engine = engine(4, 4);
    // Nodes full of small work, one of them held by one large member.
    let large = work(100, vec![members(1, 4, 1)]);
    assert_eq!(engine.round(0, [&large]).len(), 1);
    for id in 0..12 {
        assert_eq!(engine.round(0, [&work(id, vec![members(1, 1, 1)])]).len(), 1);
    }
    let gang = work(200, vec![members(1, 4, 2)]);
    let all = candidates(&engine, |_| 0);
    let victims = engine.victims(&gang, &all).expect("enough could be freed");
    assert_eq!(victims.len(), 5, "the large one, and the four of one node: {victims:?}");
    assert!(fits_without(&engine, &gang, &victims));
    // When the large one counts for more, two nodes of small ones go instead.
    let dear = candidates(&engine, |id| u32::from(id == 100));
    let victims = engine.victims(&gang, &dear).expect("enough could be freed");
    assert!(victims.len() == 8 && !victims.contains(&WorkId(100)), "{victims:?}");
}

#[test]
fn a_gang_that_is_stopped_pays_with_all_its_places() {
    let mut engine = engine(4, 2);
    let gang = work(1, vec![members(1, 2, 2)]);
    let large = work(2, vec![members(1, 2, 1)]);
    let small = [3, 4].map(|id| work(id, vec![members(1, 1, 1)]));
    assert_eq!(engine.round(0, [&gang, &large, &small[0], &small[1]]).len(), 4);
    let all = candidates(&engine, |_| 0);
    let one = engine.victims(&work(9, vec![members(1, 2, 1)]), &all).expect("enough could be freed");
    assert_eq!(one, [WorkId(2)], "one member is cheaper than two");
    engine.finish(WorkId(2));
    engine.round(0, [&work(5, vec![members(1, 1, 1)]), &work(6, vec![members(1, 1, 1)])]);
    let all = candidates(&engine, |_| 0);
    let two = engine.victims(&work(9, vec![members(1, 2, 2)]), &all).expect("enough could be freed");
    assert_eq!(two, [WorkId(1)], "its two members free as much as four others do");
}

#[test]
fn what_no_end_could_help_is_refused_with_its_cause() {
    let mut engine = engine(3, 4);
    engine.round(0, [&work(1, vec![members(1, 4, 3)])]);
    let all = candidates(&engine, |_| 0);
    assert_eq!(engine.victims(&work(2, vec![members(1, 4, 4)]), &all), Err(Refusal::TooLarge { set: 0, room: 3 }));
    assert_eq!(engine.victims(&work(2, vec![members(1, 4, 1)]), &[]), Err(Refusal::NotEnough));
    let rack = Work { topology: Topology { required: Some(0), preferred: None }, ..work(3, vec![members(1, 4, 3)]) };
    assert_eq!(engine.victims(&rack, &all), Err(Refusal::TooLarge { set: 0, room: 2 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn victims_are_enough_and_none_is_in_vain(
        nodes in 1_usize..4,
        running in prop::collection::vec((1_i64..6, 0_u8..4, 1_u32..3, 0_u32..3), 1..8),
        claim in prop::collection::vec((1_i64..6, 0_u8..5, 1_u32..4), 1..3),
        spread in any::<bool>(),
        rack in any::<bool>(),
    ) {
        let mut engine = engine(nodes, 4);
        for (id, (cores, cards, count, _)) in running.iter().enumerate() {
            engine.round(0, [&work(id as u64, vec![members(*cores, *cards, *count)])]);
        }
        let mut claimant = work(99, claim.iter().map(|(cores, cards, count)| members(*cores, *cards, *count)).collect());
        if spread && claimant.sets.len() == 1 {
            claimant.sets[0].per_node_max = Some(1);
        }
        claimant.topology.required = rack.then_some(0);
        let all = candidates(&engine, |id| running[id as usize].3);
        let before: Vec<_> = engine.cluster().nodes().map(|(_, node)| (node.free.clone(), node.devices.clone())).collect();
        let answer = engine.victims(&claimant, &all);
        let after: Vec<_> = engine.cluster().nodes().map(|(_, node)| (node.free.clone(), node.devices.clone())).collect();
        prop_assert_eq!(before, after, "asking changes nothing");
        let ids: Vec<WorkId> = all.iter().map(|candidate| candidate.work).collect();
        match answer {
            Ok(victims) => {
                prop_assert!(fits_without(&engine, &claimant, &victims));
                for kept in 0..victims.len() {
                    let fewer: Vec<WorkId> = victims.iter().enumerate().filter(|(place, _)| *place != kept).map(|(_, id)| *id).collect();
                    prop_assert!(!fits_without(&engine, &claimant, &fewer), "{:?} was stopped in vain", victims[kept]);
                }
            }
            Err(Refusal::TooLarge { set, room }) => {
                prop_assert!(room < claimant.sets[set].count);
                prop_assert!(!fits_without(&engine, &claimant, &ids));
            }
            Err(Refusal::NotEnough) => prop_assert!(!fits_without(&engine, &claimant, &ids)),
        }
    }

    /// One-card work of one member each: the number of victims is the least possible.
    #[test]
    fn of_equal_work_as_few_as_possible_are_stopped(nodes in 1_usize..4, running in 0_u64..13, cards in 1_u8..5, count in 1_u32..4) {
        let mut engine = engine(nodes, 4);
        for id in 0..running {
            engine.round(0, [&work(id, vec![members(1, 1, 1)])]);
        }
        let claimant = work(99, vec![members(1, cards, count)]);
        let all = candidates(&engine, |_| 0);
        let ids: Vec<WorkId> = all.iter().map(|candidate| candidate.work).collect();
        let least = (0_u32..1 << ids.len())
            .filter(|set| {
                let gone: Vec<WorkId> = ids.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1).map(|(_, id)| *id).collect();
                let mut engine = engine.clone();
                for id in gone {
                    engine.finish(id);
                }
                let class = engine.cluster().class(&claimant.sets[0].request);
                let set = gang::Set { class, count, per_node_max: None };
                gang::seat(engine.cluster(), &[set], Topology::default()).is_some()
            })
            .map(u32::count_ones)
            .min();
        prop_assert_eq!(engine.victims(&claimant, &all).ok().map(|victims| victims.len() as u32), least);
    }
}
