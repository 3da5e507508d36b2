//! Where the node keeps what of its pods, under `FERMION_HOME`.
//!
//! ```text
//! pods/<uid>/volumes/<volume>      emptyDir, ConfigMap, Secret, downwardAPI, projected
//! pods/<uid>/subpaths/…            bind mounts of subPaths, pinned against renaming
//! pods/<uid>/termination/…         what containers leave on ending
//! pods/<uid>/etc-hosts             the pod's /etc/hosts
//! logs/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log
//! volumes/<namespace>/<claim uid>  the data of PersistentVolumeClaims
//! ```
//!
//! Invariant: every name that becomes part of a path has passed [`is_component`].

use std::path::{Path, PathBuf};

use crate::pod::Identity;

/// The longest name that becomes part of a path, in bytes.
const COMPONENT_LENGTH_MAX: usize = 253;

/// Whether a name is safe as one part of a path: letters, digits, `-`, `.` and `_`, beginning with
/// a letter or digit, so neither `..` nor hidden nor an option.
pub(crate) fn is_component(name: &str) -> bool {
    name.len() <= COMPONENT_LENGTH_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// The node's directories.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    home: PathBuf,
}

impl Layout {
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.home.join("pods")
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    pub(crate) fn volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(volume)
    }

    /// Where the subPath of the mount with that index is bound to.
    pub(crate) fn subpath(&self, uid: &str, container: &str, index: usize) -> PathBuf {
        self.pod(uid).join("subpaths").join(container).join(index.to_string())
    }

    pub(crate) fn hosts_file(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    pub(crate) fn termination_file(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("termination").join(format!("{container}-{attempt}"))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.home.join("logs").join("pods")
    }

    pub(crate) fn pod_logs(&self, identity: &Identity) -> PathBuf {
        self.logs().join(format!("{}_{}_{}", identity.namespace, identity.name, identity.uid))
    }

    pub(crate) fn claims(&self) -> PathBuf {
        self.home.join("volumes")
    }

    pub(crate) fn claim(&self, namespace: &str, claim_uid: &str) -> PathBuf {
        self.claims().join(namespace).join(claim_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_paths() {
        for name in ["a", "web-0", "a.b", "9_x", "0f9c6c1e-0000-4000-8000-000000000000"] {
            assert!(is_component(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "-a", ".hidden", "a\0", "a\n", "ä", "../x", &"a".repeat(254)] {
            assert!(!is_component(name), "{name}");
        }
    }
}
