//! What queues, ceilings, policies and hours do to a plan.

use std::collections::BTreeMap;

use fermion_scheduler::environment::Environment;
use fermion_scheduler::policy::Policy;
use fermion_scheduler::queue::{Access, JobOrder, State};
use fermion_scheduler::window::{Days, Span, Subjects, Zone};
use fermion_scheduler::{
    Cause, Eviction, Gang, PlacedMember, Plan, Pool, Queue, Remedy, Ruling, Snapshot, Subject, Wait, Waiting, Whom, plan, plan_after,
    window,
};

use crate::{amounts, gang, node, queue};

const CARD: &str = "gpu.fermion.dev/a100";

fn cards(count: i128) -> BTreeMap<String, i128> {
    amounts(&[(CARD, count)])
}

/// One node of eight cards for each name, in the pool `local`.
fn world(nodes: &[&str], queues: Vec<Queue>, gangs: Vec<Gang>) -> Snapshot {
    let mut nodes: Vec<_> = nodes.iter().map(|name| node(name, &[(CARD, 8)])).collect();
    for node in &mut nodes {
        let here = gangs.iter().flat_map(|gang| &gang.placed).filter(|member| member.node == node.name);
        let used: i128 = here.map(|member| member.requests[CARD]).sum();
        node.used.insert(CARD.into(), used);
    }
    let pools = vec![Pool { name: "local".into(), ..Pool::default() }];
    Snapshot { pools, queues, nodes, gangs, ..Snapshot::default() }
}

fn promised(name: &str, count: i128) -> Queue {
    Queue { guaranteed: cards(count), ..queue(name, 0) }
}

/// A gang that waits for `count` members of so many cards each.
fn waits(id: &str, queue: &str, count: u32, each: i128) -> Gang {
    Gang { queue: queue.into(), ..gang(id, 1, count, &[(CARD, each)]) }
}

/// A gang that runs with a member on each of these nodes.
fn runs(id: &str, queue: &str, nodes: &[&str], each: i128) -> Gang {
    let member = |(index, node): (usize, &&str)| PlacedMember {
        id: format!("{id}-{index}"),
        node: (*node).into(),
        requests: cards(each),
        ..PlacedMember::default()
    };
    let placed = nodes.iter().enumerate().map(member).collect();
    Gang { queue: queue.into(), placed, sets: vec![], ..gang(id, 0, 0, &[]) }
}

fn of(user: &str, gang: Gang) -> Gang {
    Gang { owner: Whom { tenant: "acme".into(), project: "lab".into(), user: user.into(), ..Whom::default() }, ..gang }
}

fn bound(plan: &Plan) -> Vec<&str> {
    plan.binds.iter().map(|bind| bind.member.as_str()).collect()
}

fn wait<'p>(plan: &'p Plan, gang: &str) -> &'p Waiting {
    plan.waits.iter().find(|waiting| waiting.gang == gang).expect("it waits")
}

fn evicted(plan: &Plan) -> Vec<(&str, usize, bool, Cause)> {
    plan.evictions.iter().map(|one: &Eviction| (one.gang.as_str(), one.members.len(), one.whole, one.cause)).collect()
}

#[test]
fn a_queue_never_goes_beyond_its_limit() {
    let limited = Queue { limit: cards(4), ..queue("q", 0) };
    let state = world(&["a"], vec![limited], vec![runs("old", "q", &["a"], 3), waits("new", "q", 1, 2), waits("small", "q", 1, 1)]);
    let plan = plan(&state);
    assert_eq!(bound(&plan), ["small-0"]);
    let waiting = wait(&plan, "new");
    assert_eq!(waiting.wait, Wait::Ruled(vec![Ruling::QueueLimit { queue: "q".into(), resource: CARD.into(), missing: 1000 }]));
    let raise = Remedy::RaiseLimit { queue: "q".into(), resource: CARD.into(), by: 1000 };
    assert!(waiting.remedies.contains(&raise) && waiting.remedies.contains(&Remedy::AskLess { resource: CARD.into(), by: 1000 }));
}

