//! Queues whose work shares processors, or has nodes to itself, in rounds.

use fermion_scheduler::queue::{Mode, OverSubscribe};
use fermion_scheduler::{Amounts, Gang, Member, MemberSet, PlacedMember, Plan, Queue, Snapshot, Wait, plan};

use crate::{amounts, node};

fn mode(mode: Mode, count: Option<u32>) -> OverSubscribe {
    OverSubscribe::new(mode, count).expect("a choice")
}

fn queue(name: &str, oversubscribe: OverSubscribe) -> Queue {
    Queue { name: name.into(), pool: "local".into(), oversubscribe, ..Queue::default() }
}

/// A job of one pod that waits.
fn job(id: &str, queue: &str, asks_to_share: bool, requests: Amounts) -> Gang {
    let pending = vec![Member { id: format!("{id}-0"), requests, ..Member::default() }];
    let sets = vec![MemberSet { name: "worker".into(), min: 1, settled: 0, pending }];
    let created_at = id.bytes().next().map_or(0, i64::from);
    Gang { id: id.into(), queue: queue.into(), created_at, sets, oversubscribe: asks_to_share, ..Gang::default() }
}

/// One node of four processors, 8 GiB and a card, and what waits.
fn snapshot(queues: Vec<Queue>, gangs: Vec<Gang>) -> Snapshot {
    let node = node("n", &[("cpu", 4), ("memory", 8 << 30), ("gpu.fermion.dev/a100", 1)]);
    Snapshot { queues, nodes: vec![node], gangs, now: 1000, ..Snapshot::default() }
}

/// The same once the plan was carried out.
fn carried_out(mut snapshot: Snapshot, plan: &Plan) -> Snapshot {
    for bind in &plan.binds {
        let gang = snapshot.gangs.iter_mut().find(|gang| gang.id == bind.gang).expect("a gang");
        let Member { id, requests, .. } = gang.sets[0].pending.remove(0);
        gang.sets[0].settled = 1;
        for (name, amount) in &requests {
            *snapshot.nodes[0].used.entry(name.clone()).or_default() += amount;
        }
        gang.placed.push(PlacedMember { id, node: bind.node.clone(), requests, cards: bind.cards.clone(), ..PlacedMember::default() });
    }
    snapshot
}

/// Who starts: of those that come one after the other, and all at once.
fn starts(queues: &[Queue], gangs: &[Gang]) -> Vec<String> {
    let at_once = plan(&snapshot(queues.to_vec(), gangs.to_vec()));
    let at_once: Vec<String> = at_once.binds.iter().map(|bind| bind.gang.clone()).collect();
    let mut state = snapshot(queues.to_vec(), Vec::new());
    let mut one_by_one = Vec::new();
    for gang in gangs {
        state.gangs.push(gang.clone());
        let decided = plan(&state);
        one_by_one.extend(decided.binds.iter().map(|bind| bind.gang.clone()));
        state = carried_out(state, &decided);
    }
    assert_eq!(one_by_one, at_once);
    at_once
}

#[test]
fn two_jobs_have_the_same_processors_where_their_queue_says_so() {
    // Mode, and whether the second of two starts: both ask to share, the first, the second, none.
    let table = [
        (mode(Mode::No, None), [false, false, false, false]),
        (mode(Mode::Yes, None), [true, false, false, false]),
        (mode(Mode::Yes, Some(1)), [false, false, false, false]),
        (mode(Mode::Force, None), [true, true, true, true]),
        (mode(Mode::Force, Some(1)), [false, false, false, false]),
        (mode(Mode::Exclusive, None), [false, false, false, false]),
    ];
    for (mode, expected) in table {
        for ((first, second), starts_too) in [(true, true), (true, false), (false, true), (false, false)].into_iter().zip(expected) {
            let cpu = amounts(&[("cpu", 3)]);
            let started = starts(&[queue("q", mode)], &[job("a", "q", first, cpu.clone()), job("b", "q", second, cpu)]);
            let expected: &[&str] = if starts_too { &["a", "b"] } else { &["a"] };
            assert_eq!(started, expected, "{mode:?} {first} {second}");
        }
    }
}

#[test]
fn no_more_jobs_than_the_count_are_on_a_processor() {
    let queues = [queue("q", mode(Mode::Force, Some(2)))];
    let three = |id| job(id, "q", false, amounts(&[("cpu", 3)]));
    assert_eq!(starts(&queues, &[three("a"), three("b"), three("c")]), ["a", "b"]);
    // Four processors twice: 3 + 3 + 2.
    let two = job("c", "q", false, amounts(&[("cpu", 2)]));
    assert_eq!(starts(&queues, &[three("a"), three("b"), two]), ["a", "b", "c"]);
    // None of a job's own processors twice.
    assert_eq!(starts(&queues, &[job("a", "q", false, amounts(&[("cpu", 5)]))]), Vec::<String>::new());
}

#[test]
fn memory_and_cards_are_shared_by_no_mode() {
    let queues = [queue("q", mode(Mode::Force, Some(4)))];
    for (resource, most) in [("memory", 8 << 30), ("gpu.fermion.dev/a100", 1)] {
        let all = |id| job(id, "q", true, amounts(&[("cpu", 1), (resource, most)]));
        assert_eq!(starts(&queues, &[all("a"), all("b")]), ["a"], "{resource}");
    }
}

