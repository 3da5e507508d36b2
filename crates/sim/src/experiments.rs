//! Published experiments, done again with the published policies and ours.

pub mod inflation;
pub mod jct;
pub mod reclaim;
pub mod steady;
pub mod throughput;
