//! Who may have how much, and in what order: a snapshot laid out for [`Admission`] and [`Order`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::account::{AccountId, Accounts, Level, Owner};
use crate::admission::{self, Admission, Blocker, Step};
use crate::engine::{Millis, WorkId};
use crate::fair_share::FairShare;
use crate::limits::Limits;
use crate::order::{Entry, Order, QueueSettings, Settings, Shares};
use crate::queue::{Config, QueueId, Queues, Reason};
use crate::resource::{Demand, ResourceId};
use crate::rules::{Subject, Whom};
use crate::snapshot::{Amounts, Gang, Snapshot};
use crate::table::Table;

/// Averages below this part of a unit are forgotten.
const AVERAGE_MIN: f64 = 1.0;

/// What somebody used on average, by pool, account and resource. It is all that rounds hand on
/// to each other; who keeps it over a restart keeps fair shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// As of when; `None` when nothing was before.
    at: Option<Millis>,
    averages: BTreeMap<(String, Path), Vec<(String, f64)>>,
}

/// The names of an account and of those above it, from the top.
type Path = Vec<(Level, String)>;

/// Titles of the gangs of a snapshot.
pub(crate) struct Titles {
    admission: Admission,
    /// By pool.
    fair: BTreeMap<String, FairShare>,
    owners: HashMap<Whom, Owner>,
    subjects: BTreeMap<AccountId, Subject>,
    now: Millis,
}

impl Titles {
    pub(crate) fn of(snapshot: &Snapshot, table: &mut Table<'_>, past: &Past) -> Self {
        let mut titles = Self {
            admission: Admission::default(),
            fair: BTreeMap::new(),
            owners: HashMap::new(),
            subjects: BTreeMap::new(),
            now: snapshot.now,
        };
        titles.queues(snapshot, table);
        for gang in &snapshot.gangs {
            titles.know(&gang.owner);
        }
        titles.rules(snapshot, table);
        titles.restore(snapshot, table, past);
        titles
    }

