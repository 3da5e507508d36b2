//! The names of schemas and operations, by Kubernetes' rules.

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
/// Those to which the schemas of every kind refer.
pub(crate) const SHARED: [&str; 2] = [OBJECT_META, LIST_META];
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
pub(super) const BINDING: &str = "io.k8s.api.core.v1.Binding";
pub(super) const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";
pub(super) const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";

/// `api/v1`, `apis/ai.fermion.dev/v1alpha1`
pub(super) fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Whether a group is one of Kubernetes' own.
pub(super) fn is_built_in(group: &str) -> bool {
    group.is_empty() || group.ends_with(".k8s.io")
}

/// `io.k8s.api.core.v1.Pod` for built-in kinds, `dev.fermion.ai.v1alpha1.TrainingJob` for others.
pub(super) fn schema(group: &str, version: &str, kind: &str) -> String {
    match group.split_once('.') {
        None if group.is_empty() => format!("io.k8s.api.core.{version}.{kind}"),
        Some(("apiextensions", "k8s.io")) => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}"),
        Some(("metrics", "k8s.io")) => format!("io.k8s.metrics.pkg.apis.metrics.{version}.{kind}"),
        Some((first, _)) if is_built_in(group) => format!("io.k8s.api.{first}.{version}.{kind}"),
        _ => {
            let reversed: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", reversed.join("."))
        }
    }
}

pub(super) fn reference(schema: &str) -> String {
    format!("#/components/schemas/{schema}")
}

/// The middle of operation ids: `CoreV1`, `AiFermionDevV1alpha1`.
pub(super) fn group_version_in_operation(group: &str, version: &str) -> String {
    let group = match group {
        "" => "core",
        built_in if is_built_in(built_in) => built_in.strip_suffix(".k8s.io").unwrap_or(built_in),
        own => own,
    };
    group.split('.').chain([version]).map(capitalized).collect()
}

pub(super) fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes() {
        for (group, version, kind, expected) in [
            ("", "v1", "Pod", "io.k8s.api.core.v1.Pod"),
            ("coordination.k8s.io", "v1", "Lease", "io.k8s.api.coordination.v1.Lease"),
            ("rbac.authorization.k8s.io", "v1", "Role", "io.k8s.api.rbac.v1.Role"),
            ("metrics.k8s.io", "v1beta1", "PodMetrics", "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"),
            ("ai.fermion.dev", "v1alpha1", "TrainingJob", "dev.fermion.ai.v1alpha1.TrainingJob"),
        ] {
            assert_eq!(schema(group, version, kind), expected);
        }
        assert_eq!(group_version_in_operation("", "v1"), "CoreV1");
        assert_eq!(group_version_in_operation("rbac.authorization.k8s.io", "v1"), "RbacAuthorizationV1");
        assert_eq!(group_version_in_operation("ai.fermion.dev", "v1alpha1"), "AiFermionDevV1alpha1");
        assert_eq!(group_version_path("", "v1"), "api/v1");
        assert_eq!(group_version_path("a.b", "v2"), "apis/a.b/v2");
    }
}
