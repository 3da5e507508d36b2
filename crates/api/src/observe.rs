//! `observe.fermion.dev`: what happened.

pub mod usage_record;

pub use usage_record::{UsageRecord, UsageRecordFields};
