//! Which of many waiting workloads may start, by their queues alone, when queues lend to each
//! other and claim back.
//!
//! The shapes are those of Kueue's performance tests
//! (<https://github.com/kubernetes-sigs/kueue>, `test/performance/scheduler/configs`): cohorts of
//! queues that are promised 20 units each and may borrow 100, and workloads of 1, 5 and 20 units
//! of rising priority. Workloads come and end in virtual time; measured is what the decisions
//! cost. There each workload also passes through an API server and controllers, in real time, so
//! figures of the two are no comparison of whole systems.
//!
//! Kueue also stops work of lower priority within a queue; here only what is lent is claimed
//! back. What is stopped begins anew.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use fermion_scheduler::account::{AccountId, Accounts, Level, Owner, Refused};
use fermion_scheduler::admission::{Admission, Blocker, Request, Step};
use fermion_scheduler::engine::{Millis, WorkId};
use fermion_scheduler::environment::Environment;
use fermion_scheduler::fair_share::FairShare;
use fermion_scheduler::order::{Entry, Order, QueueSettings, Settings, Shares};
use fermion_scheduler::queue::{Claim, Config, JobOrder, QueueId};
use fermion_scheduler::resource::{Demand, ResourceId};

/// What a queue is promised, and how much it may use.
const PROMISED: i64 = 20;
const LIMIT: i64 = 120;
const CLASSES: usize = 3;
/// Units, and priority, of small, medium and large workloads.
const UNITS: [i64; CLASSES] = [1, 5, 20];
const PRIORITIES: [i32; CLASSES] = [50, 100, 200];

/// Queues, and what comes to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub cohorts: usize,
    /// Of each cohort.
    pub queues: usize,
    /// Of each queue, by class.
    pub counts: [usize; CLASSES],
    /// Time between two of a class in a queue; 0 when all are there from the start.
    pub gap_ms: [Millis; CLASSES],
    pub run_ms: [Millis; CLASSES],
}

impl Shape {
    pub const BASELINE: Self = Self { cohorts: 5, queues: 6, counts: [350, 100, 50], gap_ms: [100, 500, 1200], run_ms: [200, 500, 1000] };
    /// Of Kueue's commit 3aef7a8; the published time is of another state with 1,000 queues.
    pub const LARGE_SCALE: Self = Self { cohorts: 20, queues: 100, counts: [20, 7, 3], gap_ms: [20, 50, 200], run_ms: [50, 100, 200] };
    /// 50,000 workloads that all wait at once in 1,000 queues.
    pub const ALL_AT_ONCE: Self = Self { cohorts: 10, queues: 100, counts: [35, 10, 5], gap_ms: [0; CLASSES], run_ms: [200, 500, 1000] };

    pub fn workloads(&self) -> usize {
        self.cohorts * self.queues * self.counts.iter().sum::<usize>()
    }

    /// How long the work would take at the least, if all units were in use all the time.
    pub fn bound_ms(&self) -> Millis {
        (0..CLASSES).map(|class| self.counts[class] as i64 * UNITS[class] * self.run_ms[class]).sum::<i64>() / PROMISED
    }
}

/// What it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admitted {
    /// Starts, those of stopped work included.
    pub starts: usize,
    /// How often it was asked whether a workload may start.
    pub decisions: usize,
    /// Starts above the queue's guarantee.
    pub borrowed: usize,
    /// Workloads stopped because what was lent was claimed back.
    pub stops: usize,
    /// Virtual time until all had ended.
    pub makespan_ms: Millis,
    /// From submission to the first start on average, by class.
    pub wait_ms: [f64; CLASSES],
    /// What all of it cost.
    pub total: Duration,
    /// What each moment cost (ends, arrivals and all decisions after them), sorted.
    pub moments: Vec<Duration>,
}

#[derive(Clone, Copy)]
struct Workload {
    queue: usize,
    class: usize,
    at: Millis,
    started: bool,
    /// Counts its starts, so that an end that was announced before it was stopped is none.
    start: u32,
}

struct World {
    shape: Shape,
    admission: Admission,
    fair: FairShare,
    order: Order,
    owner: Owner,
    demands: [Demand; CLASSES],
    ids: Vec<QueueId>,
    workloads: Vec<Workload>,
    /// By queue and class, the oldest first. The first of each is offered; the others ask for
    /// the same, so that none of them may start before it.
    waiting: Vec<[VecDeque<usize>; CLASSES]>,
    /// By queue: start and number of what runs.
    running: Vec<BTreeSet<(u64, usize)>>,
    ends: BinaryHeap<Reverse<(Millis, usize, u32)>>,
    /// When each workload that runs was started, in turns.
    turns: Vec<u64>,
    turn: u64,
    now: Millis,
    waited: [i64; CLASSES],
    found: Admitted,
}

