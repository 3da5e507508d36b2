//! fermion-apiserver

mod field_path;
pub mod patch;
pub mod schema;
pub mod selector;
