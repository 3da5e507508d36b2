//! What members would rather have of their nodes.

use fermion_scheduler::gang::Topology;
use fermion_scheduler::scoring::Placement;
use fermion_scheduler::{Gang, Node, Operator, Pool, Preferred, Requirement, Snapshot, Term};

use crate::{binds, gang, node, snapshot};

fn zones(list: &[(&str, &str, i128)]) -> Vec<Node> {
    let node = |(name, zone, cpu): &(&str, &str, i128)| {
        let mut node = node(name, &[("cpu", *cpu)]);
        node.labels.insert("zone".into(), (*zone).to_owned());
        node.domains = vec![(*zone).to_owned()];
        node
    };
    list.iter().map(node).collect()
}

/// A gang whose members each prefer these zones.
fn preferring(id: &str, count: u32, zones: &[(i32, &str)]) -> Gang {
    let mut gang = gang(id, 1, count, &[("cpu", 2)]);
    for member in gang.sets.iter_mut().flat_map(|set| &mut set.pending) {
        member.preferred = zones
            .iter()
            .map(|(weight, zone)| {
                let labels = vec![Requirement { key: "zone".into(), operator: Operator::In, values: vec![(*zone).to_owned()] }];
                Preferred { weight: *weight, term: Term { labels, names: Vec::new() } }
            })
            .collect();
    }
    gang
}

fn with(placement: Placement, snapshot: Snapshot) -> Snapshot {
    Snapshot { pools: vec![Pool { name: "local".into(), placement, ..Pool::default() }], ..snapshot }
}

#[test]
fn the_higher_sum_of_weights_decides_before_the_policy() {
    let nodes = zones(&[("a", "east", 3), ("b", "west", 8), ("c", "north", 4)]);
    for placement in [Placement::BestFit, Placement::Spread, Placement::Scarcity, Placement::Random] {
        let one = |weights| binds(&with(placement, snapshot(nodes.clone(), vec![preferring("j", 1, weights)])));
        assert_eq!(one(&[(1, "west")]), ["j-0->b"], "{placement:?}");
        assert_eq!(one(&[(60, "west"), (100, "north"), (50, "west")]), ["j-0->b"], "{placement:?}");
        assert_eq!(one(&[(-1, "east"), (-5, "north")]), ["j-0->b"], "{placement:?}");
    }
    // Where all are alike to it, the policy decides.
    let alike = with(Placement::BestFit, snapshot(nodes.clone(), vec![preferring("j", 1, &[(1, "south")])]));
    assert_eq!(binds(&alike), ["j-0->a"]);
}

#[test]
fn what_is_preferred_is_left_where_it_is_full() {
    let nodes = zones(&[("a", "east", 8), ("b", "west", 4)]);
    let gang = preferring("j", 3, &[(10, "west")]);
    assert_eq!(binds(&snapshot(nodes, vec![gang])), ["j-0->b", "j-1->b", "j-2->a"]);
}

#[test]
fn a_domain_that_all_must_share_goes_before_what_each_prefers() {
    let nodes = zones(&[("a", "east", 8), ("b", "west", 4)]);
    let mut gang = preferring("j", 3, &[(10, "west")]);
    gang.topology = Topology { required: Some(0), preferred: None };
    assert_eq!(binds(&snapshot(nodes, vec![gang])), ["j-0->a", "j-1->a", "j-2->a"]);
}
