//! The index over nodes: it answers as a scan would, whatever happened before.

use fermion_scheduler::cluster::{ClassId, Cluster, NodeId};
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelSet, Profile, WHOLE};
use fermion_scheduler::node::{Facts, Seat};
use fermion_scheduler::preference::level;
use fermion_scheduler::request::{Constraints, Request};
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement, Scorer};
use fermion_scheduler::{Operator, Preferred, Requirement, Term};
use proptest::prelude::*;

const POLICIES: [Placement; 7] = [
    Placement::Spread,
    Placement::DotProduct,
    Placement::Clustering,
    Placement::Packing,
    Placement::BestFit,
    Placement::FragmentationGradient,
    Placement::Scarcity,
];

#[derive(Clone, Debug)]
enum Step {
    Add { cpu: i64, cards: usize, model: u8, rack: u8 },
    Remove(usize),
    Open(usize, bool),
    Sick(usize, u8, bool),
    Grow(usize, i64),
    Place { class: usize, rack: Option<usize> },
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1_i64..9, 0_usize..5, 0_u8..2, 0_u8..3).prop_map(|(cpu, cards, model, rack)| Step::Add { cpu, cards, model, rack }),
        1 => (0_usize..20).prop_map(Step::Remove),
        1 => (0_usize..20, any::<bool>()).prop_map(|(node, open)| Step::Open(node, open)),
        1 => (0_usize..20, 0_u8..5, any::<bool>()).prop_map(|(node, card, healthy)| Step::Sick(node, card, healthy)),
        1 => (0_usize..20, 1_i64..9).prop_map(|(node, cpu)| Step::Grow(node, cpu)),
        8 => (0_usize..9, prop::option::of(0_usize..3)).prop_map(|(class, rack)| Step::Place { class, rack }),
        3 => (0_usize..40).prop_map(Step::End),
    ]
}

fn requests() -> Vec<Request> {
    let cores = |amount: i64| [(ResourceId::CPU, amount * 1000)].into_iter().collect();
    let of = |cpu, devices| Request { demand: cores(cpu), devices, ..Request::default() };
    let cards = |models: ModelSet, count, each| Some(DeviceRequest { models, count, each });
    let second: ModelSet = [fermion_scheduler::device::ModelId(1)].into_iter().collect();
    let selector = [("rack".to_owned(), "1".to_owned())].into();
    let in_rack = |weight, rack: &str| {
        let labels = vec![Requirement { key: "rack".into(), operator: Operator::In, values: vec![rack.into()] }];
        Preferred { weight, term: Term { labels, names: Vec::new() } }
    };
    vec![
        of(1, None),
        of(1, cards(ModelSet::ANY, 1, Each::Whole)),
        of(2, cards(second, 2, Each::Whole)),
        of(1, cards(ModelSet::ANY, 1, Each::Share { compute: 300, memory_mib: 9000 })),
        of(1, cards(ModelSet::ANY, 2, Each::Share { compute: 600, memory_mib: 0 })),
        of(1, cards(ModelSet::ANY, 1, Each::Slice { profile: 0 })),
        Request { constraints: Constraints { selector, ..Constraints::default() }, ..of(1, None) },
        Request { preferred: vec![in_rack(10, "1"), in_rack(-30, "0")], ..of(1, None) },
        Request { preferred: vec![in_rack(3000, "0"), in_rack(5, "1")], ..of(1, cards(ModelSet::ANY, 1, Each::Whole)) },
    ]
}

fn empty(placement: Placement) -> Cluster {
    let mut cluster = Cluster::new(placement, Mix::typical(&requests(), 1.0));
    for name in ["small", "large"] {
        let id = cluster.models.intern(name).expect("two models");
        cluster.models.set_profiles(id, vec![Profile { name: "half".into(), width: 4, starts: vec![0, 4], compute: 500 }]);
    }
    cluster
}