/// Runs a shape to its end. `clock` says how much time has passed since some moment.
///
/// # Errors
/// Never for the shapes that are here; what refuses their accounts is passed on.
///
/// # Panics
/// When the shape has more queues than a tree may.
pub fn run(shape: Shape, mut clock: impl FnMut() -> Duration) -> Result<Admitted, Refused> {
    let mut world = World::new(shape)?;
    let mut arrivals: Vec<usize> = (0..world.workloads.len()).collect();
    arrivals.sort_by_key(|number| world.workloads[*number].at);
    let mut arrivals = arrivals.into_iter().peekable();
    let began = clock();
    let mut before = began;
    loop {
        let arrival = arrivals.peek().map(|number| world.workloads[*number].at);
        let end = world.ends.peek().map(|entry| entry.0.0);
        let Some(now) = arrival.into_iter().chain(end).min() else { break };
        world.now = now;
        let mut touched = BTreeSet::new();
        while let Some(&Reverse((at, number, start))) = world.ends.peek()
            && at <= now
        {
            world.ends.pop();
            if world.workloads[number].start == start {
                let queue = world.workloads[number].queue;
                world.leave(number);
                world.workloads[number].start += 1;
                world.found.makespan_ms = now;
                touched.insert(queue / shape.queues);
            }
        }
        while let Some(number) = arrivals.next_if(|number| world.workloads[*number].at <= now) {
            world.submit(number);
        }
        for cohort in touched {
            world.offer_cohort(cohort);
        }
        world.round();
        let after = clock();
        world.found.moments.push(after.saturating_sub(before));
        before = after;
    }
    let mut found = world.found;
    found.total = before.saturating_sub(began);
    found.moments.sort_unstable();
    for (class, waited) in world.waited.iter().enumerate() {
        found.wait_ms[class] = *waited as f64 / (shape.counts[class] * shape.cohorts * shape.queues).max(1) as f64;
    }
    Ok(found)
}

fn request<'a>(shape: &Shape, queue: QueueId, owner: Owner, class: usize, demand: &'a Demand) -> Request<'a> {
    Request {
        queue,
        owner,
        groups: &[],
        environment: Environment::Training,
        demand,
        members: 1,
        priority: PRIORITIES[class],
        run_ms: Some(shape.run_ms[class]),
    }
}

impl World {
    fn new(shape: Shape) -> Result<Self, Refused> {
        let mut accounts = Accounts::default();
        let tenant = accounts.intern(None, Level::Tenant, "tenant")?;
        let project = accounts.intern(Some(tenant), Level::Project, "project")?;
        let member: AccountId = accounts.intern(Some(project), Level::Member, "user")?;
        let owner = Owner { member, person: accounts.intern(None, Level::Person, "user")? };
        let mut admission = Admission { accounts, ..Admission::default() };
        let units = |amount: i64| [(ResourceId::CPU, amount)].into_iter().collect();
        let capacity = (shape.cohorts * shape.queues) as i64 * PROMISED;
        admission.queues.set_capacity([(ResourceId::CPU, capacity)].into_iter().collect());
        let mut ids = Vec::new();
        let mut order = Order::new(Settings::default(), 0);
        let fair = FairShare::new(0, None);
        for cohort in 0..shape.cohorts {
            let all = shape.queues as i64 * PROMISED;
            let config = Config { guaranteed: units(all), limit: units(all), ..Config::new(&format!("cohort-{cohort}")) };
            let parent = admission.queues.add(config).expect("cohorts are promised what there is");
            for queue in 0..shape.queues {
                let (guaranteed, limit) = (units(PROMISED), units(LIMIT.min(all)));
                let config = Config { parent: Some(parent), guaranteed, limit, ..Config::new(&format!("queue-{cohort}-{queue}")) };
                let id = admission.queues.add(config).expect("queues are promised what their cohort is");
                let settings = QueueSettings { job_order: JobOrder::Priority, ..QueueSettings::default() };
                order.set_queue(id, settings, Shares { accounts: &admission.accounts, fair: &fair });
                ids.push(id);
            }
        }
        let mut workloads = Vec::with_capacity(shape.workloads());
        for queue in 0..ids.len() {
            for class in 0..CLASSES {
                let at = |number: usize| number as Millis * shape.gap_ms[class];
                workloads.extend((0..shape.counts[class]).map(|number| Workload {
                    queue,
                    class,
                    at: at(number),
                    started: false,
                    start: 0,
                }));
            }
        }
        Ok(Self {
            shape,
            fair,
            order,
            owner,
            demands: UNITS.map(|amount| [(ResourceId::CPU, amount)].into_iter().collect()),
            waiting: vec![Default::default(); ids.len()],
            running: vec![BTreeSet::new(); ids.len()],
            ids,
            turns: vec![0; workloads.len()],
            workloads,
            ends: BinaryHeap::new(),
            turn: 0,
            now: 0,
            waited: [0; CLASSES],
            admission,
            found: Admitted::default(),
        })
    }

