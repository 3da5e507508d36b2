//! Looks for bytes that break the law in `crates/laws/src/patch.rs`.

#![no_main]

fermion_fuzz::target!("patch");
