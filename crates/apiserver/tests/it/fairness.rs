//! One client's storm leaves others served.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::stage::{Stage, call, token};

/// Lists that are served at once.
const LIST_SEATS: usize = 32;

/// A node whose measurements take until they are let go: with it a list is as slow as a test wants.
fn slow_node(stage: &Stage) -> (mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
    let (began, begun) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let kept = gate.clone();
    let interface = Router::new().fallback(move || {
        let (began, gate) = (began.clone(), kept.clone());
        async move {
            began.send(()).expect("the test listens");
            gate.acquire().await.expect("the gate is not closed").forget();
            Body::from(json!({"node": {}, "pods": []}).to_string())
        }
    });
    stage.api.attach_node("slow", interface);
    (begun, gate)
}

#[tokio::test]
async fn a_storm_of_lists_leaves_another_client_served() {
    let stage = Stage::new().await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "slow"}});
    stage.post("/api/v1/nodes", &node).await.ok();
    let (mut begun, gate) = slow_node(&stage);
    let (storm, ann) = (token(&stage.api, "storm").await, token(&stage.api, "ann").await);
    let slow = "/apis/metrics.k8s.io/v1beta1/pods";
    let list = |who: &'static str, token: &str| {
        let (api, token) = (stage.api.clone(), token.to_owned());
        tokio::spawn(async move { (who, call(&api, &token, Method::GET, slow, "", "").await.code) })
    };
    let mut lists: Vec<_> = (0..64).map(|_| list("storm", &storm)).collect();
    for _ in 0..LIST_SEATS {
        begun.recv().await.expect("a list begins");
    }
    // The lane is full: of 64 lists 32 are under way and nothing more begins.
    let metric = |name: &'static str| {
        let (api, token) = (stage.api.clone(), storm.clone());
        async move {
            let text = call(&api, &token, Method::GET, "/metrics", "", "").await.text;
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
            line.trim().parse::<usize>().expect("a number")
        }
    };
    while metric(r#"fermion_apiserver_lane_waiting{lane="list"}"#).await < 32 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metric(r#"fermion_apiserver_lane_executing{lane="list"}"#).await, LIST_SEATS);
    // Her gets and writes are answered while every list still waits.
    for index in 0..20 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{index}")}});
        let path = "/api/v1/namespaces/default/configmaps";
        assert_eq!(call(&stage.api, &ann, Method::POST, path, "application/json", map.to_string()).await.code, StatusCode::CREATED);
        assert_eq!(call(&stage.api, &ann, Method::GET, &format!("{path}/m{index}"), "", "").await.code, StatusCode::OK);
    }
    assert!(lists.iter().all(|list| !list.is_finished()));
    // Her list is next when one place becomes free, though 32 came before it.
    let hers = list("ann", &ann);
    while metric(r#"fermion_apiserver_lane_waiting{lane="list"}"#).await < 33 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    begun.recv().await.expect("a list begins");
    while metric(r#"fermion_apiserver_lane_waiting{lane="list"}"#).await > 32 {
        tokio::task::yield_now().await;
    }
    // The gate lets them through in the order in which they began: 31 of the storm, then hers.
    lists.push(hers);
    gate.add_permits(LIST_SEATS);
    let mut ended = Vec::new();
    while ended.len() < LIST_SEATS + 1 {
        let (finished, index, others) = futures::future::select_all(lists).await;
        ended.push(finished.expect("no list panics"));
        lists = others;
        let _ = index;
    }
    assert!(ended.contains(&("ann", StatusCode::OK)), "{ended:?}");
    gate.add_permits(64);
    for list in lists {
        assert_eq!(list.await.expect("no list panics").1, StatusCode::OK);
    }
}

#[tokio::test]
async fn open_watches_are_counted_until_they_end() {
    let stage = Stage::new().await;
    let open = async || {
        let text = stage.get("/metrics").await.text;
        text.lines().find_map(|line| line.strip_prefix("fermion_apiserver_long_running ")).expect("a line").to_owned()
    };
    let request = axum::http::Request::get("/api/v1/pods?watch=true")
        .header("authorization", format!("Bearer {}", token(&stage.api, "ann").await))
        .body(Body::empty())
        .expect("a request");
    let response = tower::ServiceExt::oneshot(stage.api.router(), request).await.expect("an answer");
    assert_eq!(open().await, "1");
    drop(response);
    assert_eq!(open().await, "0");
}
