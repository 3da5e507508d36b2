//! Who made an object and goes down with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

/// References that make `owner` the controller of an object: when it is deleted, the object
/// follows, and a foreground deletion waits for that.
pub(crate) fn references<K: Resource<DynamicType = ()>>(owner: &K) -> Option<Vec<OwnerReference>> {
    let reference = owner.controller_owner_ref(&())?;
    Some(vec![OwnerReference { block_owner_deletion: Some(true), ..reference }])
}

/// The name of the controller of an object, if that is of the given kind.
pub(crate) fn controller<K: Resource<DynamicType = ()>>(object: &impl Resource) -> Option<String> {
    let owners = object.meta().owner_references.as_ref()?;
    let ours =
        |owner: &&OwnerReference| owner.controller == Some(true) && owner.kind == K::kind(&()) && owner.api_version == K::api_version(&());
    owners.iter().find(ours).map(|owner| owner.name.clone())
}

/// Whether exactly this object, and not a namesake before it, is the controller.
pub(crate) fn is_controlled_by(object: &impl Resource, owner: &impl Resource) -> bool {
    let uid = owner.meta().uid.as_deref();
    let owners = object.meta().owner_references.iter().flatten();
    uid.is_some() && owners.into_iter().any(|reference| reference.controller == Some(true) && Some(reference.uid.as_str()) == uid)
}
