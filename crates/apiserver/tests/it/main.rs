//! The API over HTTP, in one process with its store: what no part of it can show alone.

mod fairness;
mod secrets;
mod stage;
mod webhook_server;
mod webhooks;
