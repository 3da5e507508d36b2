//! Quarantine: nodes on which work dies that does not die elsewhere get a taint, for a while.
//!
//! What counts is how pods died: by a signal that nobody sent them, lost, or not started by the
//! node's runtime. A program that ends with an error of its own, runs out of its own memory or out
//! of time says nothing of its node. How evidence adds up is for
//! [`fermion_scheduler::quarantine`].
//!
//! What a node is in quarantine for stands in its annotations, so that it outlives this process. An
//! administrator lifts it by taking the taint away; what was held against the node is forgotten
//! then.
//!
//! Whoever runs work can make it die, so no more than a tenth of a pool's nodes is closed by this,
//! and never its only one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::{labels, pod, reason};
use fermion_scheduler::quarantine::{Quarantine, Sentence};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::error::{Error, chain, describe};
use crate::events::{Notice, Recorder};
use crate::workload::workload_of;
use crate::{Caches, Options, Shutdown};

/// Shortest time between two looks at all pods.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// One of so many nodes of a pool can be in quarantine; one in any case, where there are others.
const NODES_PER_CLOSED: usize = 10;
/// Exit codes from here on are signals.
const SIGNALS: i32 = 128;
/// What a pod ends with that was told to stop, or was stopped after it did not.
const TOLD_TO_STOP: [i32; 2] = [SIGNALS + 15, SIGNALS + 9];
/// Reasons by which a runtime or the platform says that it was the node.
const OF_THE_NODE: [&str; 6] =
    ["NodeLost", "StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError", "UnexpectedAdmissionError"];
/// How many pieces of work are named.
const NAMED_MAX: usize = 5;

struct Warden {
    client: Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    recorder: Recorder,
    ward: Ward,
}

/// What is known of nodes.
#[derive(Default)]
struct Ward {
    evidence: Quarantine,
    /// Pods whose end was counted.
    counted: BTreeSet<String>,
    /// Nodes that were closed, whether the cache shows it yet or not.
    closed: BTreeSet<String>,
}

/// Runs until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, nodes: Cache<Node>, options: Options, shutdown: Shutdown) {
    let recorder = Recorder::new(client.clone(), "quarantine");
    Warden { client, pods: caches.pods, nodes, recorder, ward: Ward::default() }.watch(options.sweep, shutdown).await;
}

/// How a pod ended, as far as its node is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Well,
    /// By no doing of its owner's.
    Died,
    /// It says nothing of the node.
    Own,
}

fn end(pod: &Pod) -> Option<End> {
    let by_node = |reason: Option<&str>| reason.is_some_and(|reason| OF_THE_NODE.contains(&reason));
    match pod::phase(pod) {
        "Succeeded" => Some(End::Well),
        "Failed" => {
            let status = pod.status.as_ref()?;
            let exit = pod::exit(pod);
            let died = by_node(status.reason.as_deref())
                || exit.is_some_and(|exit| {
                    let signal = exit.code > SIGNALS && !TOLD_TO_STOP.contains(&exit.code) && exit.reason != "OOMKilled";
                    by_node(Some(&exit.reason)) || (signal && status.reason.is_none())
                });
            Some(if died { End::Died } else { End::Own })
        }
        _ => None,
    }
}

/// What the pod is a piece of.
fn work(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), workload_of(pod).unwrap_or_else(|| pod.name_any()))
}

/// Until when a node is in quarantine, by its annotation.
fn until(node: &Node) -> Option<Timestamp> {
    node.annotations().get(labels::QUARANTINED_UNTIL)?.parse().ok()
}

fn has_taint(node: &Node) -> bool {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == labels::QUARANTINE)
}

/// Why a node in quarantine is, in words.
pub(crate) fn story(node: &Node) -> Option<String> {
    if !has_taint(node) {
        return None;
    }
    let why = node.annotations().get(labels::QUARANTINE_REASON).map_or("somebody put it there", String::as_str);
    let until = until(node).map(|until| format!(" until {until}")).unwrap_or_default();
    Some(format!("it is in quarantine{until}: {why}"))
}

