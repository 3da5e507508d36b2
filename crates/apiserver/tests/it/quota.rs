//! Quotas and limits of namespaces.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::stage::Stage;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn quota(name: &str, hard: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}})
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn pod(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "main", "image": "x:1", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}})
}

async fn used(stage: &Stage, name: &str) -> Value {
    stage.get(&format!("{QUOTAS}/{name}")).await.ok()["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_never_exceed_a_quota() {
    let stage = std::sync::Arc::new(Stage::new().await);
    stage.post(MAPS, &map("before")).await.ok();
    let made = stage.post(QUOTAS, &quota("maps", json!({"configmaps": "6", "count/configmaps": "9"}))).await.ok();
    assert_eq!(made["status"]["used"], json!({"configmaps": "1", "count/configmaps": "1"}));
    let creates: Vec<_> = (0..40)
        .map(|index| {
            let stage = stage.clone();
            tokio::spawn(async move { stage.post(MAPS, &map(&format!("m{index}"))).await })
        })
        .collect();
    let mut refusals = Vec::new();
    for create in creates {
        let answer = create.await.unwrap();
        if !answer.code.is_success() {
            assert_eq!(answer.code, StatusCode::FORBIDDEN);
            refusals.push(answer.message());
        }
    }
    assert_eq!(refusals.len(), 35, "one was there, five more fit");
    let words = "is forbidden: exceeded quota: maps, requested: configmaps=1, used: configmaps=6, limited: configmaps=6";
    assert!(refusals.iter().all(|refusal| refusal.ends_with(words)), "{refusals:?}");
    assert_eq!(stage.get(MAPS).await.ok()["items"].as_array().map(Vec::len), Some(6));
    assert_eq!(used(&stage, "maps").await, json!({"configmaps": "6", "count/configmaps": "6"}));
    // What goes makes room.
    stage.delete(MAPS).await.ok();
    assert_eq!(used(&stage, "maps").await, json!({"configmaps": "0", "count/configmaps": "0"}));
    stage.post(MAPS, &map("after")).await.ok();
}

#[tokio::test]
async fn a_pod_counts_until_it_ends_and_must_say_what_it_uses() {
    let stage = Stage::new().await;
    stage.post(QUOTAS, &quota("cpu", json!({"requests.cpu": "1500m", "pods": "5"}))).await.ok();
    stage.post(PODS, &pod("a", "1")).await.ok();
    assert_eq!(used(&stage, "cpu").await, json!({"requests.cpu": "1", "pods": "1"}));
    let refused = stage.post(PODS, &pod("b", "1")).await;
    assert_eq!(
        refused.message(),
        "pods \"b\" is forbidden: exceeded quota: cpu, requested: requests.cpu=1, used: requests.cpu=1, limited: requests.cpu=1500m"
    );
    let mut silent = pod("c", "1");
    silent["spec"]["containers"][0]["resources"] = json!({});
    let refused = stage.post(PODS, &silent).await;
    assert_eq!(refused.message(), "pods \"c\" is forbidden: failed quota: cpu: must specify requests.cpu for: main");
    stage.merge(&format!("{PODS}/a/status"), &json!({"status": {"phase": "Succeeded"}})).await.ok();
    assert_eq!(used(&stage, "cpu").await, json!({"requests.cpu": "0", "pods": "0"}));
    stage.post(PODS, &pod("b", "1")).await.ok();
    // A quota that asks for something else counts what there is.
    stage.merge(&format!("{QUOTAS}/cpu"), &json!({"spec": {"hard": {"count/pods": "9"}}})).await.ok();
    assert_eq!(used(&stage, "cpu").await, json!({"requests.cpu": "1", "pods": "1", "count/pods": "2"}));
}

#[tokio::test]
async fn limits_of_a_namespace_are_filled_in_and_held() {
    let stage = Stage::new().await;
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m"}, "max": {"cpu": "1"}}]},
    });
    stage.post("/api/v1/namespaces/default/limitranges", &range).await.ok();
    let mut silent = pod("a", "1");
    silent["spec"]["containers"][0]["resources"] = json!({});
    let made = stage.post(PODS, &silent).await.ok();
    assert_eq!(made["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}}));
    let refused = stage.post(PODS, &pod("b", "2")).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (StatusCode::FORBIDDEN, "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2",)
    );
    let wrong = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "wrong"}, "spec": {"limits": [{"type": "Node"}]}});
    assert_eq!(stage.post("/api/v1/namespaces/default/limitranges", &wrong).await.code, StatusCode::UNPROCESSABLE_ENTITY);
}
