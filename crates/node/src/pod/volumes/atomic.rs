//! A directory of small files that changes all at once.
//!
//! As the kubelet does it: the files are in a directory `..<number>`, the link `..data` points at
//! it, and each visible name is a link through `..data`. Replacing that one link switches every
//! file at the same moment, and a reader that holds a file open keeps the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

/// The largest sum of file contents in one volume, in bytes; the API takes objects of 1 MiB.
const PAYLOAD_BYTES_MAX: usize = 32 << 20;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub content: Vec<u8>,
    pub mode: u32,
}

/// Files by their path inside the volume.
pub(crate) type Payload = BTreeMap<PathBuf, File>;

/// Whether a path stays inside the volume and off the names used here.
pub(crate) fn is_inside(path: &Path) -> bool {
    let mut components = path.components();
    !path.as_os_str().is_empty()
        && components.all(|component| match component {
            Component::Normal(name) => !name.to_string_lossy().starts_with(".."),
            _ => false,
        })
}

/// Makes the directory hold exactly these files. Answers whether anything changed.
pub(crate) fn write(directory: &Path, payload: &Payload) -> std::io::Result<bool> {
    let total: usize = payload.values().map(|file| file.content.len()).sum();
    if total > PAYLOAD_BYTES_MAX || !payload.keys().all(|path| is_inside(path)) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "a file path leaves the volume, or the files are larger than 32 MiB together",
        ));
    }
    let data_link = directory.join("..data");
    let current = fs::read_link(&data_link).ok();
    if current.as_ref().is_some_and(|name| is_current(&directory.join(name), payload)) {
        return Ok(false);
    }
    let number = current.as_ref().and_then(|name| name.to_str()?.strip_prefix("..")?.parse::<u64>().ok()).map_or(0, |number| number + 1);
    let fresh_name = format!("..{number}");
    let fresh = directory.join(&fresh_name);
    // Left over from a write that was cut short.
    remove_tree(&fresh)?;
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&target)?;
        handle.write_all(&file.content)?;
        // The mode given to `open` is cut by the umask.
        handle.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    let next_link = directory.join("..data_next");
    if let Err(error) = fs::remove_file(&next_link)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    symlink(&fresh_name, &next_link)?;
    fs::rename(&next_link, &data_link)?;
    relink(directory, payload)?;
    if let Some(old) = current {
        remove_tree(&directory.join(old))?;
    }
    Ok(true)
}

/// Makes the visible names match the payload.
fn relink(directory: &Path, payload: &Payload) -> std::io::Result<()> {
    let tops: BTreeSet<&std::ffi::OsStr> = payload.keys().filter_map(|path| path.components().next().map(Component::as_os_str)).collect();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !tops.contains(name.as_os_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    for top in tops {
        let link = directory.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), &link)?;
        }
    }
    Ok(())
}

fn is_current(directory: &Path, payload: &Payload) -> bool {
    let mut present = 0_usize;
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(path);
                continue;
            }
            present += 1;
            let Ok(inner) = path.strip_prefix(directory) else { return false };
            let same = payload.get(inner).is_some_and(|file| {
                fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o7777 == file.mode)
                    && fs::read(&path).is_ok_and(|found| found == file.content)
            });
            if !same {
                return false;
            }
        }
    }
    present == payload.len()
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(path, content)| (PathBuf::from(path), File { content: content.as_bytes().to_vec(), mode: 0o640 })).collect()
    }

    #[test]
    fn files_change_all_at_once_and_old_ones_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).ok();
        assert!(write(directory.path(), &payload(&[("a", "1"), ("dir/b", "2")])).expect("written"));
        assert_eq!((read("a").as_deref(), read("dir/b").as_deref()), (Some("1"), Some("2")));
        assert!(!write(directory.path(), &payload(&[("a", "1"), ("dir/b", "2")])).expect("written"));
        assert!(write(directory.path(), &payload(&[("a", "3")])).expect("written"));
        assert_eq!((read("a").as_deref(), read("dir/b")), (Some("3"), None));
        let mode = fs::metadata(directory.path().join("a")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // ..data, ..1, a
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 3);
    }

    #[test]
    fn a_write_cut_short_is_taken_up_again() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &payload(&[("a", "1")])).expect("written");
        fs::create_dir(directory.path().join("..1")).expect("made");
        fs::write(directory.path().join("..1/half"), "x").expect("written");
        symlink("..1", directory.path().join("..data_next")).expect("linked");
        assert!(write(directory.path(), &payload(&[("a", "2")])).expect("written"));
        assert_eq!(fs::read_to_string(directory.path().join("a")).expect("a file"), "2");
        assert!(!directory.path().join("half").exists());
    }

    #[test]
    fn paths_out_of_the_volume_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in ["../x", "/x", "a/../../x", "..data", "", "..", "a/./../b"] {
            assert!(write(directory.path(), &payload(&[(path, "x")])).is_err(), "{path}");
        }
    }
}
