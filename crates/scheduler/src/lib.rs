//! What goes where and when, decided: pure functions of what is known, with the reasons.
//!
//! Two layers that do not know each other, and one that joins them:
//! - *Place*: [`cluster`] has nodes, their cards and an index over both; [`scoring`] says which
//!   node is best, after what members [prefer](preference) themselves; [`gang`] seats members together; [`engine`] adds time: reservations and
//!   backfilling; [`preemption`], [`consolidation`], [`elastic`] and [`quarantine`] change what
//!   runs; [`explain`] tries what would let a gang start.
//! - *Title*: [`queue`] has the tree of queues with guarantees and borrowing; [`quota`],
//!   [`policy`] and [`window`] say what accounts may hold, [`fair_share`] what they had.
//! - [`plan()`](plan::plan) takes a [`Snapshot`] of queues, nodes and gangs and answers which
//!   pods to bind to which nodes, whom to stop for whom, and for every gang that waits, why, until
//!   when and what would help.
//!
//! Start with [`plan()`](plan::plan), then [`engine`].
//!
//! Invariants, each held by a property test
//! - No node is given more than it can allocate, in any resource, and no card twice.
//! - A gang gets the members it needs together, or none of them.
//! - A gang that waits for room keeps the places it will start on, from the moment at which it
//!   will; nobody after it starts where that would delay it. So a large gang cannot be starved
//!   by a stream of small ones, and what it has no use for stays open to everyone. Members
//!   beyond the minimum take what is free in their turn, and nothing is kept for them.
//! - Nothing is kept for a gang that no end of running work could help (it asks for more than
//!   the nodes have, its queue is closed, its nodes are down).
//! - What was changed step by step answers as what is made afresh.
//! - The same snapshot gives the same plan, in whatever order its lists come.
//! - No I/O, no clock, no randomness but from a seed; amounts are integers.

pub mod account;
pub mod admission;
mod cards;
pub mod cluster;
pub mod consolidation;
pub mod device;
pub mod elastic;
pub mod engine;
pub mod entitlement;
pub mod environment;
pub mod explain;
pub mod fair_share;
pub mod gang;
pub mod limits;
mod matching;
pub mod node;
pub mod order;
mod placement;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod preemption;
pub mod preference;
pub mod quarantine;
pub mod queue;
pub mod quota;
pub mod request;
pub mod resource;
pub mod rules;
pub mod scoring;
pub mod sharing;
mod shortage;
mod snapshot;
mod table;
mod titles;
mod tournament;
pub mod window;

pub use cards::{CardHeld, CardPart, CardsAsked, NoCard, PartSize};
pub use plan::{Bind, Cause, Eviction, Plan, Remedy, Ruling, Start, Wait, Waiting, plan, plan_after};
pub use planner::Planner;
pub use preference::Preferred;
pub use rules::{Rules, Subject, Whom};
pub use shortage::{Place, Shortage};
pub use snapshot::{
    Amounts, Basis, Consolidation, Effect, Gang, Member, MemberSet, Milli, Node, Operator, PlacedMember, Pool, Queue, Requirement,
    Snapshot, Taint, Term, Toleration,
};
pub use titles::{Average, Past};
