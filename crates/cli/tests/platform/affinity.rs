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

/// A pool of simulated nodes in three zones of two, and its queue.
fn zones(kubectl: &Kubectl, cpu: &str) {
    let object = |kind: &str, spec: &Value| {
        json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": "sim"}, "spec": spec}).to_string()
    };
    let group = |zone: &str| json!({"name": zone, "count": 2, "cpu": cpu, "memory": "64Gi", "labels": {"zone": zone}});
    let groups = json!([group("a"), group("b"), group("c")]);
    kubectl.apply(&object("Pool", &json!({"kind": "Fake", "fake": {"groups": groups}})));
    kubectl.apply(&object("Queue", &json!({"pool": "sim", "default": true})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "6");
}

/// A pod of this application that says so of where it goes.
fn saying(name: &str, app: &str, spec: &Value) -> Value {
    let requests = json!({"cpu": "1"});
    let mut spec = spec.clone();
    spec["containers"] =
        json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]);
    let annotations = json!({"fermion.dev/fake-run-time": "1h"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}, "annotations": annotations}, "spec": spec})
}

fn apply_all(kubectl: &Kubectl, pods: &[Value]) {
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string());
}

/// How many pods of an application are on nodes of each zone, and how many have none.
fn by_zone(kubectl: &Kubectl, app: &str) -> [usize; 4] {
    let text =
        kubectl.run(&["get", "pods", "-l", &format!("app={app}"), "-o", r#"jsonpath={range .items[*]}[{.spec.nodeName}]{"\n"}{end}"#]).ok();
    let rows: Vec<&str> = text.lines().collect();
    let on = |zone: &str| rows.iter().filter(|row| row.starts_with(&format!("[sim-{zone}-"))).count();
    [on("a"), on("b"), on("c"), rows.iter().filter(|row| **row == "[]").count()]
}

#[track_caller]
fn spread_as(kubectl: &Kubectl, app: &str, expected: [usize; 4]) {
    eventually("pods to be spread", || {
        let now = by_zone(kubectl, app);
        if now == expected { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn pods_are_spread_over_zones_and_go_where_they_prefer() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    zones(&kubectl, "8");
    let over_zones = |app: &str, when: &str| json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": app}}}]});

    // All at once, and in a job that starts as one.
    let pods: Vec<Value> = (0..6).map(|number| saying(&format!("web-{number}"), "web", &over_zones("web", "DoNotSchedule"))).collect();
    apply_all(&kubectl, &pods);
    spread_as(&kubectl, "web", [2, 2, 2, 0]);
    let template = saying("unused", "train", &over_zones("train", "DoNotSchedule"));
    let template = json!({"metadata": {"labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"]}, "spec": template["spec"]});
    let job = json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "wide"},
        "spec": {"roles": [{"name": "worker", "replicas": 6, "template": template}]}});
    kubectl.apply(&job.to_string());
    kubectl.wait_field("default", "tj/wide", "{.status.phase}", "Running");
    assert_eq!(by_zone(&kubectl, "train"), [2, 2, 2, 0]);
    kubectl.run(&["delete", "tj", "wide"]).ok();

    // A zone that is closed still counts, and holds the others back; who waits is told why.
    for node in ["sim-c-0", "sim-c-1"] {
        kubectl.run(&["cordon", node]).ok();
    }
    let pods: Vec<Value> = (0..4).map(|number| saying(&format!("db-{number}"), "db", &over_zones("db", "DoNotSchedule"))).collect();
    apply_all(&kubectl, &pods);
    spread_as(&kubectl, "db", [1, 1, 0, 2]);
    eventually("those that wait to say why", || {
        let message = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="PodScheduled")].message}{"\n"}{end}"#;
        let text = kubectl.run(&["get", "pods", "-l", "app=db", "-o", message]).ok();
        let told = "by topologySpreadConstraints (maxSkew 1 over `zone`) it may go to `c` only";
        if text.lines().filter(|line| line.contains(told)).count() == 2 { Ok(()) } else { Err(text) }
    });
    for node in ["sim-c-0", "sim-c-1"] {
        kubectl.run(&["uncordon", node]).ok();
    }
    eventually("them to go there once it is open", || {
        let [zones @ .., waiting] = by_zone(&kubectl, "db");
        let skew = zones.iter().max().zip(zones.iter().min()).map(|(most, fewest)| most - fewest);
        if (skew, waiting) == (Some(1), 0) { Ok(()) } else { Err(format!("{zones:?}, {waiting} wait")) }
    });

    // What is only preferred decides where there is room, and is no reason to wait.
    let pods: Vec<Value> = (0..3).map(|number| saying(&format!("log-{number}"), "log", &over_zones("log", "ScheduleAnyway"))).collect();
    apply_all(&kubectl, &pods);
    spread_as(&kubectl, "log", [1, 1, 1, 0]);
    let zone = |weight: i32, zone: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}});
    let to = |terms: Value| json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}});
    for (name, terms, expected) in [
        ("to-b", json!([zone(1, "b")]), "sim-b-"),
        ("to-c", json!([zone(60, "a"), zone(40, "c"), zone(30, "c")]), "sim-c-"),
        ("anywhere", json!([zone(100, "mars")]), "sim-"),
    ] {
        kubectl.apply(&saying(name, "picky", &to(terms)).to_string());
        let node = node_of(&kubectl, name);
        assert!(node.starts_with(expected), "{name} is on {node}");
    }
    let term = json!({"labelSelector": {"matchLabels": {"app": "picky"}}, "topologyKey": "kubernetes.io/hostname"});
    let beside = |how: &str| json!({"affinity": {how: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}});
    let picky: BTreeSet<String> = ["to-b", "to-c", "anywhere"].iter().map(|name| node_of(&kubectl, name)).collect();
    kubectl.apply(&saying("beside", "other", &beside("podAffinity")).to_string());
    kubectl.apply(&saying("away", "other", &beside("podAntiAffinity")).to_string());
    assert!(picky.contains(&node_of(&kubectl, "beside")) && !picky.contains(&node_of(&kubectl, "away")));
}
