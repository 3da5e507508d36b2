//! Round after round in a small world: what is decided is done, what is stopped comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fermion_scheduler::device::{Model, Profile};
use fermion_scheduler::queue::OverSubscribe;
use fermion_scheduler::{
    Amounts, CardHeld, CardPart, Cause, Consolidation, Gang, Member, MemberSet, PartSize, PlacedMember, Plan, Pool, Queue, Snapshot,
    Subject, Wait, Whom, plan,
};
use proptest::prelude::*;

use crate::{amounts, node};

const CARD: &str = "gpu.fermion.dev/a100";
const CARDS_PER_NODE: i128 = 4;
/// Memory of a card.
const MEMORY_MIB: u32 = 40_000;
/// Thousandths of a card.
const WHOLE: i128 = 1000;
/// More rounds than that without news are a loop.
const ROUNDS_MAX: usize = 200;

/// A job, as somebody submitted it.
#[derive(Clone, Debug)]
struct Job {
    queue: usize,
    user: usize,
    priority: i32,
    pods: u32,
    min: u32,
    asks: Asks,
    preemptible: bool,
}

/// What each pod asks for.
#[derive(Clone, Debug)]
enum Asks {
    Cards(i128),
    Part(PartSize),
}

impl Asks {
    /// As it is counted, in thousandths of a card.
    fn counted(&self) -> i128 {
        match self {
            Self::Cards(count) => count * WHOLE,
            Self::Part(PartSize::Share { compute, .. }) => i128::from(*compute),
            Self::Part(PartSize::Slice(name)) => i128::from(profile(name).compute),
        }
    }

    fn requests(&self) -> Amounts {
        [(CARD.to_owned(), self.counted())].into()
    }

    fn member(&self, id: String) -> Member {
        let part = match self {
            Self::Cards(_) => None,
            Self::Part(size) => Some(CardPart { model: "a100".into(), size: size.clone() }),
        };
        Member { id, requests: self.requests(), part, ..Member::default() }
    }
}

fn a100() -> Model {
    let profile = |name: &str, width, starts: &[u8], compute| Profile { name: name.into(), width, starts: starts.to_vec(), compute };
    let profiles = vec![profile("mig-1g", 1, &[0, 1, 2, 3, 4, 5, 6], 142), profile("mig-3g", 4, &[0, 4], 428)];
    Model { name: "a100".into(), memory_mib: MEMORY_MIB, profiles }
}

fn profile(name: &str) -> Profile {
    a100().profiles.into_iter().find(|profile| profile.name == name).expect("a profile")
}

/// What there is and what is ruled.
#[derive(Clone, Debug)]
struct Rules {
    nodes: usize,
    /// Guarantee, limit and priority of each queue; the last two are below the first.
    queues: Vec<(i128, Option<i128>, u32)>,
    ceilings: Vec<Option<i128>>,
    preemption: bool,
    /// Whether work of each queue has its nodes alone.
    alone: Vec<bool>,
    /// How many gangs may be moved in all, if any may.
    moves: Option<usize>,
}

/// Where a pod is.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    node: String,
    cards: Vec<CardHeld>,
    /// It is being stopped.
    leaving: bool,
}

/// Where each pod of each job is.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    pods: Vec<Vec<Option<Placed>>>,
    claims: BTreeSet<usize>,
    /// Who was moved and has no place yet.
    moved: BTreeSet<usize>,
    moves: usize,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let part = prop_oneof![
        (1..1000_u16, 0..MEMORY_MIB).prop_map(|(compute, memory_mib)| PartSize::Share { compute, memory_mib }),
        prop_oneof![Just("mig-1g"), Just("mig-3g")].prop_map(|name| PartSize::Slice(name.to_owned())),
    ];
    let asks = prop_oneof![(1..4_i128).prop_map(Asks::Cards), part.prop_map(Asks::Part)];
    let job = (0..3_usize, 0..2_usize, 0..3, 1..4_u32, asks, prop::bool::weighted(0.85), 0..3_u32);
    let job = job.prop_map(|(queue, user, priority, pods, asks, preemptible, spare)| Job {
        queue,
        user,
        priority,
        pods,
        min: pods.saturating_sub(spare).max(1),
        asks,
        preemptible,
    });
    prop::collection::vec(job, 1..9)
}

fn rules() -> impl Strategy<Value = Rules> {
    let queue = (0..7_i128, prop::option::weighted(0.3, 6..12_i128), 0..3_u32);
    let ceilings = prop::collection::vec(prop::option::weighted(0.4, 2..9_i128), 2);
    let alone = prop::collection::vec(prop::bool::weighted(0.15), 3);
    let moves = prop::option::weighted(0.5, 1..8_usize);
    (1..4_usize, prop::collection::vec(queue, 3), ceilings, any::<bool>(), alone, moves).prop_map(
        |(nodes, mut queues, ceilings, preemption, alone, moves)| {
            for (guarantee, limit, _) in &mut queues {
                *limit = limit.map(|limit| limit.max(*guarantee));
            }
            Rules { nodes, queues, ceilings, preemption, alone, moves }
        },
    )
}

