//! Built images on disk, in the layout of the OCI: once in the home, and once more in a cache that
//! all homes of the user share, so that a second home need not build what the first one built.
//! Where both are on one file system the parts are there only once (hard links).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::oci::{self, Descriptor, Image};

/// How many builds of one name are kept, so that going back to an earlier recipe is quick.
const KEPT_OF_EACH: usize = 3;
/// How old something must be to be removed.
const PRUNED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// One folder of built images.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// What is written down of an image that was built.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    manifest: String,
}

impl Store {
    /// Makes the folder be there.
    pub(crate) fn open(root: &Path) -> std::io::Result<Self> {
        for folder in ["blobs/sha256", "builds", "locks"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let mark = root.join("oci-layout");
        if !mark.exists() {
            write_whole(&mark, oci::LAYOUT_MARK.as_bytes())?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The image that was built under a key, if all of it is here.
    pub(crate) fn find(&self, key: &str) -> Option<Image> {
        let text = fs::read(self.record(key)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let image = oci::read_image(&self.root, &record.manifest).ok()?;
        let complete = image.manifest.layers.iter().all(|layer| self.holds(layer));
        complete.then_some(image)
    }

    /// Whether a part is here in its full length.
    pub(crate) fn holds(&self, part: &Descriptor) -> bool {
        oci::blob_path(&self.root, &part.digest).and_then(fs::metadata).is_ok_and(|data| data.len() == part.size)
    }

    /// The file of a part.
    pub(crate) fn blob(&self, digest: &str) -> std::io::Result<PathBuf> {
        oci::blob_path(&self.root, digest)
    }

    /// Takes in a layer that was just written to a file on the same file system.
    pub(crate) fn take_layer(&self, layer: &Descriptor, file: &Path) -> std::io::Result<()> {
        fs::rename(file, self.blob(&layer.digest)?)
    }

    /// Writes down an image whose layers are here.
    pub(crate) fn record_image(&self, key: &str, name: &str, image: &Image) -> std::io::Result<()> {
        for bytes in [&image.config_bytes, &image.manifest_bytes] {
            write_whole(&self.blob(&oci::sha256(bytes))?, bytes)?;
        }
        let record = Record { name: name.to_owned(), manifest: image.digest() };
        write_whole(&self.record(key), &serde_json::to_vec(&record)?)
    }

    /// Takes an image over from another store. What is copied or linked is what it says it is: every
    /// part is read and its digest checked.
    pub(crate) fn take_over(&self, from: &Self, key: &str, name: &str) -> std::io::Result<Option<Image>> {
        let Some(image) = from.find(key) else {
            return Ok(None);
        };
        for layer in &image.manifest.layers {
            if self.holds(layer) {
                continue;
            }
            let source = from.blob(&layer.digest)?;
            if oci::sha256_of_file(&source)? != (layer.digest.clone(), layer.size) {
                tracing::warn!(image = name, layer = layer.digest, "a cached layer is damaged; the image is built anew");
                fs::remove_file(&source)?;
                return Ok(None);
            }
            link_or_copy(&source, &self.blob(&layer.digest)?)?;
        }
        self.record_image(key, name, &image)?;
        Ok(Some(image))
    }

    /// Waits until nobody else builds under this key, in whatever process, and keeps others out.
    pub(crate) fn lock(&self, key: &str) -> std::io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(self.root.join("locks").join(key))?;
        file.lock()?;
        Ok(file)
    }

    /// Removes images that newer ones have replaced, and the parts that no image needs.
    /// What is younger than a day stays: another process may be about to need it.
    pub(crate) fn prune(&self, now: jiff::Timestamp) -> std::io::Result<()> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.root.join("builds"))? {
            let path = entry?.path();
            let Some(record) = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok()) else {
                continue;
            };
            records.push((fs::metadata(&path)?.modified()?, path, record));
        }
        // The newest first.
        records.sort_by_key(|(written, ..)| std::cmp::Reverse(*written));
        let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
        let mut needed = BTreeSet::new();
        for (written, path, record) in &records {
            let count = kept.entry(&record.name).or_default();
            *count += 1;
            if *count > KEPT_OF_EACH && is_older(*written, now) {
                fs::remove_file(path)?;
            } else if let Ok(image) = oci::read_image(&self.root, &record.manifest) {
                needed.extend(image.manifest.layers.into_iter().map(|layer| layer.digest));
                needed.extend([record.manifest.clone(), image.manifest.config.digest]);
            }
        }
        for entry in fs::read_dir(self.root.join("blobs/sha256"))? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !needed.contains(&digest) && is_older(entry.metadata()?.modified()?, now) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn record(&self, key: &str) -> PathBuf {
        self.root.join("builds").join(format!("{key}.json"))
    }
}

fn is_older(time: std::time::SystemTime, now: jiff::Timestamp) -> bool {
    jiff::Timestamp::try_from(time).is_ok_and(|time| now.duration_since(time) > PRUNED_AFTER)
}

fn link_or_copy(source: &Path, target: &Path) -> std::io::Result<()> {
    // A part of the wrong length may be in the way: what an interrupted copy left.
    let new = target.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if fs::hard_link(source, &new).is_err() {
        fs::copy(source, &new)?;
        File::open(&new)?.sync_all()?;
    }
    fs::rename(new, target)
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::oci::RunSettings;

    const KEY: &str = "key";

    fn store_with_image(folder: &Path, content: &[u8]) -> (Store, Image) {
        let store = Store::open(folder).unwrap();
        let layer = oci::describe_layer(content);
        let file = folder.join("layer.tar");
        fs::write(&file, content).unwrap();
        store.take_layer(&layer, &file).unwrap();
        let image = Image::new(RunSettings::default(), vec![layer]);
        store.record_image(KEY, "name", &image).unwrap();
        (store, image)
    }

    #[test]
    fn a_second_store_takes_over_what_the_first_built() {
        let folder = tempfile::tempdir().unwrap();
        let (one, image) = store_with_image(&folder.path().join("one"), b"layer");
        let other = Store::open(&folder.path().join("other")).unwrap();
        assert!(other.find(KEY).is_none());
        let taken = other.take_over(&one, KEY, "name").unwrap().expect("it is there");
        assert_eq!(taken.digest(), image.digest());
        assert_eq!(other.find(KEY).expect("it is here now").digest(), image.digest());
    }

    #[test]
    fn a_damaged_layer_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let (one, image) = store_with_image(&folder.path().join("one"), b"layer");
        fs::write(one.blob(&image.manifest.layers[0].digest).unwrap(), b"lay3r").unwrap();
        let other = Store::open(&folder.path().join("other")).unwrap();
        assert!(other.take_over(&one, KEY, "name").unwrap().is_none());
        assert!(other.find(KEY).is_none());
        assert!(one.find(KEY).is_none(), "the damaged part is gone, so that it is built anew");
    }

