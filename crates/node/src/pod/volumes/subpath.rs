//! Opening paths that a tenant named, inside a volume that the tenant fills: whatever links it
//! holds and however they change meanwhile, nothing outside the volume is reached.
//!
//! The kernel resolves the path (`openat2` with `RESOLVE_BENEATH`), and what was opened is pinned
//! by its descriptor: a mount of it cannot be redirected by renaming.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The deepest path that is made inside a volume.
const DEPTH_MAX: usize = 64;

/// Why a path inside a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the path `{path}` leaves the volume; links and `..` may not lead out of it")]
    Escapes { path: String },
    #[error("the path `{path}` is deeper than {DEPTH_MAX} directories")]
    TooDeep { path: String },
    #[error("cannot open `{path}` in the volume")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

fn explain(path: &Path) -> impl Fn(Errno) -> Error + '_ {
    move |errno| {
        let path = path.to_string_lossy().into_owned();
        match errno {
            Errno::XDEV | Errno::LOOP => Error::Escapes { path },
            other => Error::Io { path, source: other.into() },
        }
    }
}

fn resolve() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

fn open_root(volume: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(explain(volume))
}

/// Opens an existing file or directory inside a volume.
pub(crate) fn open_inside(volume: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    let root = open_root(volume)?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve()).map_err(explain(path))
}

/// Opens a directory inside a volume to list it, following no link on the way.
pub(crate) fn open_directory(volume: &Path, path: &Path) -> Result<OwnedFd, Error> {
    let root = open_root(volume)?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve() | ResolveFlags::NO_SYMLINKS).map_err(explain(path))
}

/// Opens `path` inside a volume, making directories that are missing.
fn open_or_make(volume: &Path, path: &Path) -> Result<OwnedFd, Error> {
    match open_inside(volume, path, OFlags::PATH) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut current = open_root(volume)?;
    for (depth, component) in path.components().enumerate() {
        let name = match component {
            Component::Normal(name) => Path::new(name),
            Component::CurDir => continue,
            _ => return Err(Error::Escapes { path: path.to_string_lossy().into_owned() }),
        };
        if depth >= DEPTH_MAX {
            return Err(Error::TooDeep { path: path.to_string_lossy().into_owned() });
        }
        match rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
            // The volume's modes are what the tenant sees; they must not depend on our umask.
            Ok(()) => {
                rustix::fs::chmodat(&current, name, Mode::from_raw_mode(0o777), rustix::fs::AtFlags::empty()).map_err(explain(path))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(explain(path)(errno)),
        }
        // While directories are being made no link is followed at all: a link below one of them
        // would be the tenant's doing just now.
        current = rustix::fs::openat2(
            &current,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            resolve() | ResolveFlags::NO_SYMLINKS,
        )
        .map_err(explain(path))?;
    }
    Ok(current)
}

/// Binds `path` inside a volume to `target`, which the node owns. Does nothing if `target` is
/// bound already.
pub(crate) fn bind(volume: &Path, path: &Path, target: &Path, is_bound: bool) -> Result<(), Error> {
    if is_bound {
        return Ok(());
    }
    let opened = open_or_make(volume, path)?;
    let io = |source| Error::Io { path: target.to_string_lossy().into_owned(), source };
    let pinned = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let is_directory = fs::metadata(&pinned).map_err(io)?.is_dir();
    if is_directory {
        fs::create_dir_all(target).map_err(io)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        fs::File::create(target).map_err(io)?;
    }
    rustix::mount::mount_bind(pinned.as_str(), target).map_err(|errno| io(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn hostile_links_do_not_leave_the_volume() {
        let place = tempfile::tempdir().expect("a directory");
        let volume = place.path().join("volume");
        fs::create_dir_all(volume.join("real/inner")).expect("made");
        fs::write(place.path().join("secret"), "x").expect("written");
        symlink("/etc", volume.join("absolute")).expect("linked");
        symlink("../secret", volume.join("up")).expect("linked");
        symlink("real", volume.join("inside")).expect("linked");
        symlink("/proc/self/root", volume.join("magic")).expect("linked");
        symlink("loop", volume.join("loop")).expect("linked");
        for path in ["absolute/passwd", "absolute", "up", "../secret", "magic/etc", "inside/../../secret", "loop"] {
            let got = open_or_make(&volume, Path::new(path));
            assert!(matches!(got, Err(Error::Escapes { .. })), "{path}: {got:?}");
        }
        for path in ["", "real", "inside/inner", "inside/../real", "fresh/deep/er"] {
            assert!(open_or_make(&volume, Path::new(path)).is_ok(), "{path}");
        }
        assert!(volume.join("fresh/deep/er").is_dir());
        // A missing directory below a link that leads out is not made there.
        assert!(open_or_make(&volume, Path::new("absolute/fermion-test-new")).is_err());
        assert!(!Path::new("/etc/fermion-test-new").exists());
    }

    #[test]
    fn a_bind_survives_the_source_being_swapped() {
        let place = tempfile::tempdir().expect("a directory");
        let (volume, target) = (place.path().join("volume"), place.path().join("target"));
        fs::create_dir_all(volume.join("data")).expect("made");
        fs::write(volume.join("data/mine"), "x").expect("written");
        bind(&volume, Path::new("data"), &target, false).expect("bound (needs root)");
        fs::rename(volume.join("data"), volume.join("old")).expect("moved");
        symlink("/etc", volume.join("data")).expect("linked");
        let names: Vec<_> = fs::read_dir(&target).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
        rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
        assert_eq!(names, ["mine"]);
    }
}
