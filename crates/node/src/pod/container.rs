//! From a container of a pod to what containerd is asked for. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};

use super::decide::Start;
use super::env::expand;
use super::sandbox::{self, labels};
use crate::cri::v1;

/// Annotation: how many times in a row the container had ended before this start.
pub(crate) const ENDS_BEFORE: &str = "fermion.dev/ends-before";
/// Annotation: where the container may leave its last words, on the host.
pub(crate) const TERMINATION_FILE: &str = "fermion.dev/termination-file";

/// Paths of `/proc` and `/sys` that tell or change too much about the machine; the same lists as
/// the kubelet's.
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A directory or file of the host that the container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostMount {
    pub host_path: String,
    pub container_path: String,
    pub readonly: bool,
}

/// All that a container's configuration is made from.
pub(crate) struct Recipe<'a> {
    pub identity: &'a sandbox::Identity,
    pub spec: &'a PodSpec,
    pub container: &'a Container,
    pub start: &'a Start,
    pub environment: Vec<(String, String)>,
    /// CDI names of the devices it is given.
    pub devices: Vec<String>,
    pub mounts: Vec<HostMount>,
    pub resources: v1::LinuxContainerResources,
    pub termination_file: &'a Path,
}

/// Where the log of a container's attempt is, below the pod's log directory.
pub(crate) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// The request's container part.
pub(crate) fn config(recipe: Recipe<'_>) -> v1::ContainerConfig {
    let container = recipe.container;
    let value_of = |name: &str| recipe.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let expanded = |words: &Option<Vec<String>>| -> Vec<String> { words.iter().flatten().map(|word| expand(word, value_of)).collect() };
    let mut annotations = std::collections::HashMap::from([(ENDS_BEFORE.to_owned(), recipe.start.ends_before.to_string())]);
    annotations.insert(TERMINATION_FILE.to_owned(), recipe.termination_file.to_string_lossy().into_owned());
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: recipe.start.attempt }),
        image: Some(v1::ImageSpec { image: container.image.clone().unwrap_or_default(), ..v1::ImageSpec::default() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: recipe
            .mounts
            .into_iter()
            .map(|mount| v1::Mount {
                container_path: mount.container_path,
                host_path: mount.host_path,
                readonly: mount.readonly,
                ..v1::Mount::default()
            })
            .collect(),
        labels: {
            let mut labels = labels(recipe.identity);
            labels.insert(sandbox::CONTAINER_NAME.to_owned(), container.name.clone());
            labels
        },
        annotations,
        log_path: log_path(&container.name, recipe.start.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(recipe.resources),
            security_context: Some(security_context(recipe.spec, container)),
        }),
        cdi_devices: recipe.devices.into_iter().map(|name| v1::CdiDevice { name }).collect(),
        envs: recipe.environment.into_iter().map(|(key, value)| v1::KeyValue { key, value }).collect(),
        ..v1::ContainerConfig::default()
    }
}

fn security_context(spec: &PodSpec, container: &Container) -> v1::LinuxContainerSecurityContext {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|&path| path.to_owned()).collect() };
    let mut groups = pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(pod.fs_group);
    v1::LinuxContainerSecurityContext {
        capabilities: Some(capabilities(&own)),
        privileged,
        namespace_options: Some(sandbox::namespaces(spec, v1::NamespaceMode::Container)),
        run_as_user: own.run_as_user.or(pod.run_as_user).map(|value| v1::Int64Value { value }),
        run_as_group: own.run_as_group.or(pod.run_as_group).map(|value| v1::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(sandbox::seccomp(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()), privileged)),
        ..v1::LinuxContainerSecurityContext::default()
    }
}

fn capabilities(context: &SecurityContext) -> v1::Capability {
    let names = |list: Option<&Vec<String>>| list.into_iter().flatten().map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    let asked = context.capabilities.as_ref();
    v1::Capability {
        add_capabilities: names(asked.and_then(|asked| asked.add.as_ref())),
        drop_capabilities: names(asked.and_then(|asked| asked.drop.as_ref())),
        ..v1::Capability::default()
    }
}

