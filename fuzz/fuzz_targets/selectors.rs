//! Looks for bytes that break the law in `crates/laws/src/selectors.rs`.

#![no_main]

fermion_fuzz::target!("selectors");
