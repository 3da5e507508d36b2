use proptest::prelude::*;

use super::*;
use crate::resource::Demand;

const GPU: ResourceId = ResourceId(4);
const RESOURCES: [ResourceId; 2] = [ResourceId::CPU, GPU];

fn gpus(amount: i64) -> Demand {
    [(GPU, amount)].into_iter().collect()
}

fn limits(amount: i64) -> Limits {
    [(GPU, amount)].into_iter().collect()
}

fn queue(name: &str, parent: Option<QueueId>, guaranteed: i64) -> Config {
    Config { parent, guaranteed: limits(guaranteed), ..Config::new(name) }
}

/// A pool of 10 with `a` promised 6 and `b` promised 4.
fn two() -> (Queues, QueueId, QueueId) {
    let mut queues = Queues::default();
    queues.set_capacity(limits(10));
    let a = queues.add(queue("a", None, 6)).unwrap();
    let b = queues.add(queue("b", None, 4)).unwrap();
    (queues, a, b)
}

#[test]
fn what_is_left_may_be_borrowed_and_is_claimed_back() {
    let (mut queues, a, b) = two();
    assert_eq!(queues.fits(b, &gpus(9)), Ok(gpus(5)));
    queues.charge(b, &gpus(9));
    let shortage = Shortage { reason: Reason::NothingToBorrow, resource: GPU, missing: 5, added: 6 };
    assert_eq!(queues.fits(a, &gpus(6)), Err(shortage));
    let taking = Taking { queue: b, resource: GPU, amount: 5 };
    assert_eq!(queues.claim(a, &gpus(6)), Ok(Claim { takings: vec![taking] }));
    assert!(queues.may_take(a, &gpus(6), b, &gpus(9)));
    assert_eq!(queues.claim(a, &gpus(7)), Err(NoClaim::BeyondGuarantee { resource: GPU, by: 1 }));
    queues.release(b, &gpus(5));
    queues.charge(a, &gpus(6));
    assert!(!queues.may_take(a, &gpus(1), b, &gpus(4)) && !queues.may_take(b, &gpus(1), a, &gpus(6)));
}

#[test]
fn a_queue_that_does_not_lend_keeps_its_guarantee() {
    let (mut queues, a, b) = two();
    queues.change(a, Config { lends: false, ..queue("a", None, 6) }).unwrap();
    assert_eq!(queues.fits(b, &gpus(5)).unwrap_err().missing, 1);
    queues.charge(b, &gpus(4));
    assert_eq!(queues.fits(a, &gpus(6)), Ok(Demand::default()));
}

#[test]
fn a_queue_that_may_not_borrow_stays_within_what_it_names() {
    let (mut queues, a, _) = two();
    queues.change(a, Config { borrows: false, ..queue("a", None, 6) }).unwrap();
    let shortage = queues.fits(a, &gpus(7)).unwrap_err();
    assert_eq!((shortage.reason, shortage.missing), (Reason::MayNotBorrow(a), 1));
    // It names no guarantee of CPU.
    assert!(queues.fits(a, &[(ResourceId::CPU, 1)].into_iter().collect()).is_ok());
}

#[test]
fn a_branch_takes_inside_what_was_borrowed_inside() {
    let mut queues = Queues::default();
    queues.set_capacity(limits(20));
    let left = queues.add(queue("left", None, 10)).unwrap();
    let right = queues.add(queue("right", None, 10)).unwrap();
    let one = queues.add(queue("one", Some(left), 5)).unwrap();
    let two = queues.add(queue("two", Some(left), 5)).unwrap();
    let three = queues.add(Config { parent: Some(right), ..Config::new("three") }).unwrap();
    queues.charge(two, &gpus(9));
    queues.charge(three, &gpus(11));
    let taking = |queue, amount| Taking { queue, resource: GPU, amount };
    // Four of its sibling's nine are borrowed from it; the last one is with the other branch.
    assert_eq!(queues.claim(one, &gpus(5)).unwrap().takings, [taking(two, 4), taking(three, 1)]);
    assert!(queues.may_take(one, &gpus(5), two, &gpus(1)));
    assert!(!queues.may_take(one, &gpus(5), three, &gpus(1)), "its branch would be beyond its guarantee");
    queues.release(two, &gpus(4));
    assert!(queues.may_take(one, &gpus(5), three, &gpus(1)));
}

