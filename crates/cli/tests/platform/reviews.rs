//! What would become of work, asked before it is submitted, by `kubectl` and `fermion`, on simulated
//! nodes; and that it is so when it is submitted.

use std::time::Duration;

use fermion_testkit::{Database, Kubectl, Node, Platform, eventually, eventually_within};
use serde_json::{Value, json};

use crate::FERMION;

const CARD: &str = "gpu.fermion.dev/h100-sxm5-80gb";
/// How long a second server may take to begin.
const BEGINS: Duration = Duration::from_secs(60);

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let group = if matches!(kind, "Pool" | "Queue" | "Quota") { "compute" } else { "ai" };
    json!({"apiVersion": format!("{group}.fermion.dev/v1alpha1"), "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn template(cards: u32) -> Value {
    let requests = json!({"cpu": "8", CARD: cards.to_string()});
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]);
    json!({"metadata": {"annotations": {"fermion.dev/fake-run-time": "1h"}}, "spec": {"containers": containers}})
}

/// A job of workers with so many cards each.
fn job(name: &str, replicas: u32, cards: u32, mut more: Value) -> Value {
    more["roles"] = json!([{"name": "worker", "replicas": replicas, "template": template(cards)}]);
    object("TrainingJob", name, &more)
}

fn review(object: &Value) -> String {
    json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "SchedulingReview", "spec": {"object": object}}).to_string()
}

/// What a review of this object answers.
#[track_caller]
fn ask(kubectl: &Kubectl, object: &Value) -> Value {
    let answer = kubectl.run_with(&["create", "-f", "-", "-o", "json", "--validate=false"], &review(object)).ok();
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["status"].clone()
}

fn sim(kubectl: &Kubectl) {
    let group = json!({"name": "gpu", "count": 2, "cpu": "64", "memory": "1Ti", "accelerators": {"h100-sxm5-80gb": 8}});
    kubectl.apply(&object("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})).to_string());
    kubectl.apply(&object("Queue", "sim", &json!({"pool": "sim", "default": true})).to_string());
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "2");
}

#[test]
fn what_is_asked_before_submission_is_what_becomes_of_it() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    sim(&kubectl);

    every_kind_can_be_asked_about(&kubectl);
    what_waits_says_why_in_the_same_words(&platform, &kubectl);
    what_would_be_refused_says_so(&kubectl);
    who_may_not_submit_may_not_ask(&kubectl);
}

fn every_kind_can_be_asked_about(kubectl: &Kubectl) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template(8)["spec"]});
    let sets = json!({"podSets": [{"name": "main", "replicas": 2, "template": template(8)}]});
    let service = json!({"replicas": 3, "template": template(8), "port": 8000});
    for (asked, outcome, message) in [
        (job("j", 2, 8, json!({})), "Starts", "it starts: all its pods have a place now"),
        (object("DevEnvironment", "e", &json!({"template": template(1)})), "Starts", "it starts: all its pods have a place now"),
        (object("InferenceService", "s", &service), "Starts", "it starts: 2 of its 3 pods have a place now"),
        (object("Workload", "w", &sets), "Starts", "it starts: all its pods have a place now"),
        (pod, "Starts", "it starts: all its pods have a place now"),
        (job("j", 1, 8, json!({"suspend": true})), "Idle", "it is suspended, and nothing of it starts until it is resumed"),
    ] {
        let status = ask(kubectl, &asked);
        assert_eq!((&status["outcome"], &status["message"]), (&json!(outcome), &json!(message)), "{status}");
    }
    let stored = kubectl.run(&["get", "trainingjobs,devenvironments,inferenceservices,workloads,pods", "-A", "-o", "name"]).ok();
    assert_eq!(stored, "", "nothing that was asked about is stored");
}

