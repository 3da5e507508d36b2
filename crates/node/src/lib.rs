//! fermion-node

pub mod cri;
pub mod image;
pub mod runtime;