#[test]
fn the_limit_of_a_parent_holds_for_all_below_it() {
    let parent = Queue { limit: cards(4), ..queue("parent", 0) };
    let child = |name: &str| Queue { parent: Some("parent".into()), ..queue(name, 0) };
    let gangs = vec![runs("old", "one", &["a"], 3), waits("new", "two", 1, 2)];
    let plan = plan(&world(&["a"], vec![parent, child("one"), child("two")], gangs));
    let ruling = Ruling::QueueLimit { queue: "parent".into(), resource: CARD.into(), missing: 1000 };
    assert_eq!(wait(&plan, "new").wait, Wait::Ruled(vec![ruling]));
}

#[test]
fn a_queue_has_back_what_it_is_promised_and_no_more_is_stopped_than_needed() {
    let queues = || vec![promised("owner", 8), queue("guest", 0)];
    let guests = vec![runs("g1", "guest", &["a", "a"], 2), runs("g2", "guest", &["a"], 2), runs("g3", "guest", &["b"], 8)];
    let mut gangs = guests.clone();
    gangs.push(waits("mine", "owner", 1, 4));
    let plan = plan(&world(&["a", "b"], queues(), gangs));
    assert_eq!(evicted(&plan), [("g2", 1, true, Cause::Reclaimed)]);
    assert_eq!(wait(&plan, "mine").wait, Wait::Evicting { members: 1 });
    // Beyond its guarantee it has to wait like others.
    let mut gangs = guests;
    gangs.extend([runs("own", "owner", &["c"], 8), waits("mine", "owner", 1, 4)]);
    let plan = fermion_scheduler::plan(&world(&["a", "b", "c"], queues(), gangs));
    assert!(plan.evictions.is_empty());
    assert!(matches!(wait(&plan, "mine").wait, Wait::InsufficientResources(_)));
}

#[test]
fn what_is_promised_to_a_queue_is_not_taken_from_it() {
    let queues = vec![promised("owner", 8), promised("other", 8)];
    let gangs = vec![runs("theirs", "other", &["a"], 8), waits("mine", "owner", 1, 4)];
    assert!(plan(&world(&["a"], queues, gangs)).evictions.is_empty());
}

#[test]
fn who_opted_out_is_not_stopped() {
    let guest = Gang { preemptible: false, ..runs("g", "guest", &["a"], 8) };
    let plan = plan(&world(&["a"], vec![promised("owner", 8), queue("guest", 0)], vec![guest, waits("mine", "owner", 1, 4)]));
    assert!(plan.evictions.is_empty());
}

#[test]
fn nobody_is_stopped_before_the_least_run_time() {
    let gangs = vec![runs("g", "guest", &["a"], 8), waits("mine", "owner", 1, 4)];
    let mut state = world(&["a"], vec![promised("owner", 8), queue("guest", 0)], gangs);
    state.pools[0].run_ms_min = 60_000;
    state.now = 59_999;
    assert!(plan(&state).evictions.is_empty());
    state.now = 60_000;
    assert_eq!(plan(&state).evictions.len(), 1);
}

#[test]
fn a_gang_is_stopped_as_a_whole_with_its_spare_members() {
    let mut guest = runs("g", "guest", &["a", "b", "b"], 4);
    guest.placed[2].spare = true;
    let gangs = vec![guest, runs("h", "guest", &["a"], 4), waits("mine", "owner", 2, 8)];
    let plan = plan(&world(&["a", "b"], vec![promised("owner", 16), queue("guest", 0)], gangs));
    assert_eq!(evicted(&plan), [("g", 3, true, Cause::Reclaimed), ("h", 1, true, Cause::Reclaimed)]);
}

