//! Random small situations, checked against definitions and brute force.

use std::collections::{BTreeMap, BTreeSet};

use fermion_scheduler::queue::State;
use fermion_scheduler::{Amounts, Gang, Member, MemberSet, Node, Place, Plan, Queue, Shortage, Snapshot, Wait, plan};
use proptest::prelude::*;

const RESOURCES: [&str; 3] = ["cpu", "memory", "gpu.fermion.dev/a100"];

fn amounts(max: i128) -> impl Strategy<Value = Amounts> {
    proptest::collection::vec(0..=max, RESOURCES.len())
        .prop_map(|values| RESOURCES.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value * 1000)).collect())
}

fn zone() -> impl Strategy<Value = String> {
    prop_oneof![Just("east".to_owned()), Just("west".to_owned())]
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (amounts(6), amounts(4), zone(), prop::bool::weighted(0.85), prop::bool::weighted(0.9), prop::bool::weighted(0.8));
    proptest::collection::vec(node, 0..4).prop_map(|nodes| {
        let made = nodes.into_iter().enumerate().map(|(index, (allocatable, used, zone, ready, schedulable, in_pool))| Node {
            name: format!("n{index}"),
            pool: if in_pool { "p" } else { "other" }.into(),
            ready,
            schedulable,
            labels: [("zone".to_owned(), zone)].into(),
            taints: vec![],
            allocatable,
            used,
            cards: vec![],
            domains: vec![],
        });
        made.collect()
    })
}

fn sets(gang: usize) -> impl Strategy<Value = Vec<MemberSet>> {
    let member = (amounts(4), prop::option::weighted(0.2, zone()));
    let set = (0..4_u32, 0..3_u32, proptest::collection::vec(member, 0..4));
    proptest::collection::vec(set, 1..3).prop_map(move |sets| {
        let made = sets.into_iter().enumerate().map(|(set, (min, settled, members))| MemberSet {
            name: format!("s{set}"),
            min,
            settled,
            pending: members
                .into_iter()
                .enumerate()
                .map(|(index, (requests, zone))| Member {
                    id: format!("g{gang}-s{set}-{index}"),
                    requests,
                    node_selector: zone.map(|zone| ("zone".to_owned(), zone)).into_iter().collect(),
                    ..Member::default()
                })
                .collect(),
        });
        made.collect()
    })
}

fn gangs() -> impl Strategy<Value = Vec<Gang>> {
    let gang = |index: usize| {
        let queue = prop_oneof![4 => Just("a"), 4 => Just("b"), 1 => Just("closed"), 1 => Just("missing")];
        (queue, 0..2, 0..3_i64, sets(index)).prop_map(move |(queue, priority, created_at, sets)| Gang {
            id: format!("g{index}"),
            queue: queue.into(),
            priority,
            created_at,
            sets,
            ..Gang::default()
        })
    };
    (0..6_usize).prop_flat_map(move |count| (0..count).map(gang).collect::<Vec<_>>())
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    (nodes(), gangs(), 0..2_u32).prop_map(|(nodes, gangs, priority)| {
        let queue = |name: &str, priority| Queue { name: name.into(), pool: "p".into(), priority, ..Queue::default() };
        let closed = Queue { state: State::Inactive, ..queue("closed", 0) };
        Snapshot { queues: vec![queue("a", 0), queue("b", priority), closed], nodes, gangs, ..Snapshot::default() }
    })
}

fn get(amounts: &Amounts, name: &str) -> i128 {
    amounts.get(name).copied().unwrap_or(0)
}

fn usable(node: &Node) -> bool {
    node.pool == "p" && node.ready && node.schedulable
}

