//! The pod's volumes as directories of this machine.
//!
//! Every step may be repeated: it finds what an earlier run, or an earlier process, has made.
//! Size limits: `emptyDir` with `medium: Memory` is a tmpfs of its size; the others are directories
//! whose use is measured (see [`usage`](crate::usage)), not enforced by the kernel.

pub(crate) mod atomic;
pub(crate) mod mounts;
pub(crate) mod subpath;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use fermion_api::quantity;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaim, Pod, PodSpec,
    SecretVolumeSource, Volume,
};
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::container::HostMount;
use super::env::{ConfigError, Context, Needed, expand, field, resource};
use super::sandbox::Identity;
use crate::shared::Shared;
use atomic::{File, Payload};

/// Mode of files of ConfigMaps, Secrets and the downward API, unless the pod says otherwise; who
/// may reach them at all is decided by the directory above, which only root enters.
const DEFAULT_FILE_MODE: i32 = 0o644;
/// Size of a tmpfs that holds Secrets, in bytes.
const SECRET_TMPFS_BYTES: i128 = 64 << 20;

/// Why a volume could not be made; shown as `FailedMount`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("volume {volume}: {source}")]
    Config { volume: String, source: ConfigError },
    #[error("volume {volume}: {why}")]
    Claim { volume: String, why: String },
    #[error("volume {volume}: cannot {doing}: {source}")]
    Io { volume: String, doing: &'static str, source: std::io::Error },
    #[error("container {container}: subPath of volume {volume}: {source}")]
    SubPath { container: String, volume: String, source: subpath::Error },
    #[error("container {container} mounts volume {volume}, which the pod does not have")]
    Unknown { container: String, volume: String },
    #[error("cannot read from the API: {0}")]
    Api(#[from] Box<kube::Error>),
}

/// Where each volume of a pod is on this machine.
pub(crate) type Places = BTreeMap<String, PathBuf>;

/// Whether the volume's files follow an object of the API and must be looked after.
pub(crate) fn follows_objects(spec: &PodSpec) -> bool {
    spec.volumes
        .iter()
        .flatten()
        .any(|volume| volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some() || volume.downward_api.is_some())
}

/// Makes every volume of the pod, or brings its files up to date. Answers whether files changed.
pub(crate) async fn make(shared: &Shared, identity: &Identity, pod: &Pod) -> Result<(Places, bool), Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let volumes = spec.volumes.clone().unwrap_or_default();
    let sources = shared.fetch(&identity.namespace, needed(&volumes)).await?;
    let context = Context { pod, sources: &sources, allocatable: &shared.machine.allocatable, host_ip: &shared.address, pod_ips: &[] };
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    let private = shared.layout.pod(&identity.uid);
    let io = |volume: &str, doing: &'static str| {
        let volume = volume.to_owned();
        move |source| Error::Io { volume, doing, source }
    };
    fs::create_dir_all(&private)
        .and_then(|()| fs::set_permissions(&private, fs::Permissions::from_mode(0o700)))
        .map_err(io("(all)", "make the pod's directory"))?;
    let mut places = Places::new();
    let mut changed = false;
    for volume in &volumes {
        let name = volume.name.as_str();
        let place = place(shared, identity, volume).await?;
        let config = |source| Error::Config { volume: name.to_owned(), source };
        if let Some(empty) = &volume.empty_dir {
            empty_dir(&place, empty, &spec, group).map_err(io(name, "make the directory"))?;
        } else if volume.persistent_volume_claim.is_some() {
            shared_directory(&place, group).map_err(io(name, "make the directory"))?;
        } else if let Some(host) = &volume.host_path {
            host_path(&place, host.type_.as_deref().unwrap_or("")).map_err(io(name, "use the host path"))?;
        } else if let Some((payload, secret)) = payload(volume, &spec, &context).map_err(config)? {
            fs::create_dir_all(&place).map_err(io(name, "make the directory"))?;
            if secret {
                mounts::tmpfs(&place, SECRET_TMPFS_BYTES, 0o755).map_err(io(name, "mount a tmpfs"))?;
            }
            let directory = place.clone();
            let written = tokio::task::spawn_blocking(move || atomic::write(&directory, &payload)).await;
            changed |= written.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(io(name, "write its files"))?;
        }
        places.insert(name.to_owned(), place);
    }
    Ok((places, changed))
}

