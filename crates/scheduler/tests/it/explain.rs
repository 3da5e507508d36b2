//! Explanations, held against an oracle that tries everything on small clusters.

use std::collections::BTreeMap;

use fermion_scheduler::cluster::{Cluster, NodeId};
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelId, ModelSet};
use fermion_scheduler::engine::{Backfill, Engine, Members, Work, WorkId};
use fermion_scheduler::explain::{Asked, Change, Constraint};
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::{Constraints, Request};
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};
use proptest::prelude::*;

fn cluster(nodes: &[(i64, usize, bool)]) -> Cluster {
    let mut cluster = Cluster::new(Placement::BestFit, Mix::default());
    cluster.models.intern("card").expect("one model");
    for (number, (cores, cards, open)) in nodes.iter().enumerate() {
        let allocatable = [(ResourceId::CPU, cores * 1000), (ResourceId::MEMORY, 64)].into_iter().collect();
        let facts = Facts {
            name: format!("n{number}"),
            labels: [("disk".to_owned(), if number % 2 == 0 { "ssd" } else { "hdd" }.to_owned())].into(),
            open: *open,
            allocatable,
            domains: vec![format!("rack{}", number / 2)],
            ..Facts::default()
        };
        cluster.add(facts, vec![Device::new(ModelId(0), 0); *cards]);
    }
    cluster
}

fn members(cores: i64, memory: i64, cards: u8, count: u32) -> Members {
    let devices = (cards > 0).then_some(DeviceRequest { models: ModelSet::ANY, count: cards, each: Each::Whole });
    let demand = [(ResourceId::CPU, cores * 1000), (ResourceId::MEMORY, memory)].into_iter().collect();
    Members { request: Request { demand, devices, ..Request::default() }, count, per_node_max: None }
}

fn work(id: u64, sets: Vec<Members>) -> Work {
    Work { run_ms: Some(100), ..Work::new(WorkId(id), sets) }
}

#[test]
fn what_is_missing_is_named_with_its_amount_and_its_place() {
    let mut engine = Engine::new(cluster(&[(8, 4, true), (8, 4, true)]), Backfill::Easy);
    engine.round(0, [&work(1, vec![members(1, 1, 3, 1)]), &work(2, vec![members(1, 1, 2, 1)])]);
    let gang = work(3, vec![members(1, 1, 4, 2)]);
    let why = engine.explain(0, &gang).expect("it does not fit");
    assert_eq!((why.constraints.as_slice(), why.permanent), ([Constraint::Short(Asked::Cards)].as_slice(), false));
    assert_eq!(why.missing[&Asked::Cards].amount, 5000);
    let start = why.start.expect("both end");
    assert_eq!((start.at, start.after, start.known), (100, vec![WorkId(1), WorkId(2)], true));
    assert!(why.changes.contains(&Change::FewerCards { set: 0, count: 1 }), "{:?}", why.changes);
    assert!(why.changes.contains(&Change::End(vec![WorkId(1), WorkId(2)])), "{:?}", why.changes);
}

#[test]
fn places_kept_for_others_are_named_as_such() {
    let mut engine = Engine::new(cluster(&[(8, 4, true), (8, 4, true)]), Backfill::Easy);
    engine.round(0, [&work(1, vec![members(1, 1, 4, 1)])]);
    let (gang, small) = (work(2, vec![members(1, 1, 4, 2)]), Work { run_ms: None, ..work(3, vec![members(1, 1, 1, 1)]) });
    assert!(engine.round(0, [&gang, &small]).is_empty());
    let why = engine.explain(0, &small).expect("it waits");
    assert_eq!(why.constraints, [Constraint::Reservations]);
    // The places are still kept after the question.
    assert!(engine.explain(0, &small).is_some());
    assert_eq!(engine.explain(0, &gang).and_then(|why| why.start).map(|start| start.at), Some(100));
}

