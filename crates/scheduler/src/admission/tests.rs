use proptest::prelude::*;

use super::*;
use crate::account::{AccountId, Level};
use crate::entitlement::{Approval, SpecialSpec, Subject, Ticket, Validity};
use crate::limits::Limits;
use crate::policy::{Policy, Rule};
use crate::queue::{Access, Config, Reason};
use crate::window::{self, Days, Span, Subjects, Zone};

const GPU: ResourceId = ResourceId(4);
const RESOURCES: [ResourceId; 2] = [ResourceId::CPU, GPU];
const HOUR: i64 = 3_600_000;
const FOREVER: Validity = Validity { from_at: i64::MIN, until_at: None };

/// A workload that runs or asks, with what a request borrows.
#[derive(Clone, Debug)]
struct Work {
    queue: QueueId,
    owner: Owner,
    groups: Vec<String>,
    environment: Environment,
    demand: Demand,
    members: u32,
    priority: i32,
    run_ms: Option<i64>,
}

impl Work {
    fn request(&self) -> Request<'_> {
        Request {
            queue: self.queue,
            owner: self.owner,
            groups: &self.groups,
            environment: self.environment,
            demand: &self.demand,
            members: self.members,
            priority: self.priority,
            run_ms: self.run_ms,
        }
    }
}

/// Rules, and what runs and waits under them.
#[derive(Clone, Debug)]
struct World {
    admission: Admission,
    now: i64,
    running: Vec<Work>,
    waiting: Vec<Work>,
    asks: Work,
    step: Step,
}

fn amounts(pairs: [Option<i64>; 2]) -> Limits {
    RESOURCES.into_iter().zip(pairs).filter_map(|(resource, amount)| Some((resource, amount?))).collect()
}

fn raised(limits: &Limits, resource: ResourceId, by: i64) -> Limits {
    let mut limits = limits.clone();
    limits.set(resource, limits.get(resource).map(|amount| amount + by));
    limits
}

fn hours(environment: Environment, spans: Vec<Span>) -> window::Rule {
    let mut rule = window::Rule {
        subjects: Subjects { everyone: true, ..Subjects::default() },
        zone: Zone::fixed(0).unwrap(),
        spans: Default::default(),
    };
    rule.spans[environment.place()] = spans;
    rule
}

impl World {
    /// Queues `a` (0) over `a/x` (1) and `a/y` (2), and `b` (3); users ada and bob in project p
    /// of tenant t.
    fn new() -> Self {
        let mut admission = Admission::default();
        for (name, parent) in [("a", None), ("x", Some(QueueId(0))), ("y", Some(QueueId(0))), ("b", None)] {
            admission.queues.add(Config { parent, ..Config::new(name) }).unwrap();
        }
        let owner = owner(&mut admission.accounts, "ada");
        let asks = Work {
            queue: QueueId(1),
            owner,
            groups: vec!["lab".to_owned()],
            environment: Environment::Training,
            demand: [(ResourceId::CPU, 3), (GPU, 2)].into_iter().collect(),
            members: 2,
            priority: 5,
            run_ms: Some(10),
        };
        Self { admission, now: 12 * HOUR, running: Vec::new(), waiting: Vec::new(), asks, step: Step::Start }
    }

    fn blockers(&self) -> Vec<Blocker> {
        let blockers = self.admission.blockers(self.step, self.asks.request(), self.now);
        let check = self.admission.check(self.step, self.asks.request(), self.now);
        assert_eq!(check.err().as_ref(), blockers.first());
        blockers
    }

    fn changes(&self, blocker: &Blocker) -> Vec<Change> {
        self.admission.changes(self.step, self.asks.request(), self.now, blocker)
    }

    fn run(&mut self, work: Work) {
        self.admission.submit(work.request());
        self.admission.start(work.request());
        self.running.push(work);
    }

    fn wait(&mut self, work: Work) {
        self.admission.submit(work.request());
        self.waiting.push(work);
    }

