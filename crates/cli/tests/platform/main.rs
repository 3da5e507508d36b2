//! The platform as a whole: the real binary, driven by the real `kubectl`, hurt in the ways
//! machines hurt it. Tests under `containers` run pods; the others need no node.

mod api;
mod faults;
mod malformed;

/// The binary under test.
const FERMION: &str = env!("CARGO_BIN_EXE_fermion");
