//! Who may have how much, and in what order: a snapshot laid out for [`Admission`] and [`Order`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::account::{AccountId, Accounts, Level, Owner};
use crate::admission::{self, Admission, Blocker, Step};
use crate::engine::{Millis, WorkId};
use crate::environment::Environment;
use crate::fair_share::{FairShare, Usage};
use crate::limits::Limits;
use crate::order::{Entry, Order, Pass, QueueSettings, Settings, Shares};
use crate::planner::World;
use crate::queue::{Config, QueueId, Queues, Reason};
use crate::resource::{Demand, ResourceId};
use crate::rules::{Subject, Whom};
use crate::snapshot::{Amounts, Gang};
use crate::table::Table;

/// Averages below this, in thousandths of a unit, are forgotten: with a half-life of a week a core that was used
/// for a second counts ten times as much, and one that was used for long is remembered some twenty half-lives.
const AVERAGE_MIN: f64 = 1e-4;

/// What rounds hand on to each other: what somebody used on average, by pool, account and
/// resource, and what was usually asked for. Who keeps it over a restart keeps fair shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// As of when; `None` when nothing was before.
    pub(crate) at: Option<Millis>,
    pub(crate) averages: BTreeMap<(String, Path), Vec<(String, f64)>>,
    /// What was usually asked for.
    pub(crate) mix: Vec<NamedShape>,
}

/// What an account used of a pool on average, by resource: thousandths of its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Average {
    pub pool: String,
    /// Its name and those of the accounts above it, from the top.
    pub account: Vec<(Level, String)>,
    pub used: Vec<(String, f64)>,
}

impl Past {
    /// What was kept of averages, as of this moment, in milliseconds since the epoch. Of the rest nothing
    /// is known.
    pub fn of_averages(at: i64, averages: impl IntoIterator<Item = Average>) -> Self {
        let averages = averages.into_iter().map(|one| ((one.pool, one.account), one.used)).collect();
        Self { at: Some(at), averages, mix: Vec::new() }
    }

    /// As of when averages are; `None` when nothing was before.
    pub fn at(&self) -> Option<i64> {
        self.at
    }

    /// Averages of all accounts that used something, by pool and account.
    pub fn averages(&self) -> impl Iterator<Item = Average> + '_ {
        self.averages.iter().map(|((pool, account), used)| Average { pool: pool.clone(), account: account.clone(), used: used.clone() })
    }
}

/// Thousandths of a core, cards, thousandths of each, models (`None` for any), and the part of all
/// requests.
pub(crate) type NamedShape = (i64, u8, u16, Option<Vec<String>>, f64);

/// The names of an account and of those above it, from the top.
pub(crate) type Path = Vec<(Level, String)>;

/// Titles of gangs.
pub(crate) struct Titles {
    admission: Admission,
    /// By pool.
    fair: BTreeMap<String, FairShare>,
    /// Who waits, by pool.
    orders: BTreeMap<String, Order>,
    pool_of: HashMap<String, String>,
    owners: HashMap<Whom, Owner>,
    subjects: BTreeMap<AccountId, Subject>,
    now: Millis,
    /// What the round has changed, the last last, and what shares were before.
    changed: Vec<(Change, Charge)>,
    shares_before: BTreeMap<(String, AccountId), Usage>,
}

/// What somebody has, and for whom it counts.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pool: String,
    queue: QueueId,
    owner: Owner,
    environment: Environment,
    demand: Demand,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// It starts, and counts as one that runs.
    Started,
    Ended,
    /// It has more, or less.
    More,
    Less,
}

impl Charge {
    fn request(&self) -> admission::Request<'_> {
        admission::Request {
            queue: self.queue,
            owner: self.owner,
            groups: &[],
            environment: self.environment,
            demand: &self.demand,
            members: 0,
            priority: 0,
            run_ms: None,
        }
    }
}

impl Titles {
    /// Lays out what is ruled for these people; gangs are still to be counted. Accounts have
    /// their numbers in the order of their names, so that they are the same however often it is
    /// done.
    pub(crate) fn of(world: &World, people: &[&Whom], table: &Table, past: &Past) -> Self {
        let mut titles = Self {
            admission: Admission::default(),
            fair: BTreeMap::new(),
            orders: BTreeMap::new(),
            pool_of: world.queues.iter().map(|queue| (queue.name.clone(), queue.pool.clone())).collect(),
            owners: HashMap::new(),
            subjects: BTreeMap::new(),
            now: world.now,
            changed: Vec::new(),
            shares_before: BTreeMap::new(),
        };
        titles.queues(world, table);
        let mut paths: BTreeSet<Path> = people.iter().map(|whom| whom.path()).collect();
        paths.extend(people.iter().map(|whom| vec![(Level::Person, whom.user.clone())]));
        paths.extend(past.averages.keys().map(|(_, path)| path.clone()));
        for path in &paths {
            _ = intern(&mut titles.admission.accounts, path);
        }
        for whom in people {
            titles.know(whom);
        }
        titles.rules(world, table);
        titles.averages(world, table, past);
        titles
    }