    fn queues(&mut self, snapshot: &Snapshot, table: &mut Table<'_>) {
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

    fn rules(&mut self, snapshot: &Snapshot, table: &mut Table<'_>) {
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

    /// Counts what runs.
    fn restore(&mut self, snapshot: &Snapshot, table: &mut Table<'_>, past: &Past) {
        let pool_of: HashMap<&str, &str> = snapshot.queues.iter().map(|queue| (queue.name.as_str(), queue.pool.as_str())).collect();
        let began_at = past.at.unwrap_or(snapshot.now).min(snapshot.now);
        for pool in snapshot.queues.iter().map(|queue| &queue.pool).collect::<BTreeSet<_>>() {
            let half_life_ms = snapshot.pools.iter().find(|one| one.name == *pool).and_then(|one| one.half_life_ms);
            let mut fair = FairShare::new(began_at, half_life_ms);
            let mut capacity = Amounts::new();
            for (name, amount) in snapshot.nodes.iter().filter(|node| node.pool == *pool).flat_map(|node| &node.allocatable) {
                *capacity.entry(name.clone()).or_default() += amount;
            }
            fair.set_capacity(table.limits(&capacity));
            self.fair.insert(pool.clone(), fair);
        }
        for ((pool, path), averages) in &past.averages {
            let (Some(fair), Some(id)) = (self.fair.get_mut(pool), intern(&mut self.admission.accounts, path)) else { continue };
            let averages: Vec<(ResourceId, f64)> =
                averages.iter().filter_map(|(name, average)| Some((table.id(name)?, *average))).collect();
            fair.restore_average(id, &averages, began_at);
        }
        for gang in &snapshot.gangs {
            let demand = table.held(gang);
            let Some((queue, owner)) = self.title(gang).filter(|_| !demand.is_empty()) else { continue };
            self.admission.restore(request(gang, queue, owner, &demand, 0));
            if let Some(fair) = pool_of.get(gang.queue.as_str()).and_then(|pool| self.fair.get_mut(*pool)) {
                fair.start(&self.admission.accounts, owner.member, &demand);
            }
        }
        for fair in self.fair.values_mut() {
            fair.advance(snapshot.now);
        }
    }

    /// What rounds after this one should know.
    pub(crate) fn past(&self, table: &Table<'_>) -> Past {
        let mut past = Past { at: Some(self.now), averages: BTreeMap::new() };
        let accounts = &self.admission.accounts;
        for (pool, fair) in &self.fair {
            for place in 0..accounts.len() {
                let id = AccountId(place as u32);
                let averages = table.resources().filter_map(|(resource, name)| {
                    let average = fair.average(id, resource);
                    (average >= AVERAGE_MIN).then(|| (name.to_owned(), average))
                });
                let averages: Vec<(String, f64)> = averages.collect();
                if !averages.is_empty() {
                    let path = accounts.path_down(id).iter().map(|id| (accounts.level(*id), accounts.name(*id).to_owned())).collect();
                    past.averages.insert((pool.clone(), path), averages);
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
        let Some((queue, owner)) = self.title(gang) else { return };
        if gang.placed.iter().any(|member| member.leaves_at.is_none()) {
            self.admission.quotas.charge(&self.admission.accounts, owner, demand);
            self.admission.queues.charge(queue, demand);
        } else {
            self.admission.restore(request(gang, queue, owner, demand, 0));
        }
        if let Some(fair) = self.fair.get_mut(pool) {
            fair.start(&self.admission.accounts, owner.member, demand);
        }
    }

    /// It, or a part of it, is being stopped.
    pub(crate) fn release(&mut self, pool: &str, gang: &Gang, demand: &Demand, whole: bool) {
        let Some((queue, owner)) = self.title(gang) else { return };
        if whole {
            self.admission.end(request(gang, queue, owner, demand, 0));
        } else {
            self.admission.quotas.release(&self.admission.accounts, owner, demand);
            self.admission.queues.release(queue, demand);
        }
        if let Some(fair) = self.fair.get_mut(pool) {
            fair.end(&self.admission.accounts, owner.member, demand);
        }
    }

    /// Gangs in the order in which they are served.
    pub(crate) fn order<'g>(&self, pool: &str, patience_ms: Option<i64>, gangs: impl Iterator<Item = (WorkId, &'g Gang, i64)>) -> Order {
        let mut order = Order::new(Settings { patience_ms, ..Settings::default() }, self.now);
        let Some(fair) = self.fair.get(pool) else { return order };
        let shares = Shares { accounts: &self.admission.accounts, fair };
        for (id, config) in self.admission.queues.iter() {
            let settings = QueueSettings { priority: config.priority, job_order: config.job_order, patience_ms: config.patience_ms };
            order.set_queue(id, settings, shares);
            order.set_standing(id, self.admission.queues.standing(id));
        }
        for (id, gang, cost) in gangs {
            let Some((queue, owner)) = self.title(gang) else { continue };
            let entry = Entry {
                id,
                queue,
                member: owner.member,
                created_at: gang.created_at,
                priority: gang.priority,
                cost: gang.run_ms.map(|run| run.saturating_mul(cost.max(1))),
                urgent: gang.urgent,
                latest_start_at: gang.deadline_at.map(|deadline| deadline.saturating_sub(gang.run_ms.unwrap_or(0))),
            };
            order.insert(entry, shares);
        }
        order
    }

    /// Moves queues and accounts to where they belong after one of a gang started.
    pub(crate) fn reorder(&self, order: &mut Order, pool: &str, gang: &Gang) {
        let (Some(fair), Some((queue, owner))) = (self.fair.get(pool), self.title(gang)) else { return };
        let shares = Shares { accounts: &self.admission.accounts, fair };
        order.touch(owner.member, shares);
        let top = self.admission.queues.path(queue).last();
        for (id, _) in self.admission.queues.iter() {
            if self.admission.queues.path(id).last() == top {
                order.set_standing(id, self.admission.queues.standing(id));
            }
        }
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.admission.accounts
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
