//! Queues and nodes as administrators meet them by `kubectl` and `fermion`, on simulated nodes.

use fermion_testkit::{Kubectl, Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

fn object(kind: &str, name: &str, spec: &Value) -> String {
    let group = if matches!(kind, "TrainingJob" | "Workload") { "ai" } else { "compute" };
    json!({"apiVersion": format!("{group}.fermion.dev/v1alpha1"), "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A job of workers that take all eight cards of a node each, and run for a time.
fn job(name: &str, replicas: u32, run_time: &str, mut more: Value) -> String {
    let requests = json!({"cpu": "8", "gpu.fermion.dev/h100-sxm5-80gb": "8"});
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]);
    let template = json!({"metadata": {"annotations": {"fermion.dev/fake-run-time": run_time}}, "spec": {"containers": containers}});
    more["roles"] = json!([{"name": "worker", "replicas": replicas, "template": template}]);
    object("TrainingJob", name, &more)
}

#[track_caller]
fn patch(kubectl: &Kubectl, what: [&str; 2], spec: &Value) {
    kubectl.run(&["patch", what[0], what[1], "--type=merge", "-p", &json!({"spec": spec}).to_string()]).ok();
}

/// A job of one worker that asks for processors alone, and runs for an hour.
fn processors(name: &str, queue: &str, cores: u32, shares: bool) -> String {
    let requests = json!({"cpu": cores.to_string()});
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests}}]);
    let template = json!({"metadata": {"annotations": {"fermion.dev/fake-run-time": "1h"}}, "spec": {"containers": containers}});
    let roles = json!([{"name": "worker", "replicas": 1, "template": template}]);
    object("TrainingJob", name, &json!({"queue": queue, "roles": roles, "scheduling": {"oversubscribe": shares}}))
}

/// The node of each pod of a job.
#[track_caller]
fn nodes_of(kubectl: &Kubectl, job: &str) -> Vec<String> {
    let label = format!("fermion.dev/training-job={job}");
    let names = kubectl.run(&["get", "pods", "-l", &label, "-o", "jsonpath={.items[*].spec.nodeName}"]).ok();
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn administrators_run_queues_and_nodes() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "gpu", "count": 6, "cpu": "64", "memory": "1Ti", "accelerators": {"h100-sxm5-80gb": 8}, "nodesPerRack": 3});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&object("Queue", "sim", &json!({"pool": "sim", "default": true, "maxTime": "2h"})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "6");

    a_gang_runs_in_the_default_queue(&kubectl);
    states_hold_for_submission_and_start(&kubectl);
    a_drained_node_is_empty_and_stays_so(&kubectl);
    machines_are_added_and_assigned(&platform, &kubectl);
    models_of_accelerators_are_known(&kubectl);
}

fn a_gang_runs_in_the_default_queue(kubectl: &Kubectl) {
    kubectl.apply(&job("whole", 6, "1s", json!({})));
    kubectl.wait_field("default", "tj/whole", "{.status.phase}", "Succeeded");
    let mut nodes = nodes_of(kubectl, "whole");
    nodes.sort();
    assert_eq!(nodes, ["sim-gpu-0", "sim-gpu-1", "sim-gpu-2", "sim-gpu-3", "sim-gpu-4", "sim-gpu-5"]);
    let spec: Value = serde_json::from_str(&kubectl.run(&["get", "tj/whole", "-o", "jsonpath={.spec}"]).ok()).expect("JSON");
    assert_eq!((&spec["queue"], &spec["runPolicy"]["maxDuration"]), (&json!("sim"), &json!("2h")), "the queue's own limit");
    let refused = kubectl.run_with(&["create", "-f", "-"], &job("long", 1, "1s", json!({"runPolicy": {"maxDuration": "3h"}}))).refused();
    assert!(refused.contains("queue \"sim\" lets nothing run longer than 2h, and spec.runPolicy.maxDuration is 3h"), "{refused}");
}