#[test]
fn a_gang_that_lost_members_has_them_first_or_gives_back_the_rest() {
    let half = |placed: &[&str]| {
        let mut gang = waits("half", "q", 2, 4);
        gang.placed = runs("half", "q", placed, 4).placed;
        gang.sets[0].pending.truncate(2 - placed.len());
        gang.sets[0].settled = placed.len() as u32;
        gang
    };
    let first = Gang { priority: 9, ..waits("first", "q", 1, 4) };
    let room = plan(&world(&["a"], vec![queue("q", 0)], vec![first.clone(), half(&["a"])]));
    assert_eq!((bound(&room), evicted(&room)), (vec!["half-0"], vec![]));
    let none = plan(&world(&["a"], vec![queue("q", 0)], vec![first, runs("old", "q", &["a"], 4), half(&["a"])]));
    assert_eq!((bound(&none), evicted(&none)), (vec![], vec![("half", 1, true, Cause::Incomplete)]));
    // Work of a queue that takes nothing new is left as it is, and so is what waits for its own place.
    let down = Queue { state: State::Down, ..queue("q", 0) };
    assert_eq!(plan(&world(&["a"], vec![down], vec![runs("old", "q", &["a"], 4), half(&["a"])])).evictions, []);
    let mut passing = half(&["a"]);
    passing.placed.push(PlacedMember { id: "half-old".into(), leaves_at: Some(5000), ..passing.placed[0].clone() });
    assert_eq!(plan(&world(&["a"], vec![queue("q", 0)], vec![passing])).evictions, []);
}

#[test]
fn spare_members_go_before_anything_else_and_their_gang_goes_on() {
    let mut elastic = runs("elastic", "q", &["a", "a"], 4);
    elastic.placed[1].spare = true;
    let plan = plan(&world(&["a"], vec![queue("q", 0)], vec![elastic, waits("mine", "q", 1, 4)]));
    assert_eq!(evicted(&plan), [("elastic", 1, false, Cause::Spare)]);
}

#[test]
fn priority_stops_others_only_where_the_policy_says_so() {
    let low = Queue { ..queue("low", 1) };
    let gangs =
        || vec![runs("theirs", "low", &["a"], 8), runs("own", "high", &["b"], 8), Gang { priority: 1, ..waits("mine", "high", 2, 8) }];
    let mut state = world(&["a", "b"], vec![low, queue("high", 2)], gangs());
    assert!(plan(&state).evictions.is_empty());
    state.pools[0].preemption = true;
    assert_eq!(evicted(&plan(&state)), [("own", 1, true, Cause::Priority), ("theirs", 1, true, Cause::QueuePriority)]);
    // Not what is promised.
    state.queues[0].guaranteed = cards(8);
    assert!(plan(&state).evictions.is_empty());
}

#[test]
fn the_place_is_kept_for_the_claimant_until_those_stopped_for_it_are_gone() {
    let queues = || vec![promised("owner", 8), Queue { priority: 9, ..queue("guest", 0) }];
    let mut leaving = runs("g", "guest", &["a"], 8);
    leaving.placed[0].leaves_at = Some(30_000);
    let claimant = Gang { claims: true, ..waits("mine", "owner", 1, 8) };
    // The guest's queue is more important, and what was stopped waits again already.
    let again = Gang { placed: leaving.placed.clone(), ..waits("g", "guest", 1, 8) };
    let plan = plan(&world(&["a"], queues(), vec![claimant.clone(), again]));
    assert!(plan.binds.is_empty() && plan.evictions.is_empty());
    assert_eq!(wait(&plan, "mine").wait, Wait::Evicting { members: 1 });
    let plan = fermion_scheduler::plan(&world(&["a"], queues(), vec![claimant, waits("g", "guest", 1, 8)]));
    assert_eq!(bound(&plan), ["mine-0"]);
    assert!(plan.evictions.is_empty());
}

