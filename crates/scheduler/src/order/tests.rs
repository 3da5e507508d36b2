use proptest::prelude::*;

use super::*;
use crate::account::Level;
use crate::resource::{Demand, ResourceId};

const FIRST: QueueId = QueueId(0);
const SECOND: QueueId = QueueId(1);

/// A pool of ten cards and users ada and bob of tenant a, cyd of tenant b.
struct World {
    accounts: Accounts,
    fair: FairShare,
    members: [AccountId; 3],
}

impl World {
    fn new() -> Self {
        let mut accounts = Accounts::default();
        let mut member = |tenant: &str, user: &str| {
            let tenant = accounts.intern(None, Level::Tenant, tenant).unwrap();
            let project = accounts.intern(Some(tenant), Level::Project, "p").unwrap();
            accounts.intern(Some(project), Level::Member, user).unwrap()
        };
        let members = [member("a", "ada"), member("a", "bob"), member("b", "cyd")];
        let mut fair = FairShare::new(0, None);
        fair.set_capacity([(ResourceId::CPU, 10)].into_iter().collect());
        Self { accounts, fair, members }
    }

    fn shares(&self) -> Shares<'_> {
        Shares { accounts: &self.accounts, fair: &self.fair }
    }

    fn entry(&self, id: u64, queue: QueueId, created_at: i64) -> Entry {
        let member = self.members[0];
        Entry {
            id: WorkId(id),
            name: Arc::from(""),
            queue,
            member,
            created_at,
            priority: 0,
            cost: None,
            urgent: false,
            latest_start_at: None,
        }
    }
}

fn cores(amount: i64) -> Demand {
    [(ResourceId::CPU, amount)].into_iter().collect()
}

fn numbers(order: impl Iterator<Item = WorkId>) -> Vec<u64> {
    order.map(|id| id.0).collect()
}

fn with(job_order: JobOrder) -> QueueSettings {
    QueueSettings { job_order, ..QueueSettings::default() }
}

#[test]
fn each_policy_orders_its_own_way() {
    let mut world = World::new();
    world.fair.start(&world.accounts, world.members[0], &cores(2));
    world.fair.start(&world.accounts, world.members[2], &cores(1));
    let [ada, bob, cyd] = world.members;
    let entries = [
        Entry { priority: 1, cost: Some(30), member: ada, ..world.entry(1, FIRST, 10) },
        Entry { priority: 3, cost: None, member: cyd, ..world.entry(2, FIRST, 20) },
        Entry { priority: 2, cost: Some(10), member: bob, ..world.entry(3, FIRST, 30) },
        Entry { priority: 3, cost: Some(20), member: ada, ..world.entry(4, FIRST, 5) },
    ];
    let table = [
        (JobOrder::Fifo, [4, 1, 2, 3]),
        (JobOrder::Priority, [4, 2, 3, 1]),
        (JobOrder::ShortestFirst, [3, 4, 1, 2]),
        (JobOrder::FairShare, [2, 3, 4, 1]),
    ];
    let mut order = Order::new(Settings::default(), 0);
    for entry in entries {
        order.insert(entry, world.shares());
    }
    for (policy, expected) in table {
        order.set_queue(FIRST, with(policy), world.shares());
        assert_eq!(numbers(order.iter()), expected, "{policy:?}");
        assert_eq!(order.next(), Some(WorkId(expected[0])));
        for (place, id) in expected.iter().enumerate() {
            assert_eq!(order.position(WorkId(*id)), Some(place + 1), "{policy:?}");
        }
    }
}

#[test]
fn a_queue_of_higher_priority_outranks_every_job_of_a_lower_one() {
    let world = World::new();
    let mut order = Order::new(Settings::default(), 0);
    order.set_queue(FIRST, QueueSettings { priority: 1, ..with(JobOrder::Priority) }, world.shares());
    order.set_queue(SECOND, QueueSettings { priority: 2, ..with(JobOrder::Priority) }, world.shares());
    order.insert(Entry { priority: 1000, urgent: true, ..world.entry(1, FIRST, 0) }, world.shares());
    order.insert(Entry { priority: -5, ..world.entry(2, SECOND, 9) }, world.shares());
    assert_eq!(numbers(order.iter()), [2, 1]);
    assert_eq!((order.position(WorkId(1)), order.position(WorkId(2))), (Some(1), Some(1)));
}

