//! Published experiments, done again with the published policies and ours.

pub mod inflation;
