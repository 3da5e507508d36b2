//! The tree of queues of one pool: who is promised how much, who may use more, and who has to
//! give it back.
//!
//! A queue is promised its *guarantee*; where it states none for a resource, it is promised what
//! its children are promised together. Nobody's children are promised more than itself. What is
//! promised and not used may be borrowed by others, unless the queue does not lend: then it
//! *draws* its guarantee from its parent whether it uses it or not. What is used above the
//! guarantee is borrowed, up to the queue's *limit*, and may be claimed back (`reclaim`) by a
//! queue that is still within its guarantee.
//!
//! The top of the tree is the pool, and its capacity is told by [`Queues::set_capacity`]; where
//! it is not told, there is always something left to borrow. Nodes come and go, so capacity may
//! fall below what was promised; promises are not refused for that.
//!
//! Sums are kept in every queue for all below it, so [`Queues::fits`], [`Queues::charge`] and
//! [`Queues::release`] cost the depth times the resources asked for. Sources: the sums follow
//! Kueue's cohorts with `lendingLimit`, the claims the capacity scheduler of YARN and Kueue's
//! `reclaimWithinCohort`.

mod oversubscribe;
mod reclaim;
mod share;
mod state;

use std::collections::{BTreeSet, HashMap};

use crate::limits::Limits;
use crate::resource::{ResourceId, Vector};

pub use oversubscribe::{Activity, Mode, Occupant, OverSubscribe, Refused as OverSubscribeRefused};
pub use reclaim::{Claim, NoClaim, Taking};
pub use share::{Reason, Shortage, Standing};
pub use state::State;

/// The place of a queue in [`Queues`]. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

impl QueueId {
    fn place(self) -> usize {
        self.0 as usize
    }
}

/// How a queue orders its own workloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JobOrder {
    /// By creation.
    #[default]
    Fifo,
    /// Higher priority first, then by creation.
    Priority,
    /// First those whose tenant, then project, then user had least of what is theirs.
    FairShare,
    /// Lower cost first, unknown cost last. What cost is (expected run time, or that times the
    /// cards) is for the caller to say.
    ShortestFirst,
}

/// Who may use a queue: everyone, if nobody is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub users: BTreeSet<String>,
    pub groups: BTreeSet<String>,
}

impl Access {
    pub fn allows(&self, user: &str, groups: &[String]) -> bool {
        let everyone = self.users.is_empty() && self.groups.is_empty();
        everyone || self.users.contains(user) || groups.iter().any(|group| self.groups.contains(group))
    }
}

/// What is said of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub parent: Option<QueueId>,
    /// What it can always have back. A resource that is not named is promised as far as the
    /// queue's children are promised it.
    pub guaranteed: Limits,
    /// What it never goes beyond. A resource that is not named has no limit.
    pub limit: Limits,
    /// Whether it may use more than its guarantee, in the resources it names a guarantee for.
    pub borrows: bool,
    /// Whether others may use what it leaves of its guarantee.
    pub lends: bool,
    /// How much of what is to be borrowed it should get beside its siblings; at least 1.
    pub weight: u32,
    /// Workloads of a queue of higher priority go before all of a lower one's. At most
    /// [`Config::PRIORITY_MAX`].
    pub priority: u32,
    pub state: State,
    /// The longest a workload may run; `None` is without limit.
    pub time_limit_ms: Option<i64>,
    pub access: Access,
    /// Whether workloads that name no queue go here.
    pub is_default: bool,
    pub oversubscribe: OverSubscribe,
    pub job_order: JobOrder,
    /// A workload that waited this long goes before all others of the queue, so that none waits
    /// for ever behind better placed ones; `None` never.
    pub patience_ms: Option<i64>,
}

impl Config {
    pub const PRIORITY_MAX: u32 = 65_533;
    pub const WEIGHT_MAX: u32 = 1_000_000;