#[test]
fn ceilings_hold_at_every_level_and_say_whose_they_are() {
    let subjects = [
        Subject::Tenant("acme".into()),
        Subject::Project("lab".into()),
        Subject::Member { project: "lab".into(), user: "ada".into() },
        Subject::Person("ada".into()),
    ];
    for subject in subjects {
        let gangs = vec![of("ada", runs("old", "q", &["a"], 3)), of("ada", waits("new", "q", 1, 2))];
        let mut state = world(&["a"], vec![queue("q", 0)], gangs);
        state.rules.ceilings = vec![(subject.clone(), cards(4))];
        let plan = plan(&state);
        let waiting = wait(&plan, "new");
        assert_eq!(waiting.wait, Wait::Ruled(vec![Ruling::Ceiling { subject: subject.clone(), resource: CARD.into(), missing: 1000 }]));
        assert!(waiting.remedies.contains(&Remedy::RaiseCeiling { subject, resource: CARD.into(), by: 1000 }));
    }
}

#[test]
fn what_starts_in_a_round_counts_in_it() {
    let gangs = vec![of("ada", waits("one", "q", 1, 3)), of("ada", waits("two", "q", 1, 3))];
    let mut state = world(&["a"], vec![queue("q", 0)], gangs);
    state.rules.ceilings = vec![(Subject::Person("ada".into()), cards(4))];
    assert_eq!(bound(&plan(&state)), ["one-0"]);
}

#[test]
fn a_policy_counts_workloads_that_run() {
    let gangs = vec![of("ada", runs("old", "q", &["a"], 1)), of("ada", waits("new", "q", 1, 1)), of("bob", waits("bobs", "q", 1, 1))];
    let mut state = world(&["a"], vec![queue("q", 0)], gangs);
    let ada = Subject::Person("ada".into());
    state.rules.policies = vec![(ada.clone(), Policy { running_max: Some(1), ..Policy::default() })];
    let plan = plan(&state);
    assert_eq!(bound(&plan), ["bobs-0"]);
    let running = Ruling::Running { subject: ada, environment: None, running: 1, max: 1 };
    assert_eq!(wait(&plan, "new").wait, Wait::Ruled(vec![running]));
}

#[test]
fn hours_hold_for_their_kind_of_environment() {
    let ten_to_eleven = Span::Weekly { days: Days::ALL, from_minute: 600, until_minute: 660 };
    let mut spans: [Vec<Span>; 4] = Default::default();
    spans[0].push(ten_to_eleven);
    let rule =
        window::Rule { subjects: Subjects { everyone: true, ..Subjects::default() }, zone: Zone::new(0, Vec::new()).expect("UTC"), spans };
    let notebook = Gang { environment: Environment::Development, ..of("ada", waits("notebook", "q", 1, 1)) };
    let mut state = world(&["a"], vec![queue("q", 0)], vec![notebook, of("ada", waits("training", "q", 1, 1))]);
    state.rules.windows.insert("office".into(), rule);
    let opens_at = 600 * 60_000;
    let closed = plan(&state);
    assert_eq!(bound(&closed), ["training-0"]);
    assert_eq!(wait(&closed, "notebook").wait, Wait::Ruled(vec![Ruling::Window { opens_at: Some(opens_at) }]));
    assert!(wait(&closed, "notebook").remedies.contains(&Remedy::WaitUntil { at: opens_at }));
    state.now = opens_at;
    assert_eq!(bound(&plan(&state)).len(), 2);
}

#[test]
fn a_queue_for_others_starts_nothing_of_strangers() {
    let closed = Queue { access: Access { users: ["bob".to_owned()].into(), ..Access::default() }, ..queue("q", 0) };
    let plan = plan(&world(&["a"], vec![closed], vec![of("ada", waits("hers", "q", 1, 1)), of("bob", waits("his", "q", 1, 1))]));
    assert_eq!(bound(&plan), ["his-0"]);
    assert_eq!(wait(&plan, "hers").remedies, [Remedy::Allow { queue: "q".into() }]);
}

