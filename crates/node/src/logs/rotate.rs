//! Putting logs aside before they fill the disk.
//!
//! Sizes are looked at with each housekeeping, so a container that writes very fast can exceed the
//! bound until the next look.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::cri::{Cri, v1};
use crate::pod::Identity;
use crate::pod::container::log_path;
use crate::pod::sandbox::{NODE, POD_UID};
use crate::shared::Shared;

/// Rotates the logs of all containers that run.
pub(crate) async fn rotate_all(shared: &Shared) {
    let request = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            label_selector: HashMap::from([(NODE.to_owned(), shared.name.clone())]),
            state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() }),
            ..Default::default()
        }),
    };
    let running = match shared.cri.list_containers(request).await {
        Ok(reply) => reply.containers,
        Err(error) => {
            tracing::debug!(%error, "cannot look for logs to rotate");
            return;
        }
    };
    let pods = shared.pods.pods();
    for container in running {
        let uid = container.labels.get(POD_UID);
        let Some(pod) = pods.iter().find(|pod| pod.metadata.uid.as_ref() == uid) else { continue };
        let metadata = container.metadata.unwrap_or_default();
        let directory = shared.layout.pod_logs(&Identity::of(pod, &shared.name));
        let current = directory.join(log_path(&metadata.name, metadata.attempt));
        let (bytes_max, files_max) = (shared.limits.log_file_bytes_max, shared.limits.log_files_max);
        if let Err(error) = rotate(&shared.cri, &container.id, &current, bytes_max, files_max).await {
            tracing::warn!(file = %current.display(), %error, "cannot rotate a log");
        }
    }
}

/// Puts a log aside if it is too large, makes containerd write to a new file, and removes the
/// oldest files beyond `files_max`.
pub(crate) async fn rotate(cri: &Cri, container_id: &str, current: &Path, bytes_max: u64, files_max: usize) -> std::io::Result<bool> {
    match fs::metadata(current) {
        Ok(found) if found.len() >= bytes_max => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let aside = aside(current, Timestamp::now());
    fs::rename(current, &aside)?;
    let request = v1::ReopenContainerLogRequest { container_id: container_id.to_owned() };
    if let Err(error) = cri.reopen_container_log(request).await {
        // containerd still writes to the old file: it gets its name back.
        fs::rename(&aside, current)?;
        return Err(std::io::Error::other(error));
    }
    prune(current, files_max)?;
    Ok(true)
}

/// The name of a file put aside at that time; names sort by time.
fn aside(current: &Path, now: Timestamp) -> std::path::PathBuf {
    let mut name = current.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S%.3f").to_string());
    name.into()
}

fn prune(current: &Path, files_max: usize) -> std::io::Result<()> {
    let files = super::files(current)?;
    let excess = files.len().saturating_sub(files_max.max(1));
    for path in files.iter().take(excess) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_go_first() {
        let place = tempfile::tempdir().expect("a directory");
        let current = place.path().join("0.log");
        let at = |second| Timestamp::from_second(second).expect("in range");
        for second in [30, 10, 20] {
            fs::write(aside(&current, at(second)), "x").expect("written");
        }
        fs::write(&current, "x").expect("written");
        prune(&current, 2).expect("pruned");
        let left = super::super::files(&current).expect("listed");
        assert_eq!(left, [aside(&current, at(30)), current]);
    }
}
