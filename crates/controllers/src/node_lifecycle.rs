//! Node lifecycle: a node that stops renewing its Lease is not ready, and after a while its
//! pods count as lost.
//!
//! A pod that counts as lost is marked `Failed` with the reason `NodeLost`, which jobs try
//! again and services replace. When the node comes back, it stops what still runs of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::{labels, pod, reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::error::{Error, chain, describe};
use crate::{Caches, Options, Shutdown, fake_pool};

/// How often nodes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// When silence means what.
#[derive(Clone, Copy, Debug)]
struct Limits {
    silent_after: SignedDuration,
    lost_after: SignedDuration,
}

struct Watchman {
    client: Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    leases: Cache<Lease>,
    /// Silence before this moment is not the node's: nobody listened.
    since: Timestamp,
    limits: Limits,
    /// When a node that pods name was first missed.
    missed: HashMap<String, Timestamp>,
}

/// Runs until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, nodes: Cache<Node>, options: Options, shutdown: Shutdown) {
    let leases: Cache<Lease> = Cache::new(|_| None);
    let watch = leases.clone().run(client.clone(), shutdown.clone());
    let watchman = Watchman {
        client,
        pods: caches.pods,
        nodes,
        leases,
        since: Timestamp::now(),
        limits: Limits {
            silent_after: SignedDuration::try_from(options.node_silent_after).unwrap_or(SignedDuration::MAX),
            lost_after: SignedDuration::try_from(options.node_lost_after).unwrap_or(SignedDuration::MAX),
        },
        missed: HashMap::new(),
    };
    futures::future::join(watch, watchman.look(shutdown)).await;
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    /// It has been silent since then.
    Silent(Timestamp),
    /// It has been silent for so long that its pods count as lost.
    Lost(Timestamp),
}

/// Judges by the last sign of life.
fn judge(last_sign: Timestamp, since: Timestamp, limits: Limits, now: Timestamp) -> Verdict {
    let silence = now.duration_since(last_sign.max(since));
    if silence <= limits.silent_after {
        Verdict::Alive
    } else if silence <= limits.lost_after {
        Verdict::Silent(last_sign)
    } else {
        Verdict::Lost(last_sign)
    }
}

/// The last time a node was heard of.
fn last_sign(node: &Node, lease: Option<&Lease>) -> Timestamp {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
    let made = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    renewed.or(made).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Watchman {
    async fn look(mut self, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.requested() => return,
            filled = futures::future::join(self.nodes.filled(), self.leases.filled()) => {
                if let Err(error) = filled.0.and(filled.1) {
                    tracing::error!(error = chain(&error), "cannot watch over nodes");
                    return;
                }
            }
        }
        loop {
            self.look_once(Timestamp::now()).await;
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn look_once(&mut self, now: Timestamp) {
        let nodes = self.nodes.all();
        // Nobody reports for nodes that exist only as objects.
        for node in nodes.iter().filter(|node| !fake_pool::is_fake(node)) {
            let lease = self.leases.get(labels::SYSTEM_NAMESPACE, &node.name_any());
            let verdict = judge(last_sign(node, lease.as_deref()), self.since, self.limits, now);
            let silent_since = match verdict {
                Verdict::Alive => continue,
                Verdict::Silent(since) | Verdict::Lost(since) => since,
            };
            if let Some(conditions) = unknown(node, silent_since, now) {
                let api: Api<Node> = Api::all(self.client.clone());
                let body = json!({"metadata": {"resourceVersion": node.resource_version()}, "status": {"conditions": conditions}});
                let answer = api.patch_status(&node.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
                log(answer.map(drop).map_err(Error::api("write the status of", describe(&**node))));
            }
            let message = format!("node {} has not reported since {silent_since}", node.name_any());
            self.mark_pods(&node.name_any(), matches!(verdict, Verdict::Lost(_)), &message, now).await;
        }
        self.miss(&nodes, now).await;
    }

    /// Counts pods as lost whose node does not exist.
    async fn miss(&mut self, nodes: &[Arc<Node>], now: Timestamp) {
        let mut missed = HashMap::new();
        let existing: HashSet<&str> = nodes.iter().filter_map(|node| node.metadata.name.as_deref()).collect();
        for pod in self.pods.all() {
            let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { continue };
            if pod::ended(&pod) || missed.contains_key(&name) || existing.contains(name.as_str()) {
                continue;
            }
            let since = self.missed.get(&name).copied().unwrap_or(now);
            missed.insert(name, since);
        }
        for (node, since) in &missed {
            let lost = judge(*since, self.since, self.limits, now) == Verdict::Lost(*since);
            if lost {
                self.mark_pods(node, true, &format!("node {node} does not exist any more"), now).await;
            }
        }
        self.missed = missed;
    }

    /// Marks the pods of a silent node: not ready at first, lost in the end.
    async fn mark_pods(&self, node: &str, lost: bool, message: &str, now: Timestamp) {
        let here = |pod: &&Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node) && !pod::ended(pod);
        for pod in self.pods.all().iter().filter(here) {
            let answer = match mark(pod, lost, message, now) {
                Mark::None => Ok(()),
                Mark::Status(status) => self.write(pod, status).await,
                Mark::Remove => self.remove(pod).await,
            };
            log(answer);
        }
    }

    async fn write(&self, pod: &Pod, status: Value) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let body = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": status});
        let answer = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
        answer.map(drop).map_err(Error::api("write the status of", describe(pod)))
    }

    /// Removes a pod that only waits for its node to let go of it.
    async fn remove(&self, pod: &Pod) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::background() };
        api.delete(&pod.name_any(), &parameters).await.map(drop).map_err(Error::api("delete", describe(pod)))
    }
}

