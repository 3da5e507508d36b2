//! One process, one data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::Error;

/// An exclusive lock on a directory. The kernel drops it when the process ends, however it ends.
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(crate) fn acquire(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("store.lock");
        let failed = |attempted| {
            let path = path.clone();
            move |source| Error::File { attempted, path, source }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open the lock file"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is only a hint for the message; a holder that wrote none stays unnamed.
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(Error::Locked { directory: directory.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => {
                return Err(failed("lock")(source));
            }
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            // The lock holds without it, and a full disk must not keep the store from being read.
            tracing::warn!(path = %path.display(), %error, "cannot write the process number to the lock file");
        }
        Ok(Self { _file: file })
    }
}
