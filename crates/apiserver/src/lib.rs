//! fermion-apiserver
