//! A layer of an image: the difference that a build left in a folder, as a tar archive.
//!
//! In a folder that was the upper one of an overlay a device 0/0 means "removed" and an attribute
//! means "nothing below shows through"; in an archive names starting with `.wh.` say so.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::oci::{Descriptor, HashingWriter, layer_descriptor};

/// The time given to files that a build made: not the time of the build, so that the same content
/// makes the same layer. 2024-01-01 in UTC. Files that came with a time keep it.
const BUILD_MTIME: u64 = 1_704_067_200;
/// Before a name: what has it in the layers below is removed.
const REMOVED_PREFIX: &str = ".wh.";
/// In a folder: nothing of the layers below shows in it.
const OPAQUE_NAME: &str = ".wh..wh..opq";
/// The same on an overlay's upper folder.
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// Before an extended attribute's name in an archive.
const ATTRIBUTE_PREFIX: &str = "SCHILY.xattr.";
/// The largest extended attribute (the kernel's own bound).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;
/// How deep folders may lie in one another.
const DEPTH_MAX: usize = 128;
const BUFFER_BYTES: usize = 1 << 20;

/// What is left out of every layer: what belongs to the machine, to the build or to caches. The
/// folders themselves stay.
const EMPTIED: &[&str] = &[
    "dev",
    "proc",
    "root/.cache",
    "run",
    "sys",
    "tmp",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
    "var/tmp",
    // Where packages come from is the machine's own matter; it may even hold passwords.
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/auth.conf.d",
    "etc/apt/sources.list.d",
];
/// Files that are left out of every layer.
const LEFT_OUT: &[&str] = &[
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/auth.conf",
    "etc/apt/sources.list",
    "var/lib/apt/extended_states.lock",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
];
/// Files that are there but empty: whoever runs the image writes or mounts over them.
const BLANKED: &[&str] = &["etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf"];

/// Writes a build's folder as a layer, in the order of names. Files that changed at or after
/// `build_start` (seconds since 1970) count as made by the build.
pub(crate) fn pack(folder: &Path, build_start: u64, to: &Path) -> std::io::Result<Descriptor> {
    let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(to)?);
    let mut packer = Packer { archive: tar::Builder::new(HashingWriter::new(file)), build_start, first_names: HashMap::new() };
    packer.folder(folder, Path::new(""), 0)?;
    let (mut file, digest, size) = packer.archive.into_inner()?.finish();
    file.flush()?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(layer_descriptor(digest, size))
}

