//! Submission to queues: which one, whether it takes the work, and for how long.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stage::{Answer, Stage, call, token};

const QUEUES: &str = "/apis/compute.fermion.dev/v1alpha1/queues";
const AI: &str = "/apis/ai.fermion.dev/v1alpha1/namespaces/default";

async fn queue(stage: &Stage, name: &str, spec: Value) -> Answer {
    let queue = json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec});
    stage.post(QUEUES, &queue).await
}

/// An object of a kind that runs pods, with more in its spec.
fn work(kind: &str, name: &str, more: Value) -> Value {
    let template = json!({"spec": {"containers": [{"name": "main", "image": "x:1"}]}});
    let mut spec = match kind {
        "TrainingJob" => json!({"roles": [{"name": "worker", "template": template}]}),
        "Workload" => json!({"podSets": [{"name": "worker", "replicas": 1, "template": template}]}),
        _ => json!({"template": template}),
    };
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn address(kind: &str) -> String {
    format!("{AI}/{}s", kind.to_lowercase())
}

async fn submit(stage: &Stage, kind: &str, name: &str, more: Value) -> Answer {
    stage.post(&address(kind), &work(kind, name, more)).await
}

const KINDS: [&str; 4] = ["TrainingJob", "Workload", "DevEnvironment", "InferenceService"];

#[tokio::test]
async fn each_state_takes_new_work_or_refuses_it() {
    let stage = Stage::new().await;
    queue(&stage, "lab", json!({})).await.ok();
    submit(&stage, "TrainingJob", "before", json!({"queue": "lab"})).await.ok();
    for (state, takes) in [("UP", true), ("DOWN", true), ("DRAIN", false), ("INACTIVE", false)] {
        stage.merge(&format!("{QUEUES}/lab"), &json!({"spec": {"state": state}})).await.ok();
        for kind in KINDS {
            let name = format!("{}-{}", kind.to_lowercase(), state.to_lowercase());
            let answer = submit(&stage, kind, &name, json!({"queue": "lab"})).await;
            if takes {
                answer.ok();
                continue;
            }
            assert_eq!(answer.code, StatusCode::FORBIDDEN, "{kind} {state}");
            let expected = format!(
                "{}s.ai.fermion.dev \"{name}\" is forbidden: queue \"lab\" takes no new work while its state is {state}; \
                 name another queue, or submit again when it is UP",
                kind.to_lowercase()
            );
            assert_eq!(answer.message(), expected);
        }
        // Work that it has can still be changed.
        stage.merge(&format!("{AI}/trainingjobs/before"), &json!({"spec": {"priority": i32::from(takes)}})).await.ok();
    }
    // Moving work into it is submitting to it.
    submit(&stage, "TrainingJob", "elsewhere", json!({"queue": "other"})).await.ok();
    let moved = stage.merge(&format!("{AI}/trainingjobs/elsewhere"), &json!({"spec": {"queue": "lab"}})).await;
    assert_eq!(moved.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn work_without_a_queue_goes_to_the_default_queue() {
    let stage = Stage::new().await;
    let queue_of = async |name: &str| stage.get(&format!("{AI}/trainingjobs/{name}")).await.ok()["spec"]["queue"].clone();
    submit(&stage, "TrainingJob", "first", json!({})).await.ok();
    assert_eq!(queue_of("first").await, "default");
    queue(&stage, "night", json!({"default": true})).await.ok();
    for kind in KINDS {
        assert_eq!(submit(&stage, kind, "second", json!({})).await.ok()["spec"]["queue"], "night", "{kind}");
    }
    let second = queue(&stage, "day", json!({"default": true})).await;
    assert_eq!(second.code, StatusCode::FORBIDDEN);
    assert!(
        second.message().ends_with("queue \"night\" is the default queue; set its spec.default to false first"),
        "{}",
        second.message()
    );
    stage.merge(&format!("{QUEUES}/night"), &json!({"spec": {"default": false, "state": "INACTIVE"}})).await.ok();
    queue(&stage, "day", json!({"default": true})).await.ok();
    // A replacement that names no queue leaves the work where it is.
    let mut replaced = stage.get(&format!("{AI}/trainingjobs/second")).await.ok();
    replaced["spec"].as_object_mut().unwrap().remove("queue");
    stage.call(Method::PUT, &format!("{AI}/trainingjobs/second"), "application/json", replaced.to_string()).await.ok();
    assert_eq!(queue_of("second").await, "night");
    let wrong = submit(&stage, "TrainingJob", "third", json!({"queue": 7})).await;
    assert_eq!(wrong.code, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    // Pods of nobody wait in the default queue, too.
    stage.merge(&format!("{QUEUES}/day"), &json!({"spec": {"state": "DRAIN"}})).await.ok();
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {"containers": [{"name": "main", "image": "x"}]}});
    assert_eq!(stage.post("/api/v1/namespaces/default/pods", &pod).await.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_queue_is_for_those_it_names() {
    let stage = Stage::new().await;
    queue(&stage, "lab", json!({"allowed": {"users": ["admin"], "groups": ["physics", "chemistry"]}})).await.ok();
    submit(&stage, "TrainingJob", "mine", json!({"queue": "lab"})).await.ok();
    let other = token(&stage.api, "bob").await;
    let body = work("TrainingJob", "his", json!({"queue": "lab"})).to_string();
    let answer = call(&stage.api, &other, Method::POST, &address("TrainingJob"), "application/json", body).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    let words = "queue \"lab\" is for members of physics, chemistry, and \"bob\" is none of them";
    assert!(answer.message().contains(words), "{}", answer.message());
}

#[tokio::test]
async fn nothing_runs_longer_than_its_queue_lets_it() {
    let stage = Stage::new().await;
    queue(&stage, "short", json!({"maxTime": "2h"})).await.ok();
    let limit = |kind: &str, span: &str| match kind {
        "TrainingJob" => json!({"queue": "short", "runPolicy": {"maxDuration": span}}),
        _ => json!({"queue": "short", "maxDuration": span}),
    };
    for kind in ["TrainingJob", "Workload", "DevEnvironment"] {
        submit(&stage, kind, "fits", limit(kind, "120m")).await.ok();
        let refused = submit(&stage, kind, "long", limit(kind, "3h")).await;
        assert_eq!(refused.code, StatusCode::FORBIDDEN, "{kind}");
        let field = if kind == "TrainingJob" { "spec.runPolicy.maxDuration" } else { "spec.maxDuration" };
        let words = format!("queue \"short\" lets nothing run longer than 2h, and {field} is 3h; name a queue with more time");
        assert!(refused.message().ends_with(&words), "{}", refused.message());
        let raised = stage.merge(&format!("{}/fits", address(kind)), &json!({"spec": limit(kind, "3h")})).await;
        assert_eq!(raised.code, StatusCode::FORBIDDEN, "{kind}");
        let silent = submit(&stage, kind, "silent", json!({"queue": "short"})).await.ok();
        let filled = if kind == "TrainingJob" { &silent["spec"]["runPolicy"]["maxDuration"] } else { &silent["spec"]["maxDuration"] };
        assert_eq!(filled, "2h", "{kind}");
    }
    let endless = submit(&stage, "InferenceService", "service", json!({"queue": "short"})).await;
    assert_eq!(endless.code, StatusCode::FORBIDDEN);
    // A limit that came later is not put upon what is there.
    submit(&stage, "TrainingJob", "before", json!({"queue": "default"})).await.ok();
    queue(&stage, "default", json!({"maxTime": "1h"})).await.ok();
    let changed = stage.merge(&format!("{AI}/trainingjobs/before"), &json!({"spec": {"suspend": true}})).await.ok();
    assert_eq!(changed["spec"]["runPolicy"].get("maxDuration"), None);
}

#[tokio::test]
async fn queues_above_one_another_hold_together() {
    let stage = Stage::new().await;
    let refusal = async |name: &str, spec: Value| {
        let answer = queue(&stage, name, spec).await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
        answer.message()
    };
    queue(&stage, "root", json!({"guaranteed": {"cpu": "10"}})).await.ok();
    queue(&stage, "a", json!({"parent": "root", "guaranteed": {"cpu": "6"}})).await.ok();
    let too_much = refusal("b", json!({"parent": "root", "guaranteed": {"cpu": "4500m"}})).await;
    let words = "the queues below \"root\" would be guaranteed 10500m of cpu together, and it is guaranteed 10";
    assert!(too_much.ends_with(words), "{too_much}");
    queue(&stage, "b", json!({"parent": "root", "guaranteed": {"cpu": "4"}})).await.ok();
    let lowered = stage.merge(&format!("{QUEUES}/root"), &json!({"spec": {"guaranteed": {"cpu": "9"}}})).await;
    assert_eq!(lowered.code, StatusCode::FORBIDDEN);
    let other_pool = refusal("c", json!({"parent": "root", "pool": "sim"})).await;
    assert!(other_pool.contains("its parent \"root\" gives out pool \"local\""), "{other_pool}");
    let circle = stage.merge(&format!("{QUEUES}/root"), &json!({"spec": {"parent": "a"}})).await;
    assert!(circle.code == StatusCode::FORBIDDEN && circle.message().contains("above itself"), "{circle:?}");
    let deleted = stage.delete(&format!("{QUEUES}/root")).await;
    assert!(deleted.code == StatusCode::FORBIDDEN && deleted.message().contains("queue \"a\" is below it"), "{deleted:?}");
    for name in ["a", "b", "root"] {
        stage.delete(&format!("{QUEUES}/{name}")).await.ok();
    }
}

const POLICIES: &str = "/apis/compute.fermion.dev/v1alpha1/resourcepolicies";

async fn policy(stage: &Stage, name: &str, spec: Value) {
    let policy = json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "ResourcePolicy", "metadata": {"name": name}, "spec": spec});
    stage.post(POLICIES, &policy).await.ok();
}

fn refused(answer: &Answer, words: &str) {
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.message().contains(words), "{}\nwithout {words}", answer.message());
}

#[tokio::test]
async fn work_without_a_priority_has_that_of_its_person() {
    let stage = Stage::new().await;
    submit(&stage, "TrainingJob", "before", json!({})).await.ok();
    policy(&stage, "all", json!({"default": true, "entitlement": {"priority": 7, "maxPriority": 10}})).await;
    for kind in ["TrainingJob", "Workload", "DevEnvironment", "InferenceService"] {
        let priority = |object: &Value| object["spec"]["priority"].clone();
        assert_eq!(priority(&submit(&stage, kind, "silent", json!({})).await.ok()), 7, "{kind}");
        assert_eq!(priority(&submit(&stage, kind, "said", json!({"priority": 3})).await.ok()), 3, "{kind}");
    }
    // What was there before, and what is changed later, is as it is told.
    let before = stage.merge(&format!("{AI}/trainingjobs/before"), &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    assert_eq!(before["spec"]["priority"], 0);
    let said = stage.merge(&format!("{AI}/trainingjobs/said"), &json!({"spec": {"priority": 0}})).await.ok();
    assert_eq!(said["spec"]["priority"], 0);
}

#[tokio::test]
async fn a_policy_says_how_important_large_and_long_work_of_a_person_may_be() {
    let stage = Stage::new().await;
    queue(&stage, "short", json!({"maxTime": "2h"})).await.ok();
    submit(&stage, "TrainingJob", "before", json!({"priority": 50})).await.ok();
    let entitlement = json!({"maxPriority": 10, "urgent": false, "podsPerWorkload": 2, "maxDuration": "1d", "idleTimeout": "1h"});
    policy(&stage, "all", json!({"default": true, "entitlement": entitlement})).await;
    for kind in ["TrainingJob", "Workload", "DevEnvironment"] {
        let most = "you can give work a priority of 10 at most, and spec.priority is 11; a ResourceTicket asks for more";
        refused(&submit(&stage, kind, "high", json!({"priority": 11})).await, &format!("by the resource policy \"all\" {most}"));
        refused(&submit(&stage, kind, "urgent", json!({"scheduling": {"urgent": true}})).await, "you cannot call work urgent");
        // What says nothing of its time gets the shorter of what queue and policy allow.
        let span = |object: &Value| match kind {
            "TrainingJob" => object["spec"]["runPolicy"]["maxDuration"].clone(),
            _ => object["spec"]["maxDuration"].clone(),
        };
        assert_eq!(span(&submit(&stage, kind, "day", json!({"priority": 10})).await.ok()), "1d", "{kind}");
        assert_eq!(span(&submit(&stage, kind, "hours", json!({"queue": "short"})).await.ok()), "2h", "{kind}");
        let long = if kind == "TrainingJob" { json!({"runPolicy": {"maxDuration": "2d"}}) } else { json!({"maxDuration": "2d"}) };
        let field = if kind == "TrainingJob" { "spec.runPolicy.maxDuration" } else { "spec.maxDuration" };
        refused(&submit(&stage, kind, "long", long).await, &format!("1d is the most you can have, and {field} is 2d"));
    }
    refused(
        &submit(&stage, "InferenceService", "service", json!({})).await,
        "nothing of yours can run longer than 1d, and this has no end",
    );
    let template = json!({"spec": {"containers": [{"name": "main", "image": "x:1"}]}});
    let three = json!({"roles": [{"name": "worker", "replicas": 3, "template": template}]});
    refused(&submit(&stage, "TrainingJob", "three", three).await, "a workload of yours can have 2 pods at most, and this one has 3");
    let idle = submit(&stage, "DevEnvironment", "idle", json!({})).await.ok();
    assert_eq!(idle["spec"]["idleStopAfter"], "1h");
    refused(&submit(&stage, "DevEnvironment", "lazy", json!({"idleStopAfter": "90m"})).await, "1h is the most you can have");
    let cleared = stage.merge(&format!("{AI}/devenvironments/idle"), &json!({"spec": {"idleStopAfter": null}})).await.ok();
    assert_eq!(cleared["spec"]["idleStopAfter"], "1h");
    // What was there before can be changed, but not to more.
    stage.merge(&format!("{AI}/trainingjobs/before"), &json!({"spec": {"priority": 40}})).await.ok();
    refused(&stage.merge(&format!("{AI}/trainingjobs/before"), &json!({"spec": {"priority": 41}})).await, "spec.priority is 41");
    let second = json!({
        "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "ResourcePolicy", "metadata": {"name": "second"},
        "spec": {"default": true, "entitlement": {}},
    });
    let words = "resource policy \"all\" is the default policy; set its spec.default to false first";
    refused(&stage.post(POLICIES, &second).await, words);
    stage.merge(&format!("{POLICIES}/all"), &json!({"spec": {"entitlement": {"running": 3}}})).await.ok();
    // A policy for the person goes before the default.
    policy(&stage, "mine", json!({"subjects": {"users": ["admin"]}, "entitlement": {"maxPriority": 100}})).await;
    submit(&stage, "InferenceService", "service", json!({"priority": 100})).await.ok();
}

#[tokio::test]
async fn a_policy_says_how_much_of_a_person_may_wait() {
    let stage = Stage::new().await;
    let limits = json!({"pending": 2, "pendingResources": {"cpu": "3"}});
    policy(&stage, "all", json!({"default": true, "entitlement": limits})).await;
    let asks = |cpu: &str| {
        let container = json!({"name": "main", "image": "x:1", "resources": {"requests": {"cpu": cpu}}});
        json!({"roles": [{"name": "worker", "replicas": 2, "template": {"spec": {"containers": [container]}}}]})
    };
    submit(&stage, "TrainingJob", "first", asks("1")).await.ok();
    refused(
        &submit(&stage, "TrainingJob", "large", asks("1")).await,
        "what waits of yours would ask for 4 of cpu together, and it can for 3",
    );
    submit(&stage, "DevEnvironment", "second", json!({})).await.ok();
    let third = "2 workloads of yours wait already, and 2 can at once; submit again when one has started";
    refused(&submit(&stage, "TrainingJob", "third", asks("100m")).await, third);
    // Others are not meant, and what is suspended does not wait.
    let bob = token(&stage.api, "bob").await;
    let body = work("TrainingJob", "his", asks("1")).to_string();
    call(&stage.api, &bob, Method::POST, &address("TrainingJob"), "application/json", body).await.ok();
    stage.merge(&format!("{AI}/devenvironments/second"), &json!({"spec": {"suspend": true}})).await.ok();
    submit(&stage, "TrainingJob", "third", asks("100m")).await.ok();
    stage.merge(&format!("{AI}/trainingjobs/first/status"), &json!({"status": {"phase": "Running"}})).await.ok();
    submit(&stage, "TrainingJob", "large", asks("1")).await.ok();
    // A ticket that was approved gives more, in its project.
    let ticket = json!({
        "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "ResourceTicket", "metadata": {"name": "more"},
        "spec": {"asked": {"pending": 1, "pendingResources": {"cpu": "10"}}, "span": {"until": "2999-01-01T00:00:00Z"}},
    });
    let tickets = "/apis/compute.fermion.dev/v1alpha1/namespaces/default/resourcetickets";
    stage.post(tickets, &ticket).await.ok();
    refused(&submit(&stage, "TrainingJob", "fourth", asks("1")).await, "2 workloads of yours wait already");
    let approved = json!({"status": {"phase": "Active", "decidedGeneration": 1, "decision": {"verdict": "Approved"}}});
    stage.merge(&format!("{tickets}/more/status"), &approved).await.ok();
    submit(&stage, "TrainingJob", "fourth", asks("1")).await.ok();
}