#[test]
fn equal_queues_go_by_standing_then_age() {
    let world = World::new();
    let mut order = Order::new(Settings::default(), 0);
    for (id, queue, at) in [(1, FIRST, 1), (2, SECOND, 2), (3, FIRST, 3), (4, SECOND, 4)] {
        order.insert(world.entry(id, queue, at), world.shares());
    }
    assert_eq!(numbers(order.iter()), [1, 2, 3, 4]);
    order.set_standing(FIRST, [7].into_iter().collect());
    assert_eq!(numbers(order.iter()), [2, 4, 1, 3]);
    // The top level decides before the one below it.
    order.set_standing(FIRST, [7, 0].into_iter().collect());
    order.set_standing(SECOND, [7, 1].into_iter().collect());
    assert_eq!(order.next(), Some(WorkId(1)));
}

#[test]
fn urgent_and_pressing_ones_go_first_while_they_are() {
    let mut order = Order::new(Settings { pressing_ms: 10, ..Settings::default() }, 0);
    let world = World::new();
    order.insert(world.entry(1, FIRST, 0), world.shares());
    order.insert(Entry { latest_start_at: Some(50), ..world.entry(2, FIRST, 1) }, world.shares());
    order.insert(Entry { latest_start_at: Some(45), ..world.entry(3, FIRST, 2) }, world.shares());
    order.insert(Entry { urgent: true, ..world.entry(4, FIRST, 3) }, world.shares());
    // (when, order): pressing from ten before the last moment, hopeless after it.
    let table = [(34, [4, 1, 2, 3]), (35, [4, 3, 1, 2]), (40, [4, 3, 2, 1]), (45, [4, 3, 2, 1]), (46, [4, 2, 1, 3]), (51, [4, 1, 2, 3])];
    for (now, expected) in table {
        order.advance(now, world.shares());
        assert_eq!(numbers(order.iter()), expected, "at {now}");
    }
}

#[test]
fn patience_ends_in_the_queue_and_over_all_queues() {
    let mut order = Order::new(Settings { patience_ms: Some(100), ..Settings::default() }, 0);
    let world = World::new();
    order.set_queue(FIRST, QueueSettings { patience_ms: Some(30), ..with(JobOrder::Priority) }, world.shares());
    order.set_queue(SECOND, QueueSettings { priority: 9, ..with(JobOrder::Priority) }, world.shares());
    order.insert(world.entry(1, FIRST, 0), world.shares());
    order.insert(Entry { priority: 5, urgent: true, ..world.entry(2, FIRST, 10) }, world.shares());
    order.insert(world.entry(3, SECOND, 20), world.shares());
    for (now, expected) in [(29, [3, 2, 1]), (30, [3, 1, 2]), (100, [1, 3, 2]), (110, [1, 2, 3])] {
        order.advance(now, world.shares());
        assert_eq!(numbers(order.iter()), expected, "at {now}");
    }
}

#[test]
fn a_parked_workload_keeps_its_place_but_is_not_offered() {
    let world = World::new();
    let mut order = Order::new(Settings::default(), 0);
    for id in 1..=3 {
        order.insert(world.entry(id, FIRST, id as i64), world.shares());
    }
    order.park(WorkId(1), world.shares());
    assert_eq!((order.next(), numbers(order.iter())), (Some(WorkId(2)), vec![2, 3]));
    assert_eq!((order.position(WorkId(1)), order.position(WorkId(2))), (Some(1), Some(2)));
    assert_eq!(numbers(order.queue(FIRST)), [1, 2, 3]);
    assert!(!order.remove_queue(FIRST));
    order.unpark(WorkId(1), world.shares());
    assert_eq!(order.next(), Some(WorkId(1)));
    for id in 1..=3 {
        assert!(order.remove(WorkId(id), &world.accounts));
    }
    assert!(!order.remove(WorkId(1), &world.accounts) && order.is_empty() && order.remove_queue(FIRST));
}

#[derive(Clone, Debug)]
enum Step {
    Insert { id: u64, entry: Shape },
    Remove { id: u64 },
    Park { id: u64, parked: bool },
    Pass { ms: i64 },
    Start { who: usize, amount: i64 },
    Standing { queue: u32, standing: i64 },
    Queue { queue: u32, settings: QueueSettings },
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    queue: u32,
    who: usize,
    age: i64,
    priority: i32,
    cost: Option<i64>,
    urgent: bool,
    slack: Option<i64>,
}

