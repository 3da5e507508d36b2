//! Running work is moved together so that work that waits has room.

use std::collections::BTreeMap;
use std::sync::Arc;

use fermion_scheduler::environment::Environment;
use fermion_scheduler::queue::State;
use fermion_scheduler::{
    Cause, Consolidation, Gang, Member, MemberSet, Operator, PlacedMember, Plan, Pool, Queue, Requirement, Snapshot, Subject, Term, Wait,
    Whom, plan,
};

use crate::{amounts, gang, node, queue};

const CARD: &str = "gpu.fermion.dev/a100";
const MINUTE_MS: i64 = 60_000;
const NOW: i64 = 60 * MINUTE_MS;

/// A gang that waits for one member of so many cards.
fn waits(id: &str, cards: i128, created_at: i64) -> Gang {
    gang(id, created_at, 1, &[(CARD, cards)])
}

/// A gang that has run for half an hour, with a member of so many cards on each of these nodes.
fn runs(id: &str, nodes: &[&str], cards: i128) -> Gang {
    let requests: BTreeMap<String, i128> = amounts(&[(CARD, cards)]);
    let placed = nodes.iter().enumerate().map(|(index, node)| {
        let id = format!("{id}-{index}");
        let again = Some(Arc::new(Member { id: id.clone(), requests: requests.clone(), ..Member::default() }));
        PlacedMember { id, node: (*node).into(), requests: requests.clone(), again, ..PlacedMember::default() }
    });
    let placed: Vec<PlacedMember> = placed.collect();
    let set = MemberSet { name: "worker".into(), min: nodes.len() as u32, settled: nodes.len() as u32, pending: Vec::new() };
    Gang { placed, sets: vec![set], started_at: NOW - 30 * MINUTE_MS, ..gang(id, 0, 0, &[]) }
}

/// The same gang once it was told to stop.
fn leaves(gang: Gang) -> Gang {
    let mut gang = Gang { claims: true, ..gang };
    gang.placed.iter_mut().for_each(|member| member.leaves_at = Some(NOW + 1000));
    gang.sets[0].settled = 0;
    gang
}

/// The same gang with new pods.
fn is_back(gang: Gang) -> Gang {
    let pending = gang.placed.iter().map(|member| (**member.again.as_ref().expect("what it asks for")).clone()).collect();
    let set = MemberSet { settled: 0, pending, ..gang.sets[0].clone() };
    Gang { claims: true, placed: Vec::new(), sets: vec![set], started_at: 0, ..gang }
}

fn claims(gang: Gang) -> Gang {
    Gang { claims: true, ..gang }
}

const ALLOWED: Consolidation = Consolidation { moves_max: 2, moves_left: 10, run_ms_min: 10 * MINUTE_MS };

/// One node of eight cards for each name.
fn world(nodes: &[&str], consolidation: Option<Consolidation>, gangs: Vec<Gang>) -> Snapshot {
    let mut nodes: Vec<_> = nodes.iter().map(|name| node(name, &[(CARD, 8)])).collect();
    for node in &mut nodes {
        let here = gangs.iter().flat_map(|gang| &gang.placed).filter(|member| member.node == node.name);
        node.used.insert(CARD.into(), here.map(|member| member.requests[CARD]).sum());
    }
    let pools = vec![Pool { name: "local".into(), consolidation, ..Pool::default() }];
    Snapshot { pools, queues: vec![queue("default", 0)], nodes, gangs, now: NOW, ..Snapshot::default() }
}

fn moved(plan: &Plan) -> Vec<&str> {
    plan.evictions.iter().filter(|one| one.cause == Cause::Moved && one.whole).map(|one| one.gang.as_str()).collect()
}

fn wait<'p>(plan: &'p Plan, gang: &str) -> &'p Wait {
    &plan.waits.iter().find(|waiting| waiting.gang == gang).unwrap_or_else(|| panic!("{gang} waits: {plan:?}")).wait
}

fn bound(plan: &Plan) -> Vec<(&str, &str)> {
    plan.binds.iter().map(|bind| (bind.member.as_str(), bind.node.as_str())).collect()
}

#[test]
fn work_is_moved_together_and_its_new_place_is_kept_until_it_has_it() {
    let (one, two) = (runs("one", &["a"], 4), Gang { started_at: NOW - 20 * MINUTE_MS, ..runs("two", &["b"], 4) });
    // On no other node but where the one that is moved is to be.
    let mut late = waits("late", 4, 9);
    let name = Requirement { key: "metadata.name".into(), operator: Operator::In, values: vec!["a".into()] };
    late.sets[0].pending[0].affinity = vec![Term { labels: Vec::new(), names: vec![name] }];
    let late = || late.clone();
    let first = plan(&world(&["a", "b"], Some(ALLOWED), vec![one.clone(), two.clone(), waits("big", 8, 5), late()]));
    assert_eq!(moved(&first), ["two"], "the one that lost least");
    assert_eq!(wait(&first, "big"), &Wait::Evicting { members: 1 });
    assert_eq!(wait(&first, "late"), &Wait::BehindOthers { ahead: "two".into() });
    assert!(bound(&first).is_empty());

    // It stops, and nobody takes the place that it is to have.
    let gangs = vec![one.clone(), leaves(two.clone()), claims(waits("big", 8, 5)), late()];
    let second = plan(&world(&["a", "b"], Some(ALLOWED), gangs));
    assert!(second.evictions.is_empty());
    assert_eq!(wait(&second, "big"), &Wait::Evicting { members: 1 });
    assert_eq!(wait(&second, "late"), &Wait::BehindOthers { ahead: "two".into() });

    // It has stopped, and each has its place.
    let gangs = vec![one, is_back(two), claims(waits("big", 8, 5)), late()];
    let third = plan(&world(&["a", "b"], Some(ALLOWED), gangs));
    let mut places = bound(&third);
    places.sort_unstable();
    assert_eq!(places, [("big-0", "b"), ("two-0", "a")]);
    assert!(third.evictions.is_empty());
}

