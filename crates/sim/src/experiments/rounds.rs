//! How long one round of the scheduler takes in a full cluster with much that waits, when little
//! has changed since the round before.
//!
//! Nodes of sixteen cards, all in use by ten thousand gangs; as many others wait in twenty queues
//! for a hundred users. Then one more arrives, and after that one of the running ones ends. In
//! memory.

use std::collections::BTreeMap;
use std::time::Duration;

use fermion_scheduler::{Amounts, Gang, Member, MemberSet, Node, Past, PlacedMember, Plan, Planner, Pool, Queue, Snapshot, Whom};

const POOL: &str = "pool";
const CARDS: &str = "gpu.fermion.dev/card";
const CARDS_OF_NODE: usize = 16;
const QUEUES: usize = 20;
const USERS: usize = 100;
/// Members and cards of each, of what waits, in turn.
const SHAPES: [(u32, i128); 8] = [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (4, 8), (8, 16), (1, 1)];
const MINUTE_MS: i64 = 60_000;
/// Rounds after the first.
const TURNS: usize = 60;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub nodes: usize,
    pub running: usize,
    pub waiting: usize,
}

/// What changes before a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// All is new.
    Everything,
    /// Nothing but the time.
    Nothing,
    /// One more gang came.
    Arrival,
    /// A running gang ended.
    End,
}

/// What a round took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub news: News,
    pub time: Duration,
    pub binds: usize,
    pub waits: usize,
}

fn amounts(cards: i128) -> Amounts {
    let of = |name: &str, amount: i128| (name.to_owned(), amount * 1000);
    [of(CARDS, cards), of("cpu", cards * 4), of("memory", cards * (16 << 30)), of("pods", 1)].into()
}

fn owner(number: usize) -> Whom {
    let user = number * 7 % USERS;
    Whom { tenant: "acme".into(), project: format!("lab-{}", user % 10), user: format!("user-{user}"), ..Whom::default() }
}

fn queue(number: usize) -> String {
    format!("queue-{}", number * 3 % QUEUES)
}

/// A gang that waits.
pub fn waiting(number: usize) -> Gang {
    let (members, cards) = SHAPES[number % SHAPES.len()];
    let id = format!("wait-{number:06}");
    let member = |place| Member { id: format!("{id}-{place}"), requests: amounts(cards), ..Member::default() };
    let pending = (0..members).map(member).collect();
    Gang {
        queue: queue(number),
        priority: (number % 3) as i32,
        created_at: number as i64,
        sets: vec![MemberSet { name: "worker".into(), min: members, settled: 0, pending }],
        run_ms: number.is_multiple_of(2).then(|| MINUTE_MS * (1 + number as i64 % 600)),
        owner: owner(number),
        id,
        ..Gang::default()
    }
}

/// The cluster before the first round.
pub fn snapshot(size: Size, now: i64) -> Snapshot {
    let cards = size.nodes * CARDS_OF_NODE;
    let mut allocatable = amounts(CARDS_OF_NODE as i128);
    allocatable.insert("pods".into(), 110_000);
    let node = |number: usize| Node {
        name: format!("node-{number:06}"),
        pool: POOL.into(),
        ready: true,
        schedulable: true,
        allocatable: allocatable.clone(),
        domains: vec![format!("rack-{:04}", number / 16)],
        ..Node::default()
    };
    let mut nodes: Vec<Node> = (0..size.nodes).map(node).collect();
    let mut gangs = Vec::new();
    let mut given = 0;
    for number in 0..size.running {
        let end = cards * (number + 1) / size.running;
        let mut placed = Vec::new();
        while given < end {
            let node = given / CARDS_OF_NODE;
            let here = (end - given).min(CARDS_OF_NODE - given % CARDS_OF_NODE);
            let requests = amounts(here as i128);
            for (name, amount) in &requests {
                *nodes[node].used.entry(name.clone()).or_default() += amount;
            }
            placed.push(PlacedMember {
                id: format!("run-{number:06}-{given}"),
                node: nodes[node].name.clone(),
                requests,
                ..PlacedMember::default()
            });
            given += here;
        }
        gangs.push(Gang {
            id: format!("run-{number:06}"),
            queue: queue(number),
            sets: vec![MemberSet { name: "worker".into(), min: placed.len() as u32, settled: placed.len() as u32, pending: Vec::new() }],
            placed,
            started_at: now - MINUTE_MS * (number as i64 % 300),
            run_ms: (number % 4 > 0).then(|| MINUTE_MS * (301 + number as i64 % 900)),
            owner: owner(number),
            ..Gang::default()
        });
    }
    gangs.extend((0..size.waiting).map(waiting));
    gangs.sort_by(|a, b| a.id.cmp(&b.id));
    let queues = (0..QUEUES).map(|number| Queue { name: format!("queue-{number}"), pool: POOL.into(), ..Queue::default() });
    Snapshot {
        pools: vec![Pool { name: POOL.into(), ..Pool::default() }],
        queues: queues.collect(),
        nodes,
        gangs,
        now,
        ..Snapshot::default()
    }
}

