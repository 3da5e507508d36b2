//! What a plan is made from: plain data, no references to the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cards::{CardHeld, CardPart};
use crate::device::Model;
use crate::engine::Backfill;
use crate::environment::Environment;
use crate::gang::Topology;
use crate::preference::Preferred;
use crate::queue::{Access, JobOrder, OverSubscribe, State};
use crate::rules::{Rules, Whom};
use crate::scoring::Placement;

/// An amount in thousandths of its unit.
pub type Milli = i128;

/// Amounts by resource name. A name that is not there counts as zero.
pub type Amounts = BTreeMap<String, Milli>;

/// Everything a plan depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// What holds in pools; one that is not named here has the defaults.
    pub pools: Vec<Pool>,
    pub queues: Vec<Queue>,
    pub rules: Rules,
    pub nodes: Vec<Node>,
    /// What is known of models of accelerators.
    pub models: Vec<Model>,
    /// Gangs with at least one member that has no node, or that run.
    pub gangs: Vec<Gang>,
    /// Milliseconds since the epoch.
    pub now: i64,
}

/// How the nodes of a pool are given out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub placement: Placement,
    pub backfill: Backfill,
    /// Whether work of a lower rank is stopped for work of a higher one. What a queue is
    /// guaranteed it gets back in any case.
    pub preemption: bool,
    /// Nothing is stopped before it ran this long.
    pub run_ms_min: i64,
    /// After this time what somebody used counts half; without, only what is used now counts.
    pub half_life_ms: Option<i64>,
    /// What waited this long goes before all others of the pool, the oldest first, so that
    /// nothing starves; `None` never.
    pub patience_ms: Option<i64>,
    /// How running work may be moved so that other work has room; `None` not at all.
    pub consolidation: Option<Consolidation>,
}

/// What bounds the moving of running work so that work that waits has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consolidation {
    /// How many gangs are moved for one that waits at most.
    pub moves_max: usize,
    /// How many more may be moved at this time.
    pub moves_left: usize,
    /// What did not run this long where it is stays there.
    pub run_ms_min: i64,
}

/// A queue gives out the nodes of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub pool: String,
    /// The queue of the same pool above it.
    pub parent: Option<String>,
    /// Higher is served first, before the priority of gangs is looked at.
    pub priority: u32,
    pub state: State,
    /// What it has back from others whenever it needs it.
    pub guaranteed: Amounts,
    /// What it never goes beyond.
    pub limit: Amounts,
    pub weight: u32,
    /// The longest that a gang may run.
    pub run_ms_max: Option<i64>,
    pub access: Access,
    pub job_order: JobOrder,
    /// Whether its jobs share processors.
    pub oversubscribe: OverSubscribe,
}

impl Default for Queue {
    /// Open to everyone, without promise or limit, in order of priority.
    fn default() -> Self {
        Self {
            name: String::new(),
            pool: String::new(),
            parent: None,
            priority: 0,
            state: State::Up,
            guaranteed: Amounts::new(),
            limit: Amounts::new(),
            weight: 1,
            run_ms_max: None,
            access: Access::default(),
            job_order: JobOrder::Priority,
            oversubscribe: OverSubscribe::No,
        }
    }
}

/// A machine that runs pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub pool: String,
    pub ready: bool,
    /// False when it is cordoned.
    pub schedulable: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// What pods may ask for in all.
    pub allocatable: Amounts,
    /// What the pods that have this node ask for, those of no gang included.
    pub used: Amounts,
    /// Cards that pods of no gang have.
    pub cards: Vec<CardHeld>,
    /// Where it stands, from the widest domain to the narrowest; shorter than others' where
    /// that is not known.
    pub domains: Vec<String>,
}

impl Node {
    /// Whether it has said what it has. Until then nothing can be planned on it, or ruled out.
    pub fn is_known(&self) -> bool {
        !self.allocatable.is_empty()
    }
}

/// A mark on a node that keeps pods away unless they tolerate it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: Effect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    NoSchedule,
    NoExecute,
}

/// What a run time stands on, the surest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// It may run no longer.
    Limit,
    /// A person said so.
    #[default]
    Declared,
    /// Work like it took as long before.
    Learned,
}

