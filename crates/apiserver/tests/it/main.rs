//! The API over HTTP, in one process with its store: what no part of it can show alone.

mod access;
mod credentials;
mod fairness;
mod secrets;
mod server;
mod stage;
mod webhook_server;
mod webhooks;
