//! Pods on this machine.
//!
//! Start at [`worker`]: one task per pod that looks, decides and acts, again and again. What to do
//! is in [`decide`], what to report in [`status`]; both are pure. The other modules are the parts:
//! sandbox, containers, environment, volumes, probes, images, `/etc/hosts`.

mod admit;
mod cards;
pub(crate) mod container;
mod decide;
pub(crate) mod env;
mod handler;
pub(crate) mod hosts;
mod image;
mod observe;
mod probes;
mod registry;
mod resources;
pub(crate) mod sandbox;
mod state;
mod status;
pub(crate) mod steps;
pub(crate) mod volumes;
mod worker;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};

pub use admit::HostAccess;
pub(crate) use observe::timestamp;
pub(crate) use registry::{Registry, watch_pods};
pub(crate) use sandbox::Identity;
pub use state::BackOff;

/// What events about a pod, or one of its containers, refer to.
pub(crate) fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        field_path: container.map(|name| {
            let is_init = pod.spec.iter().any(|spec| spec.init_containers.iter().flatten().any(|container| container.name == name));
            format!("spec.{}{{{name}}}", if is_init { "initContainers" } else { "containers" })
        }),
        ..ObjectReference::default()
    }
}
