//! Looks for bytes that break the law in `crates/laws/src/managed_fields.rs`.

#![no_main]

fermion_fuzz::target!("managed_fields");