    /// Whether the accounts of these people have their numbers.
    pub(crate) fn knows(&self, whom: &Whom) -> bool {
        self.owners.contains_key(whom)
    }

    fn queues(&mut self, snapshot: &World, table: &Table) {
        let queues = &mut self.admission.queues;
        let mut capacity = Amounts::new();
        for (name, amount) in snapshot.nodes.iter().flat_map(|node| &node.allocatable) {
            *capacity.entry(name.clone()).or_default() += amount;
        }
        queues.set_capacity(table.limits(&capacity));
        let mut left: Vec<&crate::Queue> = snapshot.queues.iter().collect();
        left.sort_by(|a, b| a.name.cmp(&b.name));
        let names: BTreeSet<&str> = left.iter().map(|queue| queue.name.as_str()).collect();
        // Parents first. What hangs under nothing that is there hangs under nothing.
        while !left.is_empty() {
            let ready =
                |queue: &&crate::Queue| queue.parent.as_deref().is_none_or(|parent| queues.id(parent).is_some() || !names.contains(parent));
            let (mut turn, rest): (Vec<_>, Vec<_>) = left.iter().copied().partition(ready);
            left = rest;
            if turn.is_empty() {
                turn = std::mem::take(&mut left);
            }
            for queue in turn {
                let config = Config {
                    parent: queue.parent.as_deref().and_then(|parent| queues.id(parent)),
                    guaranteed: table.limits(&queue.guaranteed),
                    limit: table.limits(&queue.limit),
                    weight: queue.weight.clamp(1, Config::WEIGHT_MAX),
                    priority: queue.priority.min(Config::PRIORITY_MAX),
                    state: queue.state,
                    time_limit_ms: queue.run_ms_max.filter(|limit| *limit > 0),
                    access: queue.access.clone(),
                    job_order: queue.job_order,
                    ..Config::new(&queue.name)
                };
                // Promises were checked when they were made. Should they contradict each other
                // all the same, the queue does without them rather than not be served.
                if queues.add(config.clone()).is_err() {
                    let plain = Config { parent: None, guaranteed: Limits::default(), ..config };
                    _ = queues.add(plain);
                }
            }
        }
    }

    /// The accounts of an owner.
    fn know(&mut self, whom: &Whom) -> Option<Owner> {
        if let Some(owner) = self.owners.get(whom) {
            return Some(*owner);
        }
        let accounts = &mut self.admission.accounts;
        let mut parent = None;
        for (level, name) in whom.path() {
            let id = accounts.intern(parent, level, &name).ok()?;
            let subject = match level {
                Level::Tenant => Subject::Tenant(name),
                Level::Organization => Subject::Organization(name),
                Level::Project => Subject::Project(name),
                Level::Member => Subject::Member { project: whom.project.clone(), user: name },
                Level::Person => Subject::Person(name),
            };
            self.subjects.insert(id, subject);
            parent = Some(id);
        }
        let person = accounts.intern(None, Level::Person, &whom.user).ok()?;
        self.subjects.insert(person, Subject::Person(whom.user.clone()));
        let owner = Owner { member: parent?, person };
        self.owners.insert(whom.clone(), owner);
        Some(owner)
    }

    fn rules(&mut self, snapshot: &World, table: &Table) {
        let mut accounts: BTreeMap<&Subject, Vec<AccountId>> = BTreeMap::new();
        for (id, subject) in &self.subjects {
            accounts.entry(subject).or_default().push(*id);
        }
        let Admission { accounts: tree, quotas, policies, windows, .. } = &mut self.admission;
        // Of several for the same subject the tightest counts.
        let mut ceilings: BTreeMap<&Subject, Amounts> = BTreeMap::new();
        for (subject, amounts) in &snapshot.rules.ceilings {
            let sums = ceilings.entry(subject).or_default();
            for (name, amount) in amounts {
                sums.entry(name.clone()).and_modify(|least| *least = (*least).min(*amount)).or_insert(*amount);
            }
        }
        for (subject, amounts) in ceilings {
            let limits = table.limits(&amounts);
            for id in accounts.get(subject).into_iter().flatten() {
                quotas.set_ceiling(tree, *id, limits.clone());
            }
        }
        for (subject, policy) in &snapshot.rules.policies {
            for id in accounts.get(subject).into_iter().flatten() {
                policies.set(*id, Some(policy.clone()));
            }
        }
        for (name, rule) in &snapshot.rules.windows {
            // Those that are refused were refused when they were made.
            _ = windows.set(name, rule.clone());
        }
    }