    /// A queue that is up, open to everyone and free to borrow and lend, with no promise.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            parent: None,
            guaranteed: Limits::default(),
            limit: Limits::default(),
            borrows: true,
            lends: true,
            weight: 1,
            priority: 0,
            state: State::default(),
            time_limit_ms: None,
            access: Access::default(),
            is_default: false,
            oversubscribe: OverSubscribe::default(),
            job_order: JobOrder::default(),
            patience_ms: None,
        }
    }
}

/// Why the tree stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is a queue of this name already; choose another")]
    NameTaken,
    #[error("priority must be at most {}", Config::PRIORITY_MAX)]
    PriorityTooHigh,
    #[error("weight must be from 1 to {}", Config::WEIGHT_MAX)]
    WeightOutOfRange,
    #[error("a time limit or patience must be longer than nothing; leave it out for no limit")]
    TimeNotPositive,
    #[error("there is no such queue")]
    NotFound,
    #[error("the parent does not exist")]
    ParentNotFound,
    #[error("the parent is the queue itself or below it")]
    ParentBelow,
    #[error("queues are nested at most {} deep", Queues::DEPTH_MAX)]
    TooDeep,
    #[error("the guarantees below queue {queue:?} exceed its own of resource {resource:?} by {excess}; raise it, or lower theirs")]
    PromisedTwice { queue: String, resource: ResourceId, excess: i64 },
    #[error("the guarantee of queue {queue:?} exceeds its limit of resource {resource:?} by {excess}; raise the limit")]
    GuaranteeAboveLimit { queue: String, resource: ResourceId, excess: i64 },
    #[error("queue {other:?} is the default already; take that mark from it first")]
    SecondDefault { other: String },
    #[error("the queue has queues below it; move or delete them first")]
    HasChildren,
    #[error("workloads of the queue still run; end them or wait")]
    InUse,
    #[error("more than {} queues were made; start the scheduler anew to forget deleted ones", Queues::MAX)]
    TooMany,
}

/// A queue with its sums.
#[derive(Clone, Debug)]
struct Node {
    config: Config,
    children: BTreeSet<QueueId>,
    /// Charged to this very queue.
    own: Vector,
    /// `own` and all that is used below.
    used: Vector,
    /// `own` and all that its children draw.
    inner: Vector,
    /// What its children are promised together.
    promised: Vector,
}

impl Node {
    /// What it is promised.
    fn guarantee(&self, resource: ResourceId) -> i64 {
        self.config.guaranteed.get(resource).unwrap_or_else(|| self.promised.get(resource))
    }

    /// What it draws from its parent in any case.
    fn kept(&self, resource: ResourceId) -> i64 {
        if self.config.lends { 0 } else { self.guarantee(resource) }
    }

    /// What it draws from its parent.
    fn drawn(&self, resource: ResourceId) -> i64 {
        self.inner.get(resource).max(self.kept(resource))
    }

    /// What it draws above its guarantee.
    fn over(&self, resource: ResourceId) -> i64 {
        (self.inner.get(resource) - self.guarantee(resource)).max(0)
    }

    /// Resources of which it is promised or uses something.
    fn resources(&self) -> BTreeSet<ResourceId> {
        let sums = [&self.own, &self.used, &self.inner, &self.promised];
        let summed = sums.into_iter().flat_map(Vector::iter).map(|(resource, _)| resource);
        summed.chain(self.config.guaranteed.iter().map(|(resource, _)| resource)).collect()
    }
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    /// By number; a deleted one is `None`.
    nodes: Vec<Option<Node>>,
    ids: HashMap<String, QueueId>,
    /// Queues without a parent.
    top: BTreeSet<QueueId>,
    capacity: Limits,
    /// What the queues at the top draw together.
    drawn: Vector,
    default: Option<QueueId>,
}

impl Queues {
    /// The most queues ever made.
    pub const MAX: usize = 1 << 16;
    /// The most levels, which bounds the work of every charge.
    pub const DEPTH_MAX: usize = 8;