fn states_hold_for_submission_and_start(kubectl: &Kubectl) {
    let state = |state: &str| patch(kubectl, ["queue", "sim"], &json!({"state": state}));
    state("DOWN");
    kubectl.apply(&job("waits", 1, "1s", json!({})));
    kubectl.wait_field("default", "wl/waits", "{.status.waiting.reason}", "QueueClosed");
    state("INACTIVE");
    let refused = kubectl.run_with(&["create", "-f", "-"], &job("late", 1, "1s", json!({}))).refused();
    assert!(refused.contains("queue \"sim\" takes no new work while its state is INACTIVE"), "{refused}");
    kubectl.wait_field("default", "wl/waits", "{.status.waiting.reason}", "QueueClosed");
    state("DRAIN");
    kubectl.wait_field("default", "tj/waits", "{.status.phase}", "Succeeded");
    let refused = kubectl.run_with(&["create", "-f", "-"], &job("late", 1, "1s", json!({}))).refused();
    assert!(refused.contains("its state is DRAIN; name another queue, or submit again when it is UP"), "{refused}");
    state("UP");
    let row = kubectl.run(&["get", "queue", "sim", "--no-headers"]).ok();
    assert!(row.split_whitespace().take(6).eq(["sim", "sim", "UP", "true", "0", "2h"]), "{row}");
    let wrong = json!({"oversubscribe": {"mode": "NO", "count": 4}, "priority": 65534});
    let refused = kubectl.run_with(&["create", "-f", "-"], &object("Queue", "wrong", &wrong)).refused();
    assert!(refused.contains("spec.priority"), "{refused}");
}

fn a_drained_node_is_empty_and_stays_so(kubectl: &Kubectl) {
    kubectl.apply(&job("lasting", 6, "1h", json!({"runPolicy": {"retries": {"limit": 5}}})));
    kubectl.wait_field("default", "tj/lasting", "{.status.phase}", "Running");
    kubectl.run(&["cordon", "sim-gpu-1"]).ok();
    assert_eq!(nodes_of(kubectl, "lasting").len(), 6, "what runs goes on");
    kubectl.run(&["drain", "sim-gpu-1", "--timeout=60s"]).ok();
    eventually("the node to be empty", || {
        let here =
            kubectl.run(&["get", "pods", "-A", "--field-selector", "spec.nodeName=sim-gpu-1,status.phase=Running", "-o", "name"]).ok();
        if here.is_empty() { Ok(()) } else { Err(here) }
    });
    // Six nodes are asked for, and five take pods: the job waits, says why, and holds nothing meanwhile.
    kubectl.wait_field("default", "wl/lasting", "{.status.waiting.reason}", "NoReadyNode");
    kubectl.wait_field("default", "wl/lasting", "{.status.conditions[?(@.type==\"Evicted\")].reason}", "Incomplete");
    kubectl.wait_field("default", "wl/lasting", "{.status.podSets[0].scheduled}", "0");
    kubectl.run(&["uncordon", "sim-gpu-1"]).ok();
    kubectl.wait_field("default", "tj/lasting", "{.status.phase}", "Running");
    kubectl.run(&["delete", "tj", "lasting"]).ok();
}