    #[test]
    fn only_what_was_replaced_long_ago_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, image) = store_with_image(folder.path(), b"shared");
        let layer = image.manifest.layers[0].clone();
        let mut images = vec![image];
        for number in 0..4 {
            let own = oci::describe_layer(&[number]);
            fs::write(store.blob(&own.digest).unwrap(), [number]).unwrap();
            let image = Image::new(RunSettings::default(), vec![layer.clone(), own]);
            store.record_image(&format!("key{number}"), "name", &image).unwrap();
            let age = std::time::Duration::from_secs(u64::from(10 - number));
            File::open(store.record(&format!("key{number}"))).unwrap().set_modified(std::time::UNIX_EPOCH - age).unwrap();
            images.push(image);
        }
        let now = jiff::Timestamp::now();
        store.prune(now).unwrap();
        assert!(store.find(KEY).is_some() && store.find("key3").is_some() && store.find("key2").is_some());
        assert!(store.find("key1").is_none() && store.find("key0").is_none());
        assert!(store.holds(&images[1].manifest.layers[1]), "it is too young to go");
        store.prune(now + jiff::SignedDuration::from_hours(25)).unwrap();
        assert!(!store.holds(&images[1].manifest.layers[1]));
        assert!(store.holds(&layer) && store.find("key3").is_some());
    }

    #[test]
    fn an_image_with_a_part_missing_or_cut_short_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let (store, image) = store_with_image(folder.path(), b"layer");
        assert!(store.find(KEY).is_some());
        let blob = store.blob(&image.manifest.layers[0].digest).unwrap();
        fs::write(&blob, b"lay").unwrap();
        assert!(store.find(KEY).is_none());
        fs::remove_file(&blob).unwrap();
        assert!(store.find(KEY).is_none());
    }
}
