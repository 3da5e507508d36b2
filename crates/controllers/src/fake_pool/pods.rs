//! Takes pods on simulated nodes through their lives: they start at once, end after the time that
//! an annotation names, and leave when they are deleted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fermion_api::{duration, labels, pod};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{REQUESTS_AT_ONCE, is_fake};
use crate::Shutdown;
use crate::cache::Cache;
use crate::error::{Error, chain, describe};

/// Wait before a step that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Namespace and name.
type Key = (String, String);

pub(super) struct Runner {
    client: Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    /// When to look at which pod again, and the same by pod.
    dues: BTreeSet<(Timestamp, Key)>,
    due_of: HashMap<Key, Timestamp>,
    /// When pods that run were started, by uid: their status knows the second alone.
    starts: HashMap<String, Timestamp>,
}

/// What comes next in a pod's life.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Nothing,
    WaitUntil(Timestamp),
    /// This goes into its status.
    Report(Value),
    Remove,
}

impl Runner {
    pub(super) fn new(client: Client, pods: Cache<Pod>, nodes: Cache<Node>) -> Self {
        Self { client, pods, nodes, dues: BTreeSet::new(), due_of: HashMap::new(), starts: HashMap::new() }
    }

    pub(super) async fn run(mut self, sweep: Duration, shutdown: Shutdown) {
        let mut changes = self.pods.changes().boxed();
        tokio::select! {
            () = shutdown.requested() => return,
            filled = futures::future::join(self.pods.filled(), self.nodes.filled()) => {
                if let Err(error) = filled.0.and(filled.1) {
                    tracing::error!(error = chain(&error), "pods on simulated nodes cannot be run");
                    return;
                }
            }
        }
        let mut steps = FuturesUnordered::new();
        let mut swept: Option<tokio::time::Instant> = None;
        while !shutdown.is_requested() {
            if swept.is_none_or(|at| at.elapsed() >= sweep) {
                for pod in self.pods.all() {
                    self.look_at(Timestamp::now(), key(&pod));
                }
                swept = Some(tokio::time::Instant::now());
            }
            // What came in while something else was done.
            while let Some(Some(change)) = changes.next().now_or_never() {
                self.heard(&change);
            }
            while steps.len() < REQUESTS_AT_ONCE
                && let Some(pod) = self.next_due(Timestamp::now())
            {
                let now = Timestamp::now();
                let began = pod.metadata.uid.as_ref().and_then(|uid| self.starts.get(uid)).copied();
                match step(&pod, now, began) {
                    Step::Nothing => self.forget_start(&pod),
                    Step::WaitUntil(at) => self.look_at(at, key(&pod)),
                    step => {
                        if began.is_none() && runs_for_a_time(&pod) {
                            self.starts.extend(pod.metadata.uid.clone().map(|uid| (uid, now)));
                        }
                        let client = self.client.clone();
                        steps.push(async move {
                            let answer = act(client, &pod, step).await;
                            (pod, answer)
                        });
                    }
                }
            }
            let next = self.dues.first().map(|(at, _)| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
            // With as many requests under way as may be, nothing is due before one of them ends.
            let pause = if steps.len() < REQUESTS_AT_ONCE { next.map_or(sweep, |next| next.min(sweep)) } else { sweep };
            tokio::select! {
                () = shutdown.requested() => return,
                Some(change) = changes.next() => self.heard(&change),
                Some((pod, answer)) = steps.next() => self.ended(&pod, answer),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn heard(&mut self, change: &crate::cache::Change<Pod>) {
        let key = key(&change.object);
        if change.gone {
            self.forget_start(&change.object);
            if let Some(at) = self.due_of.remove(&key) {
                self.dues.remove(&(at, key));
            }
        } else if change.object.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            self.look_at(Timestamp::now(), key);
        }
    }

    fn forget_start(&mut self, pod: &Pod) {
        if let Some(uid) = &pod.metadata.uid {
            self.starts.remove(uid);
        }
    }

    fn ended(&mut self, pod: &Pod, answer: Result<(), Error>) {
        match answer {
            // The cache tells of what came of it, or of who was faster.
            Ok(()) | Err(Error::Conflict { .. }) => {}
            Err(Error::Api { source: kube::Error::Api(status), .. }) if status.is_not_found() => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot run a pod on a simulated node; trying again");
                self.look_at(Timestamp::now().saturating_add(RETRY).unwrap_or(Timestamp::MAX), key(pod));
            }
        }
    }

    /// Looks at the pod again at that time, or earlier if that was planned.
    fn look_at(&mut self, at: Timestamp, key: Key) {
        if let Some(planned) = self.due_of.get(&key).copied() {
            if planned <= at {
                return;
            }
            self.dues.remove(&(planned, key.clone()));
        }
        self.due_of.insert(key.clone(), at);
        self.dues.insert((at, key));
    }

    /// The next pod whose time has come and that is on a simulated node.
    fn next_due(&mut self, now: Timestamp) -> Option<Arc<Pod>> {
        loop {
            let (at, key) = self.dues.first()?.clone();
            if at > now {
                return None;
            }
            self.dues.pop_first();
            self.due_of.remove(&key);
            let Some(pod) = self.pods.get(&key.0, &key.1) else { continue };
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            if node.and_then(|node| self.nodes.get("", node)).is_some_and(|node| is_fake(&node)) {
                return Some(pod);
            }
        }
    }
}

fn key(pod: &Pod) -> Key {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

async fn act(client: Client, pod: &Pod, step: Step) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    match step {
        Step::Nothing | Step::WaitUntil(_) => Ok(()),
        Step::Report(status) => {
            let body = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": status});
            let answer = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
            answer.map(drop).map_err(Error::api("write the status of", describe(pod)))
        }
        Step::Remove => {
            let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
            let parameters =
                DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::background() };
            api.delete(&pod.name_any(), &parameters).await.map(drop).map_err(Error::api("delete", describe(pod)))
        }
    }
}

/// Whether the pod ends by itself.
fn runs_for_a_time(pod: &Pod) -> bool {
    pod.annotations().contains_key(labels::FAKE_RUN_TIME) && !pod::ended(pod)
}

/// How long a pod runs: a span as everywhere, or milliseconds such as `500ms`.
fn run_time(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms").map(str::parse) {
        Some(Ok(milliseconds)) => Ok(Duration::from_millis(milliseconds)),
        Some(Err(_)) | None => duration::parse(text).map_err(|problem| format!("{problem}, or 500ms")),
    }
}

