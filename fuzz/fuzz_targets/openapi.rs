//! Looks for bytes that break the law in `crates/laws/src/openapi.rs`.

#![no_main]

fermion_fuzz::target!("openapi");
