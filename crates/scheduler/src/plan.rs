//! The order in which gangs are served, and what each gets.

mod eviction;
mod remedy;
pub(crate) mod round;

use crate::cards::{CardHeld, NoCard};
use crate::environment::Environment;
use crate::planner::Planner;
use crate::rules::Subject;
use crate::shortage::Shortage;
use crate::snapshot::{Basis, Milli, Snapshot};
use crate::titles::Past;

pub use self::remedy::Remedy;
pub(crate) use self::round::Memory;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Gangs with a member that had no node, in the order in which they were served.
    pub served: Vec<String>,
    /// In that order.
    pub binds: Vec<Bind>,
    /// Every gang that has a member without a node once the binds are done, in order.
    pub waits: Vec<Waiting>,
    /// Who has to stop for others.
    pub evictions: Vec<Eviction>,
}

/// Give this pod that node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub gang: String,
    pub member: String,
    pub node: String,
    /// Its cards there, by model and index.
    pub cards: Vec<CardHeld>,
}

/// Stop these members: the place is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub gang: String,
    /// All that it has, or such as it can be without.
    pub members: Vec<String>,
    /// Whether nothing is left of it, so that it waits for a place anew.
    pub whole: bool,
    /// For whom.
    pub claimant: String,
    pub cause: Cause,
}

/// By what right others are stopped, the weakest of those they hold their places by first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// They are members beyond the minimum.
    Spare,
    /// Their queue uses more than it is guaranteed, and the claimant's less.
    Reclaimed,
    /// Their queue is less important.
    QueuePriority,
    /// They are less important, in the same queue.
    Priority,
    /// They are fewer than their gang needs, and there is no room for the rest: what they hold is
    /// of use to nobody. The claimant is the gang itself.
    Incomplete,
    /// There is a place elsewhere for them, and theirs is needed for work that waits.
    Moved,
}

/// A gang that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub gang: String,
    pub queue: String,
    /// Place among the waiting gangs of its queue, from 1.
    pub position: u32,
    pub wait: Wait,
    /// When it is expected to start, where places are kept for it.
    pub start: Option<Start>,
    /// Changes of which each alone would let it start now, or at the moment it names.
    pub remedies: Vec<Remedy>,
}

/// Why a gang waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The queue it names does not exist.
    QueueNotFound,
    /// The queue admits nothing now.
    QueueClosed,
    /// Some of its pods do not exist yet.
    MembersMissing { present: usize, wanted: usize },
    /// No node that it could use is ready and open to new pods.
    NoReadyNode {
        pool: String,
        /// A node it could use if that one were ready; none if the pool has no nodes.
        node: Option<String>,
    },
    /// No node meets the member's selector, affinity and tolerations.
    NoMatchingNode { pool: String, member: String },
    /// It asks for more than the pool's nodes have.
    ExceedsCapacity(Shortage),
    /// Too little is free now.
    InsufficientResources(Shortage),
    /// There is room, but it is held for gangs that go first.
    BehindOthers {
        /// The gang for whom the places are kept that it could use.
        ahead: String,
    },
    /// There seems to be room, but no arrangement of its different members was found.
    NoArrangement { pool: String },
    /// There is enough in sum, but not on one card, or not on cards of one node.
    NoCard(NoCard),
    /// There is room, but not in one domain of the level that it must be in.
    NoDomain { pool: String },
    /// There is room, but its members would not be spread there as they must be. Only those see it who know
    /// how that is: no plan says it.
    NotSpread { pool: String },
    /// There is room, but too few nodes have some: so many of its members want one of their own.
    TooFewNodes { pool: String, members: usize },
    /// It is to have its nodes to itself, and others are on all that would do.
    NoEmptyNode { pool: String },
    /// Rules are in the way, whatever is free. There is at least one.
    Ruled(Vec<Ruling>),
    /// So many members of others are being stopped for it.
    Evicting { members: usize },
}

/// A rule that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The queue is for others.
    NotAllowed { queue: String },
    /// So many workloads of somebody run, of this kind or of any, and no more may.
    Running { subject: Subject, environment: Option<Environment>, running: u32, max: u32 },
    /// It is not the time for such work.
    Window { opens_at: Option<i64> },
    /// It would take somebody beyond a ceiling, by so much.
    Ceiling { subject: Subject, resource: String, missing: Milli },
    /// It would take the queue beyond its limit, by so much.
    QueueLimit { queue: String, resource: String, missing: Milli },
}

/// When a gang is expected to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Whether the run times of all it waits for are known. If not, they are expected to run
    /// as long again as they have.
    pub known: bool,
    /// What those run times stand on, the weakest of them.
    pub basis: Basis,
}

/// Decides for every gang of the snapshot, in order; nothing is known of the past.
pub fn plan(snapshot: &Snapshot) -> Plan {
    plan_after(snapshot, &Past::default()).0
}

/// Decides for every gang of the snapshot: first those for whom others are being stopped, then
/// in the order of [`Order`](crate::order::Order), pool by pool. `past` is what the plan before
/// this one handed on. All is laid out for this plan; a [`Planner`] keeps it for the next.
pub fn plan_after(snapshot: &Snapshot, past: &Past) -> (Plan, Past) {
    let mut planner = Planner::of(snapshot, past);
    let plan = planner.plan(snapshot.now);
    (plan, planner.past())
}