fn machines_are_added_and_assigned(platform: &Platform, kubectl: &Kubectl) {
    let file = platform.home().join("nodes.txt");
    let add = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        platform.run(&["node", "add", "-f", &file.display().to_string()])
    };
    let template = platform.run(&["node", "template"]).ok();
    let refused = add(&format!("{template}n1 10.0.0.1 - - hush\nN2 10.0.0.2 - - hush\n")).refused();
    assert!(refused.contains("`N2` cannot be a name") && !refused.contains("hush"), "{refused}");
    assert!(!kubectl.run(&["get", "nodes", "-o", "name"]).ok().contains("node/n1"), "nothing was added");
    let added = add("n1 10.0.0.1 10.1.0.1 3c:ec:ef:00:00:01 hush hush\nn2 10.0.0.2 - - -\n").ok();
    assert_eq!(added.matches("added").count(), 2, "{added}");
    let node: Value = serde_json::from_str(&kubectl.run(&["get", "node", "n1", "-o", "json"]).ok()).expect("JSON");
    assert_eq!(node["metadata"]["annotations"]["compute.fermion.dev/bmc-address"], "10.1.0.1");
    assert!(!node.to_string().contains("hush"), "{node}");
    let password = ["get", "secret", "node-n1-root", "-n", "fermion-system", "-o", "jsonpath={.data.password}"];
    assert_eq!(kubectl.run(&password).ok(), "aHVzaCBodXNo");

    let unassigned = || kubectl.run(&["get", "nodes", "-l", "!compute.fermion.dev/partition,fermion.dev/pool=local", "-o", "name"]).ok();
    assert_eq!(unassigned(), "node/n1\nnode/n2\n");
    let nodes = json!([{"name": "n1", "authorized": true}]);
    kubectl.apply(&object("Partition", "hpc", &json!({"type": "HPC", "nodes": nodes})));
    kubectl.apply(&object("ResourceGroup", "batch", &json!({"partition": "hpc", "nodes": ["n1"]})));
    kubectl.wait_field("default", "node/n1", r"{.metadata.labels.compute\.fermion\.dev/resource-group}", "batch");
    assert_eq!(unassigned(), "node/n2\n");
    let empty = json!({"spec": {"nodes": []}}).to_string();
    let refused = kubectl.run(&["patch", "partition", "hpc", "--type=merge", "-p", &empty]).refused();
    assert!(refused.contains("node \"n1\" is in resource group \"batch\", whose queues use it; take it out there first"), "{refused}");
    let refused = kubectl.run(&["delete", "node", "n1"]).refused();
    assert!(refused.contains("it is in partition \"hpc\"; take it out there first"), "{refused}");
    kubectl.run(&["delete", "node", "n2"]).ok();
}

fn models_of_accelerators_are_known(kubectl: &Kubectl) {
    let slices = ["get", "acceleratormodel", "a100-sxm4-80gb", "-o", "jsonpath={.spec.slices[?(@.name==\"3g.40gb\")].starts}"];
    eventually("the model", || {
        let output = kubectl.run(&slices);
        if output.stdout == "[0,4]" { Ok(()) } else { Err(format!("{output:?}")) }
    });
    let table = kubectl.run(&["get", "accel", "--field-selector", "spec.vendor=Huawei", "--no-headers"]).ok();
    assert!(table.lines().count() >= 4 && table.lines().all(|line| line.contains("NPU")), "{table}");
}