    fn averages(&mut self, snapshot: &World, table: &Table, past: &Past) {
        let began_at = past.at.unwrap_or(snapshot.now);
        for pool in snapshot.queues.iter().map(|queue| &queue.pool).collect::<BTreeSet<_>>() {
            let settings = snapshot.pools.iter().find(|one| one.name == *pool);
            let mut fair = FairShare::new(began_at, settings.and_then(|one| one.half_life_ms));
            let mut capacity = Amounts::new();
            for (name, amount) in snapshot.nodes.iter().filter(|node| node.pool == *pool).flat_map(|node| &node.allocatable) {
                *capacity.entry(name.clone()).or_default() += amount;
            }
            fair.set_capacity(table.limits(&capacity));
            let patience_ms = settings.and_then(|one| one.patience_ms);
            let mut order = Order::new(Settings { patience_ms, ..Settings::default() }, began_at.min(snapshot.now));
            let shares = Shares { accounts: &self.admission.accounts, fair: &fair };
            for (id, config) in self.admission.queues.iter() {
                let settings = QueueSettings { priority: config.priority, job_order: config.job_order, patience_ms: config.patience_ms };
                order.set_queue(id, settings, shares);
            }
            self.fair.insert(pool.clone(), fair);
            self.orders.insert(pool.clone(), order);
        }
        for ((pool, path), averages) in &past.averages {
            let (Some(fair), Some(id)) = (self.fair.get_mut(pool), intern(&mut self.admission.accounts, path)) else { continue };
            let averages: Vec<(ResourceId, f64)> =
                averages.iter().filter_map(|(name, average)| Some((table.id(name)?, *average))).collect();
            fair.restore_average(id, &averages, began_at);
        }
    }

    /// Counts what a gang holds; answers it, to be taken back.
    pub(crate) fn hold(&mut self, gang: &Gang, demand: Demand) -> Option<Charge> {
        let (queue, owner) = self.title(gang).filter(|_| !demand.is_empty())?;
        let charge = Charge { pool: self.pool_of.get(&gang.queue)?.clone(), queue, owner, environment: gang.environment, demand };
        self.admission.restore(charge.request());
        if let Some(fair) = self.fair.get_mut(&charge.pool) {
            fair.hold(&self.admission.accounts, owner.member, &charge.demand);
        }
        Some(charge)
    }

    /// Takes back what was counted.
    pub(crate) fn let_go(&mut self, charge: &Charge) {
        self.admission.end(charge.request());
        if let Some(fair) = self.fair.get_mut(&charge.pool) {
            fair.let_go(&self.admission.accounts, charge.owner.member, &charge.demand);
        }
    }

    /// A gang waits for its turn; answers in which pool.
    pub(crate) fn enqueue(&mut self, id: WorkId, name: &Arc<str>, gang: &Gang, cards: i64) -> Option<String> {
        let (queue, owner) = self.title(gang)?;
        let pool = self.pool_of.get(&gang.queue)?;
        let (fair, order) = (self.fair.get(pool)?, self.orders.get_mut(pool)?);
        let entry = Entry {
            id,
            name: Arc::clone(name),
            queue,
            member: owner.member,
            created_at: gang.created_at,
            priority: gang.priority,
            cost: gang.run_ms.map(|run| run.saturating_mul(cards.max(1))),
            urgent: gang.urgent,
            latest_start_at: gang.deadline_at.map(|deadline| deadline.saturating_sub(gang.run_ms.unwrap_or(0))),
        };
        order.insert(entry, Shares { accounts: &self.admission.accounts, fair });
        Some(pool.clone())
    }

    pub(crate) fn dequeue(&mut self, id: WorkId, pool: &str) {
        if let Some(order) = self.orders.get_mut(pool) {
            order.remove(id, &self.admission.accounts);
        }
    }