#[test]
fn nothing_is_moved_where_that_is_not_allowed_or_helps_nobody() {
    let one = || runs("one", &["a"], 4);
    let two = || runs("two", &["b"], 4);
    let of = |consolidation, gangs| moved(&plan(&world(&["a", "b"], consolidation, gangs))).len();
    let big = || waits("big", 8, 5);
    assert_eq!(of(Some(ALLOWED), vec![one(), two(), big()]), 1);
    assert_eq!(of(None, vec![one(), two(), big()]), 0, "the policy does not say so");
    let none_left = Consolidation { moves_left: 0, ..ALLOWED };
    assert_eq!(of(Some(none_left), vec![one(), two(), big()]), 0, "enough was moved in this hour");
    let both = |change: fn(Gang) -> Gang| of(Some(ALLOWED), vec![change(one()), change(two()), big()]);
    assert_eq!(both(|gang| Gang { preemptible: false, ..gang }), 0, "they opted out");
    assert_eq!(both(|gang| Gang { environment: Environment::Development, ..gang }), 0, "people work there");
    assert_eq!(both(|gang| Gang { started_at: NOW - MINUTE_MS, ..gang }), 0, "they have just begun");
    let no_longer_known = |mut gang: Gang| {
        gang.placed[0].again = None;
        gang
    };
    assert_eq!(both(no_longer_known), 0, "it is not known what they would ask for");
    assert_eq!(of(Some(ALLOWED), vec![one(), runs("two", &["b"], 5), big()]), 0, "there is too little in all");
    assert_eq!(of(Some(ALLOWED), vec![one(), two(), waits("first", 16, 1), big()]), 1, "what never fits is not waited for");
}

#[test]
fn no_more_are_moved_than_the_policy_says() {
    let small = |id: &str, node: &str| runs(id, &[node], 2);
    let gangs = || vec![small("a1", "a"), small("a2", "a"), small("b1", "b"), small("b2", "b"), waits("big", 8, 5)];
    let of = |moves_max| moved(&plan(&world(&["a", "b"], Some(Consolidation { moves_max, ..ALLOWED }), gangs()))).len();
    assert_eq!((of(1), of(2)), (0, 2));
}

#[test]
fn only_the_first_that_waits_has_others_moved_for_it() {
    // Two members of it, on a node each, are to have eight cards.
    let first = gang("first", 1, 2, &[(CARD, 8)]);
    let gangs = vec![runs("one", &["a"], 4), runs("two", &["b"], 4), waits("big", 8, 5), first];
    assert!(moved(&plan(&world(&["a", "b"], Some(ALLOWED), gangs))).is_empty());
}

#[test]
fn what_may_not_start_over_now_stays_where_it_is() {
    let world = |change: fn(&mut Snapshot)| {
        let other = |gang| Gang { queue: "other".into(), ..gang };
        let mine = |gang| Gang { owner: Whom { user: "ada".into(), ..Whom::default() }, ..gang };
        let gangs = vec![mine(other(runs("one", &["a"], 4))), mine(other(runs("two", &["b"], 4))), waits("big", 8, 5)];
        let mut snapshot = world(&["a", "b"], Some(ALLOWED), gangs);
        snapshot.queues.push(queue("other", 0));
        change(&mut snapshot);
        moved(&plan(&snapshot)).len()
    };
    assert_eq!(world(|_| ()), 1);
    assert_eq!(world(|snapshot| snapshot.queues[1] = Queue { state: State::Down, ..queue("other", 0) }), 0);
    assert_eq!(world(|snapshot| snapshot.rules.ceilings = vec![(Subject::Person("ada".to_owned()), amounts(&[(CARD, 6)]))]), 0);
}

#[test]
fn who_can_be_moved_is_not_stopped_for_good() {
    let mut one = runs("one", &["a"], 4);
    one.priority = -1;
    let mut snapshot = world(&["a", "b"], Some(ALLOWED), vec![one, runs("two", &["b"], 4), waits("big", 8, 5)]);
    snapshot.pools[0].preemption = true;
    let plan = plan(&snapshot);
    assert_eq!((moved(&plan).len(), plan.evictions.len()), (1, 1));
}