fn suits(member: &Member, node: &Node) -> bool {
    member.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

fn fits(member: &Member, free: &Amounts) -> bool {
    member.requests.iter().all(|(name, amount)| *amount == 0 || *amount <= get(free, name))
}

/// Whether some arrangement of the members on the nodes exists, by trying them all.
fn arrangement_exists(members: &[&Member], nodes: &[(&Node, Amounts)]) -> bool {
    let Some((member, rest)) = members.split_first() else { return true };
    (0..nodes.len()).any(|place| {
        if !suits(member, nodes[place].0) || !fits(member, &nodes[place].1) {
            return false;
        }
        let mut left = nodes.to_vec();
        for (name, amount) in &member.requests {
            *left[place].1.entry(name.clone()).or_default() -= amount;
        }
        arrangement_exists(rest, &left)
    })
}

/// The state in which a gang was served, rebuilt from the plan by an order of its own.
struct Served<'a> {
    gang: &'a Gang,
    free: BTreeMap<&'a str, Amounts>,
    bound: BTreeSet<&'a str>,
}

fn replay<'a>(snapshot: &'a Snapshot, plan: &'a Plan) -> Vec<Served<'a>> {
    let gang = |id: &String| snapshot.gangs.iter().find(|gang| gang.id == *id).expect("only gangs are served");
    let order: Vec<&Gang> = plan.served.iter().map(gang).collect();
    let mut free: BTreeMap<&str, Amounts> = BTreeMap::new();
    for node in &snapshot.nodes {
        let left = RESOURCES.iter().map(|name| ((*name).to_owned(), get(&node.allocatable, name) - get(&node.used, name)));
        free.insert(&node.name, left.collect());
    }
    let mut served = Vec::new();
    for gang in order {
        let before = free.clone();
        let mut bound = BTreeSet::new();
        for bind in plan.binds.iter().filter(|bind| bind.gang == gang.id) {
            let member = gang.sets.iter().flat_map(|set| &set.pending).find(|member| member.id == bind.member).expect("a member");
            let left = free.get_mut(bind.node.as_str()).expect("a node");
            for (name, amount) in &member.requests {
                *left.entry(name.clone()).or_default() -= amount;
            }
            assert!(bound.insert(bind.member.as_str()), "{} is bound twice", bind.member);
        }
        served.push(Served { gang, free: before, bound });
    }
    served
}

fn wait_of<'a>(plan: &'a Plan, gang: &Gang) -> Option<&'a Wait> {
    plan.waits.iter().find(|waiting| waiting.gang == gang.id).map(|waiting| &waiting.wait)
}

fn check_shortage(shortage: &Shortage, members: &[&Member], rooms: &[(&Node, Amounts)]) {
    assert!(shortage.missing > 0);
    assert_eq!(shortage.missing, shortage.asked - shortage.available);
    match &shortage.place {
        Place::Pool { .. } => {
            let asked: i128 = members.iter().map(|member| get(&member.requests, &shortage.resource)).sum();
            let suited = rooms.iter().filter(|(node, _)| members.iter().any(|member| suits(member, node)));
            let available: i128 = suited.map(|(_, free)| get(free, &shortage.resource).max(0)).sum();
            assert_eq!((shortage.asked, shortage.available), (asked, available));
        }
        Place::Node { node, placed } => {
            let (_, free) = rooms.iter().find(|(other, _)| other.name == *node).expect("the node named");
            let there = get(free, &shortage.resource).max(0);
            assert!(members.iter().any(|member| get(&member.requests, &shortage.resource) == shortage.asked));
            assert!(shortage.available <= there && (*placed > 0 || shortage.available == there));
        }
    }
}

