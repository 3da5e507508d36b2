use fermion_scheduler::gang::Topology;
use fermion_scheduler::queue::State;
use fermion_scheduler::{Basis, Gang, Node, PlacedMember, Queue, Snapshot, Start, Wait, plan};

use crate::{amounts, binds, gang, node, queue, snapshot};

fn waiting(snapshot: &Snapshot) -> Vec<String> {
    plan(snapshot).waits.into_iter().map(|waiting| waiting.gang).collect()
}

#[test]
fn higher_priority_goes_first_then_the_earlier_one() {
    let late_but_urgent = Gang { priority: 5, ..gang("urgent", 3, 1, &[("cpu", 2)]) };
    let gangs = vec![gang("second", 2, 1, &[("cpu", 2)]), gang("first", 1, 1, &[("cpu", 2)]), late_but_urgent];
    let state = snapshot(vec![node("a", &[("cpu", 4)])], gangs);
    assert_eq!(binds(&state), ["urgent-0->a", "first-0->a"]);
    assert_eq!(waiting(&state), ["second"]);
}

#[test]
fn a_queue_of_higher_priority_is_served_before_urgent_gangs_of_others() {
    let urgent = Gang { priority: 1000, ..gang("urgent", 1, 1, &[("cpu", 3)]) };
    let in_fast = Gang { queue: "fast".into(), ..gang("calm", 2, 1, &[("cpu", 3)]) };
    let mut state = snapshot(vec![node("a", &[("cpu", 4)])], vec![urgent, in_fast]);
    state.queues.push(queue("fast", 10));
    assert_eq!(binds(&state), ["calm-0->a"]);
}

#[test]
fn small_gangs_do_not_overtake_a_large_one_that_waits_for_room() {
    let mut busy = node("a", &[("cpu", 4)]);
    busy.used = amounts(&[("cpu", 2)]);
    let state = snapshot(vec![busy], vec![gang("large", 1, 1, &[("cpu", 4)]), gang("small", 2, 1, &[("cpu", 1)])]);
    assert!(binds(&state).is_empty());
    assert_eq!(waiting(&state), ["large", "small"]);
}

#[test]
fn nodes_that_the_waiting_gang_cannot_use_stay_open() {
    let mut cards = node("cards", &[("cpu", 8), ("gpu.fermion.dev/a100", 8)]);
    cards.used = amounts(&[("gpu.fermion.dev/a100", 1)]);
    let plain = node("plain", &[("cpu", 2)]);
    let large = gang("large", 1, 1, &[("gpu.fermion.dev/a100", 8)]);
    let state = snapshot(vec![cards, plain], vec![large, gang("small", 2, 2, &[("cpu", 1)])]);
    assert_eq!(binds(&state), ["small-0->plain", "small-1->plain"]);
}

#[test]
fn a_gang_that_can_never_fit_blocks_nobody() {
    let state = snapshot(vec![node("a", &[("cpu", 4)])], vec![gang("dream", 1, 1, &[("cpu", 64)]), gang("small", 2, 1, &[("cpu", 1)])]);
    assert_eq!(binds(&state), ["small-0->a"]);
}

#[test]
fn a_closed_queue_blocks_only_itself() {
    let other = Gang { queue: "open".into(), ..gang("b", 2, 1, &[("cpu", 1)]) };
    let mut state = snapshot(vec![node("a", &[("cpu", 4)])], vec![gang("a", 1, 1, &[("cpu", 1)]), other]);
    state.queues = vec![Queue { state: State::Down, ..queue("default", 9) }, queue("open", 0)];
    assert_eq!(binds(&state), ["b-0->a"]);
}

#[test]
fn gangs_get_all_members_or_none() {
    let state = snapshot(vec![node("a", &[("cpu", 3)])], vec![gang("four", 1, 4, &[("cpu", 1)])]);
    assert!(binds(&state).is_empty());
    let state = snapshot(vec![node("a", &[("cpu", 3)]), node("b", &[("cpu", 1)])], vec![gang("four", 1, 4, &[("cpu", 1)])]);
    assert_eq!(binds(&state).len(), 4);
}

#[test]
fn members_above_the_minimum_take_what_is_left_and_hold_nothing() {
    let mut elastic = gang("elastic", 1, 5, &[("cpu", 1)]);
    elastic.sets[0].min = 2;
    let state = snapshot(vec![node("a", &[("cpu", 3)]), node("b", &[("memory", 1)])], vec![elastic, gang("later", 2, 1, &[("memory", 1)])]);
    assert_eq!(binds(&state), ["elastic-0->a", "elastic-1->a", "elastic-2->a", "later-0->b"]);
    assert_eq!(waiting(&state), ["elastic"]);
}

#[test]
fn a_replaced_member_joins_those_that_have_their_place() {
    let mut service = gang("service", 1, 3, &[("cpu", 1)]);
    service.sets[0].settled = 2;
    service.sets[0].pending.truncate(1);
    let state = snapshot(vec![node("a", &[("cpu", 1)])], vec![service]);
    assert_eq!(binds(&state), ["service-0->a"]);
}

