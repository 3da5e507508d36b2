//! Recorded clusters and work.

pub mod jobs;
pub mod openb;
pub mod synthetic;

use std::path::Path;

/// Where traces are looked for when no folder is named.
pub const FOLDER: &str = "../shared/data";

/// The openb lists of pods that are there, in the order of their names, the default one first.
pub fn openb_lists(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("openb")) else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        Some(name.strip_prefix("openb_pod_list_")?.strip_suffix(".csv")?.to_owned())
    };
    let mut lists: Vec<String> = entries.filter_map(name).collect();
    lists.sort_by_key(|list| (list != "default", list.clone()));
    lists
}
