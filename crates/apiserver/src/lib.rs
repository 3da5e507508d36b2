//! fermion-apiserver

pub mod selector;
