//! Clearing away what nobody needs any more: dead containers, old sandboxes, directories and
//! cgroups of pods that are gone, images when the disk fills, data of deleted claims.
//!
//! Invariant: nothing is removed on the word of a list that may be incomplete. Pods count as gone
//! only after the API has sent them all once, claims only after they were missing for a while.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use fermion_api::labels::OFFICIAL_IMAGE_PREFIX;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::ListParams;

use crate::cri::{Error, v1};
use crate::pod::container::log_path;
use crate::pod::sandbox::{CONTAINER_NAME, NODE, POD_UID};
use crate::pod::{Identity, steps, volumes};
use crate::shared::Shared;

/// Ended attempts of a container that are kept, for `logs --previous`.
const DEAD_KEPT: usize = 1;

/// Remembers what was seen to be unused.
#[derive(Default)]
pub(crate) struct Collector {
    /// When the data of a claim was first seen without its claim.
    orphaned_claims: HashMap<(String, String), Instant>,
}

impl Collector {
    /// One round.
    pub(crate) async fn collect(&mut self, shared: &Arc<Shared>) {
        if let Err(error) = containers(shared).await {
            tracing::warn!(%error, "cannot clear away dead containers");
        }
        if shared.pods.is_complete() {
            directories(shared);
        }
        if let Err(error) = images(shared).await {
            tracing::warn!(%error, "cannot clear away unused images");
        }
        if let Err(error) = self.claims(shared).await {
            tracing::warn!(%error, "cannot look for deleted claims");
        }
    }

    async fn claims(&mut self, shared: &Shared) -> Result<(), kube::Error> {
        let present = claim_directories(shared);
        if present.is_empty() {
            return Ok(());
        }
        let api: Api<PersistentVolumeClaim> = Api::all(shared.client.clone());
        let known: HashSet<(String, String)> = api
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .filter_map(|claim| Some((claim.metadata.namespace?, claim.metadata.uid?)))
            .collect();
        self.orphaned_claims.retain(|key, _| present.contains(key) && !known.contains(key));
        for key in present.into_iter().filter(|key| !known.contains(key)) {
            let since = *self.orphaned_claims.entry(key.clone()).or_insert_with(Instant::now);
            if since.elapsed() < shared.limits.claim_retention {
                continue;
            }
            let directory = shared.layout.claim(&key.0, &key.1);
            tracing::info!(directory = %directory.display(), "removing the data of a deleted claim");
            if let Err(error) = fs::remove_dir_all(&directory) {
                tracing::warn!(directory = %directory.display(), %error, "cannot remove the data of a deleted claim");
            }
        }
        Ok(())
    }
}

/// Namespace and claim uid of every claim with data here.
fn claim_directories(shared: &Shared) -> HashSet<(String, String)> {
    let names = |directory| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let mut found = HashSet::new();
    for namespace in names(shared.layout.claims()) {
        for uid in names(shared.layout.claims().join(&namespace)) {
            found.insert((namespace.clone(), uid));
        }
    }
    found
}

/// Removes ended attempts beyond the last, their logs, and sandboxes that were replaced.
async fn containers(shared: &Shared) -> Result<(), Error> {
    let ours = HashMap::from([(NODE.to_owned(), shared.name.clone())]);
    let request = v1::ListContainersRequest { filter: Some(v1::ContainerFilter { label_selector: ours.clone(), ..Default::default() }) };
    let listed = shared.cri.list_containers(request).await?.containers;
    let mut by_name: BTreeMap<(String, String), Vec<v1::Container>> = BTreeMap::new();
    for container in listed {
        let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
        by_name.entry((label(POD_UID), label(CONTAINER_NAME))).or_default().push(container);
    }
    let mut sandboxes_needed: HashSet<String> = HashSet::new();
    for ((uid, name), mut attempts) in by_name {
        attempts.sort_by_key(|container| std::cmp::Reverse(attempt(container)));
        for (index, container) in attempts.iter().enumerate() {
            let ended = container.state() == v1::ContainerState::ContainerExited;
            // The newest is what the status tells of, whether or not it runs.
            if index <= DEAD_KEPT || !ended {
                sandboxes_needed.insert(container.pod_sandbox_id.clone());
                continue;
            }
            let request = v1::RemoveContainerRequest { container_id: container.id.clone() };
            shared.cri.remove_container(request).await?;
            remove_log(shared, &uid, &name, attempt(container));
        }
    }
    let request = v1::ListPodSandboxRequest { filter: Some(v1::PodSandboxFilter { label_selector: ours, ..Default::default() }) };
    let sandboxes = shared.cri.list_pod_sandbox(request).await?.items;
    let mut newest: HashMap<String, u32> = HashMap::new();
    for sandbox in &sandboxes {
        let known = newest.entry(sandbox_uid(sandbox)).or_default();
        *known = (*known).max(sandbox_attempt(sandbox));
    }
    for sandbox in sandboxes {
        let replaced = newest.get(&sandbox_uid(&sandbox)).is_some_and(|newest| sandbox_attempt(&sandbox) < *newest);
        let dead = sandbox.state() == v1::PodSandboxState::SandboxNotready;
        if replaced && dead && !sandboxes_needed.contains(&sandbox.id) {
            steps::remove_sandbox(shared, &sandbox.id).await?;
        }
    }
    Ok(())
}