#[test]
fn queues_have_back_what_they_are_promised_and_say_what_they_wait_for() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "gpu", "count": 2, "cpu": "64", "memory": "1Ti", "accelerators": {"h100-sxm5-80gb": 8}});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    let card = "gpu.fermion.dev/h100-sxm5-80gb";
    kubectl.apply(&object("Queue", "owner", &json!({"pool": "sim", "guaranteed": {card: "8"}})));
    kubectl.apply(&object("Queue", "guest", &json!({"pool": "sim", "priority": 9, "limit": {card: "16"}})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");

    // The guest borrows everything; a third node's worth is beyond its limit.
    kubectl.apply(&job("first", 1, "1h", json!({"queue": "guest"})));
    kubectl.wait_field("default", "tj/first", "{.status.phase}", "Running");
    kubectl.apply(&job("second", 1, "1h", json!({"queue": "guest", "priority": -1})));
    kubectl.wait_field("default", "tj/second", "{.status.phase}", "Running");
    kubectl.apply(&job("third", 1, "1h", json!({"queue": "guest"})));
    kubectl.wait_field("default", "wl/third", "{.status.waiting.reason}", "QueueLimit");

    // What another share would do with all this can be tried without a server.
    let live = ["sim", "--cluster", "live", "--trace", "live", "--json", "--what-if", "add 1 nodes of 8 x h100-sxm5-80gb"];
    let cases: Value = serde_json::from_str(&platform.run(&live).ok()).expect("JSON");
    let cards: Vec<&Value> = cases.as_array().expect("cases").iter().map(|case| &case["cards"]).collect();
    assert_eq!(cards, [&json!(16), &json!(24)], "{cases}");
    let trial = platform.home().join("trial");
    let told = platform.run(&["sim", "--cluster", "live", "--trace", "live", "--write", trial.to_str().expect("UTF-8")]).ok();
    assert!(told.contains("3 workloads: 0 ended"), "{told}");
    let file = |extension: &str| trial.with_extension(extension).to_str().expect("UTF-8").to_owned();
    let described = platform.run(&["sim", "--cluster", &file("yaml"), "--trace", &file("csv")]).ok();
    assert!(described.contains("guest") && described.contains("owner"), "{described}");

    // The owner needs one node: the least important guest gives it back, whatever its queue's priority.
    kubectl.apply(&job("mine", 1, "1h", json!({"queue": "owner"})));
    kubectl.wait_field("default", "tj/mine", "{.status.phase}", "Running");
    kubectl.wait_field("default", "wl/second", "{.status.conditions[?(@.type==\"Evicted\")].reason}", "Reclaimed");
    kubectl.wait_field("default", "wl/second", "{.status.waiting.reason}", "InsufficientResources");
    assert_eq!(kubectl.run(&["get", "tj/first", "-o", "jsonpath={.status.phase}"]).ok(), "Running");
    eventually("an explanation with a way out", || {
        let explained = platform.run(&["explain", "second"]).ok();
        let says =
            explained.contains("in queue guest") && explained.contains("stopped for default/mine") && explained.contains("end default/");
        if says { Ok(()) } else { Err(explained) }
    });

    // It comes back by itself.
    kubectl.run(&["delete", "tj", "third"]).ok();
    kubectl.run(&["delete", "tj", "mine"]).ok();
    kubectl.wait_field("default", "tj/second", "{.status.phase}", "Running");
    kubectl.wait_field("default", "wl/second", "{.status.conditions[?(@.type==\"Evicted\")].status}", "False");

    // A quota holds for the project, and says so.
    kubectl.run(&["delete", "tj", "first", "second"]).ok();
    kubectl.apply(&object("Quota", "small", &json!({"subject": {"kind": "Project", "name": "default"}, "hard": {card: "12"}})));
    kubectl.apply(&job("one", 1, "1h", json!({"queue": "guest"})));
    kubectl.wait_field("default", "tj/one", "{.status.phase}", "Running");
    kubectl.apply(&job("two", 1, "1h", json!({"queue": "guest", "priority": -1})));
    kubectl.wait_field("default", "wl/two", "{.status.waiting.reason}", "QuotaExceeded");
    kubectl.wait_field("default", "wl/two", "{.status.waiting.missing}", "4");
    patch(&kubectl, ["quota", "small"], &json!({"hard": {card: "16"}}));
    kubectl.wait_field("default", "tj/two", "{.status.phase}", "Running");

    // Priority stops others once the policy lets it.
    kubectl.apply(&job("urgent", 1, "1h", json!({"queue": "guest", "priority": 5})));
    kubectl.wait_field("default", "wl/urgent", "{.status.waiting.position}", "1");
    patch(&kubectl, ["quota", "small"], &json!({"hard": {card: "64"}}));
    kubectl.apply(&object("SchedulingPolicy", "default", &json!({"preemption": true})));
    kubectl.run(&["patch", "queue", "guest", "--type=json", "-p", r#"[{"op": "remove", "path": "/spec/limit"}]"#]).ok();
    kubectl.wait_field("default", "tj/urgent", "{.status.phase}", "Running");
    kubectl.wait_field("default", "wl/two", "{.status.conditions[?(@.type==\"Evicted\")].reason}", "Preempted");

    // At hours that are not now nothing of the kind starts.
    let never = json!({"allowed": {"Training": [{"firstDate": "2020-01-01", "lastDate": "2020-01-02"}]}});
    kubectl.apply(&object("TimeWindow", "past", &never));
    kubectl.wait_field("default", "wl/two", "{.status.waiting.reason}", "OutsideHours");
}

#[test]
fn scattered_work_is_moved_together_for_work_that_waits() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "n", "count": 2, "cpu": "64", "memory": "256Gi", "accelerators": {"h100-sxm5-80gb": 8}});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&object("Queue", "sim", &json!({"pool": "sim", "default": true})));
    kubectl.apply(&object("SchedulingPolicy", "default", &json!({"placement": "Spread"})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");
    let cards = |name: &str, cards: u32, preemptible: bool| {
        let requests = json!({"cpu": "1", "gpu.fermion.dev/h100-sxm5-80gb": cards.to_string()});
        let template = json!({
            "metadata": {"annotations": {"fermion.dev/fake-run-time": "1h"}},
            "spec": {"containers": [{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]},
        });
        let scheduling = json!({"preemptible": preemptible});
        let spec = json!({"roles": [{"name": "worker", "replicas": 1, "template": template}], "scheduling": scheduling});
        json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}).to_string()
    };
    kubectl.apply(&cards("stays", 4, false));
    kubectl.wait_field("default", "tj/stays", "{.status.phase}", "Running");
    kubectl.apply(&cards("moves", 4, true));
    kubectl.wait_field("default", "tj/moves", "{.status.phase}", "Running");
    let before = nodes_of(&kubectl, "moves");
    assert_ne!(before, nodes_of(&kubectl, "stays"));
    kubectl.apply(&cards("big", 8, true));
    kubectl.wait_field("default", "wl/big", "{.status.waiting.reason}", "InsufficientResources");

    patch(&kubectl, ["schedulingpolicy", "default"], &json!({"consolidation": {"minRunTime": "0s"}}));
    kubectl.wait_field("default", "tj/big", "{.status.phase}", "Running");
    kubectl.wait_field("default", "tj/moves", "{.status.phase}", "Running");
    kubectl.wait_field("default", "wl/moves", "{.status.conditions[?(@.type==\"Evicted\")].reason}", "Returned");
    assert_eq!(nodes_of(&kubectl, "big"), before);
    assert_eq!(nodes_of(&kubectl, "moves"), nodes_of(&kubectl, "stays"));
    assert_eq!(kubectl.run(&["get", "tj/stays", "-o", "jsonpath={.status.phase}"]).ok(), "Running");
    let events = kubectl.run(&["get", "events", "--field-selector=reason=Moved", "-o", "jsonpath={.items[*].message}"]).ok();
    assert_eq!(events, "moved to make room for default/big: a place elsewhere is kept for it, where it starts again by itself");
}

