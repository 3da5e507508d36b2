//! `compute.fermion.dev`: where workloads run.

pub mod pool;
pub mod queue;

pub use pool::{Pool, PoolSpec, PoolStatus};
pub use queue::{Queue, QueueSpec, QueueStatus};
