//! What this node refuses to run, decided before anything of the pod is made.
//!
//! Many tenants share the machine, so a pod may not reach past its own sandbox unless the node's
//! owner allows it. The rules are the Baseline level of the Pod Security Standards:
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use fermion_api::pod::Resources;
use fermion_api::quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext, Volume};

use super::state::{PodFailure, containers};

/// Capabilities a container may add without the owner's leave.
const CAPABILITIES_ALLOWED: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Sysctls that stay inside a pod.
const SYSCTLS_ALLOWED: [&str; 8] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
];

/// Volume kinds this node can make, besides `hostPath`.
const VOLUME_KINDS: &str = "persistentVolumeClaim, configMap, secret, emptyDir, downwardAPI, projected";

/// What the owner of the machine lets pods do to it. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostAccess {
    /// `privileged: true`, added capabilities, unmasked `/proc`, unconfined seccomp, any sysctl.
    pub privileged: bool,
    /// `hostNetwork`.
    pub network: bool,
    /// `hostPID` and `hostIPC`.
    pub processes: bool,
    /// `hostPath` volumes.
    pub paths: bool,
}

/// Why the pod is refused, if it is.
pub(crate) fn refuse(spec: &PodSpec, access: HostAccess) -> Option<PodFailure> {
    let mut complaints = Vec::new();
    pod_level(spec, access, &mut complaints);
    for (_, container) in containers(spec) {
        if let Some(context) = &container.security_context {
            container_level(&container.name, context, access, &mut complaints);
        }
        unsupported(container, &mut complaints);
    }
    if !access.paths {
        for volume in spec.volumes.iter().flatten().filter(|volume| volume.host_path.is_some()) {
            complaints.push(format!("volume {} uses hostPath", volume.name));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        let medium = volume.empty_dir.as_ref().and_then(|empty| empty.medium.as_deref()).unwrap_or("");
        if !["", "Memory"].contains(&medium) {
            complaints.push(format!("emptyDir {} is of medium {medium}; this node has disk and Memory", volume.name));
        }
    }
    for volume in spec.volumes.iter().flatten().filter(|volume| !is_supported(volume)) {
        complaints.push(format!("volume {} is of a kind this node does not have (it has {VOLUME_KINDS})", volume.name));
    }
    (!complaints.is_empty())
        .then(|| PodFailure { reason: "Refused".to_owned(), message: format!("this node does not run the pod: {}", complaints.join("; ")) })
}

fn pod_level(spec: &PodSpec, access: HostAccess, complaints: &mut Vec<String>) {
    let mut unless = |allowed: bool, asked: Option<bool>, what: &str| {
        if asked == Some(true) && !allowed {
            complaints.push(format!("it asks for {what}, which would reach other tenants"));
        }
    };
    unless(access.network, spec.host_network, "hostNetwork");
    unless(access.processes, spec.host_pid, "hostPID");
    unless(access.processes, spec.host_ipc, "hostIPC");
    let Some(context) = &spec.security_context else { return };
    if access.privileged {
        return;
    }
    for sysctl in context.sysctls.iter().flatten() {
        if !SYSCTLS_ALLOWED.contains(&sysctl.name.as_str()) {
            complaints.push(format!("it sets the sysctl {}", sysctl.name));
        }
    }
    if context.seccomp_profile.as_ref().is_some_and(|profile| profile.type_ != "RuntimeDefault") {
        complaints.push("it asks for another seccomp profile than RuntimeDefault".to_owned());
    }
}

fn container_level(name: &str, context: &SecurityContext, access: HostAccess, complaints: &mut Vec<String>) {
    if access.privileged {
        return;
    }
    if context.privileged == Some(true) {
        complaints.push(format!("container {name} is privileged"));
    }
    if context.proc_mount.as_deref().is_some_and(|mount| mount != "Default") {
        complaints.push(format!("container {name} unmasks /proc"));
    }
    if context.seccomp_profile.as_ref().is_some_and(|profile| profile.type_ != "RuntimeDefault") {
        complaints.push(format!("container {name} asks for another seccomp profile than RuntimeDefault"));
    }
    for capability in context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten()) {
        let plain = capability.trim_start_matches("CAP_");
        if !CAPABILITIES_ALLOWED.contains(&plain) {
            complaints.push(format!("container {name} adds the capability {plain}"));
        }
    }
}

/// Things that would be ignored silently otherwise.
fn unsupported(container: &Container, complaints: &mut Vec<String>) {
    let name = &container.name;
    if container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port > 0)) {
        complaints.push(format!("container {name} asks for a hostPort; people reach containers through the platform's gateway"));
    }
    if container.volume_devices.iter().flatten().next().is_some() {
        complaints.push(format!("container {name} uses a raw block volume"));
    }
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let https = |get: &k8s_openapi::api::core::v1::HTTPGetAction| get.scheme.as_deref() == Some("HTTPS");
    let mut gets = probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_ref());
    if gets.any(https) {
        complaints.push(format!("container {name} has a probe over HTTPS; use HTTP, TCP or a command"));
    }
    let hooks = container.lifecycle.iter().flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]);
    if hooks.flatten().filter_map(|hook| hook.http_get.as_ref()).any(https) {
        complaints.push(format!("container {name} has a lifecycle hook over HTTPS; use HTTP or a command"));
    }
}

