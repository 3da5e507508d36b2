//! A small image to test with: the machine's own static busybox (Debian package `busybox-static`),
//! packed as an OCI archive and imported into containerd by its own tool.

use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

/// The image's name.
pub(crate) const IMAGE: &str = "fermion.dev/busybox:latest";
const BUSYBOX: &str = "/bin/busybox";

/// Imports the image into the containerd behind `socket`.
pub(crate) fn import(socket: &Path, scratch: &Path) {
    let archive = scratch.join("busybox.tar");
    std::fs::write(&archive, archive_bytes()).expect("a file for the image");
    let output = Command::new("ctr")
        .args(["--address", &socket.display().to_string(), "--namespace", "k8s.io", "images", "import"])
        .arg(&archive)
        .output()
        .expect("ctr of the Debian package containerd");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn archive_bytes() -> Vec<u8> {
    let layer = layer();
    let layer_digest = digest(&layer);
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    })
    .to_string()
    .into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len(),
        }],
    })
    .to_string()
    .into_bytes();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&manifest),
            "size": manifest.len(),
            "annotations": { "io.containerd.image.name": IMAGE },
        }],
    })
    .to_string();
    let mut archive = tar::Builder::new(Vec::new());
    put(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    put(&mut archive, "index.json", index.as_bytes(), 0o644);
    for blob in [&layer, &config, &manifest] {
        let name = digest(blob).replace(':', "/");
        put(&mut archive, &format!("blobs/{name}"), blob, 0o644);
    }
    archive.into_inner().expect("a whole archive")
}

fn layer() -> Vec<u8> {
    let busybox = std::fs::read(BUSYBOX).unwrap_or_else(|error| {
        panic!("these tests need {BUSYBOX}, of the Debian package busybox-static: {error}");
    });
    let applets = Command::new(BUSYBOX).arg("--list").output().expect("busybox runs").stdout;
    let mut layer = tar::Builder::new(Vec::new());
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755)] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        layer.append_data(&mut header, name, std::io::empty()).expect("in memory");
    }
    put(&mut layer, "bin/busybox", &busybox, 0o755);
    put(&mut layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644);
    for applet in String::from_utf8(applets).expect("names").lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("in memory");
    }
    layer.into_inner().expect("a whole archive")
}

fn put(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, bytes).expect("in memory");
}

fn digest(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}