/// Where a volume is on this machine; a claim's is known by the claim, which is bound if need be.
pub(crate) async fn place(shared: &Shared, identity: &Identity, volume: &Volume) -> Result<PathBuf, Error> {
    if let Some(host) = &volume.host_path {
        return Ok(PathBuf::from(&host.path));
    }
    let Some(reference) = &volume.persistent_volume_claim else {
        return Ok(shared.layout.volume(&identity.uid, &volume.name));
    };
    let wrong = |why: String| Error::Claim { volume: volume.name.clone(), why };
    let name = &reference.claim_name;
    let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &identity.namespace);
    let claim = api
        .get_opt(name)
        .await
        .map_err(Box::new)?
        .ok_or_else(|| wrong(format!("the PersistentVolumeClaim {name} does not exist; create it")))?;
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    if !crate::layout::is_component(&uid) {
        return Err(wrong(format!("the PersistentVolumeClaim {name} has no usable uid")));
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase != "Bound" {
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(wrong(format!("the PersistentVolumeClaim {name} is being deleted")));
        }
        bind_claim(&api, &claim).await?;
    }
    Ok(shared.layout.claim(&identity.namespace, &uid))
}

/// The first pod that uses a claim binds it: its data is on this machine from then on.
async fn bind_claim(api: &Api<PersistentVolumeClaim>, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let capacity = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let patch = serde_json::json!({
        "metadata": { "uid": claim.metadata.uid },
        "status": { "phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity },
    });
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(Box::new)?;
    Ok(())
}

fn empty_dir(place: &Path, empty: &EmptyDirVolumeSource, spec: &PodSpec, group: Option<i64>) -> std::io::Result<()> {
    if empty.medium.as_deref() == Some("Memory") {
        fs::create_dir_all(place)?;
        let limit = empty.size_limit.as_ref().map(quantity::units).or_else(|| memory_limit(spec));
        // 0 leaves the kernel's default, half of the memory.
        mounts::tmpfs(place, limit.unwrap_or(0), 0o777)?;
    }
    shared_directory(place, group)
}

/// What the pod's containers may use together, if each has a limit.
fn memory_limit(spec: &PodSpec) -> Option<i128> {
    spec.containers.iter().map(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory").map(quantity::units)).sum()
}

/// A directory that every user of the pod may write to; with `fsGroup`, that group.
fn shared_directory(place: &Path, group: Option<i64>) -> std::io::Result<()> {
    let is_new = !place.exists();
    if is_new {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o700))?;
        }
        fs::create_dir(place)?;
    }
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        chown(place, None, Some(group))?;
        fs::set_permissions(place, fs::Permissions::from_mode(0o2775))?;
    } else if is_new || mounts::is_mount_point(place) {
        fs::set_permissions(place, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

fn host_path(place: &Path, kind: &str) -> std::io::Result<()> {
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(place),
        "FileOrCreate" => fs::OpenOptions::new().create(true).append(true).open(place).map(drop),
        _ => fs::metadata(place).map(drop),
    }
}

/// The ConfigMaps and Secrets that volumes are made from.
fn needed(volumes: &[Volume]) -> Needed {
    let mut needed = Needed::default();
    for volume in volumes {
        needed.config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
        needed.secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            needed.config_maps.extend(source.config_map.as_ref().map(|source| source.name.clone()));
            needed.secrets.extend(source.secret.as_ref().map(|source| source.name.clone()));
        }
    }
    needed
}

/// The files of a volume that is made from objects, and whether they are secret.
fn payload(volume: &Volume, spec: &PodSpec, context: &Context<'_>) -> Result<Option<(Payload, bool)>, ConfigError> {
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        config_map(source, context, &mut payload)?;
        return Ok(Some((payload, false)));
    }
    if let Some(source) = &volume.secret {
        secret(source, context, &mut payload)?;
        return Ok(Some((payload, true)));
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_FILE_MODE);
        downward(source.items.as_deref().unwrap_or_default(), mode, spec, context, &mut payload)?;
        return Ok(Some((payload, false)));
    }
    let Some(projected) = &volume.projected else { return Ok(None) };
    let default_mode = projected.default_mode;
    for part in projected.sources.iter().flatten() {
        if let Some(map) = &part.config_map {
            let source = ConfigMapVolumeSource { name: map.name.clone(), items: map.items.clone(), optional: map.optional, default_mode };
            config_map(&source, context, &mut payload)?;
        }
        if let Some(own) = &part.secret {
            let source =
                SecretVolumeSource { secret_name: Some(own.name.clone()), items: own.items.clone(), optional: own.optional, default_mode };
            secret(&source, context, &mut payload)?;
        }
        if let Some(source) = &part.downward_api {
            let mode = default_mode.unwrap_or(DEFAULT_FILE_MODE);
            downward(source.items.as_deref().unwrap_or_default(), mode, spec, context, &mut payload)?;
        }
    }
    Ok(Some((payload, true)))
}

