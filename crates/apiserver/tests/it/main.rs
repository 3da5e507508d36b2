//! The API over HTTP, in one process with its store: what no part of it can show alone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod access;
mod bodies;
mod credentials;
mod exchange;
mod fairness;
mod lists;
mod partitions;
mod queues;
mod quota;
mod secrets;
mod server;
mod stage;
mod webhook_server;
mod webhooks;
