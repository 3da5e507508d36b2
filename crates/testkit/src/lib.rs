//! fermion-testkit