    fn configure(&mut self, queue: QueueId, change: impl FnOnce(&mut Config)) {
        let mut config = self.admission.queues.config(queue).clone();
        change(&mut config);
        self.admission.queues.change(queue, config).unwrap();
    }

    fn policy(&mut self, account: AccountId, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.admission.policies.policy(&self.admission.accounts, account).cloned().unwrap_or_default();
        change(&mut policy);
        self.admission.policies.set(account, Some(policy));
    }

    /// Lets running workloads of some give back an amount.
    fn give_back(&mut self, resource: ResourceId, amount: i64, of: impl Fn(&Admission, &Work) -> bool) {
        let mut left = amount;
        for place in 0..self.running.len() {
            let taken = self.running[place].demand.get(resource).min(left);
            if taken == 0 || !of(&self.admission, &self.running[place]) {
                continue;
            }
            left -= taken;
            self.admission.end(self.running[place].request());
            let demand = &self.running[place].demand;
            let less = demand.iter().map(|(other, held)| (other, if other == resource { held - taken } else { held })).collect();
            self.running[place].demand = less;
            self.admission.restore(self.running[place].request());
        }
        assert_eq!(left, 0, "there is less to end than was said");
    }

    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::SetState { queue, state } => self.configure(queue, |config| config.state = state),
            Change::Allow { queue } => self.configure(queue, |config| config.access.users.extend(["ada".to_owned()])),
            Change::RaiseTimeLimit { queue, to_ms } => self.configure(queue, |config| config.time_limit_ms = Some(to_ms)),
            Change::RaisePolicy { account, rule, to } => self.policy(account, |policy| match rule {
                Rule::Running { environment: None, .. } => policy.running_max = Some(to as u32),
                Rule::Running { environment: Some(environment), .. } => policy.running_max_of[environment.place()] = Some(to as u32),
                Rule::Pending { .. } => policy.pending_max = Some(to as u32),
                Rule::PendingDemand { resource, .. } => policy.pending_demand_max.set(resource, Some(to)),
                Rule::Priority { .. } => policy.priority_max = Some(to as i32),
                Rule::Members { .. } => policy.members_max = Some(to as u32),
                Rule::RunTime { .. } => policy.run_ms_max = Some(to),
            }),
            Change::EndOne { account, environment } => {
                let accounts = &self.admission.accounts;
                let matches = |work: &Work| {
                    work.owner.accounts(accounts).any(|id| id == account) && environment.is_none_or(|kind| kind == work.environment)
                };
                let place = self.running.iter().position(matches).expect("one runs, it was said");
                let work = self.running.remove(place);
                self.admission.end(work.request());
            }
            Change::WithdrawOne { account } => {
                let accounts = &self.admission.accounts;
                let place = self.waiting.iter().position(|work| work.owner.accounts(accounts).any(|id| id == account));
                let work = self.waiting.remove(place.expect("one waits, it was said"));
                self.admission.withdraw(work.request());
            }
            Change::AskRunTime { at_most_ms } => self.asks.run_ms = Some(at_most_ms),
            Change::AskPriority { at_most } => self.asks.priority = at_most,
            Change::AskMembers { at_most } => self.asks.members = at_most,
            Change::AskLess { resource, by } => {
                let demand = self.asks.demand.iter();
                self.asks.demand = demand.map(|(other, asked)| (other, if other == resource { asked - by } else { asked })).collect();
            }
            Change::WaitUntil { at } => self.now = at,
            Change::OpenWindow { rule } => {
                assert_eq!(rule, "hours");
                let always = Span::Weekly { days: Days::ALL, from_minute: 0, until_minute: 0 };
                self.admission.windows.set(&rule, hours(Environment::Training, vec![always])).unwrap();
            }
            Change::RaiseEntitlement { resource, by } => {
                let demand: Demand = [(resource, by)].into_iter().collect();
                let approved = Some(Approval { amounts: demand.clone(), validity: FOREVER });
                let ticket = Ticket { subject: Subject::User("ada".into()), requested: demand, approved, enabled: true };
                let names = (0..).map(|number| format!("more-{number}"));
                let free = names.into_iter().find(|name| self.admission.entitlements.ticket(name).is_none());
                self.admission.entitlements.set_ticket(&free.expect("numbers do not end"), ticket);
            }
            Change::RaiseCeiling { account, resource, by } => {
                let ceiling = raised(self.admission.quotas.ceiling(account).unwrap(), resource, by);
                self.admission.quotas.set_ceiling(&self.admission.accounts, account, ceiling);
            }
            Change::RaiseLimit { queue, resource, by } => {
                self.configure(queue, |config| config.limit = raised(&config.limit, resource, by));
            }
            Change::AllowBorrowing { queue } => self.configure(queue, |config| config.borrows = true),
            Change::AddCapacity { resource, by } => {
                let capacity = raised(self.admission.queues.capacity(), resource, by);
                self.admission.queues.set_capacity(capacity);
            }
            Change::EndUse { whose: Whose::Account(account), resource, amount } => {
                self.give_back(resource, amount, |admission, work| work.owner.accounts(&admission.accounts).any(|id| id == account));
            }
            Change::EndUse { whose: Whose::Queue(queue), resource, amount } => {
                self.give_back(resource, amount, |admission, work| admission.queues.path(work.queue).any(|id| id == queue));
            }
            Change::EndUse { whose: Whose::JustQueue(queue), resource, amount } => {
                self.give_back(resource, amount, |_, work| work.queue == queue);
            }
            Change::Reclaim { takings } => {
                for taking in takings {
                    self.give_back(taking.resource, taking.amount, |_, work| work.queue == taking.queue);
                }
            }
        }
    }
}

