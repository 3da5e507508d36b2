//! Making the image of a container present, by its pull policy.

use std::collections::BTreeMap;

use base64::Engine as _;
use fermion_api::labels::OFFICIAL_IMAGE_PREFIX;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::env::Needed;
use crate::cri::v1;
use crate::official::Progress;
use crate::shared::Shared;

/// Why an image is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The waiting reason.
    pub reason: &'static str,
    pub message: String,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

fn policy(container: &Container, reference: &str) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ => {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            let latest = !reference.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
            if latest { Policy::Always } else { Policy::IfNotPresent }
        }
    }
}

/// Makes the image present. `tell` hears of progress, `announce` of the beginning of a pull.
/// Answers whether anything had to be fetched.
pub(crate) async fn ensure(
    shared: &Shared,
    namespace: &str,
    spec: &PodSpec,
    container: &Container,
    tell: Progress,
    announce: impl FnOnce(),
) -> Result<bool, Missing> {
    let reference = container.image.as_deref().unwrap_or_default().trim();
    if reference.is_empty() {
        return Err(Missing { reason: "InvalidImageName", message: "the container names no image".to_owned() });
    }
    let policy = policy(container, reference);
    let official = reference.starts_with(OFFICIAL_IMAGE_PREFIX);
    // An official image is never out of date, so its presence is enough.
    if (policy != Policy::Always || official) && is_present(shared, reference).await? {
        return Ok(false);
    }
    if policy == Policy::Never {
        return Err(Missing {
            reason: "ErrImageNeverPull",
            message: format!("image {reference} is not on this machine and imagePullPolicy is Never"),
        });
    }
    announce();
    if official {
        return match shared.images.ensure(reference, tell).await {
            Ok(()) => Ok(true),
            Err(error) => Err(Missing {
                reason: if error.retry { "ErrImagePull" } else { "InvalidImageName" },
                message: format!("cannot make image {reference}: {error}"),
            }),
        };
    }
    let auth = credentials(shared, namespace, spec, reference).await?;
    let request = v1::PullImageRequest { image: Some(image_spec(reference)), auth, sandbox_config: None };
    match shared.cri.pull_image(request).await {
        Ok(_) => Ok(true),
        Err(error) => Err(Missing { reason: "ErrImagePull", message: format!("cannot pull image {reference}: {error}") }),
    }
}

fn image_spec(reference: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: reference.to_owned(), ..v1::ImageSpec::default() }
}

/// What containerd knows of an image.
pub(crate) async fn lookup(shared: &Shared, reference: &str) -> Result<Option<v1::Image>, crate::cri::Error> {
    let request = v1::ImageStatusRequest { image: Some(image_spec(reference)), verbose: false };
    Ok(shared.cri.image_status(request).await?.image)
}

async fn is_present(shared: &Shared, reference: &str) -> Result<bool, Missing> {
    match lookup(shared, reference).await {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.is_unavailable() => Err(Missing { reason: "ImageInspectError", message: error.to_string() }),
        Err(error) => Err(Missing { reason: "InvalidImageName", message: format!("image {reference}: {error}") }),
    }
}

/// The login for the image's registry, from the pod's `imagePullSecrets`.
async fn credentials(shared: &Shared, namespace: &str, spec: &PodSpec, reference: &str) -> Result<Option<v1::AuthConfig>, Missing> {
    let names = spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect();
    let needed = Needed { secrets: names, ..Needed::default() };
    if needed.secrets.is_empty() {
        return Ok(None);
    }
    let sources = shared
        .fetch(namespace, needed)
        .await
        .map_err(|error| Missing { reason: "ErrImagePull", message: format!("cannot read imagePullSecrets: {error}") })?;
    let host = registry_host(reference);
    Ok(sources.secrets.values().flatten().find_map(|secret| {
        let data = secret.data.as_ref()?.get(".dockerconfigjson")?;
        login(&data.0, host)
    }))
}

/// The registry a reference points at.
fn registry_host(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

#[derive(serde::Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerLogin>,
}

#[derive(serde::Deserialize)]
struct DockerLogin {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

fn login(config: &[u8], host: &str) -> Option<v1::AuthConfig> {
    let config: DockerConfig = serde_json::from_slice(config).ok()?;
    let (_, found) = config.auths.into_iter().find(|(server, _)| {
        let server = server.trim_start_matches("https://").trim_start_matches("http://");
        let server = server.split('/').next().unwrap_or_default();
        server == host || (host == "docker.io" && server == "index.docker.io")
    })?;
    if !found.username.is_empty() {
        return Some(v1::AuthConfig { username: found.username, password: found.password, ..Default::default() });
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(found.auth).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(v1::AuthConfig { username: username.to_owned(), password: password.to_owned(), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_follows_the_tag_when_not_set() {
        for (reference, expected) in [
            ("busybox", Policy::Always),
            ("busybox:latest", Policy::Always),
            ("busybox:1", Policy::IfNotPresent),
            ("localhost:5000/busybox", Policy::Always),
            ("localhost:5000/busybox:2", Policy::IfNotPresent),
            ("busybox@sha256:00", Policy::IfNotPresent),
        ] {
            assert_eq!(policy(&Container::default(), reference), expected, "{reference}");
        }
        let never = Container { image_pull_policy: Some("Never".to_owned()), ..Container::default() };
        assert_eq!(policy(&never, "busybox"), Policy::Never);
    }

    #[test]
    fn logins_are_found_by_registry() {
        assert_eq!(registry_host("busybox"), "docker.io");
        assert_eq!(registry_host("team/busybox"), "docker.io");
        assert_eq!(registry_host("quay.io/team/x:1"), "quay.io");
        let config = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnE="}, "quay.io": {"username": "a", "password": "b"}}}"#;
        let found = login(config, "docker.io").expect("a login");
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p:q"));
        assert_eq!(login(config, "quay.io").expect("a login").username, "a");
        assert_eq!(login(config, "ghcr.io"), None);
        assert_eq!(login(b"{", "quay.io"), None);
    }
}
