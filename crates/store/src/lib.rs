//! fermion-store
