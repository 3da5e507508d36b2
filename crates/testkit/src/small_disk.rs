//! A disk that can be filled.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// A small file system in memory. Needs root.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts one.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn mount(megabytes: u32) -> Self {
        // Sockets' paths are short (107 bytes), so it is right below the temporary folder.
        let directory = tempfile::Builder::new().prefix("fm").rand_bytes(4).tempdir().expect("a temporary folder");
        let size = std::ffi::CString::new(format!("size={megabytes}m")).expect("no NUL in a number");
        mount("fermion-test", directory.path(), "tmpfs", MountFlags::empty(), Some(size.as_c_str())).expect("mounting a tmpfs needs root");
        Self { directory }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes up all the room but `left` bytes, with a file that is not ours; removing it makes room again.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn fill(&self, left: u64) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).expect("a file on the small disk");
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().expect("its size").len();
        file.set_len(length.saturating_sub(left)).expect("a smaller size");
        path
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When nothing filled it.
    pub fn relieve(&self) {
        fs::remove_file(self.path().join("ballast")).expect("the ballast goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached, because a failed test may still have files open on it.
        let unmounted = unmount(self.directory.path(), UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "the small disk stays mounted");
    }
}