#[test]
fn processors_are_shared_and_nodes_given_whole_as_queues_say() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "cpu", "count": 2, "cpu": "8", "memory": "64Gi"});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    let queue =
        |name: &str, oversubscribe: Value| kubectl.apply(&object("Queue", name, &json!({"pool": "sim", "oversubscribe": oversubscribe})));
    queue("plain", json!({"mode": "NO"}));
    queue("asked", json!({"mode": "YES", "count": 2}));
    queue("forced", json!({"mode": "FORCE", "count": 2}));
    queue("whole", json!({"mode": "EXCLUSIVE"}));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");
    let runs = |name: &str| kubectl.wait_field("default", &format!("tj/{name}"), "{.status.phase}", "Running");
    let waits = |name: &str, reason: &str| kubectl.wait_field("default", &format!("wl/{name}"), "{.status.waiting.reason}", reason);

    // One node is taken for itself, so that all else meets on the other.
    kubectl.apply(&processors("alone", "whole", 1, false));
    runs("alone");
    kubectl.apply(&processors("first", "asked", 6, true));
    runs("first");
    assert_ne!(nodes_of(&kubectl, "first"), nodes_of(&kubectl, "alone"));
    kubectl.apply(&processors("unwilling", "asked", 6, false));
    waits("unwilling", "InsufficientResources");
    kubectl.apply(&processors("second", "asked", 6, true));
    runs("second");
    assert_eq!(nodes_of(&kubectl, "second"), nodes_of(&kubectl, "first"));
    kubectl.apply(&processors("also-alone", "whole", 1, false));
    waits("also-alone", "NoEmptyNode");
    let told = platform.run(&["explain", "also-alone"]).ok();
    assert!(
        told.contains("work of queue `whole` has its nodes to itself, and too few nodes of pool `sim` that would do run nothing"),
        "{told}"
    );

    // Nobody of another queue shares what these two have.
    kubectl.apply(&processors("other", "forced", 3, false));
    waits("other", "InsufficientResources");
    kubectl.run(&["delete", "tj", "unwilling", "first", "second", "other"]).ok();
    // The node is given whole now, then shared by those who do not ask.
    runs("also-alone");
    kubectl.run(&["delete", "tj", "also-alone"]).ok();
    kubectl.apply(&processors("other", "forced", 3, false));
    runs("other");
    for name in ["much", "more"] {
        kubectl.apply(&processors(name, "forced", 7, false));
    }
    runs("much");
    waits("more", "InsufficientResources");
    kubectl.run(&["delete", "tj", "other"]).ok();
    runs("more");
    kubectl.run(&["delete", "tj", "alone"]).ok();
    kubectl.apply(&processors("plain", "plain", 8, false));
    runs("plain");
    assert_ne!(nodes_of(&kubectl, "plain"), nodes_of(&kubectl, "much"));
}

