//! Handing an image to containerd, and asking whether it has it.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::process::Stdio;
use std::time::Duration;

use super::oci::Image;
use crate::cri::{self, Cri, v1};
use crate::runtime::ToolError;
use crate::runtime::tool::Tool;

/// The containerd namespace in which CRI looks for images.
pub(crate) const NAMESPACE: &str = "k8s.io";
/// What keeps the layers unpacked.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";
/// How long containerd may take to take in and unpack one image.
const IMPORT_TIMEOUT: Duration = Duration::from_mins(15);
/// How long CRI may take to notice an image that containerd has.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is asked meanwhile.
const VISIBLE_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of the archive is handed over at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Why an image is not in containerd.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// `ctr` could not be run, or failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The image's parts could not be read or handed over.
    #[error("could not hand over the image's parts")]
    Parts(#[source] std::io::Error),
    /// CRI could not be asked.
    #[error("could not ask for the image")]
    Cri(#[from] cri::Error),
    /// containerd took it and yet does not show it.
    #[error("containerd did not show the image within {} s", VISIBLE_TIMEOUT.as_secs())]
    NotVisible,
}

/// Whether containerd has just this image under the name, as pods would find it.
pub(crate) async fn is_present(cri: &Cri, reference: &str, image: &Image) -> Result<bool, cri::Error> {
    let request =
        v1::ImageStatusRequest { image: Some(v1::ImageSpec { image: reference.to_owned(), ..Default::default() }), verbose: false };
    let found = cri.image_status(request).await?.image;
    // CRI knows an image by the digest of its config.
    Ok(found.is_some_and(|found| found.id == image.manifest.config.digest))
}

/// Brings an image into containerd, unpacked and visible to CRI. `layer` opens a layer by digest.
pub(crate) async fn import(
    cri: &Cri,
    reference: &str,
    image: Image,
    layer: impl FnMut(&str) -> std::io::Result<Box<dyn Read>> + Send + 'static,
) -> Result<(), ImportError> {
    let done = tokio::time::timeout(IMPORT_TIMEOUT, hand_over(cri, reference, image.clone(), layer));
    done.await.map_err(|_| {
        ImportError::Tool(ToolError::TimedOut {
            command: format!("ctr images import of {reference}"),
            after: IMPORT_TIMEOUT,
            tail: Vec::new(),
        })
    })??;
    let visible = async {
        while !is_present(cri, reference, &image).await? {
            tokio::time::sleep(VISIBLE_LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(VISIBLE_TIMEOUT, visible).await.map_err(|_| ImportError::NotVisible)?
}

async fn hand_over(
    cri: &Cri,
    reference: &str,
    image: Image,
    layer: impl FnMut(&str) -> std::io::Result<Box<dyn Read>> + Send + 'static,
) -> Result<(), ImportError> {
    let tool = Tool::new("ctr").arg("--address").arg(cri.socket()).args([
        "--namespace",
        NAMESPACE,
        "images",
        "import",
        "--snapshotter",
        "overlayfs",
        "-",
    ]);
    let mut child = tool
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| tool.start_error(source))?;
    let stdin = child.stdin.take().expect("it was started with a pipe").into_owned_fd().map_err(ImportError::Parts)?;
    let name = reference.to_owned();
    // If we stop waiting, `ctr` is killed and the writer ends with a broken pipe.
    let writer = tokio::task::spawn_blocking(move || {
        let pipe = BufWriter::with_capacity(BUFFER_BYTES, File::from(stdin));
        image.write_archive(&name, pipe, layer)
    });
    let output = child.wait_with_output().await.map_err(|source| tool.start_error(source))?;
    let written = writer.await.map_err(|error| ImportError::Parts(std::io::Error::other(error)))?;
    if !output.status.success() {
        return Err(ImportError::Tool(ToolError::Failed {
            command: tool.command_line(),
            status: output.status,
            tail: String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect(),
        }));
    }
    written.map_err(ImportError::Parts)
}