fn facts(number: usize, cpu: i64, rack: u8) -> Facts {
    Facts {
        name: format!("n{:02}", (number * 7) % 100),
        labels: [("rack".to_owned(), rack.to_string())].into(),
        taints: Vec::new(),
        open: true,
        allocatable: [(ResourceId::CPU, cpu * 1000)].into_iter().collect(),
        domains: if rack == 2 { Vec::new() } else { vec!["zone".to_owned(), format!("rack{rack}")] },
    }
}

/// A cluster with the same nodes and members, made in one go.
fn afresh(cluster: &Cluster, placement: Placement, seats: &[(NodeId, Seat)]) -> Cluster {
    let mut fresh = empty(placement);
    for (id, node) in cluster.nodes() {
        let mut devices = node.devices.clone();
        for device in &mut devices {
            (device.free, device.memory_free_mib, device.sliced) = (WHOLE, device.memory_mib, 0);
        }
        let new = fresh.add(node.facts.clone(), devices);
        for (_, seat) in seats.iter().filter(|seat| seat.0 == id) {
            fresh.put(new, seat);
        }
    }
    fresh
}

fn name(cluster: &Cluster, id: Option<NodeId>) -> Option<String> {
    id.map(|id| cluster.node(id).expect("answers name nodes that are there").facts.name.clone())
}