#[test]
fn a_queue_gives_out_its_resource_group_and_no_node_that_is_not_authorised() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "cpu", "count": 3, "cpu": "8", "memory": "64Gi"});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "3");
    let nodes = json!([{"name": "sim-cpu-0", "authorized": true}, {"name": "sim-cpu-1"}]);
    kubectl.apply(&object("Partition", "hpc", &json!({"type": "HPC", "nodes": nodes})));
    kubectl.apply(&object("ResourceGroup", "batch", &json!({"partition": "hpc", "nodes": ["sim-cpu-0"]})));
    kubectl.wait_field("default", "rg/batch", "{.status.nodes}", "1");
    kubectl.apply(&object("Queue", "grouped", &json!({"pool": "sim", "resourceGroup": "batch"})));
    kubectl.apply(&object("Queue", "all", &json!({"pool": "sim"})));

    for name in ["one", "two"] {
        kubectl.apply(&processors(name, "grouped", 8, false));
    }
    kubectl.wait_field("default", "tj/one", "{.status.phase}", "Running");
    assert_eq!(nodes_of(&kubectl, "one"), ["sim-cpu-0"]);
    kubectl.wait_field("default", "wl/two", "{.status.waiting.reason}", "InsufficientResources");
    for name in ["free", "last"] {
        kubectl.apply(&processors(name, "all", 8, false));
    }
    kubectl.wait_field("default", "tj/free", "{.status.phase}", "Running");
    assert_eq!(nodes_of(&kubectl, "free"), ["sim-cpu-2"]);
    kubectl.wait_field("default", "wl/last", "{.status.waiting.reason}", "InsufficientResources");

    // Authorised, and of no group: for the queue of the whole pool.
    platform.run(&["node", "assign", "sim-cpu-1", "--partition", "hpc", "--authorize"]).ok();
    kubectl.wait_field("default", "tj/last", "{.status.phase}", "Running");
    assert_eq!(nodes_of(&kubectl, "last"), ["sim-cpu-1"]);
    // And for the other once it is in the group.
    kubectl.run(&["delete", "tj", "last"]).ok();
    patch(&kubectl, ["resourcegroup", "batch"], &json!({"nodes": ["sim-cpu-0", "sim-cpu-1"]}));
    kubectl.wait_field("default", "tj/two", "{.status.phase}", "Running");
}

