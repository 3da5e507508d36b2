//! What goes where, decided: [`plan`] takes a [`Snapshot`] of queues, nodes and gangs and
//! answers which pods to bind to which nodes, and for every gang that waits, why.
//!
//! Start with [`plan()`](plan::plan); `placement` fits members onto nodes, `shortage` says what
//! lacks when they do not fit.
//!
//! Invariants, each held by a property test
//! - No node is given more than it can allocate, in any resource.
//! - A gang gets the members it needs together, or none of them.
//! - Order is kept: a gang that waits for room *holds* every node it could run on, and no
//!   gang after it is placed there. So a large gang cannot be starved by a stream of small
//!   ones, and nodes it cannot use stay open to everyone. Members beyond the minimum are
//!   extras: they take what is free in their turn and hold nothing.
//! - A gang that no change of load could help (it asks for more than the nodes have, its
//!   queue is closed, its nodes are down) holds nothing.
//! - The same snapshot gives the same plan, in whatever order its lists come.
//! - No I/O, no clock, no randomness; amounts are integers (thousandths of a unit).
//!
//! Placement packs: a member goes to the node it fills most (best fit by dominant share),
//! and rather to a node without accelerators that it does not ask for, so that large gaps
//! and scarce devices stay free for those who need them.

pub mod account;
pub mod admission;
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
mod plan;
pub mod policy;
pub mod preemption;
pub mod quarantine;
pub mod queue;
pub mod quota;
pub mod request;
pub mod resource;
pub mod scoring;
mod shortage;
mod snapshot;
mod tournament;
pub mod window;

pub use plan::{Bind, Plan, Wait, Waiting, plan};
pub use shortage::{Place, Shortage};
pub use snapshot::{
    Amounts, Effect, Gang, Member, MemberSet, Milli, Node, Operator, Queue, Requirement, Snapshot, Taint, Term, Toleration,
};