fn is_supported(volume: &Volume) -> bool {
    let no_tokens = |volume: &Volume| {
        volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
            .all(|source| source.service_account_token.is_none() && source.cluster_trust_bundle.is_none())
    };
    let kinds = [
        volume.persistent_volume_claim.is_some(),
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.empty_dir.is_some(),
        volume.downward_api.is_some(),
        volume.host_path.is_some(),
        volume.projected.is_some() && no_tokens(volume),
    ];
    kinds.contains(&true)
}

/// Whether the pod fits beside what already runs. The scheduler has decided so before; this is the
/// last defence against a pod that was bound by hand or twice.
pub(crate) fn fit(asked: &Resources, used: &Resources, allocatable: &Resources) -> Option<PodFailure> {
    asked.iter().filter(|(_, amount)| **amount > 0).find_map(|(resource, amount)| {
        let total = allocatable.get(resource).copied().unwrap_or(0);
        let taken = used.get(resource).copied().unwrap_or(0);
        if taken + amount <= total {
            return None;
        }
        let show = |amount| quantity::format(resource, amount);
        let reason = match resource.as_str() {
            "cpu" => "OutOfCpu".to_owned(),
            "memory" => "OutOfMemory".to_owned(),
            other => format!("OutOf{other}"),
        };
        Some(PodFailure {
            reason,
            message: format!("the node has too little {resource}: asked {}, in use {}, in all {}", show(*amount), show(taken), show(total)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).expect("a pod spec")
    }

    #[test]
    fn a_plain_pod_is_accepted() {
        let spec = spec(serde_json::json!({
            "containers": [{"name": "a", "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        }));
        assert_eq!(refuse(&spec, HostAccess::default()), None);
    }

    #[test]
    fn reaching_past_the_sandbox_is_refused_unless_allowed() {
        let everything = HostAccess { privileged: true, network: true, processes: true, paths: true };
        for (pod, word) in [
            (serde_json::json!({"containers": [], "hostNetwork": true}), "hostNetwork"),
            (serde_json::json!({"containers": [], "hostPID": true}), "hostPID"),
            (serde_json::json!({"containers": [], "hostIPC": true}), "hostIPC"),
            (serde_json::json!({"containers": [], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "hostPath"),
            (serde_json::json!({"containers": [{"name": "a", "securityContext": {"privileged": true}}]}), "privileged"),
            (
                serde_json::json!({"containers": [{"name": "a", "securityContext": {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}}]}),
                "SYS_ADMIN",
            ),
            (
                serde_json::json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.panic", "value": "1"}]}}),
                "kernel.panic",
            ),
            (serde_json::json!({"containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}), "seccomp"),
        ] {
            let spec = spec(pod);
            let refusal = refuse(&spec, HostAccess::default()).expect(word);
            assert!(refusal.message.contains(word), "{}", refusal.message);
            assert_eq!(refuse(&spec, everything), None, "{word}");
        }
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (pod, word) in [
            (serde_json::json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 1}]}]}), "hostPort"),
            (serde_json::json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"medium": "HugePages"}}]}), "HugePages"),
            (serde_json::json!({"containers": [], "volumes": [{"name": "v", "nfs": {"path": "/", "server": "s"}}]}), "kind"),
            (serde_json::json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}]}), "HTTPS"),
        ] {
            let refusal = refuse(&spec(pod), HostAccess::default()).expect(word);
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
    }

    #[test]
    fn a_pod_that_does_not_fit_names_the_resource() {
        let amounts = |cpu: i128, memory: i128| Resources::from([("cpu".to_owned(), cpu), ("memory".to_owned(), memory)]);
        assert_eq!(fit(&amounts(500, 1000), &amounts(1500, 0), &amounts(2000, 1000)), None);
        let refusal = fit(&amounts(600, 0), &amounts(1500, 0), &amounts(2000, 0)).expect("too much");
        assert_eq!(refusal.reason, "OutOfCpu");
        assert_eq!(refusal.message, "the node has too little cpu: asked 600m, in use 1500m, in all 2");
        let refusal = fit(&amounts(0, 2), &amounts(0, 0), &amounts(0, 1)).expect("too much");
        assert_eq!(refusal.reason, "OutOfMemory");
        let gpu = Resources::from([("gpu.fermion.dev/a100".to_owned(), 1000)]);
        assert_eq!(fit(&gpu, &Resources::new(), &amounts(1, 1)).expect("none").reason, "OutOfgpu.fermion.dev/a100");
    }
}