    /// Goes on to a moment: averages, and who comes after whom.
    pub(crate) fn begin(&mut self, now: Millis, before: Option<Millis>) {
        self.now = now;
        let accounts = &self.admission.accounts;
        for (pool, fair) in &mut self.fair {
            fair.begin_at(before.unwrap_or(now).min(now));
            fair.resume(now, AVERAGE_MIN);
            let shares = Shares { accounts, fair };
            if let Some(order) = self.orders.get_mut(pool) {
                for (id, _) in self.admission.queues.iter() {
                    order.set_standing(id, self.admission.queues.standing(id));
                }
                order.advance(now, shares);
                order.refresh(shares);
            }
        }
    }

    /// Takes back all that the round has changed.
    pub(crate) fn roll_back(&mut self) {
        for (change, charge) in std::mem::take(&mut self.changed).into_iter().rev() {
            let Charge { queue, owner, demand, .. } = &charge;
            let Admission { accounts, quotas, queues, .. } = &mut self.admission;
            match change {
                Change::Started => self.admission.end(charge.request()),
                Change::Ended => self.admission.restore(charge.request()),
                Change::More => {
                    quotas.release(accounts, *owner, demand);
                    queues.release(*queue, demand);
                }
                Change::Less => {
                    quotas.charge(accounts, *owner, demand);
                    queues.charge(*queue, demand);
                }
            }
        }
        for ((pool, account), usage) in std::mem::take(&mut self.shares_before) {
            if let Some(fair) = self.fair.get_mut(&pool) {
                fair.put_back(account, usage);
            }
        }
    }

    /// What rounds after this one should know of averages.
    pub(crate) fn past(&self, table: &Table) -> BTreeMap<(String, Path), Vec<(String, f64)>> {
        let mut past = BTreeMap::new();
        let accounts = &self.admission.accounts;
        for (pool, fair) in &self.fair {
            for place in 0..accounts.len() {
                let id = AccountId(place as u32);
                let averages = fair.averages(id).filter(|(_, average)| *average > 0.0);
                let averages: Vec<(String, f64)> = averages.map(|(resource, average)| (table.name(resource).to_owned(), average)).collect();
                if !averages.is_empty() {
                    let path = accounts.path_down(id).iter().map(|id| (accounts.level(*id), accounts.name(*id).to_owned())).collect();
                    past.insert((pool.clone(), path), averages);
                }
            }
        }
        past
    }

    fn title(&self, gang: &Gang) -> Option<(QueueId, Owner)> {
        Some((self.admission.queues.id(&gang.queue)?, *self.owners.get(&gang.owner)?))
    }

    /// All that is in the way of a start.
    pub(crate) fn blockers(&self, gang: &Gang, demand: &Demand, members: u32) -> Vec<Blocker> {
        let Some((queue, owner)) = self.title(gang) else { return vec![Blocker::QueueNotFound] };
        // What runs already does not start anew: only what it takes in addition is looked at.
        if gang.placed.iter().any(|member| member.leaves_at.is_none()) {
            return self.more(queue, owner, demand);
        }
        let mut found = self.admission.blockers(Step::Start, request(gang, queue, owner, demand, members), self.now);
        found.retain(is_rule);
        found
    }

    fn more(&self, queue: QueueId, owner: Owner, demand: &Demand) -> Vec<Blocker> {
        let state = self.admission.queues.config(queue).state;
        let closed = (!state.starts()).then_some(Blocker::QueueState(state));
        let quotas = self.admission.quotas.shortages(&self.admission.accounts, owner, demand).into_iter().map(Blocker::Quota);
        let queues = self.admission.queues.shortages(queue, demand).into_iter().map(Blocker::Queue);
        closed.into_iter().chain(quotas).chain(queues).filter(is_rule).collect()
    }

    /// What would take a blocker away.
    pub(crate) fn changes(&self, gang: &Gang, demand: &Demand, members: u32, blocker: &Blocker) -> Vec<admission::Change> {
        let Some((queue, owner)) = self.title(gang) else { return Vec::new() };
        self.admission.changes(Step::Start, request(gang, queue, owner, demand, members), self.now, blocker)
    }

    /// It has its places, or they are kept for it.
    pub(crate) fn charge(&mut self, pool: &str, gang: &Gang, demand: &Demand) {
        let more = gang.placed.iter().any(|member| member.leaves_at.is_none());
        let Some(charge) = self.change(pool, gang, demand, if more { Change::More } else { Change::Started }) else { return };
        let Charge { queue, owner, .. } = charge;
        if more {
            self.admission.quotas.charge(&self.admission.accounts, owner, demand);
            self.admission.queues.charge(queue, demand);
        } else {
            self.admission.restore(charge.request());
        }
        if let Some(fair) = self.fair.get_mut(pool) {
            fair.start(&self.admission.accounts, owner.member, demand);
        }
    }