/// What comes next for a pod on a simulated node, which was started at `began` as far as that is known
/// better than its status says.
fn step(pod: &Pod, now: Timestamp, began: Option<Timestamp>) -> Step {
    if pod.metadata.deletion_timestamp.is_some() {
        return Step::Remove;
    }
    if pod::ended(pod) {
        return Step::Nothing;
    }
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let Some(started) = started.filter(|_| pod::phase(pod) == "Running") else { return Step::Report(running(pod, now)) };
    let Some(text) = pod.annotations().get(labels::FAKE_RUN_TIME) else { return Step::Nothing };
    let started = began.filter(|began| began.as_second() == started.as_second()).unwrap_or(started);
    let end = run_time(text).map(|span| started.saturating_add(span).unwrap_or(Timestamp::MAX));
    match end {
        Ok(end) if end > now => Step::WaitUntil(end),
        Ok(_) => Step::Report(ended(pod, started, now)),
        Err(message) => Step::Report(json!({"phase": "Failed", "reason": "FakeRunTimeUnreadable", "message": message})),
    }
}

fn running(pod: &Pod, now: Timestamp) -> Value {
    json!({
        "phase": "Running",
        "startTime": Time(now),
        "conditions": conditions(pod, true, now),
        "containerStatuses": containers(pod, true, &json!({"running": {"startedAt": Time(now)}})),
    })
}

fn ended(pod: &Pod, started: Timestamp, now: Timestamp) -> Value {
    let code: i32 = pod.annotations().get(labels::FAKE_EXIT_CODE).and_then(|code| code.parse().ok()).unwrap_or(0);
    let reason = if code == 0 { "Completed" } else { "Error" };
    let terminated = json!({"exitCode": code, "reason": reason, "startedAt": Time(started), "finishedAt": Time(now)});
    json!({
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "conditions": conditions(pod, false, now),
        "containerStatuses": containers(pod, false, &json!({"terminated": terminated})),
    })
}

