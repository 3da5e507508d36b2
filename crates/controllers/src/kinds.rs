//! The kinds that are owned, collected and emptied out of namespaces.

use fermion_api::registry::{self, Access};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{ApiGroup, Discovery, Scope, verbs};
use kube::{Client, Resource};

use crate::error::Error;

/// A kind, as far as it can be handled without knowing its fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
}

impl Kind {
    fn core<K: Resource<DynamicType = ()>>(namespaced: bool) -> Self {
        Self { resource: ApiResource::erase::<K>(&()), namespaced }
    }

    /// Whether an owner reference means this kind. The version may be another one of the group.
    pub(crate) fn is_meant_by(&self, api_version: &str, kind: &str) -> bool {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.resource.kind == kind && self.resource.group == group
    }
}

/// Every kind that people and controllers write. Owners come before what they own, so that
/// emptying in this order does not make controllers replace what is being removed.
pub(crate) fn all() -> Vec<Kind> {
    let ours = registry::names().into_iter().filter(|names| names.access == Access::Full).map(|names| {
        let gvk = GroupVersionKind::gvk(&names.group, &names.version, &names.kind);
        Kind { resource: ApiResource::from_gvk_with_plural(&gvk, &names.plural), namespaced: names.namespaced }
    });
    let core = [
        Kind::core::<Pod>(true),
        Kind::core::<PersistentVolumeClaim>(true),
        Kind::core::<Service>(true),
        Kind::core::<Endpoints>(true),
        Kind::core::<ConfigMap>(true),
        Kind::core::<Secret>(true),
        Kind::core::<ServiceAccount>(true),
        Kind::core::<RoleBinding>(true),
        Kind::core::<Role>(true),
        Kind::core::<Lease>(true),
        Kind::core::<Event>(true),
        Kind::core::<Node>(false),
        Kind::core::<Namespace>(false),
    ];
    ours.chain(core).collect()
}

/// Every kind that is served now and whose objects can be listed, watched and deleted: those
/// above, and those that people made. What people made may own what is built in, so it comes
/// first.
pub(crate) async fn served(client: &Client) -> Result<Vec<Kind>, Error> {
    let found = Discovery::new(client.clone()).run().await.map_err(Error::api("discover", "the kinds that are served"))?;
    let mut served: Vec<Kind> = found
        .groups()
        .flat_map(ApiGroup::recommended_resources)
        .filter(|(_, can)| [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| can.supports_operation(verb)))
        .map(|(resource, can)| Kind { resource, namespaced: can.scope == Scope::Namespaced })
        .collect();
    let order = all();
    let place = |kind: &Kind| {
        let same = |known: &Kind| known.resource.group == kind.resource.group && known.resource.plural == kind.resource.plural;
        order.iter().position(same).map_or(0, |place| place + 1)
    };
    served.sort_by_key(place);
    Ok(served)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_matched_by_group_and_kind() {
        let kinds = all();
        let meant = |version: &str, kind: &str| kinds.iter().filter(|candidate| candidate.is_meant_by(version, kind)).count();
        assert_eq!(meant("v1", "Pod"), 1);
        assert_eq!(meant("ai.fermion.dev/v1alpha1", "Workload"), 1);
        assert_eq!(meant("ai.fermion.dev/v9", "Workload"), 1);
        assert_eq!(meant("v1", "Workload"), 0);
        assert_eq!(meant("observe.fermion.dev/v1alpha1", "UsageRecord"), 0, "records are kept");
    }
}