fn racks(cluster: &mut Cluster, rack: Option<usize>) -> Option<std::ops::Range<usize>> {
    rack.and_then(|rack| cluster.domains(1).get(rack).map(|domain| domain.run.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_was_changed_step_by_step_answers_as_what_was_made_afresh(
        policy in 0_usize..POLICIES.len(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let placement = POLICIES[policy];
        let requests = requests();
        let mut cluster = empty(placement);
        let mut nodes: Vec<NodeId> = Vec::new();
        let mut seats: Vec<(NodeId, Seat)> = Vec::new();
        for step in steps {
            let at = |nodes: &[NodeId], place: usize| nodes.get(place % nodes.len().max(1)).copied();
            match step {
                Step::Add { cpu, cards, model, rack } => {
                    let devices = vec![Device::new(fermion_scheduler::device::ModelId(model), 16_000); cards];
                    nodes.push(cluster.add(facts(nodes.len(), cpu, rack), devices));
                }
                Step::Remove(place) => if let Some(id) = at(&nodes, place) {
                    cluster.remove(id);
                    seats.retain(|seat| seat.0 != id);
                },
                Step::Open(place, open) => if let Some(id) = at(&nodes, place) { cluster.set_open(id, open) },
                Step::Sick(place, card, healthy) => if let Some(id) = at(&nodes, place) { cluster.set_healthy(id, card, healthy) },
                Step::Grow(place, cpu) => if let Some(id) = at(&nodes, place) && let Some(node) = cluster.node(id) {
                    let allocatable = [(ResourceId::CPU, cpu * 1000)].into_iter().collect();
                    let facts = Facts { allocatable, ..node.facts.clone() };
                    cluster.set_facts(id, facts);
                },
                Step::Place { class, rack } => {
                    let class = cluster.class(&requests[class]);
                    let run = racks(&mut cluster, rack);
                    if let Some(id) = cluster.best(class, run.as_ref()) {
                        let seat = cluster.take(class, id);
                        seats.push((id, seat));
                    }
                }
                Step::End(place) => if !seats.is_empty() {
                    let (id, seat) = seats.swap_remove(place % seats.len());
                    cluster.give_back(id, &seat);
                },
            }
            for (_, node) in cluster.nodes() {
                for device in &node.devices {
                    prop_assert!(device.free <= WHOLE && device.memory_free_mib <= device.memory_mib);
                }
            }
        }
        let mut fresh = afresh(&cluster, placement, &seats);
        for request in &requests {
            let (class, again) = (cluster.class(request), fresh.class(request));
            for rack in [None, Some(0), Some(1)] {
                let (run, run_again) = (racks(&mut cluster, rack), racks(&mut fresh, rack));
                prop_assert_eq!(&run, &run_again);
                let (best, best_again) = (cluster.best(class, run.as_ref()), fresh.best(again, run.as_ref()));
                prop_assert_eq!(name(&cluster, best), name(&fresh, best_again));
                prop_assert_eq!(cluster.room(class, run.as_ref()), fresh.room(again, run.as_ref()));
            }
            prop_assert_eq!(by_scan(&cluster, request), (name(&fresh, fresh.clone().best(again, None)), fresh.room(again, None)));
        }
    }
}

/// The best node and all room, found without the index. Scores are made by a scorer that saw
/// the same nodes.
fn by_scan(cluster: &Cluster, request: &Request) -> (Option<String>, u32) {
    let fits = |facts: &Facts| facts.open && request.constraints.allow(&facts.name, &facts.labels, &facts.taints);
    let open: Vec<_> = cluster.nodes().map(|entry| entry.1).filter(|node| fits(&node.facts)).collect();
    let room = open.iter().map(|node| node.room(request, &cluster.models, 1 << 16)).sum();
    let mut scorer = Scorer::new(cluster.placement(), Mix::typical(&requests(), 1.0));
    scorer.survey(cluster.nodes().map(|entry| entry.1));
    let with_room = open.iter().filter(|node| node.fits(request, &cluster.models));
    let best = with_room.min_by(|a, b| {
        let score = |node: &fermion_scheduler::node::Node| scorer.score(node, request, &cluster.models);
        let level = |node: &fermion_scheduler::node::Node| level(&request.preferred, &node.facts.labels, &node.facts.name);
        level(b).cmp(&level(a)).then_with(|| score(b).cmp(&score(a))).then_with(|| a.facts.name.cmp(&b.facts.name))
    });
    (best.map(|node| node.facts.name.clone()), room)
}

#[test]
fn a_random_choice_is_made_among_what_is_preferred_alone() {
    let mut cluster = empty(Placement::Random);
    for number in 0..6 {
        cluster.add(facts(number, 4, number as u8 % 3), Vec::new());
    }
    let class: ClassId = cluster.class(&requests()[7]);
    for _ in 0..8 {
        let id = cluster.best(class, None).expect("all have room");
        assert_eq!(cluster.node(id).expect("it is there").facts.labels["rack"], "1");
        cluster.take(class, id);
    }
    let id = cluster.best(class, None).expect("others have room");
    assert_eq!(cluster.node(id).expect("it is there").facts.labels["rack"], "2", "rack 1 is full, and rack 0 is the last");
}

#[test]
fn a_random_choice_takes_every_node_with_room_about_equally_often() {
    let mut cluster = empty(Placement::Random);
    for number in 0..4 {
        cluster.add(facts(number, 4, 0), Vec::new());
    }
    let full = cluster.id("n07").expect("it was added");
    cluster.set_open(full, false);
    let class: ClassId = cluster.class(&requests()[0]);
    let mut counts = [0; 4];
    for _ in 0..3000 {
        let id = cluster.best(class, None).expect("three have room");
        counts[id.0 as usize] += 1;
    }
    assert_eq!(counts[1], 0);
    assert!(counts.iter().enumerate().all(|(place, count)| place == 1 || (900..1100).contains(count)), "{counts:?}");
}

#[test]
fn domains_are_runs_of_the_same_path_and_may_be_missing() {
    let mut cluster = empty(Placement::BestFit);
    for number in 0..6 {
        cluster.add(facts(number, 4, (number % 3) as u8), Vec::new());
    }
    let racks: Vec<_> = cluster.domains(1).iter().map(|domain| (domain.path.join("/"), domain.run.len())).collect();
    assert_eq!(racks, [("zone/rack0".to_owned(), 2), ("zone/rack1".to_owned(), 2)]);
    assert_eq!((cluster.domains(0).len(), cluster.domains(2).len()), (1, 0));
}