fn owner(accounts: &mut Accounts, user: &str) -> Owner {
    let tenant = accounts.intern(None, Level::Tenant, "t").unwrap();
    let project = accounts.intern(Some(tenant), Level::Project, "p").unwrap();
    let member = accounts.intern(Some(project), Level::Member, user).unwrap();
    Owner { member, person: accounts.intern(None, Level::Person, user).unwrap() }
}

/// Which constraint it is, without how much is missing.
fn constraint(blocker: &Blocker) -> String {
    match blocker {
        Blocker::Policy(Breach { account, rule }) => {
            let rule = match rule {
                Rule::Running { environment, .. } => format!("running {environment:?}"),
                Rule::PendingDemand { resource, .. } => format!("pending {resource:?}"),
                other => format!("{:?}", std::mem::discriminant(other)),
            };
            format!("policy {account:?} {rule}")
        }
        Blocker::Entitlement(shortage) => format!("entitlement {:?}", shortage.resource),
        Blocker::Quota(shortage) => format!("quota {:?} {:?}", shortage.account, shortage.resource),
        Blocker::Queue(shortage) => format!("queue {:?} {:?}", shortage.reason, shortage.resource),
        other => format!("{:?}", std::mem::discriminant(other)),
    }
}

/// The same world without that constraint at all.
fn lifted(world: &World, blocker: &Blocker) -> World {
    let mut world = world.clone();
    let queue = world.asks.queue;
    match blocker {
        Blocker::QueueNotFound => panic!("all queues exist here"),
        Blocker::QueueState(_) => world.configure(queue, |config| config.state = State::Up),
        Blocker::NotAllowed => world.configure(queue, |config| config.access = Access::default()),
        Blocker::TimeLimit { .. } => world.configure(queue, |config| config.time_limit_ms = None),
        Blocker::Policy(Breach { account, rule }) => world.policy(*account, |policy| match rule {
            Rule::Running { environment: None, .. } => policy.running_max = None,
            Rule::Running { environment: Some(environment), .. } => policy.running_max_of[environment.place()] = None,
            Rule::Pending { .. } => policy.pending_max = None,
            Rule::PendingDemand { resource, .. } => policy.pending_demand_max.set(*resource, None),
            Rule::Priority { .. } => policy.priority_max = None,
            Rule::Members { .. } => policy.members_max = None,
            Rule::RunTime { .. } => policy.run_ms_max = None,
        }),
        Blocker::Window { .. } => assert!(world.admission.windows.remove("hours")),
        Blocker::Entitlement(_) => world.apply(&Change::RaiseEntitlement { resource: blocker.resource().unwrap(), by: 1000 }),
        Blocker::Quota(shortage) => {
            let mut ceiling = world.admission.quotas.ceiling(shortage.account).unwrap().clone();
            ceiling.set(shortage.resource, None);
            world.admission.quotas.set_ceiling(&world.admission.accounts, shortage.account, ceiling);
        }
        Blocker::Queue(shortage) => match shortage.reason {
            Reason::Limit(limited) => world.configure(limited, |config| config.limit.set(shortage.resource, None)),
            Reason::MayNotBorrow(held) => world.configure(held, |config| config.borrows = true),
            Reason::NothingToBorrow => {
                let mut capacity = world.admission.queues.capacity().clone();
                capacity.set(shortage.resource, None);
                world.admission.queues.set_capacity(capacity);
            }
        },
    }
    world
}