#[test]
fn each_state_of_a_queue_starts_what_it_should() {
    for (state, starts) in [(State::Up, true), (State::Drain, true), (State::Down, false), (State::Inactive, false)] {
        let plan = plan(&world(&["a"], vec![Queue { state, ..queue("q", 0) }], vec![waits("g", "q", 1, 1)]));
        assert_eq!(!plan.binds.is_empty(), starts, "{state:?}");
    }
}

#[test]
fn who_used_much_of_late_goes_behind_and_is_forgiven_with_time() {
    let fair = || vec![Queue { job_order: JobOrder::FairShare, ..queue("q", 0) }];
    let half_life_ms = 3_600_000;
    let at = |now, gangs| {
        let mut state = world(&["a"], fair(), gangs);
        state.pools[0].half_life_ms = Some(half_life_ms);
        Snapshot { now, ..state }
    };
    let (_, past) = plan_after(&at(0, vec![of("ada", runs("old", "q", &["a"], 8))]), &Default::default());
    let (_, past) = plan_after(&at(half_life_ms, vec![of("ada", runs("old", "q", &["a"], 8))]), &past);
    // Ada asked first, but had the node for an hour.
    let both = || vec![of("ada", waits("a", "q", 1, 8)), of("bob", Gang { created_at: 2, ..waits("b", "q", 1, 8) })];
    let (plan, past) = plan_after(&at(half_life_ms + 1, both()), &past);
    assert_eq!(bound(&plan), ["b-0"]);
    // A long time later nothing of it is left.
    let (plan, _) = plan_after(&at(half_life_ms * 60, both()), &past);
    assert_eq!(bound(&plan), ["a-0"]);
}

#[test]
fn urgent_work_and_work_near_its_deadline_go_first() {
    let urgent = Gang { urgent: true, created_at: 3, ..waits("urgent", "q", 1, 8) };
    let pressing = Gang { deadline_at: Some(1_900_000), run_ms: Some(1_800_000), created_at: 2, ..waits("pressing", "q", 1, 8) };
    let first = waits("first", "q", 1, 8);
    let state = world(&["a", "b"], vec![queue("q", 0)], vec![urgent, pressing, first]);
    assert_eq!(bound(&plan(&state)), ["urgent-0", "pressing-0"]);
}

#[test]
fn what_waited_for_the_patience_goes_before_more_important_work() {
    let old = Gang { priority: -5, ..waits("old", "q", 1, 8) };
    let new = Gang { created_at: 50_000, ..waits("new", "q", 1, 8) };
    let mut state = world(&["a"], vec![queue("q", 0)], vec![old, new]);
    state.now = 60_000;
    assert_eq!(bound(&plan(&state)), ["new-0"]);
    state.pools[0].patience_ms = Some(30_000);
    assert_eq!(bound(&plan(&state)), ["old-0"]);
}

#[test]
fn who_waits_is_told_what_would_help() {
    let gangs = vec![runs("old", "q", &["a"], 6), waits("new", "q", 1, 4)];
    let plan = plan(&world(&["a"], vec![queue("q", 0)], gangs));
    let remedies = &wait(&plan, "new").remedies;
    assert!(remedies.contains(&Remedy::FewerCards { cards: 2 }), "{remedies:?}");
    assert!(remedies.contains(&Remedy::End { gangs: vec!["old".into()] }), "{remedies:?}");
}

#[test]
fn queues_beyond_their_share_let_others_go_first() {
    let gangs = vec![runs("r", "greedy", &["a"], 6), waits("g", "greedy", 1, 2), Gang { created_at: 9, ..waits("m", "modest", 1, 2) }];
    let plan = plan(&world(&["a"], vec![queue("greedy", 0), queue("modest", 0)], gangs));
    assert_eq!(bound(&plan), ["m-0"]);
}
