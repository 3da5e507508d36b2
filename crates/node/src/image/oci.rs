//! The OCI image format: what a config, a manifest and an index say, and the archive in which
//! containerd takes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Layers are not compressed: they are read from the local disk, and unpacking is then twice as fast.
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// The annotation from which containerd takes an imported image's name.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The file that says of which version an image layout is.
pub(crate) const LAYOUT_MARK: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Content by its digest, as manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What of an image makes up the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    schema_version: u32,
    media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// How containers of an image run when their pod says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunSettings {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Config {
    architecture: String,
    os: String,
    #[serde(rename = "config")]
    run: RunSettings,
    rootfs: RootFs,
}

#[derive(Serialize, Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

/// A whole image: two small documents and the layers, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Manifest,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) config_bytes: Vec<u8>,
}

impl Image {
    /// Puts an image together. No layer is compressed, so a layer's digest is also its diff id.
    pub(crate) fn new(settings: RunSettings, layers: Vec<Descriptor>) -> Self {
        let config_bytes = to_json(&Config {
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            run: settings,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: layers.iter().map(|layer| layer.digest.clone()).collect() },
        });
        let manifest =
            Manifest { schema_version: 2, media_type: MANIFEST_TYPE.to_owned(), config: describe(CONFIG_TYPE, &config_bytes), layers };
        Self { manifest_bytes: to_json(&manifest), manifest, config_bytes }
    }

    /// The digest by which the image is known.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest_bytes)
    }

    /// The name under which containerd keeps all layers unpacked, one over the other.
    pub(crate) fn chain_id(&self) -> String {
        let mut layers = self.manifest.layers.iter().map(|layer| layer.digest.clone());
        let lowest = layers.next().unwrap_or_default();
        layers.fold(lowest, |chain, layer| sha256(format!("{chain} {layer}").as_bytes()))
    }

    /// The bytes of all of its parts together.
    pub(crate) fn size_bytes(&self) -> u64 {
        let layers: u64 = self.manifest.layers.iter().map(|layer| layer.size).sum();
        self.manifest_bytes.len() as u64 + self.manifest.config.size + layers
    }

    /// The index of a layout that holds this image alone.
    pub(crate) fn index_bytes(&self, reference: &str) -> Vec<u8> {
        let mut manifest = describe(MANIFEST_TYPE, &self.manifest_bytes);
        manifest.annotations.insert(NAME_ANNOTATION.to_owned(), reference.to_owned());
        to_json(&Index { schema_version: 2, media_type: INDEX_TYPE, manifests: vec![manifest] })
    }

    /// Writes the archive that `ctr images import` reads. `layer` opens a layer by its digest.
    pub(crate) fn write_archive(
        &self,
        reference: &str,
        to: impl Write,
        mut layer: impl FnMut(&str) -> std::io::Result<Box<dyn Read>>,
    ) -> std::io::Result<()> {
        let mut archive = tar::Builder::new(to);
        append(&mut archive, "oci-layout", LAYOUT_MARK.as_bytes())?;
        append(&mut archive, "index.json", &self.index_bytes(reference))?;
        for bytes in [&self.manifest_bytes, &self.config_bytes] {
            append(&mut archive, &blob_name(&sha256(bytes)), bytes)?;
        }
        let mut written = std::collections::BTreeSet::new();
        for descriptor in &self.manifest.layers {
            if written.insert(&descriptor.digest) {
                let mut header = file_header(descriptor.size);
                archive.append_data(&mut header, blob_name(&descriptor.digest), layer(&descriptor.digest)?)?;
            }
        }
        archive.into_inner()?.flush()
    }
}

/// A layer whose content is in memory.
pub(crate) fn describe_layer(bytes: &[u8]) -> Descriptor {
    describe(LAYER_TYPE, bytes)
}

/// A layer of which digest and size are known.
pub(crate) fn layer_descriptor(digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: LAYER_TYPE.to_owned(), digest, size, annotations: BTreeMap::new() }
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest: sha256(bytes), size: bytes.len() as u64, annotations: BTreeMap::new() }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("string keys and plain values always become JSON")
}

/// The header of a file that is the same whenever it is written.
fn file_header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    archive.append_data(&mut file_header(bytes.len() as u64), name, bytes)
}

/// The name of a part of an image inside a layout: `blobs/sha256/…`.
pub(crate) fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// This machine's architecture, in the words of the OCI format.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `sha256:…` of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    spelled(Sha256::digest(bytes).as_slice())
}

/// `sha256:…` of a file, and its length.
pub(crate) fn sha256_of_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut hashing = HashingWriter::new(std::io::sink());
    std::io::copy(&mut File::open(path)?, &mut hashing)?;
    let (_, digest, size) = hashing.finish();
    Ok((digest, size))
}

fn spelled(hash: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(hash))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Counts and hashes what passes through.
pub(crate) struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    pub(crate) fn finish(self) -> (W, String, u64) {
        (self.inner, spelled(self.hash.finalize().as_slice()), self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Reads an image's documents back from a layout's folder, and checks them.
pub(crate) fn read_image(layout: &Path, manifest_digest: &str) -> std::io::Result<Image> {
    let manifest_bytes = read_blob(layout, manifest_digest)?;
    let manifest: Manifest = serde_json::from_slice(&manifest_bytes)?;
    let config_bytes = read_blob(layout, &manifest.config.digest)?;
    Ok(Image { manifest, manifest_bytes, config_bytes })
}

impl Image {
    /// How containers of it run, as its config says.
    pub(crate) fn settings(&self) -> std::io::Result<RunSettings> {
        Ok(serde_json::from_slice::<Config>(&self.config_bytes)?.run)
    }
}

fn read_blob(layout: &Path, digest: &str) -> std::io::Result<Vec<u8>> {
    let bytes = std::fs::read(blob_path(layout, digest)?)?;
    if sha256(&bytes) == digest { Ok(bytes) } else { Err(std::io::Error::other(format!("{digest} does not hold what its name says"))) }
}

/// Where a layout keeps a part; refuses a digest that is none.
pub(crate) fn blob_path(layout: &Path, digest: &str) -> std::io::Result<PathBuf> {
    let hash = digest.strip_prefix("sha256:").unwrap_or_default();
    if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(layout.join(blob_name(digest)))
    } else {
        Err(std::io::Error::other(format!("{digest:?} is no digest")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_make_the_same_image() {
        let make = || Image::new(RunSettings::default(), vec![describe_layer(b"layer")]);
        assert_eq!(make().digest(), make().digest());
        assert_eq!(make().index_bytes("a/b:c"), make().index_bytes("a/b:c"));
    }

    #[test]
    fn a_digest_that_is_a_path_is_refused() {
        for digest in ["sha256:../../etc/passwd", "", "md5:00", "sha256:"] {
            assert!(blob_path(Path::new("/layout"), digest).is_err(), "{digest}");
        }
    }

    #[test]
    fn an_archive_holds_every_part_once() {
        let image = Image::new(RunSettings::default(), vec![describe_layer(b"one"), describe_layer(b"two"), describe_layer(b"one")]);
        let mut bytes = Vec::new();
        image
            .write_archive("fermion.dev/x:latest", &mut bytes, |digest| {
                let content: &[u8] = if digest == sha256(b"one") { b"one" } else { b"two" };
                Ok(Box::new(content))
            })
            .unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names.len(), 6, "{names:?}");
    }
}