#[test]
fn what_no_end_can_help_is_permanent_and_has_no_start() {
    let mut engine = Engine::new(cluster(&[(8, 4, true), (8, 2, false)]), Backfill::Easy);
    let why = engine.explain(0, &work(1, vec![members(9, 1, 0, 1)])).expect("too large");
    assert_eq!(
        (why.constraints.as_slice(), why.permanent, &why.start),
        ([Constraint::Short(Asked::Amount(ResourceId::CPU))].as_slice(), true, &None)
    );
    assert_eq!(why.missing[&Asked::Amount(ResourceId::CPU)].amount, 1000);
    let why = engine.explain(0, &work(1, vec![members(1, 1, 2, 3)])).expect("a node is closed");
    assert!(why.changes.contains(&Change::Open(NodeId(1))), "{:?}", why.changes);
    let selector = [("disk".to_owned(), "tape".to_owned())].into();
    let mut nowhere = work(1, vec![members(1, 1, 0, 1)]);
    nowhere.sets[0].request.constraints = Constraints { selector, ..Constraints::default() };
    let why = engine.explain(0, &nowhere).expect("no node has it");
    assert_eq!((why.constraints.as_slice(), why.changes.as_slice()), ([Constraint::Nodes].as_slice(), [Change::AnyNode].as_slice()));
}

fn apply(work: &Work, change: &Change) -> Work {
    let mut work = work.clone();
    match change {
        Change::Fewer { members } => work.sets[0].count = *members,
        Change::Less { set, resource, amount } => {
            let demand = work.sets[*set].request.demand.iter().map(|(id, before)| (id, if id == *resource { *amount } else { before }));
            work.sets[*set].request.demand = demand.collect();
        }
        Change::FewerCards { set, count } => {
            work.sets[*set].request.devices.as_mut().expect("it asks for cards").count = *count;
        }
        Change::SmallerShare { set, compute } => {
            let devices = work.sets[*set].request.devices.as_mut().expect("it asks for cards");
            devices.each = Each::Share { compute: *compute, memory_mib: 0 };
        }
        Change::AnyDomain => work.topology.required = None,
        Change::AnyPerNode => work.sets.iter_mut().for_each(|set| set.per_node_max = None),
        Change::AnyNode => work.sets.iter_mut().for_each(|set| set.request.constraints = Constraints::default()),
        Change::Open(_) | Change::End(_) => {}
    }
    work
}