#[test]
fn a_workload_without_rules_is_admitted() {
    let world = World::new();
    for step in [Step::Submit, Step::Start] {
        let admitted = world.admission.check(step, world.asks.request(), world.now).unwrap();
        assert_eq!((admitted.borrowed, admitted.run_ms_max, admitted.idle_ms_max), (world.asks.demand.clone(), Some(10), None));
    }
}

#[test]
fn each_state_of_the_queue_answers_submit_and_start() {
    let table = [(State::Up, true, true), (State::Down, true, false), (State::Drain, false, true), (State::Inactive, false, false)];
    for (state, submit, start) in table {
        let mut world = World::new();
        world.configure(QueueId(1), |config| config.state = state);
        for (step, may) in [(Step::Submit, submit), (Step::Start, start)] {
            let answer = world.admission.check(step, world.asks.request(), world.now);
            assert_eq!(answer.err(), (!may).then_some(Blocker::QueueState(state)), "{state:?} {step:?}");
        }
    }
}

#[test]
fn the_tightest_of_all_lifetimes_holds() {
    let mut world = World::new();
    world.asks.run_ms = None;
    let person = world.asks.owner.person;
    world.policy(person, |policy| (policy.run_ms_max, policy.idle_ms_max) = (Some(50), Some(7)));
    world.configure(QueueId(1), |config| config.time_limit_ms = Some(40));
    let admitted = world.admission.check(Step::Start, world.asks.request(), world.now).unwrap();
    assert_eq!((admitted.run_ms_max, admitted.idle_ms_max), (Some(40), Some(7)));
}

#[test]
fn a_queue_that_does_not_exist_has_no_way_out() {
    let mut world = World::new();
    world.asks.queue = QueueId(9);
    assert_eq!(world.blockers(), [Blocker::QueueNotFound]);
    assert_eq!(world.changes(&Blocker::QueueNotFound), []);
}

fn two(max: i64) -> impl Strategy<Value = [Option<i64>; 2]> {
    proptest::array::uniform2(prop::option::weighted(0.4, 0..=max))
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![5 => Just(State::Up), 1 => Just(State::Down), 1 => Just(State::Drain), 1 => Just(State::Inactive)]
}

