//! The store as its callers see it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod objects;
mod scratch;
