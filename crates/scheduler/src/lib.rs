//! fermion-scheduler
