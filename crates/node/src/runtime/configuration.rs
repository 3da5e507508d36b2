//! The configuration files that containerd and its network plugins read.

use std::path::Path;

use serde_json::json;

use super::network::Network;
use super::paths::Paths;
use super::pause;

/// `containerd.toml`. Sockets, root, state, runc's state, network and even the mounts of the
/// network namespaces are the home's own, so nothing here meets another containerd's containers.
pub(crate) fn containerd(paths: &Paths, cni_plugins: &Path) -> String {
    format!(
        r#"# Written by fermion; edits are lost.
version = 2
root = {root}
state = {state}
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  # A machine without CAP_SYS_RESOURCE refuses to lower a score.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_plugins}
    conf_dir = {cni_configuration}
    max_conf_num = 1

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        Root = {runc_root}
        SystemdCgroup = false
"#,
        root = quoted(&paths.root()),
        state = quoted(&paths.state()),
        socket = quoted(&paths.socket()),
        sandbox_image = pause::REFERENCE,
        cni_plugins = quoted(cni_plugins),
        cni_configuration = quoted(&paths.cni_configuration()),
        runc_root = quoted(&paths.runc_root()),
    )
}

/// The network of the pods. Masquerading is one rule for the whole network (see
/// [`super::network`]) and not a chain for each pod: pods start faster, less can be left behind.
pub(crate) fn cni(paths: &Paths, network: &Network) -> String {
    let list = json!({
        "cniVersion": "1.0.0",
        "name": network.bridge,
        "plugins": [{
            "type": "bridge",
            "bridge": network.bridge,
            "isGateway": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": paths.cni_addresses(),
                "ranges": [[{ "subnet": network.subnet.to_string() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    format!("{list:#}\n")
}

/// A TOML basic string. JSON's escapes are a subset of TOML's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().into_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_quotes_stay_one_string() {
        assert_eq!(quoted(Path::new("/a\"b\\c")), r#""/a\"b\\c""#);
    }

    #[test]
    fn nothing_of_the_machines_own_containerd_is_named() {
        let paths = Paths::new(Path::new("/srv/fermion")).expect("a usable home");
        let text = containerd(&paths, Path::new("/usr/lib/cni"));
        for foreign in ["/run/containerd", "/var/lib/containerd", "/etc/cni", "/var/run"] {
            assert!(!text.contains(&format!("\"{foreign}")), "{foreign} in\n{text}");
        }
        assert!(text.contains("address = \"/srv/fermion/run/containerd.sock\""));
    }
}
