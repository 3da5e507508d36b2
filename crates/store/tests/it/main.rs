//! The store as its callers see it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod compaction;
mod concurrency;
mod conflicts;
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
mod tls;
mod transfer;
mod watch;