fn why(sentence: &Sentence) -> String {
    let count = sentence.works.len();
    let mut names = sentence.works.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if count > NAMED_MAX {
        names.push_str(", …");
    }
    format!("{count} different workloads died on it by no doing of their own: {names}")
}

/// What is done to a node.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Close {
        until: Timestamp,
        why: String,
    },
    /// It is over, or was lifted.
    Open {
        lifted: bool,
    },
}

fn patch(node: &Node, step: &Step, now: Timestamp) -> Value {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut taints: Vec<Taint> = taints.filter(|taint| taint.key != labels::QUARANTINE).cloned().collect();
    let annotations = match step {
        Step::Close { until, why } => {
            let effect = "NoSchedule".to_owned();
            taints.push(Taint { key: labels::QUARANTINE.to_owned(), effect, ..Taint::default() });
            json!({labels::QUARANTINED_UNTIL: until.to_string(), labels::QUARANTINE_REASON: why})
        }
        // What happened before is not held against it again, not after a restart either.
        Step::Open { .. } => {
            json!({labels::QUARANTINED_UNTIL: null, labels::QUARANTINE_REASON: null, labels::QUARANTINE_ENDED: now.to_string()})
        }
    };
    json!({"metadata": {"resourceVersion": node.resource_version(), "annotations": annotations}, "spec": {"taints": taints}})
}

impl Ward {
    /// Counts what ended since, and says what is to be done.
    fn decide(&mut self, pods: &[Arc<Pod>], nodes: &[Arc<Node>], now: Timestamp) -> Vec<(Arc<Node>, Step)> {
        let by_name: HashMap<String, &Arc<Node>> = nodes.iter().map(|node| (node.name_any(), node)).collect();
        let mut steps: BTreeMap<String, Step> = BTreeMap::new();
        // The taint is gone: somebody looked at the node.
        for node in nodes.iter().filter(|node| until(node).is_some()) {
            let name = node.name_any();
            if !has_taint(node) {
                self.evidence.release(&name);
                self.closed.remove(&name);
                steps.insert(name, Step::Open { lifted: true });
            } else if until(node).is_some_and(|until| until <= now) {
                self.closed.remove(&name);
                steps.insert(name, Step::Open { lifted: false });
            } else {
                self.closed.insert(name);
            }
        }
        self.evidence.expire(now.as_millisecond());
        self.closed.retain(|name| by_name.contains_key(name));
        let mut ends: Vec<(Timestamp, &Arc<Pod>, End)> = Vec::new();
        for pod in pods {
            let (Some(uid), Some(end)) = (pod.uid(), end(pod)) else { continue };
            if !self.counted.contains(&uid) {
                let at = pod::run_interval(pod).1.or_else(|| pod.creation_timestamp().map(|time| time.0)).unwrap_or(now).min(now);
                ends.push((at, pod, end));
            }
        }
        ends.sort_by_key(|end| (end.0, end.1.uid()));
        for (at, pod, end) in ends {
            let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else { continue };
            let Some(node) = by_name.get(name) else { continue };
            let ended = node.annotations().get(labels::QUARANTINE_ENDED).and_then(|text| text.parse::<Timestamp>().ok());
            if ended.is_some_and(|ended| at <= ended) {
                continue;
            }
            match end {
                End::Well => self.evidence.succeeded(at.as_millisecond(), name),
                End::Died => _ = self.evidence.failed(at.as_millisecond(), name, &work(pod)),
                End::Own => {}
            }
        }
        self.counted = pods.iter().filter(|pod| pod::ended(pod)).filter_map(|pod| pod.uid()).collect();
        for (name, node) in by_name {
            let Some(sentence) = self.evidence.sentence(now.as_millisecond(), &name) else { continue };
            let free = !self.closed.contains(&name) && !steps.contains_key(&name) && !has_taint(node);
            if free && self.may_close(node, nodes) {
                let until = Timestamp::from_millisecond(sentence.until).unwrap_or(Timestamp::MAX);
                steps.insert(name.clone(), Step::Close { until, why: why(sentence) });
                self.closed.insert(name);
            }
        }
        steps.into_iter().filter_map(|(name, step)| Some((Arc::clone(nodes.iter().find(|node| node.name_any() == name)?), step))).collect()
    }