fn measured(news: News, time: Duration, plan: &Plan) -> Measured {
    Measured { news, time, binds: plan.binds.len(), waits: plan.waits.len() }
}

/// Makes the rounds: one over a planner that was just made, then others over the same one.
/// `clock` says how much time has passed since some moment; what is told to the planner before a
/// round counts, the making of the world does not.
pub fn run(size: Size, mut clock: impl FnMut() -> Duration) -> Vec<Measured> {
    let mut now = 1_000 * MINUTE_MS;
    let snapshot = snapshot(size, now);
    let mut rounds = Vec::new();
    let start = clock();
    let mut planner = Planner::of(&snapshot, &Past::default());
    let plan = planner.plan(now);
    rounds.push(measured(News::Everything, clock().saturating_sub(start), &plan));
    let mut number = size.waiting;
    let mut ended = 0;
    for turn in 0..TURNS {
        let news = [News::Nothing, News::Arrival, News::End][turn % 3];
        now += 1_000;
        let gang = waiting(number);
        let end = snapshot.gangs[ended].clone();
        // The nodes of what ends have it no more.
        let left: Vec<Node> = nodes_without(&planner, &end);
        let start = clock();
        match news {
            News::Arrival => {
                planner.set_gang(gang);
                number += 1;
            }
            News::End => {
                for node in left {
                    planner.set_node(node);
                }
                planner.remove_gang(&end.id);
                ended += 1;
            }
            News::Everything | News::Nothing => {}
        }
        let plan = planner.plan(now);
        rounds.push(measured(news, clock().saturating_sub(start), &plan));
        for bind in &plan.binds {
            start_member(&mut planner, &bind.gang, &bind.member, &bind.node, now);
        }
    }
    rounds
}

/// The nodes of a gang as they are without it.
fn nodes_without(planner: &Planner, gang: &Gang) -> Vec<Node> {
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    for member in &gang.placed {
        let there = || planner.nodes().find(|node| node.name == member.node).cloned().expect("members are on nodes that are there");
        let node = nodes.entry(&member.node).or_insert_with(there);
        for (name, amount) in &member.requests {
            *node.used.entry(name.clone()).or_default() -= amount;
        }
    }
    nodes.into_values().collect()
}

/// Does what was decided for a member.
fn start_member(planner: &mut Planner, gang: &str, member: &str, node: &str, now: i64) {
    let mut gang = planner.gang(gang).cloned().expect("only gangs that are there are bound");
    let mut node = planner.nodes().find(|one| one.name == node).cloned().expect("members are bound to nodes that are there");
    let set = gang.sets.iter_mut().find(|set| set.pending.iter().any(|one| one.id == member)).expect("only who waits is bound");
    let place = set.pending.iter().position(|one| one.id == member).expect("found above");
    let Member { id, requests, .. } = set.pending.remove(place);
    set.settled += 1;
    for (name, amount) in &requests {
        *node.used.entry(name.clone()).or_default() += amount;
    }
    gang.placed.push(PlacedMember { id, node: node.name.clone(), requests, ..PlacedMember::default() });
    gang.started_at = now;
    planner.set_node(node);
    planner.set_gang(gang);
}