    /// Tells the rules what has become of a workload.
    fn account(&mut self, number: usize, tell: fn(&mut Admission, Request<'_>)) {
        let Workload { queue, class, .. } = self.workloads[number];
        tell(&mut self.admission, request(&self.shape, self.ids[queue], self.owner, class, &self.demands[class]));
    }

    fn submit(&mut self, number: usize) {
        let Workload { queue, class, .. } = self.workloads[number];
        self.account(number, Admission::submit);
        self.waiting[queue][class].push_back(number);
        self.offer(queue, class);
    }

    /// Offers the first of a class in a queue, whether it was tried before or not.
    fn offer(&mut self, queue: usize, class: usize) {
        let shares = Shares { accounts: &self.admission.accounts, fair: &self.fair };
        let Some(&number) = self.waiting[queue][class].front() else { return };
        let id = WorkId(number as u64);
        if self.order.entry(id).is_some() {
            self.order.unpark(id, shares);
            return;
        }
        let entry = Entry {
            id,
            name: std::sync::Arc::from(""),
            queue: self.ids[queue],
            member: self.owner.member,
            created_at: self.workloads[number].at,
            priority: PRIORITIES[class],
            cost: None,
            urgent: false,
            latest_start_at: None,
        };
        self.order.insert(entry, shares);
    }

    /// Something has become free for everyone who lends to each other.
    fn offer_cohort(&mut self, cohort: usize) {
        for queue in cohort * self.shape.queues..(cohort + 1) * self.shape.queues {
            for class in 0..CLASSES {
                self.offer(queue, class);
            }
        }
    }

    /// Starts all that may, in order.
    fn round(&mut self) {
        while let Some(id) = self.order.next() {
            let number = id.0 as usize;
            self.found.decisions += 1;
            let Workload { queue, class, .. } = self.workloads[number];
            let request = request(&self.shape, self.ids[queue], self.owner, class, &self.demands[class]);
            match self.admission.check(Step::Start, request, self.now) {
                Ok(admitted) => {
                    self.found.borrowed += usize::from(!admitted.borrowed.is_empty());
                    self.start(number);
                }
                Err(Blocker::Queue(_)) if self.claim(number) => self.start(number),
                Err(_) => self.order.park(id, Shares { accounts: &self.admission.accounts, fair: &self.fair }),
            }
        }
    }

    fn start(&mut self, number: usize) {
        let Workload { queue, class, at, started, .. } = self.workloads[number];
        self.order.remove(WorkId(number as u64), &self.admission.accounts);
        self.waiting[queue][class].pop_front();
        self.account(number, Admission::start);
        self.order.set_standing(self.ids[queue], self.admission.queues.standing(self.ids[queue]));
        self.turn += 1;
        self.turns[number] = self.turn;
        self.running[queue].insert((self.turn, number));
        self.ends.push(Reverse((self.now + self.shape.run_ms[class], number, self.workloads[number].start)));
        self.found.starts += 1;
        if !started {
            self.workloads[number].started = true;
            self.waited[class] += self.now - at;
        }
        self.offer(queue, class);
    }

    fn leave(&mut self, number: usize) {
        let queue = self.workloads[number].queue;
        self.running[queue].remove(&(self.turns[number], number));
        self.account(number, Admission::end);
        self.order.set_standing(self.ids[queue], self.admission.queues.standing(self.ids[queue]));
    }

    /// Claims back what others borrow of what the workload's queue is promised. Whether there is
    /// room then; if not, nobody was stopped.
    fn claim(&mut self, number: usize) -> bool {
        let Workload { queue, class, .. } = self.workloads[number];
        let Ok(Claim { takings }) = self.admission.queues.claim(self.ids[queue], &self.demands[class]) else { return false };
        for taking in takings {
            let place = self.ids.binary_search(&taking.queue).expect("only queues at the bottom use anything");
            let mut left = taking.amount;
            // The last that started has lost least.
            while left > 0
                && let Some(&(_, victim)) = self.running[place].last()
            {
                left -= UNITS[self.workloads[victim].class];
                self.stop(victim);
            }
        }
        true
    }

    fn stop(&mut self, victim: usize) {
        let Workload { queue, class, .. } = self.workloads[victim];
        self.leave(victim);
        self.found.stops += 1;
        self.workloads[victim].start += 1;
        // It is older than what waits, so it stands before it; what was offered is so no more.
        if let Some(&first) = self.waiting[queue][class].front() {
            self.order.remove(WorkId(first as u64), &self.admission.accounts);
        }
        self.waiting[queue][class].push_front(victim);
        self.account(victim, Admission::submit);
        self.offer(queue, class);
    }
}