    /// Whether one more node of the pool can be closed.
    fn may_close(&self, node: &Node, nodes: &[Arc<Node>]) -> bool {
        let pool = |node: &Node| node.labels().get(labels::POOL).cloned();
        let own = pool(node);
        let of_pool: Vec<_> = nodes.iter().filter(|other| pool(other) == own).collect();
        let closed = of_pool.iter().filter(|other| self.closed.contains(&other.name_any())).count();
        of_pool.len() > 1 && closed < (of_pool.len() / NODES_PER_CLOSED).max(1)
    }
}

impl Warden {
    async fn watch(mut self, sweep: Duration, shutdown: Shutdown) {
        let changes = [self.pods.changes().map(|_| ()).boxed(), self.nodes.changes().map(|_| ()).boxed()];
        let mut changes = futures::stream::select_all(changes);
        tokio::select! {
            () = shutdown.requested() => return,
            filled = futures::future::join(self.pods.filled(), self.nodes.filled()) => {
                if let Err(error) = filled.0.and(filled.1) {
                    tracing::error!(error = chain(&error), "nodes cannot be put in quarantine");
                    return;
                }
            }
        }
        while !shutdown.is_requested() {
            let nodes = self.nodes.all();
            let steps = self.ward.decide(&self.pods.all(), &nodes, Timestamp::now());
            for (node, step) in steps {
                if let Err(error) = self.act(&node, &step).await {
                    tracing::warn!(node = node.name_any(), error = chain(&error), "cannot write down a quarantine; trying again");
                }
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            tokio::select! {
                () = shutdown.requested() => return,
                _ = changes.next() => {}
                () = tokio::time::sleep(sweep) => {}
            }
            while let Some(Some(())) = changes.next().now_or_never() {}
        }
    }

    async fn act(&mut self, node: &Node, step: &Step) -> Result<(), Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let body = patch(node, step, Timestamp::now());
        let answer = api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
        if answer.is_err() {
            // Decided anew in the next look.
            self.ward.closed.remove(&node.name_any());
        }
        answer.map(drop).map_err(Error::api("write the quarantine of", describe(node)))?;
        let notice = match step {
            Step::Close { until, why } => Notice::warning(reason::QUARANTINED, format!("in quarantine until {until}: {why}")),
            Step::Open { lifted: true } => Notice::normal(reason::QUARANTINE_ENDED, "the quarantine was lifted"),
            Step::Open { lifted: false } => Notice::normal(reason::QUARANTINE_ENDED, "the quarantine is over"),
        };
        self.recorder.tell(node, &[notice]).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Arc<Node> {
        let object = json!({"metadata": {"name": name, "labels": {labels::POOL: "local"}}, "spec": {}});
        Arc::new(serde_json::from_value(object).expect("a node"))
    }

    fn pod(name: &str, node: &str, exit: i32, reason: &str, finished: &str) -> Arc<Pod> {
        let terminated = json!({"exitCode": exit, "reason": reason, "finishedAt": finished});
        let container =
            json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated}});
        let object = json!({
            "metadata": {"name": name, "namespace": "lab", "uid": name}, "spec": {"nodeName": node, "containers": []},
            "status": {"phase": if exit == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [container]},
        });
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    fn warden() -> Ward {
        Ward::default()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// The node as it is once the step was taken.
    fn after(node: &Node, step: &Step, now: Timestamp) -> Arc<Node> {
        let patch = patch(node, step, now);
        let mut node = node.clone();
        for (name, value) in patch["metadata"]["annotations"].as_object().expect("annotations") {
            match value.as_str() {
                Some(value) => _ = node.annotations_mut().insert(name.clone(), value.to_owned()),
                None => _ = node.annotations_mut().remove(name),
            }
        }
        node.spec.get_or_insert_default().taints = serde_json::from_value(patch["spec"]["taints"].clone()).expect("taints");
        Arc::new(node)
    }

    #[test]
    fn a_node_on_which_different_work_dies_is_closed_until_it_is_over() {
        let mut warden = warden();
        let nodes = [node("bad"), node("good")];
        let died = |name: &str| pod(name, "bad", 139, "Error", "2026-01-01T00:00:00Z");
        let now = at("2026-01-01T00:00:10Z");
        assert!(warden.decide(&[died("a"), died("b")], &nodes, now).is_empty());
        let pods = [died("a"), died("b"), died("c")];
        let steps = warden.decide(&pods, &nodes, now);
        let [(closed, step @ Step::Close { until: end, why })] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!((closed.name_any().as_str(), *end), ("bad", at("2026-01-01T00:30:00Z")));
        assert_eq!(why, "3 different workloads died on it by no doing of their own: lab/a, lab/b, lab/c");
        let bad = after(closed, step, now);
        assert!(story(&bad).expect("in quarantine").starts_with("it is in quarantine until 2026-01-01T00:30:00Z: 3 different"));
        let nodes = [bad, node("good")];
        assert!(warden.decide(&pods, &nodes, now).is_empty(), "once");
        let later = at("2026-01-01T00:30:00Z");
        let steps = warden.decide(&pods, &nodes, later);
        assert!(matches!(steps.as_slice(), [(_, Step::Open { lifted: false })]), "{steps:?}");
        let nodes = [after(&nodes[0], &steps[0].1, later), node("good")];
        assert_eq!((story(&nodes[0]), until(&nodes[0])), (None, None));
        // Who begins anew knows only what happened since.
        assert!(super::tests::warden().decide(&pods, &nodes, later).is_empty());
    }

    #[test]
    fn taking_the_taint_away_lifts_it() {
        let mut warden = warden();
        let pods = ["a", "b", "c"].map(|name| pod(name, "bad", 135, "Error", "2026-01-01T00:00:00Z"));
        let now = at("2026-01-01T00:00:10Z");
        let nodes = [node("bad"), node("good")];
        let steps = warden.decide(&pods, &nodes, now);
        let mut bad = (*after(&nodes[0], &steps[0].1, now)).clone();
        bad.spec.as_mut().expect("a spec").taints = None;
        let nodes = [Arc::new(bad), node("good")];
        let steps = warden.decide(&pods, &nodes, now);
        assert!(matches!(steps.as_slice(), [(_, Step::Open { lifted: true })]), "{steps:?}");
        let nodes = [after(&nodes[0], &steps[0].1, now), node("good")];
        assert!(warden.decide(&pods, &nodes, now).is_empty());
    }

    #[test]
    fn what_work_does_to_itself_is_not_held_against_nodes_and_few_nodes_are_closed() {
        let nodes = [node("one"), node("two"), node("three")];
        let now = at("2026-01-01T00:00:10Z");
        let of = |node: &str, exit: i32, reason: &str| -> Vec<Arc<Pod>> {
            let named = |work: char| pod(&format!("{node}-{work}"), node, exit, reason, "2026-01-01T00:00:00Z");
            "abc".chars().map(named).collect()
        };
        for (exit, reason) in [(1, "Error"), (127, "Error"), (137, "OOMKilled"), (143, "Error"), (137, "Error")] {
            assert!(warden().decide(&of("one", exit, reason), &nodes, now).is_empty(), "{exit} {reason}");
        }
        assert_eq!(warden().decide(&of("one", 128, "StartError"), &nodes, now).len(), 1, "the runtime says it was not the program");
        let all: Vec<_> = ["one", "two", "three"].iter().flat_map(|name| of(name, 139, "Error")).collect();
        assert_eq!(warden().decide(&all, &nodes, now).len(), 1, "a tenth, and one in any case");
        assert!(warden().decide(&of("one", 139, "Error"), &nodes[..1], now).is_empty(), "the only one stays");
    }
}