    /// It, or a part of it, is being stopped.
    pub(crate) fn release(&mut self, pool: &str, gang: &Gang, demand: &Demand, whole: bool) {
        let Some(charge) = self.change(pool, gang, demand, if whole { Change::Ended } else { Change::Less }) else { return };
        let Charge { queue, owner, .. } = charge;
        if whole {
            self.admission.end(charge.request());
        } else {
            self.admission.quotas.release(&self.admission.accounts, owner, demand);
            self.admission.queues.release(queue, demand);
        }
        if let Some(fair) = self.fair.get_mut(pool) {
            fair.end(&self.admission.accounts, owner.member, demand);
        }
    }

    /// Takes note of a change of the round, to take it back when the round is over.
    fn change(&mut self, pool: &str, gang: &Gang, demand: &Demand, change: Change) -> Option<Charge> {
        let (queue, owner) = self.title(gang)?;
        let charge = Charge { pool: pool.to_owned(), queue, owner, environment: gang.environment, demand: demand.clone() };
        self.changed.push((change, charge.clone()));
        if let Some(fair) = self.fair.get_mut(pool) {
            for account in self.admission.accounts.path(owner.member) {
                self.shares_before.entry((pool.to_owned(), account)).or_insert_with(|| fair.usage(account));
            }
        }
        Some(charge)
    }

    /// Who waits in a pool, in order. The order itself is handed out, to be put back, so that
    /// titles may change meanwhile.
    pub(crate) fn take_order(&mut self, pool: &str) -> Order {
        self.orders.get_mut(pool).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn put_order(&mut self, pool: &str, order: Order) {
        if let Some(place) = self.orders.get_mut(pool) {
            *place = order;
        }
    }

    /// Pools in which anybody waits.
    pub(crate) fn pools_waiting(&self) -> Vec<String> {
        self.orders.iter().filter(|(_, order)| !order.is_empty()).map(|(pool, _)| pool.clone()).collect()
    }

    /// Takes who is next.
    pub(crate) fn next(&self, pass: &mut Pass<'_>, pool: &str) -> Option<WorkId> {
        pass.next(Shares { accounts: &self.admission.accounts, fair: self.fair.get(pool)? })
    }

    /// Brings queues up to date before a pass, once claims were served.
    pub(crate) fn settle_order(&self, order: &mut Order, pool: &str) {
        let Some(fair) = self.fair.get(pool) else { return };
        for (id, _) in self.admission.queues.iter() {
            order.set_standing(id, self.admission.queues.standing(id));
        }
        order.refresh(Shares { accounts: &self.admission.accounts, fair });
    }

    /// Moves queues and accounts to where they belong after one of a gang started.
    pub(crate) fn reorder(&self, pass: &mut Pass<'_>, pool: &str, gang: &Gang) {
        let (Some(fair), Some((queue, owner))) = (self.fair.get(pool), self.title(gang)) else { return };
        pass.touch(owner.member, Shares { accounts: &self.admission.accounts, fair });
        let top = self.admission.queues.path(queue).last();
        for (id, _) in self.admission.queues.iter() {
            if self.admission.queues.path(id).last() == top {
                pass.set_standing(id, self.admission.queues.standing(id));
            }
        }
    }

    pub(crate) fn queue_tree(&self) -> &Queues {
        &self.admission.queues
    }

    pub(crate) fn queue(&self, gang: &Gang) -> Option<QueueId> {
        self.admission.queues.id(&gang.queue)
    }

    pub(crate) fn subject(&self, id: AccountId) -> Option<&Subject> {
        self.subjects.get(&id)
    }
}

/// Whether it is more than the want of room, which is found node by node.
fn is_rule(blocker: &Blocker) -> bool {
    !matches!(blocker, Blocker::Queue(shortage) if shortage.reason == Reason::NothingToBorrow)
}

fn intern(accounts: &mut Accounts, path: &Path) -> Option<AccountId> {
    let mut parent = None;
    for (level, name) in path {
        parent = Some(accounts.intern(parent, *level, name).ok()?);
    }
    parent
}

fn request<'a>(gang: &'a Gang, queue: QueueId, owner: Owner, demand: &'a Demand, members: u32) -> admission::Request<'a> {
    admission::Request {
        queue,
        owner,
        groups: &gang.owner.groups,
        environment: gang.environment,
        demand,
        members,
        priority: gang.priority,
        // How long it is expected to run is no promise; limits were looked at on submission.
        run_ms: None,
    }
}
