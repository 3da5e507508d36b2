//! fermion-apiserver

mod field_path;
pub mod json_path;
pub mod openapi;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod table;
