//! Reading a file of a pod's volume, also after its containers have ended: metrics, results.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use rustix::fs::OFlags;

use super::query::Query;
use super::{Refusal, find_container, find_pod};
use crate::pod::Identity;
use crate::pod::volumes::{self, subpath};
use crate::shared::Shared;

/// The most that is read of a file, in bytes.
const BYTES_MAX: u64 = 16 << 20;
/// The whole file's size, in bytes.
const SIZE: HeaderName = HeaderName::from_static("x-fermion-file-size");

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod_name, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let wanted = query.get("path").ok_or_else(|| Refusal::bad_request("give the path of a file in the container"))?;
    let tail: u64 = query.number("tailBytes")?.unwrap_or(BYTES_MAX).min(BYTES_MAX);
    let pod = find_pod(&shared, &namespace, &pod_name)?;
    let container = find_container(&pod, &container)?;
    let (mount, inner) = locate(container, wanted)?;
    let root = volume_root(&shared, &pod, &mount.name).await?;
    let shown = wanted.to_owned();
    let read = tokio::task::spawn_blocking(move || read_tail(&root, &inner, tail, &shown)).await;
    let (size, bytes) = read.map_err(|panic| Refusal::internal(panic.to_string()))??;
    let mut response = bytes.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(SIZE, HeaderValue::from(size));
    Ok(response)
}

/// The mount that a path of the container lies on, and the path inside its volume.
fn locate<'a>(container: &'a Container, wanted: &str) -> Result<(&'a VolumeMount, PathBuf), Refusal> {
    let wanted = FilePath::new(wanted);
    let plain = wanted.is_absolute() && wanted.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !plain {
        return Err(Refusal::bad_request("the path must be absolute and without `..`"));
    }
    let mount = container
        .volume_mounts
        .iter()
        .flatten()
        .filter(|mount| wanted.starts_with(&mount.mount_path))
        .max_by_key(|mount| FilePath::new(&mount.mount_path).components().count())
        .ok_or_else(|| {
            Refusal::bad_request(format!(
                "{} is on no volume of container {}; only files on volumes can be read",
                wanted.display(),
                container.name
            ))
        })?;
    if mount.sub_path_expr.as_deref().is_some_and(|expression| !expression.is_empty()) {
        return Err(Refusal::bad_request("files on a mount with subPathExpr cannot be read"));
    }
    let rest = wanted.strip_prefix(&mount.mount_path).unwrap_or(wanted);
    let inner = match mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
        Some(sub_path) => FilePath::new(sub_path).join(rest),
        None => rest.to_owned(),
    };
    Ok((mount, inner))
}

async fn volume_root(shared: &Shared, pod: &Pod, name: &str) -> Result<PathBuf, Refusal> {
    let identity = Identity::of(pod, &shared.name);
    let volume = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .find(|volume| volume.name == name)
        .ok_or_else(|| Refusal::not_found(format!("the pod has no volume {name}")))?;
    volumes::place(shared, &identity, volume).await.map_err(|error| Refusal::not_found(error.to_string()))
}

fn read_tail(root: &FilePath, inner: &FilePath, tail: u64, shown: &str) -> Result<(u64, Vec<u8>), Refusal> {
    let opened = subpath::open_inside(root, inner, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| match error {
        subpath::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Refusal::not_found(format!("there is no file {shown}"))
        }
        other => Refusal::bad_request(other.to_string()),
    })?;
    let mut file = std::fs::File::from(opened);
    let broken = |error: std::io::Error| Refusal::internal(format!("cannot read {shown}: {error}"));
    let found = file.metadata().map_err(broken)?;
    if !found.is_file() {
        return Err(Refusal::bad_request(format!("{shown} is not a regular file")));
    }
    let size = found.len();
    file.seek(SeekFrom::Start(size.saturating_sub(tail))).map_err(broken)?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes).map_err(broken)?;
    Ok((size, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_found_on_the_innermost_mount() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c",
            "volumeMounts": [
                {"name": "data", "mountPath": "/data"},
                {"name": "inner", "mountPath": "/data/inner", "subPath": "sub/dir"},
            ],
        }))
        .expect("a container");
        for (path, expected) in [
            ("/data/a", Some(("data", "a"))),
            ("/data/inner/a", Some(("inner", "sub/dir/a"))),
            ("/data/innermost", Some(("data", "innermost"))),
            ("/data", Some(("data", ""))),
            ("/database/a", None),
            ("/etc/passwd", None),
            ("data/a", None),
            ("/data/../etc/passwd", None),
        ] {
            let got = locate(&container, path).ok();
            let got = got.as_ref().map(|(mount, inner)| (mount.name.as_str(), inner.to_str().expect("text")));
            assert_eq!(got, expected, "{path}");
        }
    }

    #[test]
    fn only_regular_files_inside_the_volume_are_read() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("volume");
        std::fs::create_dir(&root).expect("made");
        std::fs::write(root.join("metrics"), "0123456789").expect("written");
        symlink("metrics", root.join("link")).expect("linked");
        symlink("/etc/passwd", root.join("out")).expect("linked");
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("made");
        let read = |name: &str, tail| read_tail(&root, FilePath::new(name), tail, name).map_err(|refusal| refusal.code.as_u16());
        assert_eq!(read("metrics", 4), Ok((10, b"6789".to_vec())));
        assert_eq!(read("link", 99), Ok((10, b"0123456789".to_vec())));
        assert_eq!(read("out", 4), Err(400));
        assert_eq!(read("pipe", 4), Err(400));
        assert_eq!(read("", 4), Err(400));
        assert_eq!(read("none", 4), Err(404));
    }
}
