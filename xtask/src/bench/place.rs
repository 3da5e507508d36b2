//! A folder for one benchmark, on a disk where flushing means something.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// File systems that keep files in memory (`statfs(2)`).
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
/// Names that are tried.
const TRIES: u32 = 100;

/// The folder. Removed at the end, also after a failure.
pub(super) struct Place(PathBuf);

impl Place {
    /// Makes a folder with a short name, since sockets' paths are short.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        let directory = directory.canonicalize().with_context(|| format!("cannot use {}", directory.display()))?;
        let kind =
            rustix::fs::statfs(&directory).with_context(|| format!("cannot tell the file system of {}", directory.display()))?.f_type;
        if [TMPFS, RAMFS].contains(&u64::try_from(kind).unwrap_or_default()) {
            bail!(
                "{} is in memory, where flushing costs nothing, so durable writes cannot be measured there\n  \
                 name a folder on a disk with --directory",
                directory.display()
            );
        }
        for number in 0..TRIES {
            let path = directory.join(format!("fmb{number}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
            }
        }
        bail!("{} is full of earlier benchmarks' folders (fmb0, fmb1, …): remove them", directory.display())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.0).with_context(|| format!("cannot remove {}", self.0.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The failure that brought us here is the one to tell; after `remove` nothing is there.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
