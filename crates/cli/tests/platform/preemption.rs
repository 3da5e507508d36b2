//! Who is stopped for whom, and who is not, on simulated nodes.

use fermion_testkit::{Kubectl, Node, Platform};
use serde_json::{Value, json};

use crate::FERMION;

const CARD: &str = "gpu.fermion.dev/h100-sxm5-80gb";

fn compute(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A job of one worker with all eight cards of a node, for an hour.
fn job(name: &str, queue: &str, preemptible: bool) -> String {
    let requests = json!({"cpu": "8", CARD: "8"});
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]);
    let template = json!({"metadata": {"annotations": {"fermion.dev/fake-run-time": "1h"}}, "spec": {"containers": containers}});
    let roles = json!([{"name": "worker", "replicas": 1, "template": template}]);
    let spec = json!({"queue": queue, "roles": roles, "scheduling": {"preemptible": preemptible}});
    json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}).to_string()
}

fn sim(kubectl: &Kubectl) {
    let group = json!({"name": "gpu", "count": 2, "cpu": "64", "memory": "1Ti", "accelerators": {"h100-sxm5-80gb": 8}});
    kubectl.apply(&compute("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");
}

#[track_caller]
fn runs(kubectl: &Kubectl, name: &str) {
    kubectl.wait_field("default", &format!("tj/{name}"), "{.status.phase}", "Running");
}

/// Asserts that work runs and was never stopped for others.
#[track_caller]
fn goes_on(kubectl: &Kubectl, name: &str) {
    assert_eq!(kubectl.field("default", &format!("tj/{name}"), "{.status.phase}").as_deref(), Ok("Running"));
    assert_eq!(evicted(kubectl, name, "reason"), "", "{name} was stopped");
}

#[track_caller]
fn evicted(kubectl: &Kubectl, name: &str, field: &str) -> String {
    let path = format!("{{.status.conditions[?(@.type==\"Evicted\")].{field}}}");
    kubectl.field("default", &format!("wl/{name}"), &path).expect("a workload")
}

/// Waits until work was stopped for this reason and for that work.
#[track_caller]
fn is_stopped(kubectl: &Kubectl, name: &str, reason: &str, by: &str) {
    let path = |field: &str| format!("{{.status.conditions[?(@.type==\"Evicted\")].{field}}}");
    kubectl.wait_field("default", &format!("wl/{name}"), &path("reason"), reason);
    assert_eq!(evicted(kubectl, name, "status"), "True");
    let message = evicted(kubectl, name, "message");
    assert!(message.contains(&format!("default/{by}")), "{message}");
}

#[track_caller]
fn comes_back(kubectl: &Kubectl, name: &str) {
    runs(kubectl, name);
    kubectl.wait_field("default", &format!("wl/{name}"), "{.status.conditions[?(@.type==\"Evicted\")].status}", "False");
}

#[test]
fn a_queue_of_higher_priority_takes_what_it_needs_from_work_that_lets_it() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    sim(&kubectl);
    kubectl.apply(&compute("Queue", "low", &json!({"pool": "sim", "priority": 1})));
    kubectl.apply(&compute("Queue", "high", &json!({"pool": "sim", "priority": 9})));
    for (name, preemptible) in [("stays", false), ("gives", true)] {
        kubectl.apply(&job(name, "low", preemptible));
        runs(&kubectl, name);
    }

    // Priority alone stops nobody before the policy says so.
    kubectl.apply(&job("wants", "high", true));
    kubectl.wait_field("default", "wl/wants", "{.status.waiting.reason}", "InsufficientResources");
    goes_on(&kubectl, "gives");
    kubectl.apply(&compute("SchedulingPolicy", "default", &json!({"preemption": true})));
    runs(&kubectl, "wants");
    is_stopped(&kubectl, "gives", "Preempted", "wants");
    goes_on(&kubectl, "stays");

    // Only what cannot be stopped is left.
    kubectl.apply(&job("more", "high", true));
    kubectl.wait_field("default", "wl/more", "{.status.waiting.reason}", "InsufficientResources");
    goes_on(&kubectl, "stays");
    kubectl.run(&["delete", "tj", "more", "wants"]).ok();
    comes_back(&kubectl, "gives");

    // What a queue is guaranteed is not taken by priority.
    kubectl.run(&["patch", "queue", "low", "--type=merge", "-p", &json!({"spec": {"guaranteed": {CARD: "16"}}}).to_string()]).ok();
    kubectl.apply(&job("again", "high", true));
    kubectl.wait_field("default", "wl/again", "{.status.waiting.reason}", "InsufficientResources");
    comes_back(&kubectl, "gives");
    goes_on(&kubectl, "stays");
}

#[test]
fn a_borrower_gives_a_guaranteed_share_back_but_not_work_that_opted_out() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    sim(&kubectl);
    kubectl.apply(&compute("Queue", "owner", &json!({"pool": "sim", "guaranteed": {CARD: "16"}})));
    kubectl.apply(&compute("Queue", "borrower", &json!({"pool": "sim", "priority": 9})));
    for (name, preemptible) in [("keeps", false), ("lends", true)] {
        kubectl.apply(&job(name, "borrower", preemptible));
        runs(&kubectl, name);
    }
    kubectl.apply(&job("mine", "owner", true));
    runs(&kubectl, "mine");
    is_stopped(&kubectl, "lends", "Reclaimed", "mine");
    goes_on(&kubectl, "keeps");
    kubectl.apply(&job("second", "owner", true));
    kubectl.wait_field("default", "wl/second", "{.status.waiting.reason}", "InsufficientResources");
    goes_on(&kubectl, "keeps");
    kubectl.run(&["delete", "tj", "second", "mine"]).ok();
    comes_back(&kubectl, "lends");
}