fn containers(pod: &Pod, ready: bool, state: &Value) -> Vec<Value> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            let image = container.image.clone().unwrap_or_default();
            json!({"name": container.name, "image": image, "imageID": "", "ready": ready, "started": ready, "restartCount": 0, "state": state})
        })
        .collect()
}

/// The pod's conditions with those of its containers.
fn conditions(pod: &Pod, ready: bool, now: Timestamp) -> Vec<PodCondition> {
    let mut all = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for (type_, holds) in [("Initialized", true), ("ContainersReady", ready), ("Ready", ready)] {
        all.retain(|condition| condition.type_ != type_);
        all.push(PodCondition {
            type_: type_.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn pod(annotations: Value, status: Value) -> Pod {
        let object = json!({
            "metadata": {"name": "p", "namespace": "n", "annotations": annotations},
            "spec": {"nodeName": "sim-a-0", "containers": [{"name": "main", "image": "x"}, {"name": "side"}]},
            "status": status,
        });
        serde_json::from_value(object).expect("a pod")
    }

    /// The pod after a step.
    fn after(mut pod: Pod, now: i64) -> Pod {
        let Step::Report(status) = step(&pod, at(now), None) else { panic!("{:?}", step(&pod, at(now), None)) };
        let mut merged = serde_json::to_value(pod.status.take().unwrap_or_default()).expect("JSON");
        for (field, value) in status.as_object().expect("an object") {
            merged[field] = value.clone();
        }
        pod.status = serde_json::from_value(merged).expect("a status");
        pod
    }

    #[test]
    fn a_pod_runs_for_the_time_it_names_and_ends_as_it_says() {
        for (code, phase) in [(None, "Succeeded"), (Some("3"), "Failed")] {
            let mut annotations = json!({"fermion.dev/fake-run-time": "30s"});
            if let Some(code) = code {
                annotations["fermion.dev/fake-exit-code"] = json!(code);
            }
            let running =
                after(pod(annotations, json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]})), 100);
            assert!(pod::phase(&running) == "Running" && pod::ready(&running));
            assert_eq!(running.status.as_ref().and_then(|status| status.conditions.as_ref()).map(Vec::len), Some(4));
            assert_eq!(step(&running, at(129), None), Step::WaitUntil(at(130)));
            let ended = after(running, 131);
            assert_eq!(pod::phase(&ended), phase);
            assert_eq!(step(&ended, at(1_000), None), Step::Nothing);
            if let Some(code) = code {
                assert_eq!(pod::exit(&ended).expect("an exit").code.to_string(), code);
            }
        }
    }

    #[test]
    fn a_run_time_below_a_second_is_kept() {
        let milliseconds = |count| Timestamp::from_millisecond(count).expect("in range");
        let running = after(pod(json!({"fermion.dev/fake-run-time": "200ms"}), json!({"phase": "Pending"})), 100);
        let began = Some(milliseconds(100_900));
        assert_eq!(step(&running, milliseconds(101_000), began), Step::WaitUntil(milliseconds(101_100)));
        assert!(matches!(step(&running, milliseconds(101_100), began), Step::Report(_)));
        assert!(matches!(step(&running, milliseconds(101_000), None), Step::Report(_)), "after a restart the second is what is known");
        assert!(matches!(step(&running, milliseconds(101_000), Some(milliseconds(42))), Step::Report(_)), "the start of another pod");
    }

    #[test]
    fn a_pod_without_a_time_runs_for_ever_and_leaves_when_it_is_deleted() {
        let running = after(pod(json!({}), json!({"phase": "Pending"})), 100);
        assert_eq!(step(&running, at(1_000_000), None), Step::Nothing);
        let mut leaving = running;
        leaving.metadata.deletion_timestamp = Some(Time(at(200)));
        assert_eq!(step(&leaving, at(200), None), Step::Remove);
    }

    #[test]
    fn a_time_that_cannot_be_read_fails_the_pod_and_says_so() {
        let failed = after(after(pod(json!({"fermion.dev/fake-run-time": "long"}), json!({"phase": "Pending"})), 1), 2);
        let status = failed.status.as_ref().expect("a status");
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("FakeRunTimeUnreadable")));
        assert!(status.message.as_deref().expect("a message").contains("90s"));
    }
}