/// Whether what the plan says about a waiting gang is so.
fn check_wait(snapshot: &Snapshot, plan: &Plan, served: &Served<'_>, wait: &Wait) {
    let gang = served.gang;
    let needed: Vec<&Member> = gang.sets.iter().flat_map(|set| set.pending.iter().take(set.needed())).collect();
    let wanted: usize = gang.sets.iter().map(MemberSet::needed).sum();
    // A gang that got what it needs waits for its first extra that found no place.
    let got_needed = needed.iter().all(|member| served.bound.contains(member.id.as_str())) && needed.len() == wanted;
    let mut free = served.free.clone();
    let members: Vec<&Member> = if got_needed {
        for bind in plan.binds.iter().filter(|bind| bind.gang == gang.id) {
            let member = gang.sets.iter().flat_map(|set| &set.pending).find(|member| member.id == bind.member).expect("a member");
            for (name, amount) in &member.requests {
                *free.get_mut(bind.node.as_str()).expect("a node").entry(name.clone()).or_default() -= amount;
            }
        }
        let extras = gang.sets.iter().flat_map(|set| set.pending.iter().skip(set.needed()));
        extras.filter(|extra| !served.bound.contains(extra.id.as_str())).take(1).collect()
    } else {
        needed
    };
    let in_pool: Vec<&Node> = snapshot.nodes.iter().filter(|node| node.pool == "p").collect();
    let now: Vec<_> = in_pool.iter().filter(|node| usable(node)).map(|node| (*node, free[node.name.as_str()].clone())).collect();
    let empty: Vec<_> = in_pool.iter().filter(|node| usable(node)).map(|node| (*node, node.allocatable.clone())).collect();
    let all_up: Vec<_> = in_pool.iter().map(|node| (*node, node.allocatable.clone())).collect();
    match wait {
        Wait::QueueNotFound => assert_eq!(gang.queue, "missing"),
        Wait::QueueClosed => assert_eq!(gang.queue, "closed"),
        Wait::MembersMissing { present, .. } => assert!(*present < wanted),
        Wait::NoReadyNode { node: None, .. } => assert!(in_pool.is_empty()),
        Wait::NoReadyNode { node: Some(node), .. } => {
            assert!(!arrangement_exists(&members, &empty));
            let node = in_pool.iter().find(|other| other.name == *node).expect("a node of the pool");
            assert!(!node.is_known() || (!usable(node) && arrangement_exists(&members, &all_up)));
        }
        Wait::NoMatchingNode { member, .. } => {
            let member = members.iter().find(|other| other.id == *member).expect("a member");
            assert!(!in_pool.iter().any(|node| suits(member, node)));
        }
        Wait::ExceedsCapacity(shortage) => {
            assert!(!arrangement_exists(&members, &all_up));
            if empty.iter().any(|(node, _)| matches!(&shortage.place, Place::Node { node: named, .. } if *named == node.name)) {
                check_shortage(shortage, &members, &empty);
            }
        }
        Wait::InsufficientResources(shortage) => {
            assert!(!arrangement_exists(&members, &now) && arrangement_exists(&members, &empty));
            // The numbers of an extra are of the moment of its turn, before later extras.
            if !got_needed {
                check_shortage(shortage, &members, &now);
            }
        }
        Wait::Ruled(_) | Wait::Evicting { .. } | Wait::NoEmptyNode { .. } => unreachable!("nothing is ruled or runs"),
        Wait::NoArrangement { .. } | Wait::NoDomain { .. } | Wait::NotSpread { .. } | Wait::NoCard(_) | Wait::TooFewNodes { .. } => {
            unreachable!("small situations are searched whole, and ask for no domain, no node of their own and no part of a card")
        }
        Wait::BehindOthers { ahead } => {
            let place = |id: &str| plan.waits.iter().position(|waiting| waiting.gang == id);
            assert!(place(ahead) < place(&gang.id));
            if !got_needed {
                assert!(arrangement_exists(&members, &now));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn everyone_is_served_once_and_by_rank_within_a_queue(snapshot in snapshots()) {
        let plan = plan(&snapshot);
        let waiting = snapshot.gangs.iter().filter(|gang| gang.sets.iter().any(|set| !set.pending.is_empty()));
        prop_assert_eq!(plan.served.iter().collect::<BTreeSet<_>>(), waiting.map(|gang| &gang.id).collect());
        let gang = |id: &String| snapshot.gangs.iter().find(|gang| gang.id == *id).expect("a gang");
        let mut last: BTreeMap<&str, (i32, i64, &str)> = BTreeMap::new();
        for gang in plan.served.iter().map(gang).filter(|gang| gang.queue != "missing") {
            let rank = (-gang.priority, gang.created_at, gang.id.as_str());
            prop_assert!(last.insert(&gang.queue, rank).is_none_or(|before| before < rank));
        }
    }

    #[test]
    fn no_node_is_given_more_than_it_has(snapshot in snapshots()) {
        let plan = plan(&snapshot);
        for node in &snapshot.nodes {
            for name in RESOURCES {
                let asked: i128 = plan.binds.iter().filter(|bind| bind.node == node.name).map(|bind| {
                    let members = snapshot.gangs.iter().flat_map(|gang| &gang.sets).flat_map(|set| &set.pending);
                    let member = members.into_iter().find(|member| member.id == bind.member).expect("a member");
                    assert!(usable(node) && suits(member, node));
                    get(&member.requests, name)
                }).sum();
                prop_assert!(asked == 0 || get(&node.used, name) + asked <= get(&node.allocatable, name));
            }
        }
    }

    #[test]
    fn gangs_get_what_they_need_or_nothing(snapshot in snapshots()) {
        let plan = plan(&snapshot);
        for served in replay(&snapshot, &plan) {
            let enough = served.gang.sets.iter().all(|set| {
                let bound = set.pending.iter().filter(|member| served.bound.contains(member.id.as_str())).count();
                set.settled as usize + bound >= set.min as usize
            });
            prop_assert!(served.bound.is_empty() || enough, "{}", served.gang.id);
        }
    }

    #[test]
    fn who_waits_says_a_true_reason(snapshot in snapshots()) {
        let plan = plan(&snapshot);
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for waiting in &plan.waits {
            let position = last.entry(&waiting.queue).or_default();
            *position += 1;
            prop_assert_eq!(waiting.position, *position);
        }
        for served in replay(&snapshot, &plan) {
            let pending = served.gang.sets.iter().map(|set| set.pending.len()).sum::<usize>();
            let wait = wait_of(&plan, served.gang);
            prop_assert_eq!(wait.is_some(), served.bound.len() < pending);
            if let Some(wait) = wait {
                check_wait(&snapshot, &plan, &served, wait);
            }
        }
    }

    /// Whoever comes after the first gang that waits for room leaves it a place: it fits beside
    /// them once all that ran before has ended.
    #[test]
    fn the_first_that_waits_has_a_place_beside_those_that_pass_it(snapshot in snapshots()) {
        let plan = plan(&snapshot);
        let mut first: Option<&Gang> = None;
        let mut later: Vec<&str> = Vec::new();
        for served in replay(&snapshot, &plan) {
            if first.is_some() {
                later.push(&served.gang.id);
                continue;
            }
            let needed = served.gang.sets.iter().flat_map(|set| set.pending.iter().take(set.needed()));
            let lacks = needed.into_iter().any(|member| !served.bound.contains(member.id.as_str()));
            if lacks && matches!(wait_of(&plan, served.gang), Some(Wait::InsufficientResources(_))) {
                first = Some(served.gang);
            }
        }
        let Some(gang) = first else { return Ok(()) };
        let start = plan.waits.iter().find(|waiting| waiting.gang == gang.id).and_then(|waiting| waiting.start);
        prop_assert!(start.is_some_and(|start| start.at > snapshot.now && !start.known), "{:?}", start);
        let nodes: Vec<(&Node, Amounts)> = snapshot.nodes.iter().filter(|node| usable(node)).map(|node| {
            let mut left = node.allocatable.clone();
            for bind in plan.binds.iter().filter(|bind| bind.node == node.name && later.contains(&bind.gang.as_str())) {
                let member = snapshot.gangs.iter().flat_map(|gang| &gang.sets).flat_map(|set| &set.pending).find(|member| member.id == bind.member);
                for (name, amount) in &member.expect("a member").requests {
                    *left.entry(name.clone()).or_default() -= amount;
                }
            }
            (node, left)
        }).collect();
        let needed: Vec<&Member> = gang.sets.iter().flat_map(|set| set.pending.iter().take(set.needed())).collect();
        prop_assert!(arrangement_exists(&needed, &nodes), "{} was passed by those who took its place", gang.id);
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter(snapshot in snapshots(), seed in any::<usize>()) {
        let mut turned = snapshot.clone();
        let turn = |length: usize| if length == 0 { 0 } else { seed % length };
        turned.nodes.reverse();
        turned.queues.reverse();
        let middle = turn(turned.gangs.len());
        turned.gangs.rotate_left(middle);
        prop_assert_eq!(plan(&snapshot), plan(&turned));
    }
}
