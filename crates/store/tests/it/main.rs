//! The store as its callers see it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod compaction;
mod concurrency;
mod crash;
mod disk_full;
mod facts;
mod history;
mod leadership;
mod lifecycle;
mod model;
mod objects;
mod proxy;
mod scratch;
mod selection;
mod shared;
mod transfer;
mod watch;
