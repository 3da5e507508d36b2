//! Published experiments, done again with the published policies and ours.

pub mod admission;
pub mod inflation;
pub mod jct;
pub mod reclaim;
pub mod rounds;
pub mod steady;
pub mod throughput;
