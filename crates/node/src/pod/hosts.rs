//! The pod's `/etc/hosts`: its own name, and in a gang the names of its peers. Pure, but for
//! writing the file.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use fermion_api::labels;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::sandbox::{Identity, hostname};
use super::state::Peers;

/// The first line; tells people that editing it is in vain.
const HEADER: &str = "# Written by Fermion; changes are overwritten.\n";

/// A pod of the same workload with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub name: String,
    pub subdomain: Option<String>,
    pub ip: Option<String>,
    /// It ended or is going away: nobody waits for it.
    pub over: bool,
}

impl Peer {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            subdomain: pod.spec.as_ref().and_then(|spec| spec.subdomain.clone()),
            ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
            over: pod.metadata.deletion_timestamp.is_some() || fermion_api::pod::ended(pod),
        }
    }
}

/// What names the gang a pod belongs to: namespace, workload, and which start of it.
pub(crate) type GangKey = (String, String, Option<String>);

/// The gang of a pod, if it is in one.
pub(crate) fn gang_key(pod: &Pod) -> Option<GangKey> {
    let own = pod.metadata.labels.as_ref()?;
    let workload = own.get(labels::WORKLOAD)?.clone();
    Some((pod.metadata.namespace.clone()?, workload, own.get(labels::ATTEMPT).cloned()))
}

/// How many pods the gang has, as its controller wrote it; 1 if it did not.
pub(crate) fn gang_size(pod: &Pod) -> usize {
    let from = |map: &Option<std::collections::BTreeMap<String, String>>| {
        map.as_ref().and_then(|map| map.get(labels::GANG_SIZE)).and_then(|size| size.parse().ok())
    };
    from(&pod.metadata.labels).or_else(|| from(&pod.metadata.annotations)).unwrap_or(1)
}

/// Whether the containers may start: all peers have an address, or `until` has passed.
/// `peers` are the other pods of the gang that are known.
pub(crate) fn readiness(gang_size: usize, peers: &[Peer], until: Timestamp, now: Timestamp) -> Peers {
    let mut missing: Vec<String> = peers.iter().filter(|peer| !peer.over && peer.ip.is_none()).map(|peer| peer.name.clone()).collect();
    let unknown = gang_size.saturating_sub(peers.len() + 1);
    if unknown > 0 {
        missing.push(format!("{unknown} not placed yet"));
    }
    if missing.is_empty() || until <= now { Peers::Known } else { Peers::Awaited { missing, until } }
}

/// The text of the file.
pub(crate) fn content(identity: &Identity, pod: &Pod, ip: Option<&str>, peers: &[Peer]) -> String {
    let mut text = String::from(HEADER);
    text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let spec = pod.spec.clone().unwrap_or_default();
    let mut line = |ip: &str, names: &[String]| {
        let mut unique: Vec<&String> = Vec::new();
        for name in names {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        let names: Vec<&str> = unique.into_iter().map(String::as_str).collect();
        text.extend([ip, "\t", &names.join(" "), "\n"]);
    };
    if let Some(ip) = ip {
        let host = hostname(identity, &spec);
        line(ip, &with_subdomain(&[&host, &identity.name], spec.subdomain.as_deref()));
    }
    for peer in peers {
        if let Some(ip) = &peer.ip {
            line(ip, &with_subdomain(&[&peer.name], peer.subdomain.as_deref()));
        }
    }
    for HostAlias { ip, hostnames } in spec.host_aliases.iter().flatten() {
        line(ip, hostnames.as_deref().unwrap_or_default());
    }
    text
}

fn with_subdomain(names: &[&str], subdomain: Option<&str>) -> Vec<String> {
    let plain = names.iter().map(|&name| name.to_owned());
    let full = subdomain.into_iter().flat_map(|domain| names.iter().map(move |name| format!("{name}.{domain}")));
    plain.chain(full).collect()
}

/// Rewrites the file in place, since containers have that very file mounted. Answers whether it
/// changed.
pub(crate) fn write(path: &Path, text: &str) -> std::io::Result<bool> {
    // Containers may write to it, so its size is looked at before its content.
    let same_size = fs::symlink_metadata(path).is_ok_and(|found| found.len() == text.len() as u64);
    if same_size && fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // One write and then the cut: a reader sees a whole line too many at worst, never half a file.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, ip: Option<&str>) -> Peer {
        Peer { name: name.to_owned(), subdomain: Some("gang".to_owned()), ip: ip.map(str::to_owned), over: false }
    }

    #[test]
    fn containers_wait_for_every_peer_but_not_for_ever() {
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let awaited = |names: &[&str]| Peers::Awaited { missing: names.iter().map(|&name| name.to_owned()).collect(), until: at(60) };
        let over = Peer { over: true, ..peer("d", None) };
        for (size, peers, now, expected) in [
            (1, vec![], 0, Peers::Known),
            (2, vec![], 0, awaited(&["1 not placed yet"])),
            (2, vec![peer("b", None)], 0, awaited(&["b"])),
            (2, vec![peer("b", Some("10.0.0.2"))], 0, Peers::Known),
            (3, vec![peer("b", None)], 0, awaited(&["b", "1 not placed yet"])),
            (3, vec![peer("b", None)], 60, Peers::Known),
            (2, vec![over], 0, Peers::Known),
            (1, vec![peer("b", None)], 0, awaited(&["b"])),
        ] {
            assert_eq!(readiness(size, &peers, at(60), at(now)), expected, "{size} {peers:?}");
        }
    }

    #[test]
    fn the_file_names_the_pod_and_its_peers() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "subdomain": "gang", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]},
        }))
        .expect("a pod");
        let identity = Identity::of(&pod, "local");
        let peers = [peer("b", Some("10.0.0.2")), peer("c", None)];
        let text = content(&identity, &pod, Some("10.0.0.1"), &peers);
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(lines, ["10.0.0.1\ta a.gang", "10.0.0.2\tb b.gang", "1.2.3.4\tx y"]);
    }

    #[test]
    fn the_file_is_rewritten_in_place() {
        use std::os::unix::fs::MetadataExt as _;
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("hosts");
        assert!(write(&path, "long text\n").expect("written"));
        let inode = fs::metadata(&path).expect("a file").ino();
        assert!(write(&path, "short\n").expect("written"));
        assert!(!write(&path, "short\n").expect("written"));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "short\n");
        assert_eq!(fs::metadata(&path).expect("a file").ino(), inode);
    }
}