struct Packer<W: Write> {
    archive: tar::Builder<W>,
    build_start: u64,
    /// Files with more than one name, by device and inode.
    first_names: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn folder(&mut self, on_disk: &Path, name: &Path, depth: usize) -> std::io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(std::io::Error::other(format!("{} lies too deep", on_disk.display())));
        }
        if is_listed(EMPTIED, name) {
            return Ok(());
        }
        let mut entries = fs::read_dir(on_disk)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = name.join(entry.file_name());
            if !is_listed(LEFT_OUT, &name) {
                self.entry(&entry.path(), &name, depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, on_disk: &Path, name: &Path, depth: usize) -> std::io::Result<()> {
        let data = fs::symlink_metadata(on_disk)?;
        let kind = data.file_type();
        let mut header = self.header(&data);
        if kind.is_char_device() && data.rdev() == 0 {
            return self.removed(name);
        }
        if kind.is_dir() {
            self.attributes(on_disk)?;
            header.set_entry_type(tar::EntryType::Directory);
            self.archive.append_data(&mut header, name, std::io::empty())?;
            if attribute(on_disk, OPAQUE_ATTRIBUTE)?.is_some_and(|value| value == b"y") {
                self.mark(&name.join(OPAQUE_NAME))?;
            }
            return self.folder(on_disk, name, depth + 1);
        }
        if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            return self.archive.append_link(&mut header, name, fs::read_link(on_disk)?);
        }
        if !kind.is_file() {
            // Sockets, pipes and devices are a running system's, not an image's.
            return Ok(());
        }
        if data.nlink() > 1 {
            match self.first_names.entry((data.dev(), data.ino())) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    header.set_entry_type(tar::EntryType::Link);
                    return self.archive.append_link(&mut header, name, first.get());
                }
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(name.to_owned());
                }
            }
        }
        self.attributes(on_disk)?;
        header.set_entry_type(tar::EntryType::Regular);
        if is_listed(BLANKED, name) {
            header.set_mode(0o644);
            return self.archive.append_data(&mut header, name, std::io::empty());
        }
        header.set_size(data.len());
        self.archive.append_data(&mut header, name, File::open(on_disk)?)
    }

    fn header(&self, data: &fs::Metadata) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_mode(data.mode() & 0o7777);
        header.set_uid(u64::from(data.uid()));
        header.set_gid(u64::from(data.gid()));
        let mtime = u64::try_from(data.mtime()).unwrap_or_default();
        header.set_mtime(if mtime >= self.build_start { BUILD_MTIME } else { mtime });
        header.set_size(0);
        header
    }

    fn removed(&mut self, name: &Path) -> std::io::Result<()> {
        let mut marked = std::ffi::OsString::from(REMOVED_PREFIX);
        marked.push(name.file_name().unwrap_or_default());
        self.mark(&name.with_file_name(marked))
    }

    /// An empty file whose name says something.
    fn mark(&mut self, name: &Path) -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0);
        header.set_mtime(BUILD_MTIME);
        header.set_size(0);
        self.archive.append_data(&mut header, name, std::io::empty())
    }

    /// Writes the extended attributes that belong to the next entry, such as file capabilities.
    fn attributes(&mut self, on_disk: &Path) -> std::io::Result<()> {
        let mut found = Vec::new();
        for name in attribute_names(on_disk)? {
            if (name.starts_with("user.") || name == "security.capability")
                && let Some(value) = attribute(on_disk, &name)?
            {
                found.push((format!("{ATTRIBUTE_PREFIX}{name}"), value));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        self.archive.append_pax_extensions(found.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
    }
}

fn is_listed(list: &[&str], name: &Path) -> bool {
    list.iter().any(|listed| Path::new(listed) == name)
}

fn attribute_names(path: &Path) -> std::io::Result<Vec<String>> {
    let mut bytes = vec![0; ATTRIBUTE_BYTES_MAX];
    match rustix::fs::llistxattr(path, &mut bytes) {
        Ok(length) => bytes.truncate(length),
        Err(rustix::io::Errno::NOTSUP) => bytes.clear(),
        Err(errno) => return Err(errno.into()),
    }
    Ok(bytes.split(|byte| *byte == 0).filter_map(|name| str::from_utf8(name).ok()).map(str::to_owned).collect())
}

fn attribute(path: &Path, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; ATTRIBUTE_BYTES_MAX];
    match rustix::fs::lgetxattr(path, name, &mut bytes) {
        Ok(length) => {
            bytes.truncate(length);
            Ok(Some(bytes))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn read(archive: &Path) -> BTreeMap<String, (tar::Header, String)> {
        let mut archive = tar::Archive::new(File::open(archive).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let name = entry.path().unwrap().display().to_string();
            (name, (entry.header().clone(), text))
        });
        entries.collect()
    }

    #[test]
    fn a_layer_holds_no_trace_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["etc/apt/sources.list.d/host.sources", "etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/sources.list"] {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), "http://user:password@mirror").unwrap();
        }
        for path in ["etc/resolv.conf", "run/secret", "tmp/secret", "root/.cache/pip"] {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), "secret").unwrap();
        }
        fs::write(folder.path().join("etc/kept"), "kept").unwrap();
        let archive = folder.path().with_extension("tar");
        pack(folder.path(), 0, &archive).unwrap();
        let entries = read(&archive);
        fs::remove_file(&archive).unwrap();
        let with_text: Vec<&str> = entries.iter().filter(|(_, (_, text))| !text.is_empty()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(with_text, ["etc/kept"]);
        assert!(entries.contains_key("etc/resolv.conf") && entries.contains_key("run"), "{:?}", entries.keys());
        assert!(!entries.keys().any(|name| name.contains("secret") || name.ends_with("sources")), "{:?}", entries.keys());
    }

    #[test]
    fn the_same_content_makes_the_same_layer_whenever_it_is_built() {
        let make = |age_s: u64| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("made");
            fs::write(&file, "content").unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000 + age_s);
            File::open(&file).unwrap().set_modified(time).unwrap();
            let old = folder.path().join("with-its-own-time");
            fs::write(&old, "content").unwrap();
            let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            File::open(&old).unwrap().set_modified(long_ago).unwrap();
            fs::hard_link(&file, folder.path().join("second-name")).unwrap();
            let archive = folder.path().with_extension("tar");
            let made = pack(folder.path(), 2000, &archive).unwrap();
            let entries = read(&archive);
            fs::remove_file(&archive).unwrap();
            assert_eq!(entries["with-its-own-time"].0.mtime().unwrap(), 1000);
            assert_eq!(entries["made"].0.mtime().unwrap(), BUILD_MTIME);
            assert_eq!(entries["second-name"].0.entry_type(), tar::EntryType::Link);
            made.digest
        };
        assert_eq!(make(0), make(1000));
    }

    #[test]
    fn what_a_build_removed_is_marked() {
        assert!(rustix::process::geteuid().is_root(), "making devices takes root");
        let folder = tempfile::tempdir().unwrap();
        let upper = folder.path().join("upper");
        fs::create_dir_all(upper.join("opaque")).unwrap();
        rustix::fs::setxattr(upper.join("opaque"), OPAQUE_ATTRIBUTE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, upper.join("removed"), kind, rustix::fs::Mode::empty(), 0).unwrap();
        let archive = folder.path().join("layer.tar");
        pack(&upper, 0, &archive).unwrap();
        let names: Vec<String> = read(&archive).into_keys().collect();
        assert_eq!(names, [".wh.removed", "opaque", "opaque/.wh..wh..opq"]);
    }
}
