//! fermion-controllers