fn snapshot(rules: &Rules, jobs: &[Job], state: &State, now: i64) -> Snapshot {
    let card = |count: i128| amounts(&[(CARD, count)]);
    let queue = |(index, (guarantee, limit, priority)): (usize, &(i128, Option<i128>, u32))| Queue {
        name: format!("q{index}"),
        pool: "local".into(),
        guaranteed: if *guarantee > 0 { card(*guarantee) } else { BTreeMap::new() },
        limit: limit.map(card).unwrap_or_default(),
        priority: *priority,
        oversubscribe: if rules.alone[index] { OverSubscribe::Exclusive } else { OverSubscribe::No },
        ..Queue::default()
    };
    let mut nodes: Vec<_> = (0..rules.nodes).map(|index| node(&format!("n{index}"), &[(CARD, CARDS_PER_NODE)])).collect();
    let mut gangs = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let mut placed = Vec::new();
        let mut pending = Vec::new();
        let staying = state.pods[index].iter().flatten().filter(|placed| !placed.leaving).count() as u32;
        for (number, pod) in state.pods[index].iter().enumerate() {
            let id = format!("j{index}-{number}");
            match pod {
                Some(Placed { node, cards, leaving }) => placed.push(PlacedMember {
                    id,
                    node: node.clone(),
                    requests: job.asks.requests(),
                    cards: cards.clone(),
                    again: rules.moves.map(|_| Arc::new(job.asks.member(format!("j{index}-{number}")))),
                    spare: !leaving && placed.iter().filter(|one: &&PlacedMember| one.leaves_at.is_none()).count() as u32 >= job.min,
                    leaves_at: leaving.then_some(now + 10),
                }),
                None => pending.push(job.asks.member(id)),
            }
        }
        for member in &placed {
            let node = nodes.iter_mut().find(|node| node.name == member.node).expect("a node");
            *node.used.entry(CARD.into()).or_default() += member.requests[CARD];
        }
        gangs.push(Gang {
            id: format!("j{index}"),
            queue: format!("q{}", job.queue),
            priority: job.priority,
            created_at: index as i64,
            sets: vec![MemberSet { name: "worker".into(), min: job.min, settled: staying, pending }],
            placed,
            preemptible: job.preemptible,
            claims: state.claims.contains(&index) || state.moved.contains(&index),
            owner: Whom { project: "lab".into(), user: format!("u{}", job.user), ..Whom::default() },
            ..Gang::default()
        });
    }
    let mut snapshot = Snapshot { queues: rules.queues.iter().enumerate().map(queue).collect(), nodes, gangs, now, ..Snapshot::default() };
    snapshot.models = vec![a100()];
    let moves = |most: usize| Consolidation { moves_max: 2, moves_left: most.saturating_sub(state.moves), run_ms_min: 0 };
    let consolidation = rules.moves.map(moves);
    snapshot.pools = vec![Pool { name: "local".into(), preemption: rules.preemption, consolidation, ..Pool::default() }];
    let ceilings = rules.ceilings.iter().enumerate().filter_map(|(user, most)| Some((Subject::Person(format!("u{user}")), card((*most)?))));
    snapshot.rules.ceilings = ceilings.collect();
    snapshot
}

/// Does what was decided.
fn apply(plan: &Plan, jobs: &[Job], state: &mut State) {
    let job_of = |gang: &str| gang[1..].parse::<usize>().expect("a job");
    let pod_of = |member: &str| member.rsplit('-').next().and_then(|number| number.parse::<usize>().ok()).expect("a pod");
    // Who was stopped before is gone by now.
    for pod in state.pods.iter_mut().flatten() {
        if pod.as_ref().is_some_and(|placed| placed.leaving) {
            *pod = None;
        }
    }
    for eviction in &plan.evictions {
        assert!(jobs[job_of(&eviction.gang)].preemptible);
        for member in &eviction.members {
            state.pods[job_of(&eviction.gang)][pod_of(member)].as_mut().expect("only who runs is stopped").leaving = true;
        }
    }
    for moved in plan.evictions.iter().filter(|eviction| eviction.cause == Cause::Moved) {
        state.moved.insert(job_of(&moved.gang));
        state.moves += 1;
    }
    for bind in &plan.binds {
        state.moved.remove(&job_of(&bind.gang));
        let pod = &mut state.pods[job_of(&bind.gang)][pod_of(&bind.member)];
        assert!(pod.is_none());
        *pod = Some(Placed { node: bind.node.clone(), cards: bind.cards.clone(), leaving: false });
    }
    let claims = plan.waits.iter().filter(|waiting| matches!(waiting.wait, Wait::Evicting { .. }));
    state.claims = claims.map(|waiting| job_of(&waiting.gang)).collect();
}

