//! The real scheduler over recorded or described work, in virtual time.
//!
//! Start with [`experiments`]: each reproduces a published experiment, with the published
//! policies beside ours on the same stream of arrivals. Traces are read by [`trace`].
//! [`study`] answers questions about a cluster that is described; [`simulator`] is under both.
//!
//! Invariants
//! - The same inputs and the same seed give the same result on every machine.
//! - A policy never sees what a real scheduler could not know.

pub mod experiments;
pub mod random;
pub mod simulator;
pub mod statistics;
pub mod study;
pub mod table;
pub mod trace;
