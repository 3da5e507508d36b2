use fermion_scheduler::{Gang, Place, Snapshot, Wait, plan};

use crate::{amounts, gang, node, snapshot};

fn only_wait(snapshot: &Snapshot) -> Wait {
    let mut waits = plan(snapshot).waits;
    assert_eq!(waits.len(), 1, "{waits:?}");
    waits.remove(0).wait
}

#[test]
fn a_single_member_is_told_what_the_nearest_node_lacks() {
    let mut full = node("full", &[("cpu", 4), ("memory", 8)]);
    full.used = amounts(&[("cpu", 4)]);
    let mut near = node("near", &[("cpu", 4), ("memory", 8)]);
    near.used = amounts(&[("cpu", 2)]);
    let Wait::InsufficientResources(shortage) = only_wait(&snapshot(vec![full, near], vec![gang("a", 1, 1, &[("cpu", 3), ("memory", 1)])]))
    else {
        panic!("waits for room")
    };
    assert_eq!((shortage.resource.as_str(), shortage.asked, shortage.available, shortage.missing), ("cpu", 3000, 2000, 1000));
    assert_eq!(shortage.place, Place::Node { node: "near".into(), placed: 0 });
}

#[test]
fn a_gang_is_told_what_the_pool_lacks_in_all() {
    let nodes = vec![node("a", &[("cpu", 4)]), node("b", &[("cpu", 4)])];
    let Wait::ExceedsCapacity(shortage) = only_wait(&snapshot(nodes, vec![gang("a", 1, 5, &[("cpu", 2)])])) else {
        panic!("can never fit")
    };
    assert_eq!((shortage.asked, shortage.available, shortage.missing, shortage.members), (10_000, 8_000, 2_000, 5));
    assert_eq!(shortage.place, Place::Pool { pool: "local".into() });
}

#[test]
fn enough_in_all_but_in_pieces_names_the_node_and_how_far_it_came() {
    let nodes = vec![node("a", &[("cpu", 5)]), node("b", &[("cpu", 5)])];
    let Wait::ExceedsCapacity(shortage) = only_wait(&snapshot(nodes, vec![gang("a", 1, 3, &[("cpu", 3)])])) else {
        panic!("can never fit")
    };
    assert_eq!(shortage.place, Place::Node { node: "a".into(), placed: 2 });
    assert_eq!(shortage.missing, 1000);
}

#[test]
fn nodes_that_are_down_are_named() {
    let mut down = node("down", &[("cpu", 8)]);
    down.ready = false;
    let wait = only_wait(&snapshot(vec![down, node("small", &[("cpu", 1)])], vec![gang("a", 1, 1, &[("cpu", 4)])]));
    assert_eq!(wait, Wait::NoReadyNode { pool: "local".into(), node: Some("down".into()) });
    assert_eq!(only_wait(&snapshot(vec![], vec![gang("a", 1, 1, &[("cpu", 4)])])), Wait::NoReadyNode { pool: "local".into(), node: None });
}

#[test]
fn a_node_that_has_not_said_what_it_has_may_do() {
    let mut unknown = node("unknown", &[]);
    unknown.ready = false;
    let named = Wait::NoReadyNode { pool: "local".into(), node: Some("unknown".into()) };
    for nodes in [vec![unknown.clone()], vec![node("small", &[("cpu", 1)]), unknown]] {
        assert_eq!(only_wait(&snapshot(nodes, vec![gang("a", 1, 1, &[("cpu", 4)])])), named);
    }
}

#[test]
fn what_asks_for_labels_that_no_node_has_is_told_so() {
    let mut picky = gang("a", 1, 1, &[("cpu", 1)]);
    picky.sets[0].pending[0].node_selector.insert("zone".into(), "mars".into());
    let wait = only_wait(&snapshot(vec![node("a", &[("cpu", 1)])], vec![picky]));
    assert_eq!(wait, Wait::NoMatchingNode { pool: "local".into(), member: "a-0".into() });
}

#[test]
fn a_gang_whose_pods_are_still_being_made_is_left_alone() {
    let mut half = gang("a", 1, 4, &[("cpu", 1)]);
    half.sets[0].pending.truncate(2);
    let wait = only_wait(&snapshot(vec![node("a", &[("cpu", 8)])], vec![half]));
    assert_eq!(wait, Wait::MembersMissing { present: 2, wanted: 4 });
}

#[test]
fn positions_count_within_the_queue() {
    let mut busy = node("a", &[("cpu", 4)]);
    busy.used = amounts(&[("cpu", 4)]);
    let elsewhere = Gang { queue: "gone".into(), ..gang("x", 0, 1, &[("cpu", 1)]) };
    let gangs = vec![gang("b", 2, 1, &[("cpu", 1)]), elsewhere, gang("a", 1, 1, &[("cpu", 1)]), gang("c", 3, 1, &[("cpu", 9)])];
    let plan = plan(&snapshot(vec![busy], gangs));
    let positions: Vec<_> = plan.waits.iter().map(|waiting| (waiting.gang.as_str(), waiting.position)).collect();
    assert_eq!(positions, [("x", 1), ("a", 1), ("b", 2), ("c", 3)]);
    assert!(matches!(plan.waits[0].wait, Wait::QueueNotFound));
}

#[test]
fn room_that_is_held_names_the_one_who_holds_it() {
    let mut busy = node("a", &[("cpu", 4)]);
    busy.used = amounts(&[("cpu", 1)]);
    let plan = plan(&snapshot(vec![busy], vec![gang("large", 1, 1, &[("cpu", 4)]), gang("small", 2, 1, &[("cpu", 1)])]));
    assert_eq!(plan.waits[1].wait, Wait::BehindOthers { ahead: "large".into() });
}

#[test]
fn absurd_amounts_are_refused_and_not_overflowed() {
    let mut absurd = gang("a", 1, 3, &[]);
    for member in &mut absurd.sets[0].pending {
        member.requests.insert("cpu".into(), i128::MAX / 2);
    }
    assert!(matches!(only_wait(&snapshot(vec![node("a", &[("cpu", 1)])], vec![absurd])), Wait::ExceedsCapacity(_)));
}