/// What must be true at any moment.
fn check(rules: &Rules, jobs: &[Job], state: &State) {
    let mut on_card: BTreeMap<(&str, u8), (u32, u32, u8, bool)> = BTreeMap::new();
    let mut of_queue = [0; 3];
    let mut of_user = [0; 2];
    for (job, pods) in jobs.iter().zip(&state.pods) {
        for Placed { node, cards, leaving } in pods.iter().flatten() {
            for card in cards {
                let (compute, memory_mib, slices, otherwise) = on_card.entry((node, card.index)).or_default();
                assert_eq!(*slices & card.slices, 0, "a slice is given twice: {state:?}");
                *compute += u32::from(card.compute);
                *memory_mib += card.memory_mib;
                *slices |= card.slices;
                *otherwise |= card.slices == 0;
            }
            let given: i128 = cards.iter().map(|card| i128::from(card.compute)).sum();
            assert_eq!(given, job.asks.counted(), "what is given is what is counted: {state:?}");
            if let Asks::Part(PartSize::Slice(name)) = &job.asks {
                let profile = profile(name);
                let mask = ((1_u16 << profile.width) - 1) as u8;
                assert!(profile.starts.iter().any(|start| mask << start == cards[0].slices), "a slice stands where it may: {state:?}");
            }
            if !leaving {
                of_queue[job.queue] += job.asks.counted();
                of_user[job.user] += job.asks.counted();
            }
        }
        let staying = pods.iter().flatten().filter(|placed| !placed.leaving).count() as u32;
        assert!(staying == 0 || staying >= job.min, "a gang runs whole or not at all: {state:?}");
    }
    for node in (0..rules.nodes).map(|node| format!("n{node}")) {
        let here = |index: &usize| state.pods[*index].iter().flatten().any(|placed| placed.node == node);
        let here: Vec<usize> = (0..jobs.len()).filter(here).collect();
        assert!(here.len() <= 1 || here.iter().all(|index| !rules.alone[jobs[*index].queue]), "{here:?} are on {node}: {state:?}");
    }
    for ((_, index), (compute, memory_mib, slices, otherwise)) in on_card {
        assert!(i128::from(index) < CARDS_PER_NODE, "the card is there: {state:?}");
        assert!(i128::from(compute) <= WHOLE && memory_mib <= MEMORY_MIB, "no card is given twice: {state:?}");
        assert!(slices == 0 || !otherwise, "what is sliced is used in no other way: {state:?}");
    }
    for ((_, limit, _), used) in rules.queues.iter().zip(of_queue) {
        assert!(limit.is_none_or(|limit| used <= limit * WHOLE), "no limit is passed: {state:?}");
    }
    for (most, used) in rules.ceilings.iter().zip(of_user) {
        assert!(most.is_none_or(|most| used <= most * WHOLE), "no ceiling is passed: {state:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Nothing ends, nothing comes: after some rounds nothing happens any more. Whoever is
    /// stopped and comes back cannot turn the wheel for ever.
    #[test]
    fn a_world_without_news_comes_to_rest(rules in rules(), jobs in jobs(), running in any::<u64>()) {
        let mut state = State { pods: jobs.iter().map(|job| vec![None; job.pods as usize]).collect(), ..State::default() };
        // Some come first, and have the nodes to themselves.
        let first: Vec<usize> = (0..jobs.len()).filter(|index| running >> index & 1 == 1).collect();
        let begun: Vec<Job> = first.iter().map(|index| jobs[*index].clone()).collect();
        let mut early = State { pods: first.iter().map(|index| state.pods[*index].clone()).collect(), ..State::default() };
        let mut now = 0;
        for _ in 0..3 {
            now += 1000;
            apply(&plan(&snapshot(&rules, &begun, &early, now)), &begun, &mut early);
        }
        for (place, index) in first.iter().enumerate() {
            state.pods[*index] = early.pods[place].clone();
        }
        let mut rest = 0;
        for round in 0.. {
            now += 1000;
            let before = state.clone();
            let decided = plan(&snapshot(&rules, &jobs, &state, now));
            apply(&decided, &jobs, &mut state);
            check(&rules, &jobs, &state);
            rest = if state == before { rest + 1 } else { 0 };
            if rest == 2 {
                prop_assert!(state.pods.iter().flatten().flatten().all(|placed| !placed.leaving));
                prop_assert!(state.claims.is_empty(), "nobody waits for nothing: {decided:?}");
                break;
            }
            prop_assert!(round < ROUNDS_MAX, "still {:?}", decided);
        }
        // Whoever has not all it wants says why.
        let last = plan(&snapshot(&rules, &jobs, &state, now + 1000));
        for (index, pods) in state.pods.iter().enumerate() {
            let waits = last.waits.iter().any(|waiting| waiting.gang == format!("j{index}"));
            prop_assert_eq!(waits, pods.iter().any(Option::is_none));
        }
    }
}