fn log(answer: Result<(), Error>) {
    match answer {
        Ok(()) => {}
        Err(Error::Conflict { object }) => tracing::debug!(object, "changed meanwhile; looking again"),
        Err(Error::Api { source: kube::Error::Api(status), object, .. }) if status.is_not_found() => tracing::debug!(object, "is gone"),
        Err(error) => tracing::warn!(error = chain(&error), "cannot mark what is on a silent node; trying again"),
    }
}

/// The node's conditions with Ready Unknown; `None` if they say so already.
fn unknown(node: &Node, since: Timestamp, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let place = conditions.iter().position(|condition| condition.type_ == "Ready");
    let old = place.map(|place| conditions.remove(place));
    if old.as_ref().is_some_and(|old| old.status == "Unknown") {
        return None;
    }
    conditions.push(NodeCondition {
        type_: "Ready".to_owned(),
        status: "Unknown".to_owned(),
        reason: Some(reason::NODE_STATUS_UNKNOWN.to_owned()),
        message: Some(format!("the node has not reported since {since}")),
        last_heartbeat_time: old.and_then(|old| old.last_heartbeat_time),
        last_transition_time: Some(Time(now)),
    });
    Some(conditions)
}

/// What happens to a pod of a silent node.
#[derive(Debug, PartialEq)]
enum Mark {
    None,
    /// The parts of its status to write.
    Status(Value),
    Remove,
}

fn mark(pod: &Pod, lost: bool, message: &str, now: Timestamp) -> Mark {
    if lost && pod.metadata.deletion_timestamp.is_some() {
        return Mark::Remove;
    }
    let why = if lost { reason::NODE_LOST } else { reason::NODE_STATUS_UNKNOWN };
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let ready = conditions.iter_mut().find(|condition| condition.type_ == "Ready");
    let was_ready = ready.is_some_and(|ready| {
        let was = ready.status == "True";
        if was {
            *ready = PodCondition {
                type_: "Ready".to_owned(),
                status: "False".to_owned(),
                reason: Some(why.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(Time(now)),
                ..PodCondition::default()
            };
        }
        was
    });
    match (lost, was_ready) {
        (false, false) => Mark::None,
        (false, true) => Mark::Status(json!({"conditions": conditions})),
        (true, _) => Mark::Status(json!({"phase": "Failed", "reason": why, "message": message, "conditions": conditions})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    #[test]
    fn silence_is_judged_by_its_length() {
        let limits = Limits { silent_after: SignedDuration::from_secs(40), lost_after: SignedDuration::from_secs(300) };
        for (now, verdict) in [
            (1_040, Verdict::Alive),
            (1_041, Verdict::Silent(at(1_000))),
            (1_300, Verdict::Silent(at(1_000))),
            (1_301, Verdict::Lost(at(1_000))),
        ] {
            assert_eq!(judge(at(1_000), at(0), limits, at(now)), verdict, "{now}");
        }
        // After a long stop of the server, the node gets its time to report.
        assert_eq!(judge(at(1_000), at(9_000), limits, at(9_030)), Verdict::Alive);
    }

    fn pod(more: Value) -> Pod {
        let mut pod =
            json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        for (name, value) in more.as_object().expect("an object") {
            pod["metadata"][name] = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn pods_of_a_silent_node_stop_being_ready_and_are_lost_in_the_end() {
        let running = pod(json!({}));
        let Mark::Status(silent) = mark(&running, false, "m", at(1)) else { panic!("marked") };
        assert_eq!((&silent["phase"], &silent["conditions"][0]["status"]), (&Value::Null, &json!("False")));
        let Mark::Status(lost) = mark(&running, true, "m", at(1)) else { panic!("marked") };
        assert_eq!((&lost["phase"], &lost["reason"]), (&json!("Failed"), &json!("NodeLost")));
        let leaving = pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(mark(&leaving, true, "m", at(1)), Mark::Remove);

        let marked = Pod { status: serde_json::from_value(silent).expect("a status"), ..running };
        assert_eq!(mark(&marked, false, "m", at(2)), Mark::None, "said once");
    }

    #[test]
    fn a_silent_node_is_marked_once() {
        let node = Node::default();
        let conditions = unknown(&node, at(1), at(50)).expect("news");
        let status = k8s_openapi::api::core::v1::NodeStatus { conditions: Some(conditions), ..Default::default() };
        assert!(unknown(&Node { status: Some(status), ..node }, at(1), at(60)).is_none());
    }
}
