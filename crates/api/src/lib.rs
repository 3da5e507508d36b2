//! Every kind of the platform: its schema, documentation, defaults, validation and
//! state machine, one file each.
//!
//! Start with [`ai::training_job`]: it is the model every other kind follows. What a kind
//! file declares (through `derive(CustomResource)` and [`Rules`]) is all the rest of the
//! platform needs: [`registry`] turns it into REST routes, kubectl columns, OpenAPI and
//! validation.
//!
//! Invariants
//! - No I/O, no clock, no randomness: what a function needs comes in as an argument.
//! - `spec` is what was asked, `status` is what was observed.
//! - A phase changes only through the kind's pure `apply`, whose whole state x event matrix
//!   is a committed snapshot.

pub mod ai;
pub mod assets;
pub mod cards;
pub mod compute;
pub mod conditions;
pub mod duration;
pub mod iam;
/// Kinds that are found by their line [`kind!`], and that no group's file declares.
pub mod declared {
    include!(concat!(env!("OUT_DIR"), "/declared.rs"));
}
pub mod labels;
pub mod observe;
pub mod pod;
pub mod quantity;
pub mod reason;
pub mod registry;
mod rules;

pub use rules::{Invalid, Refused, Rules};

/// The version every kind of ours is served in until the first release.
pub const VERSION: &str = "v1alpha1";
