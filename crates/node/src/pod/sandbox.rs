//! The pod's sandbox: its name, labels, network and namespaces. Pure.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, SeccompProfile};

use crate::cri::v1;

/// Labels of the kubelet, so that tools made for it find our pods.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Label of everything this node made: the node's name.
pub(crate) const NODE: &str = "fermion.dev/node";
/// The kernel's bound on host names.
const HOSTNAME_LENGTH_MAX: usize = 63;

/// Who a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// The node that runs it.
    pub node: String,
}

impl Identity {
    pub(crate) fn of(pod: &Pod, node: &str) -> Self {
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: node.to_owned(),
        }
    }
}

/// The labels of a pod's sandboxes and containers.
pub(crate) fn labels(identity: &Identity) -> HashMap<String, String> {
    HashMap::from([
        (POD_NAME.to_owned(), identity.name.clone()),
        (POD_NAMESPACE.to_owned(), identity.namespace.clone()),
        (POD_UID.to_owned(), identity.uid.clone()),
        (NODE.to_owned(), identity.node.clone()),
    ])
}

/// The host name inside the pod: what it asks for, or its name, as far as the kernel takes it.
pub(crate) fn hostname(identity: &Identity, spec: &PodSpec) -> String {
    let mut name = spec.hostname.clone().unwrap_or_else(|| identity.name.clone());
    name.truncate(HOSTNAME_LENGTH_MAX);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The request's sandbox part; the same for every attempt but the number.
pub(crate) fn config(identity: &Identity, spec: &PodSpec, attempt: u32, log_directory: &str, cgroup_parent: &str) -> v1::PodSandboxConfig {
    let context = spec.security_context.clone().unwrap_or_default();
    let privileged =
        spec.containers.iter().any(|container| container.security_context.as_ref().and_then(|own| own.privileged) == Some(true));
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: identity.name.clone(),
            uid: identity.uid.clone(),
            namespace: identity.namespace.clone(),
            attempt,
        }),
        // With the host's network, the host's name is the one that fits.
        hostname: if spec.host_network == Some(true) { String::new() } else { hostname(identity, spec) },
        log_directory: log_directory.to_owned(),
        dns_config: dns(spec),
        labels: labels(identity),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec, v1::NamespaceMode::Pod)),
                privileged,
                seccomp: Some(seccomp(context.seccomp_profile.as_ref(), privileged)),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            sysctls: context.sysctls.into_iter().flatten().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..v1::PodSandboxConfig::default()
    }
}

/// The namespaces; `own_pid` is what a pod without `shareProcessNamespace` gets.
pub(crate) fn namespaces(spec: &PodSpec, own_pid: v1::NamespaceMode) -> v1::NamespaceOption {
    let or_node = |host: Option<bool>, mode| if host == Some(true) { v1::NamespaceMode::Node } else { mode };
    let pid = if spec.share_process_namespace == Some(true) { v1::NamespaceMode::Pod } else { own_pid };
    v1::NamespaceOption {
        network: or_node(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: or_node(spec.host_pid, pid).into(),
        ipc: or_node(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        ..v1::NamespaceOption::default()
    }
}

/// The system-call filter: containerd's default one, unless the pod was allowed another.
pub(crate) fn seccomp(asked: Option<&SeccompProfile>, privileged: bool) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let (profile_type, localhost_ref) = match asked.map(|profile| profile.type_.as_str()) {
        Some("Unconfined") => (ProfileType::Unconfined, String::new()),
        Some("Localhost") => {
            let file = asked.and_then(|profile| profile.localhost_profile.clone());
            (ProfileType::Localhost, file.unwrap_or_default())
        }
        None if privileged => (ProfileType::Unconfined, String::new()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    v1::SecurityProfile { profile_type: profile_type.into(), localhost_ref }
}

/// With no wish of the pod's, the sandbox gets the host's resolv.conf.
fn dns(spec: &PodSpec) -> Option<v1::DnsConfig> {
    let wish = spec.dns_config.as_ref()?;
    Some(v1::DnsConfig {
        servers: wish.nameservers.clone().unwrap_or_default(),
        searches: wish.searches.clone().unwrap_or_default(),
        options: wish
            .options
            .iter()
            .flatten()
            .filter_map(|option| {
                let name = option.name.clone()?;
                Some(match &option.value {
                    Some(value) => format!("{name}:{value}"),
                    None => name,
                })
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_fit_the_kernel() {
        let identity =
            Identity { name: format!("{}-x", "a".repeat(62)), namespace: "n".to_owned(), uid: "u".to_owned(), node: "local".to_owned() };
        assert_eq!(hostname(&identity, &PodSpec::default()), "a".repeat(62));
        let spec = PodSpec { hostname: Some("worker-0".to_owned()), ..PodSpec::default() };
        assert_eq!(hostname(&identity, &spec), "worker-0");
    }
}