fn config() -> impl Strategy<Value = Config> {
    let flags =
        (prop::bool::weighted(0.7), prop::bool::weighted(0.7), state(), prop::bool::weighted(0.2), prop::option::weighted(0.3, 5..15_i64));
    (two(3), two(8), flags).prop_map(|(guaranteed, limit, (borrows, lends, state, closed, time_limit_ms))| {
        let mut access = Access::default();
        if closed {
            access.users.insert("bob".to_owned());
        }
        let (guaranteed, limit) = (amounts(guaranteed), amounts(limit));
        Config { guaranteed, limit, borrows, lends, state, time_limit_ms, access, ..Config::new("") }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let count = || prop::option::weighted(0.25, 0..3_u32);
    (count(), count(), count(), two(8), prop::option::weighted(0.3, 3..7_i32), count(), prop::option::weighted(0.3, 5..15_i64)).prop_map(
        |(running_max, training_max, pending_max, pending, priority_max, members_max, run_ms_max)| Policy {
            running_max,
            running_max_of: [None, training_max, None, None],
            pending_max,
            pending_demand_max: amounts(pending),
            priority_max,
            members_max,
            run_ms_max,
            idle_ms_max: None,
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let work = (0..4_u32, any::<bool>(), any::<bool>(), proptest::array::uniform2(0..4_i64));
    let rules =
        (two(12), proptest::collection::vec(config(), 4), proptest::collection::vec(policy(), 2), proptest::collection::vec(two(9), 3));
    let tiers =
        (two(6), prop::option::of(two(6)), prop::option::of((two(4), -2..3_i64)), prop::option::weighted(0.3, (0..24_u16, 0..24_u16)));
    let works = (proptest::collection::vec(work.clone(), 0..5), proptest::collection::vec(work, 0..3));
    (rules, tiers, works, any::<bool>()).prop_map(
        |((capacity, configs, policies, ceilings), (default, special, ticket, window), works, submits)| {
            let mut world = World::new();
            world.step = if submits { Step::Submit } else { Step::Start };
            let bob = owner(&mut world.admission.accounts, "bob");
            world.admission.queues.set_capacity(amounts(capacity));
            for (place, config) in configs.into_iter().enumerate() {
                let id = QueueId(place as u32);
                let Config { name, parent, .. } = world.admission.queues.config(id).clone();
                // What promises too much is refused, and the queue stays as it was.
                let _refused = world.admission.queues.change(id, Config { name, parent, ..config });
            }
            let ada = world.asks.owner;
            let project = world.admission.accounts.parent(ada.member).unwrap();
            for (account, policy) in [project, ada.person].into_iter().zip(policies) {
                world.admission.policies.set(account, Some(policy));
            }
            for (account, ceiling) in [project, ada.member, ada.person].into_iter().zip(ceilings) {
                world.admission.quotas.set_ceiling(&world.admission.accounts, account, amounts(ceiling));
            }
            world.admission.entitlements.set_default(amounts(default));
            if let Some(special) = special {
                let groups = ["lab".to_owned()].into();
                let spec = SpecialSpec { users: Default::default(), groups, amounts: amounts(special), validity: FOREVER, enabled: true };
                world.admission.entitlements.set_special("s", spec);
            }
            if let Some((more, from)) = ticket {
                let demand: Demand = amounts(more).iter().collect();
                let validity = Validity { from_at: world.now + from, until_at: Some(world.now + from + 2) };
                let approved = Some(Approval { amounts: demand.clone(), validity });
                let ticket = Ticket { subject: Subject::User("ada".into()), requested: demand, approved, enabled: true };
                world.admission.entitlements.set_ticket("t", ticket);
            }
            if let Some((from, until)) = window {
                let span = Span::Weekly { days: Days::WORKING, from_minute: from * 60, until_minute: until * 60 };
                world.admission.windows.set("hours", hours(Environment::Training, vec![span])).unwrap();
            }
            let template = world.asks.clone();
            let work = |(queue, is_bob, trains, demand): (u32, bool, bool, [i64; 2])| Work {
                queue: QueueId(queue),
                owner: if is_bob { bob } else { ada },
                environment: if trains { Environment::Training } else { Environment::Development },
                demand: RESOURCES.into_iter().zip(demand).collect(),
                ..template.clone()
            };
            works.0.into_iter().map(work).for_each(|work| world.run(work));
            works.1.into_iter().map(work).for_each(|work| world.wait(work));
            world
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_blocker_truly_blocks_and_nothing_else_is_blamed_for_it(world in world()) {
        let before = world.blockers();
        for blocker in &before {
            let after: Vec<String> = lifted(&world, blocker).blockers().iter().map(constraint).collect();
            let expected: Vec<String> = before.iter().filter(|other| *other != blocker).map(constraint).collect();
            // What may be borrowed may turn out not to be there.
            let borrows = matches!(blocker, Blocker::Queue(queue::Shortage { reason: Reason::MayNotBorrow(_), .. }));
            let after: Vec<String> = after.into_iter().filter(|other| !borrows || expected.contains(other)).collect();
            let expected: Vec<String> = expected.into_iter().filter(|other| !borrows || after.contains(other)).collect();
            prop_assert_eq!(after, expected, "without {:?}", blocker);
        }
    }

    #[test]
    fn each_change_alone_takes_its_blocker_away_and_is_no_larger_than_it_must_be(world in world()) {
        for blocker in world.blockers() {
            let changes = world.changes(&blocker);
            prop_assert!(!changes.is_empty(), "no way out of {:?}", blocker);
            for change in changes {
                let blocks = |change: &Change| {
                    let mut after = world.clone();
                    after.apply(change);
                    after.blockers().iter().any(|other| constraint(other) == constraint(&blocker))
                };
                prop_assert!(!blocks(&change), "{:?} does not take {:?} away", change, blocker);
                let smaller = match change.clone() {
                    Change::RaiseTimeLimit { queue, to_ms } => Change::RaiseTimeLimit { queue, to_ms: to_ms - 1 },
                    Change::RaisePolicy { account, rule, to } => Change::RaisePolicy { account, rule, to: to - 1 },
                    Change::AskRunTime { at_most_ms } => Change::AskRunTime { at_most_ms: at_most_ms + 1 },
                    Change::AskPriority { at_most } => Change::AskPriority { at_most: at_most + 1 },
                    Change::AskMembers { at_most } => Change::AskMembers { at_most: at_most + 1 },
                    Change::WaitUntil { at } => Change::WaitUntil { at: at - 1 },
                    Change::AskLess { resource, by } => Change::AskLess { resource, by: by - 1 },
                    Change::RaiseEntitlement { resource, by } if by > 1 => Change::RaiseEntitlement { resource, by: by - 1 },
                    Change::RaiseCeiling { account, resource, by } => Change::RaiseCeiling { account, resource, by: by - 1 },
                    Change::RaiseLimit { queue, resource, by } => Change::RaiseLimit { queue, resource, by: by - 1 },
                    Change::AddCapacity { resource, by } => Change::AddCapacity { resource, by: by - 1 },
                    Change::EndUse { whose, resource, amount } => Change::EndUse { whose, resource, amount: amount - 1 },
                    _ => continue,
                };
                prop_assert!(blocks(&smaller), "{:?} would do for {:?}, {:?} is more", smaller, blocker, change);
            }
        }
    }

    /// By what an administrator can do, everything that is in the way is taken away in the end.
    #[test]
    fn all_blockers_taken_away_admit(world in world()) {
        let mut world = world;
        for round in 0.. {
            let Some(blocker) = world.blockers().first().cloned() else { break };
            prop_assert!(round < 50, "{:?} comes back", blocker);
            let changes = world.changes(&blocker);
            world.apply(changes.last().unwrap());
        }
        prop_assert!(world.admission.check(world.step, world.asks.request(), world.now).is_ok());
        // It is charged everywhere at once, and given back the same way.
        if world.step == Step::Start {
            let sums = |world: &World| {
                let queues = (0..4).map(|queue| world.admission.queues.used(QueueId(queue)).clone());
                let accounts = (0..world.admission.accounts.len() as u32).map(AccountId);
                let used = accounts.flat_map(|id| RESOURCES.map(|resource| world.admission.quotas.used(id, resource)));
                (queues.collect::<Vec<_>>(), used.collect::<Vec<_>>())
            };
            let before = sums(&world);
            world.run(world.asks.clone());
            prop_assert!(sums(&world) != before);
            let work = world.running.pop().unwrap();
            world.admission.end(work.request());
            prop_assert_eq!(sums(&world), before);
        }
    }
}
