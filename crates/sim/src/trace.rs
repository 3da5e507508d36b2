//! Recorded clusters and work.

pub mod openb;

use std::path::PathBuf;

/// Where traces are looked for when `FERMION_TRACES` names no folder.
const FOLDER: &str = "../shared/data";

/// The folder of traces.
pub fn folder(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| PathBuf::from(FOLDER))
}
