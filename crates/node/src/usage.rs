//! What volumes take on disk, measured by walking them.
//!
//! Nothing here stops a write: a directory cannot have a size limit on every file system. A claim
//! that holds more than it asked for says so in its conditions and events; a pod whose `emptyDir`
//! is over its `sizeLimit` is evicted.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fermion_api::quantity;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, PersistentVolumeClaimCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rustix::fs::{AtFlags, FileType};

use crate::events::Severity;
use crate::pod::Identity;
use crate::pod::volumes::subpath;
use crate::shared::Shared;
use crate::stats::VolumeStats;

/// The most files that are looked at in one volume; what is beyond is not counted, and that is said.
const ENTRIES_MAX: usize = 1_000_000;
/// Blocks of `stat` are of this many bytes.
const BLOCK_BYTES: u64 = 512;
/// Measuring may take this part of the time at most, however large volumes are.
const EFFORT_DIVISOR: u32 = 20;
/// Condition of a claim: its data fits what it asked for.
const WITHIN_CAPACITY: &str = "fermion.dev/WithinCapacity";
/// A measured size is written when it moved by this part of the capacity.
const REPORT_DIVISOR: i128 = 100;

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    bytes: u64,
    /// There was more than could be counted.
    partial: bool,
}

/// Measures when it is time, and remembers.
#[derive(Default)]
pub(crate) struct Meter {
    next_at: Option<Instant>,
    /// What was last written of each claim, by uid.
    reported: BTreeMap<String, i128>,
}

impl Meter {
    /// Measures the volumes of all pods here, unless it was done so recently that it would take
    /// too much of the machine.
    pub(crate) async fn measure(&mut self, shared: &Arc<Shared>) {
        let begun = Instant::now();
        if self.next_at.is_some_and(|at| begun < at) {
            return;
        }
        let mut claims: BTreeMap<(String, String), Use> = BTreeMap::new();
        for pod in shared.pods.pods() {
            if fermion_api::pod::ended(&pod) {
                continue;
            }
            let identity = Identity::of(&pod, &shared.name);
            let mut found = Vec::new();
            self.measure_empty_dirs(shared, &pod, &identity, &mut found).await;
            for (volume, claim) in claims_of(&pod) {
                let key = (identity.namespace.clone(), claim);
                let used = if let Some(used) = claims.get(&key) {
                    *used
                } else {
                    let Some(used) = self.measure_claim(shared, &key.0, &key.1).await else { continue };
                    claims.insert(key, used);
                    used
                };
                found.push(VolumeStats { name: volume, used_bytes: used.bytes });
            }
            shared.pods.set_volume_use(&identity.uid, found);
        }
        self.next_at = Some(Instant::now() + begun.elapsed() * EFFORT_DIVISOR);
    }

    async fn measure_empty_dirs(&self, shared: &Shared, pod: &Pod, identity: &Identity, found: &mut Vec<VolumeStats>) {
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(empty) = &volume.empty_dir else { continue };
            let place = shared.layout.volume(&identity.uid, &volume.name);
            let Some(used) = walk(place).await else { continue };
            found.push(VolumeStats { name: volume.name.clone(), used_bytes: used.bytes });
            // A tmpfs is kept to its size by the kernel.
            let on_disk = empty.medium.as_deref() != Some("Memory");
            let limit = empty.size_limit.as_ref().filter(|_| on_disk).map(quantity::units);
            if let Some(limit) = limit.filter(|limit| i128::from(used.bytes) > *limit) {
                let message = format!(
                    "emptyDir {} holds {}, more than its sizeLimit of {}",
                    volume.name,
                    shown(i128::from(used.bytes)),
                    shown(limit)
                );
                shared.pods.evict(&identity.uid, message);
            }
        }
    }

    async fn measure_claim(&mut self, shared: &Shared, namespace: &str, name: &str) -> Option<Use> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), namespace);
        let claim = match api.get_opt(name).await {
            Ok(claim) => claim?,
            Err(error) => {
                tracing::warn!(namespace, name, %error, "cannot read a claim to report its size");
                return None;
            }
        };
        let uid = claim.metadata.uid.clone().filter(|uid| crate::layout::is_component(uid))?;
        let used = walk(shared.layout.claim(namespace, &uid)).await?;
        if let Err(error) = self.report(shared, &api, &claim, &uid, used).await {
            tracing::warn!(namespace, name, %error, "cannot write a claim's size");
        }
        Some(used)
    }

    async fn report(
        &mut self,
        shared: &Shared,
        api: &Api<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        uid: &str,
        used: Use,
    ) -> Result<(), kube::Error> {
        let status = claim.status.clone().unwrap_or_default();
        let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get("storage")).map_or(0, quantity::units);
        let bytes = i128::from(used.bytes);
        let within = bytes <= capacity;
        let mut conditions = status.conditions.unwrap_or_default();
        let known = conditions.iter().position(|condition| condition.type_ == WITHIN_CAPACITY);
        let known_status = known.map(|index| conditions[index].status.clone());
        let status_text = if within { "True" } else { "False" };
        let moved = self.reported.get(uid).is_none_or(|last| (last - bytes).abs() * REPORT_DIVISOR > capacity);
        if known_status.as_deref() == Some(status_text) && !moved {
            return Ok(());
        }
        let at_least = if used.partial { "at least " } else { "" };
        let message = format!("holds {at_least}{} of {}", shown(bytes), shown(capacity));
        let now = Some(Time(jiff::Timestamp::now()));
        let turned = known_status.as_deref() != Some(status_text);
        let last_transition_time =
            if turned { now.clone() } else { known.and_then(|index| conditions[index].last_transition_time.clone()) };
        let condition = PersistentVolumeClaimCondition {
            type_: WITHIN_CAPACITY.to_owned(),
            status: status_text.to_owned(),
            reason: Some(if within { "Fits" } else { "OverRequest" }.to_owned()),
            message: Some(message.clone()),
            last_probe_time: now,
            last_transition_time,
        };
        match known {
            Some(index) => conditions[index] = condition,
            None => conditions.push(condition),
        }
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let patch = serde_json::json!({ "metadata": { "uid": uid }, "status": { "conditions": conditions } });
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.reported.insert(uid.to_owned(), bytes);
        if turned && !within {
            let about = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                name: claim.metadata.name.clone(),
                namespace: claim.metadata.namespace.clone(),
                uid: claim.metadata.uid.clone(),
                ..ObjectReference::default()
            };
            let text = format!("the claim {message}; delete data or ask for more");
            shared.events.record(about, Severity::Warning, "OverRequest", text);
        }
        Ok(())
    }
}

