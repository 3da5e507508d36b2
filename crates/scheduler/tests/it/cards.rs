//! Parts of cards, and which cards somebody has.

use std::collections::BTreeMap;

use fermion_scheduler::device::{Model, Profile};
use fermion_scheduler::{CardHeld, CardPart, CardsAsked, Gang, Member, NoCard, Node, PartSize, PlacedMember, Snapshot, Wait, plan};
use proptest::prelude::*;

use crate::{amounts, gang, node, snapshot};

const CARD: &str = "gpu.fermion.dev/a100";
const MEMORY_MIB: u32 = 40_000;

fn a100() -> Model {
    let profile = |name: &str, width, starts: &[u8], compute| Profile { name: name.into(), width, starts: starts.to_vec(), compute };
    let profiles = vec![profile("mig-1g", 1, &[0, 1, 2, 3, 4, 5, 6], 142), profile("mig-3g", 4, &[0, 4], 428)];
    Model { name: "a100".into(), memory_mib: MEMORY_MIB, profiles }
}

fn share(compute: u16, memory_mib: u32) -> PartSize {
    PartSize::Share { compute, memory_mib }
}

fn counted(size: &PartSize) -> i128 {
    match size {
        PartSize::Share { compute, .. } => i128::from(*compute),
        PartSize::Slice(name) => i128::from(a100().profiles.iter().find(|profile| profile.name == *name).expect("a profile").compute),
    }
}

/// A gang of one that asks for a part of a card.
fn part(id: &str, created_at: i64, size: PartSize) -> Gang {
    let mut gang = gang(id, created_at, 1, &[]);
    let member = &mut gang.sets[0].pending[0];
    member.requests.insert(CARD.into(), counted(&size));
    member.part = Some(CardPart { model: "a100".into(), size });
    gang
}

fn world(nodes: Vec<Node>, gangs: Vec<Gang>) -> Snapshot {
    Snapshot { models: vec![a100()], ..snapshot(nodes, gangs) }
}

/// The same after the plan was carried out.
fn carried_out(mut world: Snapshot) -> Snapshot {
    for bind in plan(&world).binds {
        let gang = world.gangs.iter_mut().find(|gang| gang.id == bind.gang).expect("a gang");
        let set = &mut gang.sets[0];
        let place = set.pending.iter().position(|member| member.id == bind.member).expect("a member");
        let member = set.pending.remove(place);
        set.settled += 1;
        let node = world.nodes.iter_mut().find(|node| node.name == bind.node).expect("a node");
        for (name, amount) in &member.requests {
            *node.used.entry(name.clone()).or_default() += amount;
        }
        let Member { id, requests, .. } = member;
        gang.placed.push(PlacedMember { id, node: bind.node, requests, cards: bind.cards, ..PlacedMember::default() });
    }
    world
}

#[test]
fn shares_go_on_one_card_until_its_memory_is_full() {
    let small = |number| part(&format!("g{number}"), number, share(200, 15_000));
    let world = world(vec![node("n", &[(CARD, 2)])], (0..5).map(small).collect());
    let plan = plan(&world);
    let held: Vec<_> = plan.binds.iter().map(|bind| (bind.cards[0].index, bind.cards[0].compute, bind.cards[0].memory_mib)).collect();
    assert_eq!(held, [(0, 200, 15_000), (0, 200, 15_000), (1, 200, 15_000), (1, 200, 15_000)]);
    let expected = NoCard {
        model: "a100".into(),
        asked: CardsAsked::Part(share(200, 15_000)),
        nearest: Some(("n".into(), CardsAsked::Part(share(600, 10_000)))),
    };
    assert_eq!(plan.waits[0].wait, Wait::NoCard(expected));
}

#[test]
fn slices_share_a_card_with_slices_alone() {
    let slices = ["mig-3g", "mig-1g", "mig-3g"].into_iter().enumerate();
    let mut gangs: Vec<Gang> = slices.map(|(turn, name)| part(&format!("g{turn}"), turn as i64, PartSize::Slice(name.into()))).collect();
    gangs.push(part("other", 9, share(100, 0)));
    let plan = plan(&world(vec![node("n", &[(CARD, 1)])], gangs));
    let held: Vec<_> = plan.binds.iter().map(|bind| (bind.gang.as_str(), bind.cards[0].slices)).collect();
    // The small one took the far end of the other half.
    assert_eq!(held, [("g0", 0b1111_0000), ("g1", 0b0000_1000)]);
    assert_eq!(plan.waits.iter().map(|waiting| waiting.gang.as_str()).collect::<Vec<_>>(), ["g2", "other"]);
    assert!(plan.waits.iter().all(|waiting| matches!(waiting.wait, Wait::NoCard(_))), "{:?}", plan.waits);
}

#[test]
fn whole_cards_are_not_made_of_pieces() {
    let mut world = world(vec![node("n", &[(CARD, 2)])], vec![gang("whole", 1, 1, &[(CARD, 1)])]);
    let held = |index| CardHeld { model: "a100".into(), index, compute: 500, memory_mib: 0, slices: 0 };
    world.nodes[0].cards = vec![held(0), held(1)];
    world.nodes[0].used = amounts(&[(CARD, 1)]);
    let expected = NoCard { model: "a100".into(), asked: CardsAsked::Whole(1), nearest: Some(("n".into(), CardsAsked::Whole(0))) };
    assert_eq!(plan(&world).waits[0].wait, Wait::NoCard(expected));
}