fn what_waits_says_why_in_the_same_words(platform: &Platform, kubectl: &Kubectl) {
    kubectl.apply(&job("first", 1, 8, json!({"runPolicy": {"maxDuration": "2h"}})).to_string());
    kubectl.wait_field("default", "tj/first", "{.status.phase}", "Running");
    let large = job("large", 2, 8, json!({}));
    let foreseen = ask(kubectl, &large);
    assert_eq!(
        (&foreseen["outcome"], &foreseen["reason"], &foreseen["queue"]),
        (&json!("Waits"), &json!("InsufficientResources"), &json!("sim")),
        "{foreseen}"
    );
    assert!(foreseen["waiting"]["estimatedStart"].is_string(), "{foreseen}");
    let file = platform.home().join("jobs.yaml");
    std::fs::write(&file, format!("{large}\n---\n{}\n", job("small", 1, 8, json!({})))).expect("a file");
    let told = platform.run(&["explain", "-f", &file.display().to_string()]).ok();
    assert!(told.contains("large would wait, in queue sim\n  place     1 of those that wait in its queue\n  why       "), "{told}");
    assert!(told.contains("(InsufficientResources)\n  missing   8 ") && told.contains("  to start  "), "{told}");
    assert!(told.contains("\nsmall would start now, in queue sim\n  why       it starts: all its pods have a place now\n"), "{told}");
    assert!(platform.run(&["explain", "-f", &file.display().to_string(), "large"]).refused().contains("cannot be used with"));

    // What it says when it waits is what was foreseen.
    kubectl.apply(&large.to_string());
    kubectl.wait_field("default", "wl/large", "{.status.waiting.reason}", "InsufficientResources");
    eventually("the same words", || {
        let waiting: Value =
            serde_json::from_str(&kubectl.run(&["get", "wl/large", "-o", "jsonpath={.status.waiting}"]).ok()).expect("JSON");
        let mut expected = foreseen["waiting"].clone();
        // It is a moment later.
        expected["estimatedStart"] = waiting["estimatedStart"].clone();
        if waiting == expected { Ok(()) } else { Err(format!("{waiting}\n{expected}")) }
    });
    // Room is kept for it, so who comes next and would run for longer waits behind it.
    let behind = ask(kubectl, &job("small", 1, 8, json!({})));
    assert_eq!((&behind["outcome"], &behind["reason"]), (&json!("Waits"), &json!("BehindOthers")), "{behind}");
    assert_eq!(behind["waiting"]["position"], 2);
    let short = ask(kubectl, &job("small", 1, 8, json!({"runPolicy": {"maxDuration": "1h"}})));
    assert_eq!(short["outcome"], "Starts", "{short}");
    let stored = kubectl.run(&["get", "tj", "-o", "name"]).ok();
    assert_eq!(stored.lines().count(), 2, "{stored}");
    let kinds = kubectl.run(&["get", "schedulingreviews"]).refused();
    assert!(kinds.contains("MethodNotAllowed") || kinds.contains("does not support"), "{kinds}");
}