#[test]
fn policies_and_tickets_say_what_people_may_have() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "cpu", "count": 1, "cpu": "64", "memory": "64Gi"});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&object("Queue", "sim", &json!({"pool": "sim"})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "1");
    let policy = |entitlement: Value| json!({"default": true, "entitlement": entitlement});
    kubectl.apply(&object("ResourcePolicy", "all", &policy(json!({"running": 1, "priority": 5, "maxPriority": 9}))));

    kubectl.apply(&processors("one", "sim", 1, false));
    kubectl.wait_field("default", "tj/one", "{.status.phase}", "Running");
    assert_eq!(kubectl.run(&["get", "tj/one", "-o", "jsonpath={.spec.priority}"]).ok(), "5", "the person's own");
    let high = processors("high", "sim", 1, false).replace("\"queue\":\"sim\"", "\"queue\":\"sim\",\"priority\":10");
    let refused = kubectl.run_with(&["create", "-f", "-"], &high).refused();
    assert!(refused.contains("by the resource policy \"all\" you can give work a priority of 9 at most"), "{refused}");
    kubectl.apply(&processors("two", "sim", 1, false));
    kubectl.wait_field("default", "wl/two", "{.status.waiting.reason}", "TooManyRunning");

    // A ticket gives more once somebody approves it, and no more when it is disabled.
    let ticket = json!({"asked": {"running": 1}, "span": {"until": "2099-01-01T00:00:00Z"}, "reason": "a deadline"});
    kubectl.apply(&object("ResourceTicket", "more", &ticket));
    let decide = |verdict: &str| {
        let decision = json!({"status": {"decision": {"verdict": verdict}}}).to_string();
        kubectl.run(&["patch", "resourceticket", "more", "--subresource=status", "--type=merge", "-p", &decision]).ok();
    };
    decide("Approved");
    kubectl.wait_field("default", "tj/two", "{.status.phase}", "Running");
    decide("Disabled");
    kubectl.apply(&processors("three", "sim", 1, false));
    kubectl.wait_field("default", "wl/three", "{.status.waiting.reason}", "TooManyRunning");

    // A special policy goes before the default one, as long as it is enabled.
    let special = |enabled: bool| json!({"enabled": enabled, "subjects": {"users": ["admin"]}, "entitlement": {"running": 9}});
    kubectl.apply(&object("ResourcePolicy", "special", &special(false)));
    kubectl.wait_field("default", "wl/three", "{.status.waiting.reason}", "TooManyRunning");
    kubectl.apply(&object("ResourcePolicy", "special", &special(true)));
    kubectl.wait_field("default", "tj/three", "{.status.phase}", "Running");
    kubectl.run(&["delete", "resourcepolicy", "special"]).ok();
    kubectl.apply(&processors("four", "sim", 1, false));
    kubectl.wait_field("default", "wl/four", "{.status.waiting.reason}", "TooManyRunning");
    kubectl.run(&["delete", "resourcepolicy", "all"]).ok();
    kubectl.wait_field("default", "tj/four", "{.status.phase}", "Running");
}

