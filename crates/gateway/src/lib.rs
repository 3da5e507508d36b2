//! People's way into pods: the apps of a DevEnvironment under `/apps/`, the replicas of an
//! InferenceService under `/services/`.
//!
//! ```text
//!  request ─ inbound ─ address ─ access (session, origin) ─ directory ─ forward ─ pod
//!            sizes      names     who, and may they?         which pod   copy
//! ```
//! Start with [`Gateway`], then `apps.rs` or `services.rs`: each reads like the line above.
//! The guide is `docs/guides/gateway.md`.
//!
//! Invariants
//! - A plain client of the resource API: nothing here sees the store, and nothing of a
//!   request's decision but who may do what costs a call.
//! - Denied by default: a request goes on only after the API said who asks and that they
//!   may. An API that does not answer lets nobody in.
//! - The caller's credentials never reach a container: not the Authorization header, not a
//!   cookie of the platform, not the ticket in a query.
//! - Only addresses from the status of a pod with the right namespace and label are ever
//!   connected to. Nothing in a request is resolved or dialled.
//! - A request is tried on another pod only while nothing of it was sent.
//! - Nothing is held in memory whole: bodies pass chunk by chunk, WebSockets byte by byte.

mod access;
mod activity;
mod address;
mod apps;
mod balance;
mod directory;
mod expiring;
mod forward;
mod gateway;
mod inbound;
mod metrics;
mod origin;
mod problem;
mod services;
mod session;

pub use self::gateway::{Gateway, Options};
