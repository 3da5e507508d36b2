//! Pods that want to be near others or apart from them, on simulated nodes.

use std::collections::BTreeSet;

use fermion_testkit::{Kubectl, Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

/// A pod that wants `how` towards pods of an application within the domains of a label.
fn pod(name: &str, app: &str, how: &str, towards: &str, key: &str) -> Value {
    let terms = json!([{"labelSelector": {"matchLabels": {"app": towards}}, "topologyKey": key}]);
    let requests = json!({"cpu": "1"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": {
        "affinity": {how: {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "containers": [{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]}})
}

#[track_caller]
fn node_of(kubectl: &Kubectl, pod: &str) -> String {
    let mut node = String::new();
    eventually("the pod to have a node", || {
        node = kubectl.run(&["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"]).ok();
        if node.is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    });
    node
}

#[test]
fn pods_stand_apart_from_and_near_each_other_as_they_demand() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let object = |group: &str, kind: &str, name: &str, spec: &Value| {
        json!({"apiVersion": format!("{group}.fermion.dev/v1alpha1"), "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
    };
    let group = json!({"name": "n", "count": 3, "cpu": "16", "memory": "64Gi"});
    kubectl.apply(&object("compute", "Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&object("compute", "Queue", "sim", &json!({"pool": "sim", "default": true})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "3");

    // All at once: each has a node of its own, and one has none.
    let names = ["db-0", "db-1", "db-2", "db-3"];
    let pods: Vec<Value> = names.iter().map(|name| pod(name, "db", "podAntiAffinity", "db", "kubernetes.io/hostname")).collect();
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string());
    let mut waits = String::new();
    eventually("three to have nodes and the last to say why not", || {
        let columns = r#"jsonpath={range .items[*]}{.metadata.name}={.spec.nodeName}={.status.conditions[?(@.type=="PodScheduled")].message}{"\n"}{end}"#;
        let text = kubectl.run(&["get", "pods", "-l", "app=db", "-o", columns]).ok();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(3, '=').collect()).collect();
        let nodes: BTreeSet<&str> = rows.iter().map(|row| row[1]).filter(|node| !node.is_empty()).collect();
        let told = rows.iter().find(|row| row[1].is_empty() && row[2].contains("no node of pool `sim` that queue `sim` gives out meets"));
        waits = told.map(|row| row[0].to_owned()).unwrap_or_default();
        if rows.len() == 4 && nodes.len() == 3 && !waits.is_empty() { Ok(()) } else { Err(text) }
    });

    // A client stands beside the one it names, and where that one is not, nobody does.
    kubectl.run(&["delete", "pods", "-l", "app=db"]).ok();
    kubectl.apply(&pod("cache", "cache", "podAntiAffinity", "db", "kubernetes.io/hostname").to_string());
    let cache = node_of(&kubectl, "cache");
    for name in ["web-0", "web-1"] {
        kubectl.apply(&pod(name, "web", "podAffinity", "cache", "kubernetes.io/hostname").to_string());
        assert_eq!(node_of(&kubectl, name), cache);
    }
    kubectl.apply(&pod("db-0", "db", "podAffinity", "db", "kubernetes.io/hostname").to_string());
    assert_ne!(node_of(&kubectl, "db-0"), cache, "the cache keeps databases away");

    // Members of one job each get a node of their own, together or not at all.
    let template = |replicas: u32| {
        let mut template = pod("unused", "train", "podAntiAffinity", "train", "kubernetes.io/hostname");
        template["metadata"] = json!({"labels": {"app": "train"}, "annotations": {"fermion.dev/fake-run-time": "1h"}});
        json!({"roles": [{"name": "worker", "replicas": replicas, "template": {"metadata": template["metadata"], "spec": template["spec"]}}]})
    };
    kubectl.apply(&object("ai", "TrainingJob", "wide", &template(3)));
    kubectl.wait_field("default", "tj/wide", "{.status.phase}", "Running");
    let nodes = kubectl.run(&["get", "pods", "-l", "app=train", "-o", "jsonpath={.items[*].spec.nodeName}"]).ok();
    assert_eq!(nodes.split_whitespace().collect::<BTreeSet<_>>().len(), 3, "{nodes}");
    kubectl.run(&["delete", "tj", "wide"]).ok();
    kubectl.apply(&object("ai", "TrainingJob", "wider", &template(4)));
    kubectl.wait_field("default", "wl/wider", "{.status.waiting.reason}", "InsufficientResources");
    let message = kubectl.run(&["get", "wl", "wider", "-o", "jsonpath={.status.waiting.message}"]).ok();
    assert!(message.contains("4 of its pods want a node of their own by podAntiAffinity"), "{message}");
}
