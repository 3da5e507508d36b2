//! Shares, slices and whole cards as people ask for them with `kubectl`, on simulated nodes.

use fermion_testkit::{Kubectl, Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

const MODEL: &str = "gpu.fermion.dev/a100-sxm4-80gb";

/// A pod that asks for these parts of a card, by what follows the model.
fn pod(name: &str, asks: &[(&str, &str)]) -> String {
    let asked: serde_json::Map<String, Value> = asks.iter().map(|(word, amount)| (format!("{MODEL}{word}"), json!(amount))).collect();
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"limits": asked}}]);
    let annotations = json!({"gpu.fermion.dev/cards": "[]"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations}, "spec": {"containers": containers}})
        .to_string()
}

/// The one card of a pod, once it has it.
#[track_caller]
fn card(kubectl: &Kubectl, name: &str) -> Value {
    kubectl.wait_field("default", &format!("pod/{name}"), "{.spec.nodeName}", "sim-gpu-0");
    let text = kubectl.run(&["get", "pod", name, "-o", r"jsonpath={.metadata.annotations.gpu\.fermion\.dev/cards}"]).ok();
    let mut cards: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(cards.len(), 1, "{text}");
    cards.remove(0)
}

#[test]
fn cards_are_given_whole_in_shares_and_in_slices_and_never_twice() {
    let mut platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
    };
    let group = json!({"name": "gpu", "count": 1, "cpu": "64", "memory": "1Ti", "accelerators": {"a100-sxm4-80gb": 2}});
    kubectl.apply(&object("Pool", "sim", json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&object("Queue", "sim", json!({"pool": "sim", "default": true})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "1");

    // What cannot be is refused with what can.
    let refused = kubectl.run_with(&["create", "-f", "-"], &pod("wrong", &[(".mig-9g.90gb", "1")])).refused();
    assert!(refused.contains("has no slice `mig-9g.90gb`: there are gpu.fermion.dev/a100-sxm4-80gb.mig-1g.10gb,"), "{refused}");
    let refused = kubectl.run_with(&["create", "-f", "-"], &pod("wrong", &[(".share", "300"), (".memory", "100Gi")])).refused();
    assert!(refused.contains("has 76293Mi of memory"), "{refused}");

    // Two shares stand on one card, a slice on the other.
    for name in ["one", "two"] {
        kubectl.apply(&pod(name, &[(".share", "300"), (".memory", "24Gi")]));
        let card = card(&kubectl, name);
        assert_eq!((&card["share"], &card["memoryMiB"]), (&json!(300), &json!(24_576)), "{card}");
    }
    let shared = card(&kubectl, "one")["index"].clone();
    assert_eq!(card(&kubectl, "two")["index"], shared);
    kubectl.apply(&pod("slice", &[(".mig-3g.40gb", "1")]));
    let sliced = card(&kubectl, "slice");
    assert_ne!(sliced["index"], shared);
    assert_eq!((&sliced["slice"], &sliced["places"]), (&json!("mig-3g.40gb"), &json!([4, 5, 6, 7])));
    kubectl.wait_field("default", "pool/sim", r"{.status.allocated.gpu\.fermion\.dev/a100-sxm4-80gb}", "1028m");
    let talk = r#"{"metadata": {"annotations": {"gpu.fermion.dev/cards": "[]"}}}"#;
    let refused = kubectl.run(&["patch", "pod", "one", "--type=merge", "-p", talk]).refused();
    assert!(refused.contains("is written with the pod's node, and cannot be changed"), "{refused}");

    // What is free is in pieces, and that is said.
    kubectl.apply(&pod("large", &[(".share", "500")]));
    let says = |name: &str, words: &str| {
        eventually("the reason", || {
            let conditions = kubectl.run(&["get", "pod", name, "-o", "jsonpath={.status.conditions[*].message}"]).ok();
            if conditions.contains(words) { Ok(()) } else { Err(conditions) }
        });
    };
    says("large", "it needs 500 thousandths of a card with 38146Mi of a100-sxm4-80gb");
    says("large", "is 400 thousandths of a card with 27141Mi");
    kubectl.run(&["delete", "pod", "large"]).ok();

    // After a restart everybody has the cards they had.
    platform.stop();
    platform.restart();
    let kubectl = platform.kubectl();
    kubectl.run(&["delete", "pod", "two"]).ok();
    kubectl.apply(&pod("three", &[(".share", "600"), (".memory", "48Gi")]));
    assert_eq!(card(&kubectl, "three")["index"], shared);
    kubectl.apply(&pod("other", &[(".mig-3g.40gb", "1")]));
    assert_eq!(card(&kubectl, "other")["places"], json!([0, 1, 2, 3]));
    kubectl.apply(&pod("whole", &[("", "1")]));
    kubectl.wait_field("default", "pod/whole", "{.status.conditions[?(@.type==\"PodScheduled\")].reason}", "Unschedulable");
    kubectl.run(&["delete", "pod", "slice", "other"]).ok();
    assert_eq!(card(&kubectl, "whole"), json!({"model": "a100-sxm4-80gb", "index": sliced["index"]}));
}

#[test]
fn a_node_on_which_work_dies_is_closed_until_it_is_lifted() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
    };
    let group = json!({"name": "gpu", "count": 2, "cpu": "64", "memory": "1Ti", "accelerators": {"a100-sxm4-80gb": 8}});
    kubectl.apply(&object("Pool", "sim", json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&object("Queue", "sim", json!({"pool": "sim", "default": true})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");
    let on = |name: &str, node: Option<&str>, exit: &str| {
        let annotations = json!({"fermion.dev/fake-run-time": "10ms", "fermion.dev/fake-exit-code": exit});
        let limits = json!({MODEL: "8"});
        let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"limits": limits}}]);
        let selector = node.map(|node| json!({"kubernetes.io/hostname": node}));
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
            "spec": {"restartPolicy": "Never", "containers": containers, "nodeSelector": selector}})
        .to_string()
    };
    for (name, exit) in [("a", "139"), ("b", "135"), ("c", "139")] {
        kubectl.apply(&on(name, Some("sim-gpu-1"), exit));
        kubectl.wait_field("default", &format!("pod/{name}"), "{.status.phase}", "Failed");
    }
    let taint = "{.spec.taints[0].key}";
    kubectl.wait_field("default", "node/sim-gpu-1", taint, "fermion.dev/quarantine");
    let why = r"{.metadata.annotations.fermion\.dev/quarantine-reason}";
    kubectl.wait_field(
        "default",
        "node/sim-gpu-1",
        why,
        "3 different workloads died on it by no doing of their own: default/a, default/b, default/c",
    );

    // What needs the node says why it does not get it, and gets it when somebody lifts it.
    kubectl.apply(&on("waits", Some("sim-gpu-1"), "0"));
    eventually("the reason", || {
        let message = kubectl.run(&["get", "pod", "waits", "-o", "jsonpath={.status.conditions[*].message}"]).ok();
        if message.contains("node `sim-gpu-1`, which is not ready for new pods: it is in quarantine until") { Ok(()) } else { Err(message) }
    });
    kubectl.run(&["taint", "node", "sim-gpu-1", "fermion.dev/quarantine-"]).ok();
    kubectl.wait_field("default", "pod/waits", "{.status.phase}", "Succeeded");
    kubectl.wait_field("default", "node/sim-gpu-1", why, "");
}