/// A search of its own: whether members alike fit, by how many each node takes.
fn fits_by_search(nodes: &[(i64, i64, i64, usize)], request: (i64, i64, i64), count: i64, per_node: i64, rack: bool) -> bool {
    let room = |node: &(i64, i64, i64, usize)| {
        let by = |free: i64, each: i64| if each == 0 { i64::MAX } else { free.max(0) / each };
        by(node.0, request.0).min(by(node.1, request.1)).min(by(node.2, request.2)).min(per_node)
    };
    let mut by_rack: BTreeMap<usize, i64> = BTreeMap::new();
    for node in nodes {
        *by_rack.entry(if rack { node.3 } else { 0 }).or_default() += room(node);
    }
    by_rack.values().any(|sum| *sum >= count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn named_constraints_block_and_suggested_changes_unblock(
        nodes in prop::collection::vec((1_i64..9, 0_usize..5, prop::bool::weighted(0.85)), 1..5),
        running in prop::collection::vec((1_i64..5, 1_i64..20, 0_u8..4, 1_u32..3), 0..6),
        asked in (0_i64..9, 0_i64..40, 0_u8..5, 1_u32..5),
        per_node in prop::option::weighted(0.3, 1_u32..3),
        ssd in prop::bool::weighted(0.2),
        rack in prop::bool::weighted(0.3),
    ) {
        let mut engine = Engine::new(cluster(&nodes), Backfill::Easy);
        for (id, (cores, memory, cards, count)) in running.iter().enumerate() {
            engine.round(0, [&work(id as u64, vec![members(*cores, *memory, *cards, *count)])]);
        }
        let mut gang = work(99, vec![members(asked.0, asked.1, asked.2, asked.3)]);
        gang.sets[0].per_node_max = per_node;
        gang.topology.required = rack.then_some(0);
        if ssd {
            gang.sets[0].request.constraints.selector = [("disk".to_owned(), "ssd".to_owned())].into();
        }
        let state = |engine: &mut Engine| -> Vec<(i64, i64, i64, usize, usize, bool)> {
            let all = engine.cluster().nodes();
            all.map(|(id, node)| {
                let cards = node.devices.iter().filter(|device| device.is_idle()).count() as i64;
                (node.free.get(ResourceId::CPU), node.free.get(ResourceId::MEMORY), cards, id.0 as usize / 2, id.0 as usize, node.facts.open)
            }).collect()
        };
        let all = state(&mut engine);
        let usable = |extra: &dyn Fn(usize) -> (i64, i64, i64), any: bool, opened: bool| -> Vec<(i64, i64, i64, usize)> {
            let fit = all.iter().filter(|node| (opened || node.5) && (any || !ssd || node.4 % 2 == 0));
            fit.map(|node| { let more = extra(node.4); (node.0 + more.0, node.1 + more.1, node.2 + more.2, node.3) }).collect()
        };
        let none = |_: usize| (0, 0, 0);
        let ask = (asked.0 * 1000, asked.1, i64::from(asked.2));
        let most = per_node.map_or(i64::MAX / 8, i64::from);
        let answer = engine.explain(0, &gang);
        prop_assert_eq!(state(&mut engine), all.clone(), "asking changes nothing");
        prop_assert_eq!(answer.is_none(), fits_by_search(&usable(&none, false, false), ask, i64::from(asked.3), most, rack));
        let Some(why) = answer else { return Ok(()) };
        // The constraints are to blame together, and no part of them is.
        let lifted = |lifted: &[Constraint]| {
            let has = |constraint: Constraint| lifted.contains(&constraint);
            let short = |asked: Asked, amount: i64| if has(Constraint::Short(asked)) { 0 } else { amount };
            let ask = (short(Asked::Amount(ResourceId::CPU), ask.0), short(Asked::Amount(ResourceId::MEMORY), ask.1), short(Asked::Cards, ask.2));
            let most = if has(Constraint::PerNode) { i64::MAX / 8 } else { most };
            let nodes = usable(&none, has(Constraint::Nodes), has(Constraint::Closed));
            fits_by_search(&nodes, ask, i64::from(gang.sets[0].count), most, rack && !has(Constraint::Topology))
        };
        if !why.constraints.is_empty() {
            prop_assert!(lifted(&why.constraints), "{:?} lifted, and it does not fit", why.constraints);
            for left in 0..why.constraints.len() {
                let fewer: Vec<Constraint> = why.constraints.iter().enumerate().filter(|(place, _)| *place != left).map(|(_, one)| *one).collect();
                prop_assert!(!lifted(&fewer), "{fewer:?} is enough of {:?}", why.constraints);
            }
        }
        // Added where it is said to be missing, it is enough; one unit less is not.
        if let [Constraint::Short(kind)] = why.constraints[..] {
            let missing = &why.missing[&kind];
            let unit = if kind == Asked::Cards { 1000 } else { 1 };
            for short in 0..=missing.nodes.len() {
                let extra = |node: usize| {
                    let rooms = missing.nodes.iter().enumerate().filter(|(_, room)| room.node.0 as usize == node);
                    let sum: i64 = rooms.map(|(place, room)| room.amount - if place + 1 == short { unit } else { 0 }).sum();
                    match kind {
                        Asked::Cards => (0, 0, sum / 1000),
                        Asked::Amount(ResourceId::CPU) => (sum, 0, 0),
                        Asked::Amount(_) => (0, sum, 0),
                    }
                };
                let fits = fits_by_search(&usable(&extra, false, false), ask, i64::from(gang.sets[0].count), most, rack);
                prop_assert_eq!(fits, short == 0, "{:?} with one unit less at {}", missing, short);
            }
        }
        for change in &why.changes {
            let mut engine = engine.clone();
            match change {
                Change::Open(node) => engine.cluster().set_open(*node, true),
                Change::End(victims) => for id in victims { engine.finish(*id).expect("it runs"); },
                _ => {}
            }
            prop_assert!(!engine.round(0, [&apply(&gang, change)]).is_empty(), "{change:?} does not help");
        }
        // Permanent is what an empty cluster has no room for.
        let mut empty = Engine::new(cluster(&nodes), Backfill::Easy);
        prop_assert_eq!(why.permanent, empty.round(0, [&gang]).is_empty());
        prop_assert_eq!(why.start.is_none(), why.permanent);
    }
}
