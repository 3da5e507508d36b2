//! Looks for bytes that break the law in `crates/laws/src/bodies.rs`.

#![no_main]

fermion_fuzz::target!("bodies");
