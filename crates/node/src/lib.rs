//! fermion-node
