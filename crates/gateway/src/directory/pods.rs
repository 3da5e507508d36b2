//! Pods, grouped by the object a label says they serve.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use fermion_api::pod;
use k8s_openapi::api::core::v1::Pod;

use super::key_of;
use super::replica::{Load, Replica};
use super::table::Feed;
use crate::address::Key;

/// Pods by the environment or service they belong to. Both names come from the pod itself:
/// its own namespace and the label's value.
pub(crate) struct Pods {
    label: &'static str,
    loopback: bool,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    groups: HashMap<Key, Vec<Arc<Replica>>>,
    /// Which group each pod is in, so that a pod whose label changed leaves the old one.
    membership: HashMap<Key, Key>,
}

impl Pods {
    pub(super) fn new(label: &'static str, loopback: bool) -> Self {
        Self { label, loopback, state: RwLock::default() }
    }

    /// The pods of one environment or service, whatever their state.
    pub(crate) fn of(&self, owner: &Key) -> Vec<Arc<Replica>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).groups.get(owner).cloned().unwrap_or_default()
    }

    /// Lets go of connections that were idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        for replica in self.state.read().unwrap_or_else(PoisonError::into_inner).groups.values().flatten() {
            replica.load.sweep(now);
        }
    }

    fn place(&self, state: &mut State, before: &State, pod: &Pod) {
        let Some(key) = key_of(pod) else { return };
        let previous = before.find(&key).or_else(|| state.find(&key));
        state.take(&key);
        let owner = pod.metadata.labels.as_ref().and_then(|labels| labels.get(self.label));
        let Some(owner) = owner.filter(|owner| !owner.is_empty()) else { return };
        let owner = Key::new(key.namespace.clone(), owner.clone());
        let replica = self.replica(pod, &key, previous.as_deref());
        state.groups.entry(owner.clone()).or_default().push(Arc::new(replica));
        state.membership.insert(key, owner);
    }

    fn replica(&self, pod: &Pod, key: &Key, previous: Option<&Replica>) -> Replica {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        let address = status
            .and_then(|status| status.pod_ip.as_deref())
            .and_then(|ip| ip.parse().ok())
            .filter(|ip| is_forwardable(*ip, self.loopback));
        // What is known of a pod's load and connections holds for as long as it is the same
        // pod at the same address.
        let load = previous
            .filter(|previous| previous.uid == uid && previous.address == address)
            .map_or_else(|| Arc::new(Load::default()), |previous| Arc::clone(&previous.load));
        let ready = pod::ready(pod);
        if !ready {
            load.close_idle();
        }
        Replica {
            name: key.name.clone(),
            uid,
            address,
            ready,
            going: pod.metadata.deletion_timestamp.is_some(),
            running: pod::phase(pod) == "Running",
            container: pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone()),
            created_at: pod.metadata.creation_timestamp.as_ref().map(|created| created.0),
            load,
        }
    }
}

impl State {
    fn find(&self, pod: &Key) -> Option<Arc<Replica>> {
        let owner = self.membership.get(pod)?;
        self.groups.get(owner)?.iter().find(|replica| replica.name == pod.name).cloned()
    }

    fn take(&mut self, pod: &Key) {
        let Some(owner) = self.membership.remove(pod) else { return };
        if let Some(group) = self.groups.get_mut(&owner) {
            group.retain(|replica| replica.name != pod.name);
            if group.is_empty() {
                self.groups.remove(&owner);
            }
        }
    }
}

impl Feed<Pod> for Pods {
    fn apply(&self, pod: Pod) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.place(&mut state, &State::default(), &pod);
    }

    fn delete(&self, pod: &Pod) {
        if let Some(key) = key_of(pod) {
            self.state.write().unwrap_or_else(PoisonError::into_inner).take(&key);
        }
    }

    fn replace(&self, pods: Vec<Pod>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *state);
        for pod in &pods {
            self.place(&mut state, &before, pod);
        }
    }
}

/// Whether a pod's address can be a pod's. A node that reports something else (this host's
/// loopback, a cloud's metadata address) does not get to point the gateway there.
fn is_forwardable(ip: IpAddr, loopback: bool) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_unspecified() && !ip.is_multicast() && !link_local && (loopback || !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, service: &str, ip: &str, ready: bool) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "team", "uid": format!("uid-{name}"), "labels": {"service": service}},
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .expect("a pod")
    }

    fn names(pods: &Pods, service: &str) -> Vec<String> {
        let mut names = pods.of(&Key::new("team", service)).iter().map(|replica| replica.name.clone()).collect::<Vec<_>>();
        names.sort();
        names
    }

    #[test]
    fn pods_are_found_by_label_and_namespace_only() {
        let pods = Pods::new("service", false);
        pods.apply(pod("a", "chat", "10.0.0.1", true));
        pods.apply(pod("b", "chat", "10.0.0.2", true));
        pods.apply(pod("c", "other", "10.0.0.3", true));
        assert_eq!(names(&pods, "chat"), ["a", "b"]);
        assert!(pods.of(&Key::new("else", "chat")).is_empty());
    }

    #[test]
    fn a_pod_whose_label_changed_leaves_its_group() {
        let pods = Pods::new("service", false);
        pods.apply(pod("a", "chat", "10.0.0.1", true));
        pods.apply(pod("a", "other", "10.0.0.1", true));
        assert!(names(&pods, "chat").is_empty());
        assert_eq!(names(&pods, "other"), ["a"]);
        pods.apply(pod("a", "", "10.0.0.1", true));
        assert!(names(&pods, "other").is_empty());
    }

    #[test]
    fn load_stays_with_the_pod_through_updates_and_new_lists() {
        let pods = Pods::new("service", false);
        pods.apply(pod("a", "chat", "10.0.0.1", true));
        let load = Arc::clone(&pods.of(&Key::new("team", "chat"))[0].load);
        pods.apply(pod("a", "chat", "10.0.0.1", false));
        assert!(Arc::ptr_eq(&load, &pods.of(&Key::new("team", "chat"))[0].load));
        pods.replace(vec![pod("a", "chat", "10.0.0.1", true), pod("b", "chat", "10.0.0.2", true)]);
        assert!(pods.of(&Key::new("team", "chat")).iter().any(|replica| Arc::ptr_eq(&load, &replica.load)));
        pods.apply(pod("a", "chat", "10.0.0.9", true));
        assert!(!pods.of(&Key::new("team", "chat")).iter().any(|replica| Arc::ptr_eq(&load, &replica.load)));
    }

    #[test]
    fn a_new_list_drops_what_is_not_in_it() {
        let pods = Pods::new("service", false);
        pods.apply(pod("a", "chat", "10.0.0.1", true));
        pods.replace(vec![pod("b", "chat", "10.0.0.2", true)]);
        assert_eq!(names(&pods, "chat"), ["b"]);
        pods.delete(&pod("b", "chat", "10.0.0.2", true));
        assert!(names(&pods, "chat").is_empty());
        assert!(pods.state.read().expect("not poisoned").membership.is_empty());
    }

    #[test]
    fn addresses_that_are_no_pods_are_not_kept() {
        for ip in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "host.example",
        ] {
            let pods = Pods::new("service", false);
            pods.apply(pod("a", "chat", ip, true));
            assert_eq!(pods.of(&Key::new("team", "chat"))[0].address, None, "{ip}");
        }
    }
}