#[test]
fn cards_that_are_known_to_be_held_are_given_to_nobody_else() {
    let mut world = world(vec![node("n", &[(CARD, 3)])], vec![gang("new", 5, 1, &[(CARD, 1)])]);
    let runs = |id: &str, cards| {
        let placed = PlacedMember { id: id.into(), node: "n".into(), requests: amounts(&[(CARD, 1)]), cards, ..PlacedMember::default() };
        Gang { id: id.into(), queue: "default".into(), placed: vec![placed], ..Gang::default() }
    };
    // Of the first it is not known which it has; it cannot be the second's.
    world.gangs.push(runs("a", Vec::new()));
    world.gangs.push(runs("b", vec![CardHeld { model: "a100".into(), index: 0, compute: 1000, memory_mib: MEMORY_MIB, slices: 0 }]));
    world.nodes[0].used = amounts(&[(CARD, 2)]);
    assert_eq!(plan(&world).binds[0].cards[0].index, 2);
}

#[test]
fn several_pods_of_no_gang_on_one_card_all_count() {
    let mut world = world(vec![node("n", &[(CARD, 1)])], vec![part("new", 5, share(500, 0))]);
    let held = |memory_mib| CardHeld { model: "a100".into(), index: 0, compute: 300, memory_mib, slices: 0 };
    world.nodes[0].cards = vec![held(1000), held(2000)];
    world.nodes[0].used = [(CARD.to_owned(), 300)].into();
    let waits = plan(&world).waits;
    let nearest = Some(("n".into(), CardsAsked::Part(share(400, MEMORY_MIB - 3000))));
    let asked = CardsAsked::Part(share(500, 0));
    assert_eq!(waits[0].wait, Wait::NoCard(NoCard { model: "a100".into(), asked, nearest }));
}

#[test]
fn a_profile_the_model_does_not_have_fits_nowhere() {
    let mut gang = part("g", 1, PartSize::Slice("mig-1g".into()));
    gang.sets[0].pending[0].part = Some(CardPart { model: "a100".into(), size: PartSize::Slice("mig-9g".into()) });
    let plan = plan(&world(vec![node("n", &[(CARD, 1)])], vec![gang]));
    assert!(plan.binds.is_empty() && plan.waits.len() == 1);
}

fn size() -> impl Strategy<Value = Option<PartSize>> {
    prop_oneof![
        Just(None),
        (1..1000_u16, 0..MEMORY_MIB).prop_map(|(compute, memory)| Some(share(compute, memory))),
        prop_oneof![Just("mig-1g"), Just("mig-3g")].prop_map(|name| Some(PartSize::Slice(name.into()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Work comes and goes; what plans give, read again in the next round, is never given twice.
    #[test]
    fn no_part_of_a_card_is_given_twice(
        cards in proptest::collection::vec(1..4_i128, 1..3),
        rounds in proptest::collection::vec((proptest::collection::vec(size(), 0..5), any::<u64>()), 1..6),
    ) {
        let nodes = cards.iter().enumerate().map(|(number, count)| node(&format!("n{number}"), &[(CARD, *count)])).collect();
        let mut world = world(nodes, Vec::new());
        for (round, (sizes, leaving)) in rounds.into_iter().enumerate() {
            // Some end.
            for (_, gang) in world.gangs.iter_mut().enumerate().filter(|(place, _)| leaving >> (place % 64) & 1 == 1) {
                for placed in gang.placed.drain(..) {
                    let node = world.nodes.iter_mut().find(|node| node.name == placed.node).expect("a node");
                    for (name, amount) in &placed.requests {
                        *node.used.get_mut(name).expect("in use") -= amount;
                    }
                }
            }
            world.gangs.retain(|gang| !gang.placed.is_empty() || !gang.sets[0].pending.is_empty());
            for (number, size) in sizes.into_iter().enumerate() {
                let id = format!("r{round}g{number}");
                world.gangs.push(match size {
                    Some(size) => part(&id, round as i64, size),
                    None => gang(&id, round as i64, 1, &[(CARD, 1)]),
                });
            }
            world = carried_out(world);
            let mut used: BTreeMap<(&str, u8), (u32, u32, u8, bool)> = BTreeMap::new();
            for placed in world.gangs.iter().flat_map(|gang| &gang.placed) {
                let counted: i128 = placed.cards.iter().map(|card| i128::from(card.compute)).sum();
                prop_assert_eq!(counted, placed.requests[CARD], "what is told is what is counted");
                for card in &placed.cards {
                    let sum = used.entry((&placed.node, card.index)).or_default();
                    sum.0 += u32::from(card.compute);
                    sum.1 += card.memory_mib;
                    prop_assert_eq!(sum.2 & card.slices, 0, "a slice was given twice");
                    sum.2 |= card.slices;
                    sum.3 |= card.slices == 0;
                    prop_assert!(sum.2 == 0 || !sum.3, "slices beside others");
                }
            }
            prop_assert!(used.values().all(|(compute, memory, ..)| *compute <= 1000 && *memory <= MEMORY_MIB), "{:?}", used);
        }
    }
}