fn config_map(source: &ConfigMapVolumeSource, context: &Context<'_>, payload: &mut Payload) -> Result<(), ConfigError> {
    let optional = source.optional.unwrap_or(false);
    let Some(map) = context.sources.config_map(&source.name, optional)? else { return Ok(()) };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    let data = text.chain(binary).collect();
    let mode = source.default_mode.unwrap_or(DEFAULT_FILE_MODE);
    select(("ConfigMap", &source.name), data, source.items.as_deref(), mode, optional, payload)
}

fn secret(source: &SecretVolumeSource, context: &Context<'_>, payload: &mut Payload) -> Result<(), ConfigError> {
    let optional = source.optional.unwrap_or(false);
    let name = source.secret_name.as_deref().unwrap_or_default();
    let Some(found) = context.sources.secret(name, optional)? else { return Ok(()) };
    let data = found.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    let mode = source.default_mode.unwrap_or(DEFAULT_FILE_MODE);
    select(("Secret", name), data, source.items.as_deref(), mode, optional, payload)
}

/// Every key under its own name, or the items asked for under theirs.
fn select(
    (kind, name): (&'static str, &str),
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    payload: &mut Payload,
) -> Result<(), ConfigError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let all = data.into_iter().map(|(key, content)| (PathBuf::from(key), File { content, mode: bits(mode) }));
        payload.extend(all);
        return Ok(());
    };
    for item in items {
        let Some(content) = data.get_mut(&item.key) else {
            if optional {
                continue;
            }
            return Err(ConfigError::MissingKey { kind, name: name.to_owned(), key: item.key.clone() });
        };
        put(payload, &item.path, content.clone(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

fn downward(
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    spec: &PodSpec,
    context: &Context<'_>,
    payload: &mut Payload,
) -> Result<(), ConfigError> {
    for item in items {
        let text = if let Some(reference) = &item.field_ref {
            field(&reference.field_path, context)
        } else if let Some(reference) = &item.resource_field_ref {
            let name = reference.container_name.as_deref().unwrap_or_default();
            super::state::containers(spec)
                .find(|(_, container)| container.name == name)
                .ok_or_else(|| format!("the pod has no container {name}"))
                .and_then(|(_, container)| resource(reference, container, context.allocatable))
        } else {
            Err("the item names neither a field nor a resource".to_owned())
        };
        let text = text.map_err(|why| ConfigError::Other(format!("file {}: {why}", item.path)))?;
        put(payload, &item.path, text.into_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

fn put(payload: &mut Payload, path: &str, content: Vec<u8>, mode: i32) -> Result<(), ConfigError> {
    let path = PathBuf::from(path);
    if !atomic::is_inside(&path) {
        return Err(ConfigError::Other(format!("the file path `{}` leaves the volume", path.display())));
    }
    payload.insert(path, File { content, mode: bits(mode) });
    Ok(())
}

fn bits(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o777
}

/// What of the volumes a container sees, its subPaths bound.
pub(crate) fn container_mounts(
    shared: &Shared,
    identity: &Identity,
    container: &Container,
    places: &Places,
    environment: &[(String, String)],
) -> Result<Vec<HostMount>, Error> {
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let place =
            places.get(&mount.name).ok_or_else(|| Error::Unknown { container: container.name.clone(), volume: mount.name.clone() })?;
        let value_of = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => Some(path.clone()),
            (_, Some(expression)) if !expression.is_empty() => Some(expand(expression, value_of)),
            _ => None,
        };
        let host_path = match sub_path {
            None => place.clone(),
            Some(path) => {
                let target = shared.layout.subpath(&identity.uid, &container.name, index);
                let is_bound = mounts::is_mount_point(&target);
                subpath::bind(place, Path::new(&path), &target, is_bound).map_err(|source| Error::SubPath {
                    container: container.name.clone(),
                    volume: mount.name.clone(),
                    source,
                })?;
                target
            }
        };
        mounts.push(HostMount {
            host_path: host_path.to_string_lossy().into_owned(),
            container_path: mount.mount_path.clone(),
            readonly: mount.read_only.unwrap_or(false),
        });
    }
    // A path below another must be mounted after it.
    mounts.sort_by(|a, b| a.container_path.cmp(&b.container_path));
    Ok(mounts)
}

/// Unmounts and removes all that the disk holds of a pod, but for claims and logs.
pub(crate) fn remove(shared: &Shared, uid: &str) -> std::io::Result<()> {
    let directory = shared.layout.pod(uid);
    mounts::unmount_below(&directory)?;
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::env::Sources;
    use serde_json::json;

    fn files(volume: serde_json::Value) -> Result<Vec<(String, String, u32)>, String> {
        let volume: Volume = serde_json::from_value(volume).expect("a volume");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]},
        }))
        .expect("a pod");
        let mut sources = Sources::default();
        let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "Mw=="}});
        sources.config_maps.insert("map".to_owned(), serde_json::from_value(map).expect("a map"));
        let secret = json!({"data": {"word": "c2VzYW1l"}});
        sources.secrets.insert("secret".to_owned(), serde_json::from_value(secret).expect("a secret"));
        let allocatable = Default::default();
        let context = Context { pod: &pod, sources: &sources, allocatable: &allocatable, host_ip: "", pod_ips: &[] };
        let spec = pod.spec.clone().expect("a spec");
        let (payload, _) = payload(&volume, &spec, &context).map_err(|error| error.to_string())?.expect("files");
        let text = |(path, file): (PathBuf, File)| {
            (path.to_string_lossy().into_owned(), String::from_utf8(file.content).expect("text"), file.mode)
        };
        Ok(payload.into_iter().map(text).collect())
    }

    fn listed(list: &[(&str, &str, u32)]) -> Result<Vec<(String, String, u32)>, String> {
        Ok(list.iter().map(|(path, content, mode)| ((*path).to_owned(), (*content).to_owned(), *mode)).collect())
    }

    #[test]
    fn volumes_hold_what_their_sources_say() {
        let whole = files(json!({"name": "v", "configMap": {"name": "map"}}));
        assert_eq!(whole, listed(&[("a", "1", 0o644), ("b", "2", 0o644), ("c", "3", 0o644)]));
        let items = json!([{"key": "a", "path": "x/y", "mode": 0o400}]);
        let some = files(json!({"name": "v", "configMap": {"name": "map", "items": items}}));
        assert_eq!(some, listed(&[("x/y", "1", 0o400)]));
        let secret = files(json!({"name": "v", "secret": {"secretName": "secret", "defaultMode": 0o400}}));
        assert_eq!(secret, listed(&[("word", "sesame", 0o400)]));
        let projected = files(json!({"name": "v", "projected": {"sources": [
            {"secret": {"name": "secret"}},
            {"downwardAPI": {"items": [
                {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
            ]}},
        ]}}));
        assert_eq!(projected, listed(&[("cpu", "2", 0o644), ("name", "p", 0o644), ("word", "sesame", 0o644)]));
        assert_eq!(files(json!({"name": "v", "configMap": {"name": "none", "optional": true}})), listed(&[]));
    }

    #[test]
    fn what_a_volume_lacks_is_named() {
        for (volume, text) in [
            (json!({"configMap": {"name": "none"}}), "ConfigMap none does not exist in the namespace"),
            (json!({"secret": {"secretName": "secret", "items": [{"key": "x", "path": "x"}]}}), "Secret secret has no key x"),
            (json!({"configMap": {"name": "map", "items": [{"key": "a", "path": "../x"}]}}), "the file path `../x` leaves the volume"),
            (
                json!({"downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {"containerName": "d", "resource": "limits.cpu"}}]}}),
                "file cpu: the pod has no container d",
            ),
        ] {
            let mut volume = volume;
            volume["name"] = json!("v");
            assert_eq!(files(volume), Err(text.to_owned()));
        }
    }
}
