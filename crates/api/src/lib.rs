//! fermion-api
