//! Mounts the node makes, and how it gets rid of them.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{MountFlags, UnmountFlags};

/// How often unmounting is tried while something is mounted below.
const UNMOUNT_ROUNDS_MAX: usize = 8;

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Mounts a tmpfs on a directory unless one is there. A size of 0 leaves the kernel's default.
pub(crate) fn tmpfs(path: &Path, bytes: i128, mode: u32) -> std::io::Result<()> {
    if is_mount_point(path) {
        return Ok(());
    }
    let data = CString::new(format!("size={bytes},mode={mode:o}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, data.as_c_str())?;
    Ok(())
}

/// Unmounts everything at or below a directory. An error means that something is still mounted, so
/// that deleting the directory would delete what is behind the mount.
pub(crate) fn unmount_below(directory: &Path) -> std::io::Result<()> {
    for _ in 0..UNMOUNT_ROUNDS_MAX {
        let found = mounted_below(directory)?;
        if found.is_empty() {
            return Ok(());
        }
        // Later mounts lie over earlier ones.
        for path in found.iter().rev() {
            rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
    }
    Err(std::io::Error::other(format!("something is mounted again and again below {}", directory.display())))
}

fn mounted_below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let points = table.split(|&byte| byte == b'\n').filter_map(|line| {
        let field = line.split(|&byte| byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    });
    Ok(points.filter(|point| point.starts_with(directory)).collect())
}

/// The kernel writes blanks and the like as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\'
            && let Some(digits) = tail.get(..3)
            && let Some(value) = std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, 8).ok())
        {
            out.push(value);
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        assert_eq!(unescape(br"/a\040b\134c\x"), br"/a b\c\x");
    }

    #[test]
    fn a_tmpfs_is_mounted_once_and_removed() {
        let place = tempfile::tempdir().expect("a directory");
        let inner = place.path().join("a b");
        fs::create_dir(&inner).expect("made");
        tmpfs(&inner, 1 << 20, 0o777).expect("mounted (needs root)");
        tmpfs(&inner, 1 << 20, 0o777).expect("mounted");
        assert!(is_mount_point(&inner));
        assert_eq!(mounted_below(place.path()).expect("listed"), std::slice::from_ref(&inner));
        unmount_below(place.path()).expect("unmounted");
        assert!(!is_mount_point(&inner));
    }
}
