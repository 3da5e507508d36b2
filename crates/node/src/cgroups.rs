//! Directories of the cgroup file systems that containerd makes and, on cgroup v1, leaves behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the cgroup file systems are.
const ROOT: &str = "/sys/fs/cgroup";
/// The deepest nesting that is cleared away.
const DEPTH_MAX: usize = 4;

/// The roots of all hierarchies: one on cgroup v2, one per controller on v1.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(ROOT)];
    }
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Bounds the processes and threads of a cgroup and those below it.
pub(crate) fn limit_processes(cgroup: &str, max: u32) -> std::io::Result<()> {
    let version_2 = Path::new(ROOT).join("cgroup.controllers").exists();
    let hierarchy = if version_2 { PathBuf::from(ROOT) } else { Path::new(ROOT).join("pids") };
    fs::write(hierarchy.join(cgroup.trim_start_matches('/')).join("pids.max"), max.to_string())
}

/// Removes a cgroup and those below it, in every hierarchy. One that still has processes stays,
/// since the kernel refuses; it is tried again with the next sweep.
pub(crate) fn remove(cgroup: &str) {
    for hierarchy in hierarchies() {
        remove_below(&hierarchy.join(cgroup.trim_start_matches('/')), DEPTH_MAX);
    }
}

fn remove_below(directory: &Path, depth: usize) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path(), depth - 1);
        }
    }
    if let Err(error) = fs::remove_dir(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(directory = %directory.display(), %error, "the cgroup stays");
    }
}

/// Names of the cgroups directly below `parent`, in any hierarchy.
pub(crate) fn children(parent: &str) -> std::collections::BTreeSet<String> {
    hierarchies()
        .into_iter()
        .filter_map(|hierarchy| fs::read_dir(hierarchy.join(parent.trim_start_matches('/'))).ok())
        .flat_map(|entries| entries.flatten().collect::<Vec<_>>())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