const QUEUES: u32 = 3;

fn settings() -> impl Strategy<Value = QueueSettings> {
    let job_order = prop_oneof![Just(JobOrder::Fifo), Just(JobOrder::Priority), Just(JobOrder::FairShare), Just(JobOrder::ShortestFirst)];
    (0..3_u32, job_order, prop::option::weighted(0.3, 10..60_i64)).prop_map(|(priority, job_order, patience_ms)| QueueSettings {
        priority,
        job_order,
        patience_ms,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let shape = (
        0..QUEUES,
        0..3_usize,
        0..20_i64,
        -2..3_i32,
        prop::option::of(0..5_i64),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.3, 0..60_i64),
    );
    let shape = shape.prop_map(|(queue, who, age, priority, cost, urgent, slack)| Shape { queue, who, age, priority, cost, urgent, slack });
    prop_oneof![
        8 => (0..24_u64, shape).prop_map(|(id, entry)| Step::Insert { id, entry }),
        2 => (0..24_u64).prop_map(|id| Step::Remove { id }),
        2 => (0..24_u64, any::<bool>()).prop_map(|(id, parked)| Step::Park { id, parked }),
        2 => (0..30_i64).prop_map(|ms| Step::Pass { ms }),
        2 => (0..3_usize, 1..3_i64).prop_map(|(who, amount)| Step::Start { who, amount }),
        1 => (0..QUEUES, 0..3_i64).prop_map(|(queue, standing)| Step::Standing { queue, standing }),
        1 => (0..QUEUES, settings()).prop_map(|(queue, settings)| Step::Queue { queue, settings }),
    ]
}

/// The order by its definition: sort everything.
fn by_definition(order: &Order, world: &World, queues: &BTreeMap<QueueId, (QueueSettings, Standing)>, entries: &[Entry]) -> Vec<WorkId> {
    let within = |one: &Entry, other: &Entry| {
        let settings = queues[&one.queue].0;
        let (first, second) = (order.place(one, settings), order.place(other, settings));
        let fair = match (first.member, second.member) {
            (Some(one), Some(other)) => world.fair.compare(&world.accounts, one, other),
            _ => std::cmp::Ordering::Equal,
        };
        first.class.cmp(&second.class).then(fair).then(first.cmp(&second))
    };
    let mut lines: Vec<Vec<Entry>> =
        (0..QUEUES).map(|queue| entries.iter().filter(|entry| entry.queue.0 == queue).cloned().collect()).collect();
    for line in &mut lines {
        line.sort_by(within);
        line.reverse();
    }
    let mut sorted = Vec::new();
    loop {
        let heads = lines.iter_mut().filter(|line| !line.is_empty());
        let best = heads.min_by_key(|line| {
            let head = line.last().expect("it is not empty");
            let (settings, standing) = queues[&head.queue].clone();
            let class = order.place(head, settings).class;
            let queue = (class != Class::Starved).then_some((Reverse(settings.priority), class, standing));
            (queue, head.created_at, head.id)
        });
        let Some(entry) = best.and_then(Vec::pop) else { return sorted };
        sorted.push(entry.id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_order_kept_is_the_order_sorted_anew(steps in proptest::collection::vec(step(), 1..60), patience_ms in prop::option::weighted(0.3, 20..90_i64)) {
        let mut world = World::new();
        let mut order = Order::new(Settings { patience_ms, pressing_ms: 10 }, 0);
        let mut queues: BTreeMap<QueueId, (QueueSettings, Standing)> = (0..QUEUES).map(|queue| (QueueId(queue), Default::default())).collect();
        let (mut entries, mut parked, mut now) = (BTreeMap::new(), BTreeSet::new(), 0);
        for step in steps {
            match step {
                Step::Insert { id, entry: Shape { queue, who, age, priority, cost, urgent, slack } } => {
                    let entry = Entry {
                        id: WorkId(id),
                        name: Arc::from(""),
                        queue: QueueId(queue),
                        member: world.members[who],
                        created_at: now - age,
                        priority,
                        cost,
                        urgent,
                        latest_start_at: slack.map(|slack| now + slack),
                    };
                    order.insert(entry.clone(), world.shares());
                    entries.insert(id, entry);
                    parked.remove(&id);
                }
                Step::Remove { id } => {
                    prop_assert_eq!(order.remove(WorkId(id), &world.accounts), entries.remove(&id).is_some());
                    parked.remove(&id);
                }
                Step::Park { id, parked: true } if entries.contains_key(&id) => {
                    order.park(WorkId(id), world.shares());
                    parked.insert(id);
                }
                Step::Park { id, .. } => {
                    order.unpark(WorkId(id), world.shares());
                    parked.remove(&id);
                }
                Step::Pass { ms } => {
                    now += ms;
                    order.advance(now, world.shares());
                }
                Step::Start { who, amount } => {
                    world.fair.start(&world.accounts, world.members[who], &cores(amount));
                    order.touch(world.members[who], world.shares());
                }
                Step::Standing { queue, standing } => {
                    let standing: Standing = [standing].into_iter().collect();
                    order.set_standing(QueueId(queue), standing.clone());
                    queues.get_mut(&QueueId(queue)).unwrap().1 = standing;
                }
                Step::Queue { queue, settings } => {
                    order.set_queue(QueueId(queue), settings, world.shares());
                    queues.get_mut(&QueueId(queue)).unwrap().0 = settings;
                }
            }
            let offered: Vec<Entry> = entries.values().filter(|entry| !parked.contains(&entry.id.0)).cloned().collect();
            let expected = by_definition(&order, &world, &queues, &offered);
            prop_assert_eq!(order.next(), expected.first().copied());
            prop_assert_eq!(order.iter().collect::<Vec<_>>(), expected);
            prop_assert_eq!(order.len(), entries.len());
            for queue in queues.keys() {
                let all: Vec<Entry> = entries.values().filter(|entry| entry.queue == *queue).cloned().collect();
                let expected = by_definition(&order, &world, &queues, &all);
                prop_assert_eq!(order.queue(*queue).collect::<Vec<_>>(), expected.clone());
                for (place, id) in expected.into_iter().enumerate() {
                    prop_assert_eq!(order.position(id), Some(place + 1));
                    prop_assert_eq!(order.is_parked(id), parked.contains(&id.0));
                }
            }
        }
        for id in entries.keys() {
            order.remove(WorkId(*id), &world.accounts);
        }
        prop_assert!(order.shared.is_empty() && order.due.is_empty() && order.heads.is_empty());
    }

    /// One workload is served a moment, and at every moment one comes that is better placed in
    /// every way but age. Whoever waits is served once it has waited for the patience and those
    /// before it are through.
    #[test]
    fn nothing_starves(
        policy in prop_oneof![Just(JobOrder::Priority), Just(JobOrder::FairShare), Just(JobOrder::ShortestFirst), Just(JobOrder::Fifo)],
        across in any::<bool>(),
        older in 0..10_u64,
        patience in 1..40_i64,
    ) {
        let mut world = World::new();
        let [ada, _, cyd] = world.members;
        world.fair.start(&world.accounts, ada, &cores(5));
        let mut order = Order::new(Settings { patience_ms: across.then_some(patience), ..Settings::default() }, 0);
        let own = (!across).then_some(patience);
        order.set_queue(FIRST, QueueSettings { patience_ms: own, ..with(policy) }, world.shares());
        order.set_queue(SECOND, QueueSettings { priority: 9, ..with(policy) }, world.shares());
        for id in 0..older {
            order.insert(world.entry(id, FIRST, 0), world.shares());
        }
        let last = WorkId(older);
        order.insert(Entry { priority: -9, cost: None, member: ada, ..world.entry(older, FIRST, 0) }, world.shares());
        let bound = patience + older as i64;
        let mut served_at = None;
        for now in 1..=bound + 1 {
            // Better ones come to the same queue, or to one that is more important.
            let queue = if across { SECOND } else { FIRST };
            let better = Entry { priority: 9, cost: Some(0), urgent: true, member: cyd, ..world.entry(1000 + now as u64, queue, now) };
            order.insert(better, world.shares());
            order.advance(now, world.shares());
            let next = order.next().unwrap();
            order.remove(next, &world.accounts);
            if next == last {
                served_at = Some(now);
            }
        }
        prop_assert!(served_at.is_some_and(|at| at <= bound), "served at {served_at:?}, not by {bound}");
    }
}