#[test]
fn members_pack_and_keep_accelerators_free() {
    let mut half = node("half", &[("cpu", 8)]);
    half.used = amounts(&[("cpu", 4)]);
    let cards = node("cards", &[("cpu", 5), ("gpu.fermion.dev/a100", 8)]);
    let state = snapshot(vec![cards, node("empty", &[("cpu", 8)]), half], vec![gang("a", 1, 1, &[("cpu", 4)])]);
    assert_eq!(binds(&state), ["a-0->half"]);
}

#[test]
fn different_members_are_arranged_where_greed_alone_would_fail() {
    // Greed puts the 3 beside the 2 that needs this node, or the like; only one split works.
    let mut mixed = gang("mixed", 1, 0, &[]);
    let sizes = [4, 3, 3, 2, 2, 2];
    mixed.sets[0].pending = sizes
        .iter()
        .enumerate()
        .map(|(index, cpu)| fermion_scheduler::Member { id: index.to_string(), requests: amounts(&[("cpu", *cpu)]), ..Default::default() })
        .collect();
    mixed.sets[0].min = 6;
    let state = snapshot(vec![node("a", &[("cpu", 8)]), node("b", &[("cpu", 8)])], vec![mixed]);
    assert_eq!(binds(&state).len(), 6);
}

/// A gang that runs on these nodes since the beginning of time.
fn running(id: &str, run_ms: Option<i64>, nodes: &[&str], requests: &[(&str, i128)]) -> Gang {
    let placed =
        nodes.iter().map(|node| PlacedMember { node: (*node).into(), requests: amounts(requests), ..PlacedMember::default() }).collect();
    Gang { placed, run_ms, sets: vec![], ..gang(id, 0, 0, &[]) }
}

#[test]
fn an_estimate_says_the_weakest_that_run_times_stand_on() {
    let busy = |name| Node { used: amounts(&[("cpu", 2)]), ..node(name, &[("cpu", 4)]) };
    let on = |id, run_basis| Gang { run_basis, ..running(id, Some(1000), &[id], &[("cpu", 2)]) };
    let start = |first, second| {
        let gangs = vec![on("a", first), on("b", second), gang("large", 1, 2, &[("cpu", 4)])];
        plan(&snapshot(vec![busy("a"), busy("b")], gangs)).waits[0].start.expect("places are kept for it")
    };
    assert_eq!(start(Basis::Limit, Basis::Limit), Start { at: 1000, known: true, basis: Basis::Limit });
    assert_eq!(start(Basis::Limit, Basis::Declared).basis, Basis::Declared);
    assert_eq!(start(Basis::Learned, Basis::Declared).basis, Basis::Learned);
}

#[test]
fn short_work_passes_a_waiting_gang_when_run_times_are_declared() {
    let busy = |name| Node { used: amounts(&[("cpu", 2)]), ..node(name, &[("cpu", 4)]) };
    let of = |id, created_at, cpu, run_ms| Gang { run_ms, ..gang(id, created_at, 1, &[("cpu", cpu)]) };
    let gangs = vec![
        running("now", Some(1000), &["a", "b"], &[("cpu", 2)]),
        of("large", 1, 4, None),
        of("long", 2, 2, Some(1001)),
        of("short", 3, 2, Some(1000)),
    ];
    let state = snapshot(vec![busy("a")], gangs);
    assert_eq!(binds(&state), ["short-0->a"]);
    let waits = plan(&state).waits;
    assert_eq!(waits[0].start, Some(Start { at: 1000, known: true, basis: Basis::Declared }));
    assert_eq!((waits[1].gang.as_str(), &waits[1].wait), ("long", &Wait::BehindOthers { ahead: "large".into() }));
}

#[test]
fn a_gang_stays_in_the_domain_it_must_be_in() {
    let in_rack = |name, rack: &str| Node { domains: vec!["zone".into(), rack.into()], ..node(name, &[("cpu", 2)]) };
    let nodes = vec![in_rack("a", "one"), in_rack("b", "two"), in_rack("c", "two")];
    let topology = Topology { required: Some(1), preferred: None };
    let of = |count| Gang { topology, ..gang("g", 1, count, &[("cpu", 1)]) };
    let state = snapshot(nodes.clone(), vec![of(4)]);
    let placed = plan(&state).binds;
    assert!(placed.len() == 4 && placed.iter().all(|bind| bind.node != "a"), "{placed:?}");
    let state = snapshot(nodes, vec![of(5)]);
    assert_eq!(plan(&state).waits[0].wait, Wait::NoDomain { pool: "local".into() });
    let nowhere = Gang { topology: Topology { required: Some(usize::MAX), preferred: None }, ..gang("g", 1, 1, &[("cpu", 1)]) };
    assert!(binds(&snapshot(vec![in_rack("a", "one")], vec![nowhere])).is_empty());
}