#[test]
fn guarantees_of_children_stay_within_the_parents() {
    let (mut queues, a, _) = two();
    let refused = queues.add(queue("child", Some(a), 7)).unwrap_err();
    assert_eq!(refused, Refused::PromisedTwice { queue: "a".into(), resource: GPU, excess: 1 });
    assert_eq!(queues.id("child"), None);
    let child = queues.add(queue("child", Some(a), 6)).unwrap();
    let refused = queues.change(a, queue("a", None, 5)).unwrap_err();
    assert_eq!(refused, Refused::PromisedTwice { queue: "a".into(), resource: GPU, excess: 1 });
    // One that names none is promised what its children are.
    queues.change(a, Config::new("a")).unwrap();
    assert_eq!(queues.guarantee(a, GPU), 6);
    let refused = queues.change(a, Config { limit: limits(5), ..Config::new("a") }).unwrap_err();
    assert_eq!(refused, Refused::GuaranteeAboveLimit { queue: "a".into(), resource: GPU, excess: 1 });
    assert_eq!(queues.remove(a), Err(Refused::HasChildren));
    queues.charge(child, &gpus(1));
    assert_eq!(queues.remove(child), Err(Refused::InUse));
    queues.release(child, &gpus(1));
    queues.remove(child).unwrap();
    assert_eq!((queues.guarantee(a, GPU), queues.contains(child)), (0, false));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (mut queues, a, b) = two();
    let table = [
        (Config::new("b"), Refused::NameTaken),
        (Config { priority: 65_534, ..Config::new("a") }, Refused::PriorityTooHigh),
        (Config { weight: 0, ..Config::new("a") }, Refused::WeightOutOfRange),
        (Config { time_limit_ms: Some(0), ..Config::new("a") }, Refused::TimeNotPositive),
        (Config { parent: Some(QueueId(9)), ..Config::new("a") }, Refused::ParentNotFound),
        (Config { parent: Some(a), ..Config::new("a") }, Refused::ParentBelow),
    ];
    for (config, refused) in table {
        assert_eq!(queues.change(a, config), Err(refused));
    }
    queues.change(a, Config { is_default: true, priority: 65_533, ..queue("a", None, 6) }).unwrap();
    assert_eq!(queues.default_queue(), Some(a));
    let second = Config { is_default: true, ..queue("b", None, 4) };
    assert_eq!(queues.change(b, second.clone()), Err(Refused::SecondDefault { other: "a".into() }));
    queues.change(a, queue("a", None, 6)).unwrap();
    queues.change(b, second).unwrap();
    assert_eq!(queues.default_queue(), Some(b));
    let mut above = a;
    for depth in 1..Queues::DEPTH_MAX {
        above = queues.add(Config { parent: Some(above), ..Config::new(&depth.to_string()) }).unwrap();
    }
    assert_eq!(queues.add(Config { parent: Some(above), ..Config::new("deep") }), Err(Refused::TooDeep));
}

