//! `fermion start-container`: makes one call to containerd for a server, and lives as long as
//! that takes. People never type it.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use fermion_node::{StartHelper, start_for_another};

/// The program that runs now, also when its file was replaced by a newer one meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

#[derive(Debug, clap::Args)]
pub(crate) struct StartContainerArgs {
    /// containerd's socket
    socket: PathBuf,
    /// Id of the container
    id: String,
}

/// How the node runs this.
pub(super) fn helper() -> StartHelper {
    StartHelper { program: THIS_PROGRAM.into(), arguments: vec!["start-container".into()] }
}

pub(crate) async fn start_container(arguments: StartContainerArgs) -> anyhow::Result<()> {
    let answer = start_for_another(&arguments.socket, arguments.id).await;
    let line = serde_json::to_string(&answer).context("cannot write the answer as JSON")?;
    match writeln!(std::io::stdout().lock(), "{line}") {
        // The server is gone; its successor sees for itself.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the answer"),
    }
}