fn shown(bytes: i128) -> String {
    quantity::format("storage", bytes * 1000)
}

/// Each volume of the pod that is a claim, with the claim's name.
fn claims_of(pod: &Pod) -> Vec<(String, String)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some((volume.name.clone(), volume.persistent_volume_claim.as_ref()?.claim_name.clone()))).collect()
}

async fn walk(root: PathBuf) -> Option<Use> {
    tokio::task::spawn_blocking(move || disk_use(&root)).await.ok().flatten()
}

/// What a directory takes on disk; links are not followed and other file systems not entered. Its
/// owner may move things about meanwhile, so every directory is opened from the root without links.
fn disk_use(root: &Path) -> Option<Use> {
    let device = fs::symlink_metadata(root).ok()?.dev();
    let mut found = Use { bytes: 0, partial: false };
    let mut entries = 0_usize;
    let mut linked: HashSet<u64> = HashSet::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inner) = waiting.pop() {
        // What vanished while we look takes no room.
        let Ok(directory) = subpath::open_directory(root, &inner) else { continue };
        let Ok(listing) = rustix::fs::Dir::read_from(&directory) else { continue };
        for entry in listing.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            entries += 1;
            if entries > ENTRIES_MAX {
                found.partial = true;
                return Some(found);
            }
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            if stat.st_dev != device || (stat.st_nlink > 1 && !is_directory && !linked.insert(stat.st_ino)) {
                continue;
            }
            found.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES;
            if is_directory {
                waiting.push(inner.join(name));
            }
        }
    }
    Some(found)
}

/// How full the disk with this path is, in percent, and its size in bytes.
pub(crate) fn disk_fill(path: &Path) -> Option<(u8, u64)> {
    let found = rustix::fs::statvfs(path).ok()?;
    let total = found.f_blocks * found.f_frsize;
    // As `df` counts: of what ordinary users could have.
    let usable = found.f_blocks - found.f_bfree + found.f_bavail;
    let used = found.f_blocks - found.f_bfree;
    let percent = (used * 100).checked_div(usable).map_or(0, |percent| u8::try_from(percent).unwrap_or(100));
    Some((percent, total))
}

/// How long a loop waits at least between two measurements.
pub(crate) const MEASURE_INTERVAL_MIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_use_counts_each_file_once_and_follows_no_link() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("volume");
        fs::create_dir_all(root.join("inner")).expect("made");
        fs::write(place.path().join("outside"), vec![1_u8; 1 << 20]).expect("written");
        let empty = disk_use(&root).expect("a directory").bytes;
        fs::write(root.join("inner/file"), vec![1_u8; 100 << 10]).expect("written");
        fs::hard_link(root.join("inner/file"), root.join("again")).expect("linked");
        std::os::unix::fs::symlink(place.path().join("outside"), root.join("link")).expect("linked");
        let used = disk_use(&root).expect("a directory");
        assert!(!used.partial);
        let grown = used.bytes - empty;
        assert!((100 << 10..200 << 10).contains(&grown), "{grown}");
        assert_eq!(disk_use(&place.path().join("none")), None);
    }
}