fn attempt(container: &v1::Container) -> u32 {
    container.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
}

fn sandbox_uid(sandbox: &v1::PodSandbox) -> String {
    sandbox.labels.get(POD_UID).cloned().unwrap_or_default()
}

fn sandbox_attempt(sandbox: &v1::PodSandbox) -> u32 {
    sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
}

fn remove_log(shared: &Shared, uid: &str, container: &str, attempt: u32) {
    let pods = shared.pods.pods();
    let Some(pod) = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(uid)) else { return };
    let current = shared.layout.pod_logs(&Identity::of(pod, &shared.name)).join(log_path(container, attempt));
    for file in crate::logs::files(&current).unwrap_or_default() {
        if let Err(error) = fs::remove_file(&file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), %error, "cannot remove an old log");
        }
    }
}

/// Removes directories and cgroups of pods that are not here any more.
fn directories(shared: &Shared) {
    let names = |directory| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    for uid in names(shared.layout.pods()) {
        if !shared.pods.has(&uid)
            && let Err(error) = volumes::remove(shared, &uid)
        {
            tracing::warn!(uid, %error, "cannot remove the volumes of a pod that is gone");
        }
    }
    for name in names(shared.layout.logs()) {
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !shared.pods.has(uid) {
            let directory = shared.layout.logs().join(&name);
            if let Err(error) = fs::remove_dir_all(&directory) {
                tracing::warn!(directory = %directory.display(), %error, "cannot remove the logs of a pod that is gone");
            }
        }
    }
    for name in crate::cgroups::children(&shared.cgroup_parent) {
        if let Some(uid) = name.strip_prefix("pod")
            && !shared.pods.has(uid)
        {
            crate::cgroups::remove(&shared.pod_cgroup(uid));
        }
    }
}

/// Removes unused images, the largest first, while the disk is too full. Official ones stay: no
/// registry has them.
async fn images(shared: &Shared) -> Result<(), Error> {
    let too_full =
        || crate::usage::disk_fill(shared.layout.home()).is_some_and(|(percent, _)| percent >= shared.limits.image_disk_percent_max);
    if !too_full() {
        return Ok(());
    }
    let containers = shared.cri.list_containers(v1::ListContainersRequest::default()).await?.containers;
    let used: HashSet<String> =
        containers.into_iter().flat_map(|container| [container.image_ref, container.image.unwrap_or_default().image]).collect();
    let mut images = shared.cri.list_images(v1::ListImagesRequest::default()).await?.images;
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    for image in images {
        let names = || image.repo_tags.iter().chain(&image.repo_digests);
        let official = names().any(|name| name.starts_with(OFFICIAL_IMAGE_PREFIX));
        let in_use = image.pinned || used.contains(&image.id) || names().any(|name| used.contains(name));
        if official || in_use {
            continue;
        }
        tracing::info!(image = image.id, bytes = image.size, "removing an unused image: the disk is filling");
        let spec = v1::ImageSpec { image: image.id.clone(), ..v1::ImageSpec::default() };
        shared.cri.remove_image(v1::RemoveImageRequest { image: Some(spec) }).await?;
        if !too_full() {
            break;
        }
    }
    Ok(())
}