#[test]
fn access_is_for_everyone_until_somebody_is_named() {
    let groups = ["staff".to_owned()];
    let of = |users: &[&str], groups: &[&str]| Access {
        users: users.iter().map(ToString::to_string).collect(),
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    assert!(of(&[], &[]).allows("ada", &[]));
    assert!(of(&["ada"], &[]).allows("ada", &[]));
    assert!(!of(&["ada"], &[]).allows("bob", &groups));
    assert!(of(&["ada"], &["staff"]).allows("bob", &groups));
    assert!(!of(&[], &["guests"]).allows("ada", &groups));
}

#[test]
fn standing_weighs_what_is_borrowed() {
    let (mut queues, a, b) = two();
    queues.change(b, Config { weight: 2, ..queue("b", None, 4) }).unwrap();
    queues.charge(a, &gpus(6));
    assert_eq!(queues.standing(a).as_slice(), [0]);
    queues.charge(b, &gpus(4));
    queues.release(a, &gpus(4));
    queues.charge(b, &gpus(2));
    assert_eq!(queues.standing(b).as_slice(), [100_000]);
}

#[derive(Clone, Debug)]
enum Step {
    Start { queue: usize, demand: [i64; 2] },
    End { which: usize },
    Change { queue: usize, shape: Shape },
    Capacity([Option<i64>; 2]),
}

/// What is random of a queue.
#[derive(Clone, Debug)]
struct Shape {
    parent: Option<usize>,
    guaranteed: [Option<i64>; 2],
    limit: [Option<i64>; 2],
    borrows: bool,
    lends: bool,
}

fn amounts(max: i64) -> impl Strategy<Value = [Option<i64>; 2]> {
    proptest::array::uniform2(prop::option::weighted(0.6, 0..=max))
}

fn shape() -> impl Strategy<Value = Shape> {
    let parent = prop::option::weighted(0.7, 0..QUEUES);
    (parent, amounts(6), amounts(14), prop::bool::weighted(0.75), prop::bool::weighted(0.75))
        .prop_map(|(parent, guaranteed, limit, borrows, lends)| Shape { parent, guaranteed, limit, borrows, lends })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..QUEUES, proptest::array::uniform2(0..6_i64)).prop_map(|(queue, demand)| Step::Start { queue, demand }),
        2 => (0..64_usize).prop_map(|which| Step::End { which }),
        2 => (0..QUEUES, shape()).prop_map(|(queue, shape)| Step::Change { queue, shape }),
        1 => amounts(30).prop_map(Step::Capacity),
    ]
}

const QUEUES: usize = 7;

fn sparse(amounts: [Option<i64>; 2]) -> Limits {
    RESOURCES.into_iter().zip(amounts).filter_map(|(resource, amount)| Some((resource, amount?))).collect()
}

fn dense(amounts: [i64; 2]) -> Demand {
    RESOURCES.into_iter().zip(amounts).collect()
}

fn config(place: usize, shape: &Shape) -> Config {
    Config {
        parent: shape.parent.map(|parent| QueueId(parent as u32)),
        guaranteed: sparse(shape.guaranteed),
        limit: sparse(shape.limit),
        borrows: shape.borrows,
        lends: shape.lends,
        ..Config::new(&place.to_string())
    }
}

/// Runs the steps; starts only what fits. Answers what runs.
fn run(steps: Vec<Step>, after: &mut impl FnMut(&Queues, &[(QueueId, Demand)])) {
    let mut queues = Queues::default();
    let mut running: Vec<(QueueId, Demand)> = Vec::new();
    for place in 0..QUEUES {
        queues.add(Config::new(&place.to_string())).unwrap();
    }
    for step in steps {
        match step {
            Step::Start { queue, demand } => {
                let (queue, demand) = (QueueId(queue as u32), dense(demand));
                if queues.fits(queue, &demand).is_ok() {
                    let before: Vec<i64> = queues.path(queue).map(|id| queues.node(id).used.get(GPU)).collect();
                    queues.charge(queue, &demand);
                    for (id, before) in queues.path(queue).zip(before) {
                        let node = queues.node(id);
                        let within = node.used.get(GPU) <= node.config.limit.get(GPU).unwrap_or(i64::MAX);
                        assert!(within || node.used.get(GPU) == before, "queue {id:?} is beyond its limit");
                    }
                    running.push((queue, demand));
                }
            }
            Step::End { which } if !running.is_empty() => {
                let (queue, demand) = running.swap_remove(which % running.len());
                queues.release(queue, &demand);
            }
            Step::End { .. } => {}
            Step::Change { queue, shape } => {
                // What is refused changes nothing; the sums say so.
                let _refused = queues.change(QueueId(queue as u32), config(queue, &shape));
            }
            Step::Capacity(amounts) => queues.set_capacity(sparse(amounts)),
        }
        after(&queues, &running);
    }
}