#[test]
fn placement_and_order_are_those_that_are_named() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "cpu", "count": 2, "cpu": "8", "memory": "64Gi"});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "schedulingPolicy": "mine", "fake": {"groups": [group]}})));
    kubectl.apply(&object("SchedulingPolicy", "mine", &json!({"placement": "BestFit", "order": "FIFO"})));
    kubectl.apply(&object("Queue", "sim", &json!({"pool": "sim"})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");
    let runs = |name: &str| kubectl.wait_field("default", &format!("tj/{name}"), "{.status.phase}", "Running");
    let submit = |name: &str, cores| {
        kubectl.apply(&processors(name, "sim", cores, false));
        runs(name);
    };
    submit("a", 2);
    submit("b", 2);
    assert_eq!(nodes_of(&kubectl, "a"), nodes_of(&kubectl, "b"), "the fuller node is the better fit");
    patch(&kubectl, ["schedulingpolicy", "mine"], &json!({"placement": "Spread"}));
    submit("c", 2);
    assert_ne!(nodes_of(&kubectl, "c"), nodes_of(&kubectl, "a"), "the emptier node is taken");

    // First come, first served, as the pool's policy says, until the queue says otherwise.
    submit("d", 4);
    submit("e", 4);
    kubectl.apply(&processors("early", "sim", 6, false));
    kubectl.wait_field("default", "wl/early", "{.status.waiting.position}", "1");
    let late = processors("late", "sim", 6, false).replace("\"queue\":\"sim\"", "\"queue\":\"sim\",\"priority\":10");
    kubectl.apply(&late);
    kubectl.wait_field("default", "wl/late", "{.status.waiting.position}", "2");
    patch(&kubectl, ["queue", "sim"], &json!({"jobOrder": "Priority"}));
    kubectl.wait_field("default", "wl/late", "{.status.waiting.position}", "1");
    patch(&kubectl, ["queue", "sim"], &json!({"jobOrder": null}));
    kubectl.wait_field("default", "wl/late", "{.status.waiting.position}", "2");
    patch(&kubectl, ["schedulingpolicy", "mine"], &json!({"order": "Priority"}));
    kubectl.wait_field("default", "wl/late", "{.status.waiting.position}", "1");

    // What runs goes on while its queue is DOWN, and nothing starts.
    patch(&kubectl, ["queue", "sim"], &json!({"state": "DOWN"}));
    kubectl.wait_field("default", "wl/late", "{.status.waiting.reason}", "QueueClosed");
    kubectl.run(&["delete", "tj", "a", "b", "c", "d"]).ok();
    kubectl.wait_field("default", "wl/early", "{.status.waiting.reason}", "QueueClosed");
    assert_eq!(kubectl.run(&["get", "tj/e", "-o", "jsonpath={.status.phase}"]).ok(), "Running");
    patch(&kubectl, ["queue", "sim"], &json!({"state": "UP"}));
    runs("late");
}

#[test]
fn nodes_are_assigned_one_or_many_at_a_time() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "cpu", "count": 4, "cpu": "8", "memory": "64Gi"});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "4");
    kubectl.apply(&object("Partition", "ai", &json!({"type": "AI"})));
    kubectl.apply(&object("Partition", "hpc", &json!({"type": "HPC"})));
    let of = |partition: &str| kubectl.run(&["get", "partition", partition, "-o", "jsonpath={.spec.nodes[*].name}"]).ok();

    platform.run(&["node", "assign", "sim-cpu-0", "--partition", "ai"]).ok();
    platform.run(&["node", "assign", "sim-cpu-0", "sim-cpu-1", "--partition", "ai"]).ok();
    assert_eq!(of("ai"), "sim-cpu-0 sim-cpu-1");
    kubectl.wait_field("default", "partition/ai", "{.status.nodes}", "2");
    let refused = platform.run(&["node", "assign", "sim-cpu-2", "gone", "--partition", "hpc"]).refused();
    assert!(refused.contains("nothing was assigned: there is no node gone"), "{refused}");
    let refused = platform.run(&["node", "assign", "sim-cpu-1", "sim-cpu-2", "--partition", "hpc"]).refused();
    assert!(refused.contains("sim-cpu-1"), "it is in another partition: {refused}");
    assert_eq!(of("hpc"), "");
    platform.run(&["node", "unassign", "sim-cpu-1", "--partition", "ai"]).ok();
    platform.run(&["node", "assign", "sim-cpu-1", "sim-cpu-2", "--partition", "hpc"]).ok();
    assert_eq!((of("ai"), of("hpc")), ("sim-cpu-0".to_owned(), "sim-cpu-1 sim-cpu-2".to_owned()));
    eventually("the labels", || {
        let left = kubectl.run(&["get", "nodes", "-l", "!compute.fermion.dev/partition,fermion.dev/pool=sim", "-o", "name"]).ok();
        if left.trim() == "node/sim-cpu-3" { Ok(()) } else { Err(left) }
    });
}
