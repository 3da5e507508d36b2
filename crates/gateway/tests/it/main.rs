//! The gateway as its users meet it: a real server on loopback, a fake API behind it, and
//! real servers on other loopback addresses for pods.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod apps;
mod browser;
mod fake_api;
mod hostile;
mod memory_transport;
mod services;
mod terminal;
mod upstream;
mod world;
