//! Experiments on made-up work: what must hold of their results whatever the figures.

mod admission;
mod inflation;
mod jct;
mod reclaim;
mod rounds;
mod steady;
mod study;
mod throughput;