    pub fn add(&mut self, config: Config) -> Result<QueueId, Refused> {
        if self.nodes.len() >= Self::MAX {
            return Err(Refused::TooMany);
        }
        let id = QueueId(self.nodes.len() as u32);
        let empty = Node {
            config: Config::new(&config.name),
            children: BTreeSet::new(),
            own: Vector::default(),
            used: Vector::default(),
            inner: Vector::default(),
            promised: Vector::default(),
        };
        if self.ids.contains_key(&config.name) {
            return Err(Refused::NameTaken);
        }
        self.ids.insert(config.name.clone(), id);
        self.nodes.push(Some(empty));
        self.top.insert(id);
        if let Err(refused) = self.change(id, config) {
            let name = self.nodes.pop().flatten().expect("it was pushed above").config.name;
            self.ids.remove(&name);
            self.top.remove(&id);
            return Err(refused);
        }
        Ok(id)
    }

    /// Says something else of a queue. What it uses stays charged, even where it is more than the
    /// new limits allow.
    pub fn change(&mut self, id: QueueId, config: Config) -> Result<(), Refused> {
        self.check(id, &config)?;
        let before = self.node(id).config.clone();
        let default = self.default;
        self.replace(id, config);
        if let Err(refused) = self.check_promises(id) {
            self.replace(id, before);
            self.default = default;
            return Err(refused);
        }
        Ok(())
    }

    /// Forgets a queue that is empty.
    pub fn remove(&mut self, id: QueueId) -> Result<(), Refused> {
        let node = self.nodes.get(id.place()).and_then(Option::as_ref).ok_or(Refused::NotFound)?;
        if !node.children.is_empty() {
            return Err(Refused::HasChildren);
        }
        if node.own.iter().next().is_some() {
            return Err(Refused::InUse);
        }
        let parent = node.config.parent;
        self.ids.remove(&node.config.name);
        self.siblings(parent).remove(&id);
        self.nodes[id.place()] = None;
        if self.default == Some(id) {
            self.default = None;
        }
        self.sum_up(parent);
        Ok(())
    }

    /// What the pool has; a resource that is not named is without bound.
    pub fn set_capacity(&mut self, capacity: Limits) {
        self.capacity = capacity;
    }

    pub fn capacity(&self) -> &Limits {
        &self.capacity
    }

    pub fn id(&self, name: &str) -> Option<QueueId> {
        self.ids.get(name).copied()
    }

    /// What was said of a queue.
    ///
    /// # Panics
    /// When there is no such queue.
    pub fn config(&self, id: QueueId) -> &Config {
        &self.node(id).config
    }

    pub fn contains(&self, id: QueueId) -> bool {
        self.nodes.get(id.place()).is_some_and(Option::is_some)
    }

    /// Where workloads go that name no queue.
    pub fn default_queue(&self) -> Option<QueueId> {
        self.default
    }