/// Pods that are placed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gang {
    pub id: String,
    pub queue: String,
    /// Higher goes first within the queue's priority.
    pub priority: i32,
    /// Earlier goes first among equals; any unit.
    pub created_at: i64,
    pub sets: Vec<MemberSet>,
    /// Members that have a node and hold it.
    pub placed: Vec<PlacedMember>,
    /// When the first of them got it, in milliseconds since the epoch.
    pub started_at: i64,
    /// How long the gang is expected to run, in milliseconds; none if nothing is known.
    pub run_ms: Option<i64>,
    /// What that stands on.
    pub run_basis: Basis,
    /// How close together its members must or should be.
    pub topology: Topology,
    pub owner: Whom,
    pub environment: Environment,
    /// When it should have ended.
    pub deadline_at: Option<i64>,
    /// Whether it goes before what is not, in its queue.
    pub urgent: bool,
    /// Whether it may be stopped for others.
    pub preemptible: bool,
    /// Whether it asks to share its processors, where its queue leaves that to it.
    pub oversubscribe: bool,
    /// Whether places are kept for it: its last [`Wait`](crate::Wait) was [`Evicting`](crate::Wait::Evicting),
    /// since others are being stopped for it, or it was itself [`Moved`](crate::Cause::Moved) and is not back.
    pub claims: bool,
}

impl Default for Gang {
    /// Of nobody, and preemptible.
    fn default() -> Self {
        Self {
            id: String::new(),
            queue: String::new(),
            priority: 0,
            created_at: 0,
            sets: Vec::new(),
            placed: Vec::new(),
            started_at: 0,
            run_ms: None,
            run_basis: Basis::default(),
            topology: Topology::default(),
            owner: Whom::default(),
            environment: Environment::Training,
            deadline_at: None,
            urgent: false,
            preemptible: true,
            oversubscribe: false,
            claims: false,
        }
    }
}

impl Gang {
    /// When it is expected to end, if it runs.
    pub fn ends_at(&self) -> Option<i64> {
        self.run_ms.map(|run| self.started_at.saturating_add(run))
    }
}

/// A pod that has a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedMember {
    pub id: String,
    pub node: String,
    pub requests: Amounts,
    /// Its cards, where it is known which.
    pub cards: Vec<CardHeld>,
    /// Whether it is beyond the minimum of its set, so that the gang goes on without it.
    pub spare: bool,
    /// What it asks for when it is started over, where it may be moved.
    pub again: Option<Arc<Member>>,
    /// When it will have stopped, if it was told to.
    pub leaves_at: Option<i64>,
}

/// Members of a gang that share a minimum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSet {
    pub name: String,
    /// How many members must have a node for any to be worth one.
    pub min: u32,
    /// How many have a node already, or had one and ended.
    pub settled: u32,
    /// Those without a node; the first ones are placed first.
    pub pending: Vec<Member>,
}

impl MemberSet {
    /// How many more must be placed to reach the minimum.
    pub fn needed(&self) -> usize {
        self.min.saturating_sub(self.settled) as usize
    }
}

/// A pod without a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub requests: Amounts,
    /// The part of a card it asks for; what it counts as is among `requests`.
    pub part: Option<CardPart>,
    /// Labels the node must have.
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    /// Required node affinity: one of these terms must hold; an empty list asks nothing.
    pub affinity: Vec<Term>,
    /// What it would rather have of its node; decides among nodes that suit it.
    pub preferred: Vec<Preferred>,
    /// Whether it shares its node with no other such member of its gang.
    pub alone: bool,
}

/// A taint that a member accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Every key when left out.
    pub key: Option<String>,
    /// Every value when left out.
    pub value: Option<String>,
    /// Every effect when left out.
    pub effect: Option<Effect>,
}

/// Requirements that must hold together. A term without any matches no node, as in
/// Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// On the node's labels.
    pub labels: Vec<Requirement>,
    /// On the node's name.
    pub names: Vec<Requirement>,
}

/// A requirement on one label, or on the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// The label is an integer above the one value.
    Gt,
    /// The label is an integer below the one value.
    Lt,
}