/// The same tree, told what it is told from the top down, then charged.
fn from_scratch(queues: &Queues, running: &[(QueueId, Demand)]) -> Queues {
    let mut scratch = Queues::default();
    for (_, config) in queues.iter() {
        scratch.add(Config::new(&config.name)).unwrap();
    }
    scratch.set_capacity(queues.capacity().clone());
    let mut order: Vec<QueueId> = queues.iter().map(|(id, _)| id).collect();
    order.sort_by_key(|id| queues.path(*id).count());
    for id in order {
        scratch.change(id, queues.config(id).clone()).unwrap();
    }
    for (queue, demand) in running {
        scratch.charge(*queue, demand);
    }
    scratch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sums_are_those_of_a_tree_made_anew(steps in proptest::collection::vec(step(), 1..40)) {
        run(steps, &mut |queues, running| {
            let scratch = from_scratch(queues, running);
            for (id, _) in queues.iter() {
                let (kept, anew) = (queues.node(id), scratch.node(id));
                assert_eq!((&kept.own, &kept.used, &kept.inner, &kept.promised), (&anew.own, &anew.used, &anew.inner, &anew.promised));
                assert_eq!(kept.children, anew.children);
            }
            assert_eq!((&queues.drawn, &queues.top), (&scratch.drawn, &scratch.top));
        });
    }

    /// What is promised can be had by taking from others exactly what is borrowed from it.
    #[test]
    fn a_guarantee_can_always_be_claimed(steps in proptest::collection::vec(step(), 1..40), part in proptest::array::uniform2(0..8_i64)) {
        run(steps, &mut |queues, _| {
            if RESOURCES.iter().any(|resource| queues.overpromised(*resource) > 0) {
                return;
            }
            for (id, _) in queues.iter() {
                let node = queues.node(id);
                let within = |(resource, amount): (ResourceId, i64)| {
                    (resource, amount.min(node.guarantee(resource) - node.inner.get(resource)))
                };
                let demand: Demand = RESOURCES.into_iter().zip(part).map(within).collect();
                let claim = queues.claim(id, &demand).unwrap();
                let mut after = queues.clone();
                for taking in &claim.takings {
                    assert!(after.own_over(taking.queue, taking.resource) > 0, "{taking:?} from within a guarantee");
                    assert!(queues.node(taking.queue).own.get(taking.resource) >= taking.amount);
                    after.release(taking.queue, &[(taking.resource, taking.amount)].into_iter().collect());
                }
                assert!(after.fits(id, &demand).is_ok(), "{id:?} lacks {:?} after {claim:?}", after.shortages(id, &demand));
                // Nothing is taken that was not needed.
                for taking in &claim.takings {
                    let mut less = after.clone();
                    less.charge(taking.queue, &[(taking.resource, 1)].into_iter().collect());
                    assert!(less.fits(id, &demand).is_err(), "{taking:?} is more than {id:?} needs");
                }
            }
        });
    }

    /// Whole workloads are ended for a claimant, which starts before any of them comes back. That
    /// ends, though all want to come back and may borrow again.
    #[test]
    fn taking_back_and_forth_ends(steps in proptest::collection::vec(step(), 1..40)) {
        run(steps, &mut |queues, running| {
            let beyond = |queues: &Queues| -> i64 {
                let over = queues.iter().flat_map(|(id, _)| RESOURCES.map(|resource| queues.own_over(id, resource)));
                over.sum()
            };
            let (mut queues, mut running) = (queues.clone(), running.to_vec());
            let mut waiting: Vec<(QueueId, Demand)> = queues.iter().map(|(id, _)| (id, dense([1, 1]))).collect();
            for round in 0.. {
                assert!(round < 100, "no end to taking");
                let claimant = waiting.iter().position(|(id, demand)| queues.claim(*id, demand).is_ok());
                let Some(claimant) = claimant else { break };
                let (id, demand) = waiting.remove(claimant);
                while queues.fits(id, &demand).is_err() {
                    let victim = running.iter().position(|(queue, size)| queues.may_take(id, &demand, *queue, size));
                    let victim = running.remove(victim.expect("a claim that holds has somebody to take from"));
                    let before = beyond(&queues);
                    queues.release(victim.0, &victim.1);
                    assert!(beyond(&queues) < before);
                    waiting.push(victim);
                }
                queues.charge(id, &demand);
                running.push((id, demand));
                waiting.retain(|(id, demand)| {
                    let starts = queues.fits(*id, demand).is_ok();
                    if starts {
                        queues.charge(*id, demand);
                        running.push((*id, demand.clone()));
                    }
                    !starts
                });
            }
        });
    }
}