    pub fn iter(&self) -> impl Iterator<Item = (QueueId, &Config)> + '_ {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(place, node)| Some((QueueId(place as u32), &node.as_ref()?.config)))
    }

    /// The queue and all above it, from below.
    pub fn path(&self, id: QueueId) -> impl Iterator<Item = QueueId> + '_ {
        std::iter::successors(Some(id), |id| self.node(*id).config.parent)
    }

    /// What it uses, with all below it.
    pub fn used(&self, id: QueueId) -> &Vector {
        &self.node(id).used
    }

    /// What it is promised.
    pub fn guarantee(&self, id: QueueId, resource: ResourceId) -> i64 {
        self.node(id).guarantee(resource)
    }

    /// How much of the pool is promised to somebody but is not there.
    pub fn overpromised(&self, resource: ResourceId) -> i64 {
        let promised: i64 = self.top.iter().map(|id| self.node(*id).guarantee(resource)).fold(0, i64::saturating_add);
        self.capacity.get(resource).map_or(0, |capacity| promised.saturating_sub(capacity).max(0))
    }

    fn node(&self, id: QueueId) -> &Node {
        self.nodes[id.place()].as_ref().expect("numbers of queues come from here and deleted ones are not asked for")
    }

    fn node_mut(&mut self, id: QueueId) -> &mut Node {
        self.nodes[id.place()].as_mut().expect("numbers of queues come from here and deleted ones are not asked for")
    }

    fn siblings(&mut self, parent: Option<QueueId>) -> &mut BTreeSet<QueueId> {
        match parent {
            Some(parent) => &mut self.node_mut(parent).children,
            None => &mut self.top,
        }
    }

    fn check(&self, id: QueueId, config: &Config) -> Result<(), Refused> {
        if !self.contains(id) {
            return Err(Refused::NotFound);
        }
        if self.id(&config.name).is_some_and(|other| other != id) {
            return Err(Refused::NameTaken);
        }
        if config.priority > Config::PRIORITY_MAX {
            return Err(Refused::PriorityTooHigh);
        }
        if !(1..=Config::WEIGHT_MAX).contains(&config.weight) {
            return Err(Refused::WeightOutOfRange);
        }
        if [config.time_limit_ms, config.patience_ms].into_iter().flatten().any(|time| time <= 0) {
            return Err(Refused::TimeNotPositive);
        }
        if let Some(other) = self.default.filter(|other| config.is_default && *other != id) {
            return Err(Refused::SecondDefault { other: self.config(other).name.clone() });
        }
        if let Some(parent) = config.parent {
            if !self.contains(parent) {
                return Err(Refused::ParentNotFound);
            }
            if self.path(parent).any(|above| above == id) {
                return Err(Refused::ParentBelow);
            }
            if self.path(parent).count() + self.height(id) > Self::DEPTH_MAX {
                return Err(Refused::TooDeep);
            }
        }
        Ok(())
    }

    /// Levels from the queue down, itself included.
    fn height(&self, id: QueueId) -> usize {
        1 + self.node(id).children.iter().map(|child| self.height(*child)).max().unwrap_or(0)
    }

    fn replace(&mut self, id: QueueId, config: Config) {
        let before = std::mem::replace(&mut self.node_mut(id).config, config);
        let Config { name, parent, is_default, .. } = self.node(id).config.clone();
        if before.name != name {
            self.ids.remove(&before.name);
            self.ids.insert(name, id);
        }
        if is_default {
            self.default = Some(id);
        } else if self.default == Some(id) {
            self.default = None;
        }
        self.siblings(before.parent).remove(&id);
        self.siblings(parent).insert(id);
        self.sum_up(before.parent);
        self.sum_up(Some(id));
    }

    /// Sums anew what is at this queue and above it.
    fn sum_up(&mut self, from: Option<QueueId>) {
        let mut next = from;
        while let Some(id) = next {
            let node = self.node(id);
            let (mut used, mut inner, mut promised) = (node.own.clone(), node.own.clone(), Vector::default());
            for child in node.children.iter().map(|child| self.node(*child)) {
                for resource in child.resources() {
                    used[resource] += child.used.get(resource);
                    inner[resource] += child.drawn(resource);
                    promised[resource] += child.guarantee(resource);
                }
            }
            next = node.config.parent;
            let node = self.node_mut(id);
            (node.used, node.inner, node.promised) = (used, inner, promised);
        }
        let mut drawn = Vector::default();
        for node in self.top.iter().map(|id| self.node(*id)) {
            for resource in node.resources() {
                drawn[resource] += node.drawn(resource);
            }
        }
        self.drawn = drawn;
    }

    /// Whether nobody on the way up promises more than it is promised itself, or than it may use.
    fn check_promises(&self, id: QueueId) -> Result<(), Refused> {
        for node in self.path(id).map(|id| self.node(id)) {
            let queue = || node.config.name.clone();
            for resource in node.resources() {
                let guarantee = node.guarantee(resource);
                let excess = node.promised.get(resource) - guarantee;
                if excess > 0 {
                    return Err(Refused::PromisedTwice { queue: queue(), resource, excess });
                }
                let excess = guarantee - node.config.limit.get(resource).unwrap_or(i64::MAX);
                if excess > 0 {
                    return Err(Refused::GuaranteeAboveLimit { queue: queue(), resource, excess });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
