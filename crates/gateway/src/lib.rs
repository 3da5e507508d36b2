//! fermion-gateway
