//! Looks for bytes that break the law in `crates/laws/src/cel.rs`.

#![no_main]

fermion_fuzz::target!("cel");