fn what_would_be_refused_says_so(kubectl: &Kubectl) {
    kubectl.apply(&object("Queue", "closed", &json!({"pool": "sim", "state": "DRAIN"})).to_string());
    let refused = ask(kubectl, &job("late", 1, 8, json!({"queue": "closed"})));
    assert_eq!((&refused["outcome"], &refused["reason"]), (&json!("Refused"), &json!("Forbidden")), "{refused}");
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("takes no new work while its state is DRAIN")), "{refused}");
    let wrong = ask(kubectl, &job("late", 0, 8, json!({})));
    assert_eq!((&wrong["outcome"], &wrong["reason"]), (&json!("Refused"), &json!("Invalid")), "{wrong}");
    let taken = ask(kubectl, &job("first", 1, 8, json!({})));
    assert_eq!((&taken["outcome"], &taken["reason"]), (&json!("Refused"), &json!("AlreadyExists")), "{taken}");
    let sets = json!({"suspend": true, "podSets": [{"name": "main", "replicas": 1, "template": template(1)}]});
    kubectl.apply(&object("Workload", "own", &sets).to_string());
    let named = ask(kubectl, &job("own", 1, 8, json!({})));
    assert_eq!((&named["outcome"], &named["reason"]), (&json!("Refused"), &json!("NameTaken")), "{named}");
    let set = |name: &str| json!({"name": name, "replicas": 6000, "template": template(1)});
    let many = object("Workload", "many", &json!({"podSets": [set("one"), set("two")]}));
    let refused = kubectl.run_with(&["create", "-f", "-", "--validate=false"], &review(&many)).refused();
    assert!(refused.contains("it has 12000 pods, and no more than 10000 can be asked about"), "{refused}");
    // Its pods are asked about too.
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "4"}}]}});
    kubectl.apply(&range.to_string());
    let limited = ask(kubectl, &job("late", 1, 8, json!({})));
    assert_eq!((&limited["outcome"], &limited["reason"]), (&json!("Refused"), &json!("Refused")), "{limited}");
    assert!(limited["message"].as_str().is_some_and(|message| message.starts_with("cannot make pod late-worker-0: ")), "{limited}");
    kubectl.run(&["delete", "limitrange", "small"]).ok();
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    let refused = kubectl.run_with(&["create", "-f", "-", "--validate=false"], &review(&other)).refused();
    assert!(refused.contains("spec.object: must be one of TrainingJob"), "{refused}");
    let mut large = job("late", 1, 8, json!({}));
    large["metadata"]["annotations"] = json!({"text": "x".repeat(300 * 1024)});
    let refused = kubectl.run_with(&["create", "-f", "-", "--validate=false"], &review(&large)).refused();
    assert!(refused.contains("must not be larger than 262144 bytes"), "{refused}");
}

fn who_may_not_submit_may_not_ask(kubectl: &Kubectl) {
    let create = |who: &str| {
        let arguments = ["create", "-f", "-", "-o", "jsonpath={.status.outcome}", "--validate=false", "--as", who];
        kubectl.run_with(&arguments, &review(&job("mine", 1, 8, json!({"runPolicy": {"maxDuration": "1h"}}))))
    };
    kubectl.run(&["create", "rolebinding", "vic", "--clusterrole=view", "--user=vic"]).ok();
    kubectl.run(&["create", "rolebinding", "eve", "--clusterrole=edit", "--user=eve"]).ok();
    kubectl.run(&["create", "role", "asks", "--verb=create", "--resource=schedulingreviews.compute.fermion.dev"]).ok();
    kubectl.run(&["create", "rolebinding", "asks", "--role=asks", "--user=oda"]).ok();
    assert!(create("vic").refused().contains("cannot create resource \"schedulingreviews\""));
    assert!(create("oda").refused().contains("cannot create resource \"trainingjobs\""), "as the creation would");
    assert_eq!(create("eve").ok(), "Starts");
}

#[test]
fn a_server_that_does_not_lead_answers_too() {
    let first = Platform::start_on(FERMION, Node::None, Database::Postgres);
    sim(&first.kubectl());
    first.kubectl().apply(&job("first", 2, 8, json!({})).to_string());
    first.kubectl().wait_field("default", "tj/first", "{.status.phase}", "Running");
    let mut second = Platform::prepared(FERMION, first.database());
    second.take_keys_of(&first);
    second.restart();
    let next = job("next", 1, 8, json!({}));
    let of_leader = ask(&first.kubectl(), &next);
    assert_eq!((&of_leader["outcome"], &of_leader["reason"]), (&json!("Waits"), &json!("InsufficientResources")), "{of_leader}");
    eventually_within(BEGINS, "the same answer of the other server", || {
        let of_other = ask(&second.kubectl(), &next);
        if of_other == of_leader { Ok(()) } else { Err(of_other.to_string()) }
    });
    assert!(!second.log().contains("this server leads"), "{}", second.log());
}
