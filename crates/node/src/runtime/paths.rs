//! Where the runtime keeps what, under `FERMION_HOME`.

use std::path::{Path, PathBuf};

use super::Error;

/// The longest path that a unix socket address holds (`sun_path` without its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// containerd puts a second socket beside the first, with this ending.
const SECOND_SOCKET_SUFFIX: &str = ".ttrpc";

/// The files of one home's runtime.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    home: PathBuf,
}

impl Paths {
    /// Refuses a home that containerd cannot use.
    pub(crate) fn new(home: &Path) -> Result<Self, Error> {
        let home = std::path::absolute(home).map_err(|source| Error::Home { home: home.to_owned(), source })?;
        let paths = Self { home };
        if paths.home.to_str().is_none() {
            return Err(Error::HomeNotText { home: paths.home });
        }
        let bytes = paths.socket().as_os_str().len() + SECOND_SOCKET_SUFFIX.len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(Error::HomeTooLong { over: bytes - SOCKET_PATH_BYTES_MAX, home: paths.home });
        }
        Ok(paths)
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Everything that means nothing after the machine was started anew.
    pub(crate) fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// Held by whoever supervises or tears down this home's containerd.
    pub(crate) fn lock(&self) -> PathBuf {
        self.home.join("runtime.lock")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run().join("containerd.sock")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run().join("containerd.pid")
    }

    pub(crate) fn boot_id(&self) -> PathBuf {
        self.run().join("boot-id")
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.run().join("containerd.toml")
    }

    /// containerd's volatile state, mounts of the containers included.
    pub(crate) fn state(&self) -> PathBuf {
        self.run().join("containerd")
    }

    pub(crate) fn runc_root(&self) -> PathBuf {
        self.run().join("runc")
    }

    pub(crate) fn cni_configuration(&self) -> PathBuf {
        self.run().join("cni/net.d")
    }

    /// Which addresses are taken.
    pub(crate) fn cni_addresses(&self) -> PathBuf {
        self.run().join("cni/addresses")
    }

    /// Images and the containers' file systems.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.join("containerd")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("logs/containerd.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_too_long_for_a_socket_is_refused_with_the_reason() {
        let home = PathBuf::from(format!("/{}", "h".repeat(90)));
        let error = Paths::new(&home).expect_err("the socket path would be too long");
        assert!(error.to_string().contains("10 bytes too long"), "{error}");
        assert!(Paths::new(Path::new("/var/lib/fermion")).is_ok());
    }
}