/// Whether `runAsNonRoot` is asked for and the container would run as root.
/// `image_user` is what the image says: a number, a name, or nothing.
pub(crate) fn would_run_as_root(spec: &PodSpec, container: &Container, image_uid: Option<i64>, image_user: &str) -> Option<String> {
    let pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let asked = own.and_then(|context| context.run_as_non_root).or(pod.and_then(|context| context.run_as_non_root));
    if asked != Some(true) {
        return None;
    }
    let set = own.and_then(|context| context.run_as_user).or(pod.and_then(|context| context.run_as_user));
    match (set, image_uid) {
        (Some(0), _) => Some("runAsNonRoot is set and runAsUser is 0".to_owned()),
        (Some(_), _) => None,
        (None, Some(uid)) if uid != 0 => None,
        (None, None) if !image_user.is_empty() => {
            Some(format!("runAsNonRoot is set and the image's user `{image_user}` is a name; set runAsUser to a number"))
        }
        (None, _) => Some("runAsNonRoot is set and the image runs as root; set runAsUser".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config_of(spec: serde_json::Value) -> v1::ContainerConfig {
        let spec: PodSpec = serde_json::from_value(spec).expect("a pod spec");
        let identity = sandbox::Identity { name: "p".to_owned(), namespace: "n".to_owned(), uid: "u".to_owned(), node: "local".to_owned() };
        let start = Start { container: "c".to_owned(), attempt: 3, sandbox_id: "s".to_owned(), ends_before: 2, created: None };
        config(Recipe {
            identity: &identity,
            spec: &spec,
            container: &spec.containers[0],
            start: &start,
            environment: vec![("WHO".to_owned(), "you".to_owned())],
            devices: vec!["nvidia.com/gpu=3".to_owned()],
            mounts: Vec::new(),
            resources: v1::LinuxContainerResources::default(),
            termination_file: Path::new("/t"),
        })
    }

    #[test]
    fn commands_see_the_environment() {
        let config = config_of(json!({"containers": [{"name": "c", "image": "i", "command": ["echo"], "args": ["hi $(WHO)", "$(WHOM)"]}]}));
        assert_eq!(config.command, ["echo"]);
        assert_eq!(config.args, ["hi you", "$(WHOM)"]);
        assert_eq!(config.log_path, "c/3.log");
        assert_eq!(config.annotations[ENDS_BEFORE], "2");
        assert_eq!(config.labels["io.kubernetes.pod.uid"], "u");
        assert_eq!(config.cdi_devices[0].name, "nvidia.com/gpu=3");
    }

    #[test]
    fn containers_are_confined_unless_told_otherwise() {
        let context = |spec| config_of(spec).linux.and_then(|linux| linux.security_context).expect("a context");
        let plain = context(json!({"containers": [{"name": "c"}]}));
        assert!(!plain.privileged && plain.masked_paths.contains(&"/proc/kcore".to_owned()));
        assert_eq!(plain.seccomp.expect("a profile").profile_type, i32::from(v1::security_profile::ProfileType::RuntimeDefault));
        let set = context(json!({
            "securityContext": {"runAsUser": 5, "fsGroup": 7},
            "containers": [{"name": "c", "securityContext": {
                "runAsUser": 6, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["CAP_CHOWN"], "drop": ["ALL"]},
            }}],
        }));
        assert_eq!(set.run_as_user.map(|user| user.value), Some(6));
        assert_eq!(set.supplemental_groups, [7]);
        assert!(set.readonly_rootfs && set.no_new_privs);
        let capabilities = set.capabilities.expect("capabilities");
        assert_eq!((capabilities.add_capabilities, capabilities.drop_capabilities), (vec!["CHOWN".to_owned()], vec!["ALL".to_owned()]));
    }

    #[test]
    fn running_as_root_is_refused_when_asked() {
        // runAsUser, image uid, image user -> refused
        for (user, uid, name, refused) in [
            (json!(1000), None, "", false),
            (json!(0), Some(1000), "", true),
            (json!(null), Some(1000), "", false),
            (json!(null), Some(0), "", true),
            (json!(null), None, "", true),
            (json!(null), None, "app", true),
        ] {
            let spec: PodSpec = serde_json::from_value(json!({
                "containers": [{"name": "c", "securityContext": {"runAsNonRoot": true, "runAsUser": user}}],
            }))
            .expect("a pod spec");
            let got = would_run_as_root(&spec, &spec.containers[0], uid, name);
            assert_eq!(got.is_some(), refused, "{user} {uid:?} {name}: {got:?}");
        }
    }
}