#[test]
fn processors_are_shared_with_work_of_the_same_queue_alone() {
    let queues = [queue("q", mode(Mode::Force, None)), queue("r", mode(Mode::Force, None)), queue("plain", OverSubscribe::No)];
    let of = |id, queue, cores| job(id, queue, true, amounts(&[("cpu", cores)]));
    assert_eq!(starts(&queues, &[of("a", "q", 3), of("b", "r", 2)]), ["a"]);
    assert_eq!(starts(&queues, &[of("a", "q", 3), of("b", "plain", 2)]), ["a"]);
    assert_eq!(starts(&queues, &[of("a", "q", 3), of("b", "r", 1)]), ["a", "b"]);
}

#[test]
fn exclusive_work_is_alone_on_its_nodes() {
    let queues = [queue("alone", mode(Mode::Exclusive, None)), queue("plain", OverSubscribe::No)];
    let of = |id, queue| job(id, queue, false, amounts(&[("cpu", 1)]));
    assert_eq!(starts(&queues, &[of("a", "alone"), of("b", "plain")]), ["a"]);
    assert_eq!(starts(&queues, &[of("a", "alone"), of("b", "alone")]), ["a"]);
    assert_eq!(starts(&queues, &[of("a", "plain"), of("b", "alone")]), ["a"]);

    // Pods of one job are no others to each other.
    let mut pair = of("a", "alone");
    pair.sets[0].pending.push(Member { id: "a-1".into(), requests: amounts(&[("cpu", 1)]), ..Member::default() });
    pair.sets[0].min = 2;
    assert_eq!(plan(&snapshot(queues.to_vec(), vec![pair])).binds.len(), 2);
}

#[test]
fn who_waits_for_whole_nodes_or_because_of_them_says_so() {
    let queues = || vec![queue("alone", mode(Mode::Exclusive, None)), queue("plain", OverSubscribe::No)];
    let of = |id, queue| job(id, queue, false, amounts(&[("cpu", 1)]));
    let after = |first: Gang, second: Gang| {
        let state = snapshot(queues(), vec![first]);
        let decided = plan(&state);
        let mut state = carried_out(state, &decided);
        state.gangs.push(second);
        plan(&state).waits.remove(0).wait
    };
    assert_eq!(after(of("a", "plain"), of("b", "alone")), Wait::NoEmptyNode { pool: "local".into() });
    let Wait::InsufficientResources(shortage) = after(of("a", "alone"), of("b", "plain")) else { panic!("another reason") };
    assert_eq!((shortage.resource.as_str(), shortage.missing), ("cpu", 1000));
    // More than there is stays that.
    let state = snapshot(queues(), vec![job("a", "alone", false, amounts(&[("cpu", 5)]))]);
    assert!(matches!(plan(&state).waits[0].wait, Wait::ExceedsCapacity(_)));
}

/// Processors that are shared are counted once in what others are told of them, and for those who share
/// there is what they can still have beside the others.
#[test]
fn what_lacks_of_shared_processors_is_what_is_left_of_them() {
    let queues = [queue("q", mode(Mode::Force, Some(2))), queue("plain", OverSubscribe::No)];
    let of = |id, queue, cores| job(id, queue, false, amounts(&[("cpu", cores)]));
    let pair = |id, queue, cores| {
        let mut pair = of(id, queue, cores);
        pair.sets[0].pending.push(Member { id: format!("{id}-1"), requests: amounts(&[("cpu", cores)]), ..Member::default() });
        pair.sets[0].min = 2;
        pair
    };
    // Four processors, three of them shared by two jobs of three, and who waits, asked for, there is for it.
    let table = [
        (of("z", "plain", 3), 3, 1),
        (of("z", "plain", 2), 2, 1),
        (of("z", "q", 3), 3, 2),
        (pair("z", "plain", 1), 2, 1),
        (pair("z", "q", 2), 4, 2),
    ];
    for (waits, asked, available) in table {
        let state = snapshot(queues.to_vec(), vec![of("a", "q", 3), of("b", "q", 3)]);
        let decided = plan(&state);
        // In the round in which the others start, and after it.
        let mut beside = state.clone();
        beside.gangs.push(waits.clone());
        let mut after = carried_out(state, &decided);
        after.gangs.push(waits);
        for state in [beside, after] {
            let Wait::InsufficientResources(shortage) = plan(&state).waits.remove(0).wait else { panic!("another reason") };
            assert_eq!(
                (shortage.asked, shortage.available, shortage.missing),
                (asked * 1000, available * 1000, (asked - available) * 1000)
            );
        }
    }
}

/// What a queue is promised it has back from work that is alone on its nodes, and where it is to be alone
/// itself, all who are on a node go.
#[test]
fn whole_nodes_are_taken_back_and_emptied_for_who_is_promised_them() {
    let promised = |name: &str, oversubscribe| Queue { guaranteed: amounts(&[("cpu", 4)]), ..queue(name, oversubscribe) };
    let of = |id, queue| job(id, queue, false, amounts(&[("cpu", 1)]));
    let evicted = |queues: Vec<Queue>, first: Vec<Gang>, owner: Gang| {
        let state = snapshot(queues, first);
        let decided = plan(&state);
        let mut state = carried_out(state, &decided);
        state.gangs.push(owner);
        let mut stopped: Vec<String> = plan(&state).evictions.into_iter().map(|eviction| eviction.gang).collect();
        stopped.sort();
        stopped
    };
    let queues = vec![queue("guest", mode(Mode::Exclusive, None)), promised("owner", OverSubscribe::No)];
    assert_eq!(evicted(queues, vec![of("a", "guest")], of("z", "owner")), ["a"]);
    let queues = vec![queue("guest", OverSubscribe::No), promised("owner", mode(Mode::Exclusive, None))];
    assert_eq!(evicted(queues, vec![of("a", "guest"), of("b", "guest")], of("z", "owner")), ["a", "b"]);
}
