//! Requests to services: how they are spread, tried again, and never lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Body;
use fermion_gateway::Options;
use http::Method;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::upstream::{Port, Upstream};
use crate::world::{PATIENCE, World, chunk, condition, options, pod, service};

const PATH: &str = "/services/team/chat/v1/x";
const GATE: &str = "/services/team/chat/gate";

/// A metric's value.
fn metric(world: &World, name: &str) -> u64 {
    let text = world.gateway.metrics_text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Begins a request that waits at the gate, and takes its first chunk.
async fn begin(world: &World) -> axum::body::BodyDataStream {
    let request = world.request(Method::GET, GATE).header("authorization", "Bearer ada-token").body(Body::empty()).unwrap();
    let response = world.send(request).await;
    assert_eq!(response.status(), 200);
    let mut body = Body::new(response.into_body()).into_data_stream();
    assert_eq!(chunk(&mut body).await.as_deref(), Some(&b"a"[..]));
    body
}

#[tokio::test]
async fn a_replica_sees_requests_without_the_prefix_or_the_token() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    let reply = world.post("/services/team/chat/v1/chat?x=1", "{}").await;
    let seen = reply.json();
    assert_eq!((&seen["target"], &seen["body"]), (&json!("/v1/chat?x=1"), &json!("{}")));
    assert!(seen["headers"]["authorization"].is_null());
    assert_eq!(seen["headers"]["x-forwarded-prefix"], json!("/services/team/chat"));
    assert_eq!(world.get("/services/team/chat").await.json()["target"], json!("/"));
}

#[tokio::test]
async fn nobody_calls_a_service_without_a_token_or_a_permission() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    let status = async |headers: &[(&str, &str)]| {
        let mut request = world.request(Method::GET, PATH);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        world.reply(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    assert_eq!(status(&[]).await, 401);
    assert_eq!(status(&[("authorization", "Bearer nobodys")]).await, 401);
    assert_eq!(status(&[("cookie", "fermion_session=ada-token")]).await, 401);
    assert_eq!(status(&[("authorization", "Bearer eve-token")]).await, 403);
    world.api.allow("ada", "inferenceservices", "team", "none");
    assert_eq!(world.get("/services/team/none/").await.reason(), (404, "ServiceNotFound".to_owned()));
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn requests_go_to_the_least_busy_replica() {
    let (world, port) = (World::new().await, Port::reserve());
    let (one, two) = (Upstream::start(2, &port).await, Upstream::start(3, &port).await);
    world.service("chat", port.number, &[&one.ip, &two.ip]).await;
    let held = [begin(&world).await, begin(&world).await, begin(&world).await, begin(&world).await];
    assert_eq!((one.requests(), two.requests()), (2, 2));
    assert_eq!(metric(&world, "fermion_gateway_service_in_flight{"), 4);
    one.open_gate();
    one.waiting(0).await;
    two.open_gate();
    for mut body in held {
        assert_eq!(chunk(&mut body).await.as_deref(), Some(&b"b"[..]));
        assert_eq!(chunk(&mut body).await, None);
    }
}

#[tokio::test]
async fn ties_are_spread_over_all_replicas() {
    let (world, port) = (World::new().await, Port::reserve());
    let (one, two) = (Upstream::start(2, &port).await, Upstream::start(3, &port).await);
    world.service("chat", port.number, &[&one.ip, &two.ip]).await;
    // 2^-63 is the chance that a fair choice leaves one out.
    for _ in 0..64 {
        assert_eq!(world.get(PATH).await.status, 200);
    }
    assert!(one.requests() > 0 && two.requests() > 0);
    assert_eq!(one.requests() + two.requests(), 64);
}

#[tokio::test]
async fn a_refused_connection_is_tried_on_another_replica() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(5, &port).await;
    // Three ready pods where nothing listens.
    world.service("chat", port.number, &["127.0.0.2", "127.0.0.3", "127.0.0.4", &upstream.ip]).await;
    for number in 0..32 {
        let reply = world.post(PATH, format!("body {number}")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["body"]), (200, &json!(format!("body {number}"))));
    }
    assert_eq!(upstream.requests(), 32);
    let retries = metric(&world, "fermion_gateway_service_retries_total{");
    assert!(retries <= 3, "a pod that refused is not tried first again: {retries} retries");
}

#[tokio::test]
async fn no_reachable_replica_is_a_503_that_may_be_tried_again() {
    let (world, port) = (World::new().await, Port::reserve());
    world.service("chat", port.number, &["127.0.0.2", "127.0.0.3"]).await;
    let reply = world.post(PATH, "x").await;
    assert_eq!(reply.reason(), (503, "ReplicasUnreachable".to_owned()));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(metric(&world, "fermion_gateway_service_errors_total{namespace=\"team\",service=\"chat\",reason=\"unreachable\"}"), 1);
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let (world, port) = (World::new().await, Port::reserve());
    // Reads a request and closes without an answer.
    let listener = tokio::net::TcpListener::bind(("127.0.0.2", port.number)).await.unwrap();
    let reader = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 16];
        stream.read_exact(&mut some).await.unwrap();
        drop(stream);
        drop(listener);
    });
    let other = Upstream::start(3, &port).await;
    world.service("chat", port.number, &["127.0.0.2"]).await;
    world.replica("chat", &other.ip, false).await;
    let request = world.post(PATH, "x");
    let (reply, read) = futures::join!(request, reader);
    read.unwrap();
    assert_eq!(reply.reason(), (502, "ReplicaBroken".to_owned()));
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_replica_that_is_not_ready_or_going_away_gets_no_new_request() {
    let (world, port) = (World::new().await, Port::reserve());
    let (one, two) = (Upstream::start(2, &port).await, Upstream::start(3, &port).await);
    world.service("chat", port.number, &[&one.ip]).await;
    let mut held = begin(&world).await;
    world.condemn("chat", &one.ip).await;
    world.replica("chat", &two.ip, true).await;
    // A pod of the same label elsewhere is none of ours.
    world.api.put("pods", pod("else", "chat-9", ("fermion.dev/inference-service", "chat"), &one.ip, true)).await;
    for _ in 0..16 {
        assert_eq!(world.get(PATH).await.json()["server"], json!(two.ip));
    }
    world.replica("chat", &two.ip, false).await;
    assert_eq!(world.get(PATH).await.reason(), (503, "NoReadyReplica".to_owned()));
    // What was begun goes on, also once the pod is gone.
    world.api.delete("pods", "team", "chat-2").await;
    one.open_gate();
    assert_eq!(chunk(&mut held).await.as_deref(), Some(&b"b"[..]));
    assert_eq!(chunk(&mut held).await, None);
    assert_eq!(one.requests(), 1);
}

#[tokio::test]
async fn a_service_without_a_ready_replica_says_why() {
    let (world, port) = (World::new().await, Port::reserve());
    world.service("chat", port.number, &[]).await;
    let put = async |object| world.api.put("inferenceservices", object).await;
    put(service("chat", port.number, json!({"phase": "Starting", "conditions": condition("pulls the image")}))).await;
    let reply = world.get(PATH).await;
    assert_eq!(reply.reason(), (503, "NoReadyReplica".to_owned()));
    assert!(reply.text().contains("pulls the image") && reply.headers.contains_key("retry-after"), "{}", reply.text());
    let mut suspended = service("chat", port.number, json!({"phase": "Suspended"}));
    suspended["spec"]["suspend"] = json!(true);
    put(suspended).await;
    assert!(world.get(PATH).await.text().contains("kubectl patch inferenceservice chat -n team"));
    let mut none = service("chat", port.number, json!({}));
    none["spec"]["replicas"] = json!(0);
    put(none).await;
    assert!(world.get(PATH).await.text().contains("--replicas 1"));
}

#[tokio::test]
async fn a_stream_passes_event_by_event_and_its_connection_is_used_again() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    let mut body = begin(&world).await;
    upstream.open_gate();
    assert_eq!(chunk(&mut body).await.as_deref(), Some(&b"b"[..]));
    assert_eq!(chunk(&mut body).await, None);
    assert_eq!(world.get(PATH).await.status, 200);
}

#[tokio::test]
async fn an_answer_nobody_waits_for_is_broken_off() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    let body = begin(&world).await;
    upstream.waiting(1).await;
    drop(body);
    tokio::time::timeout(PATIENCE, upstream.waiting(0)).await.expect("the pod stops working on it");
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let port = Port::reserve();
    let world = World::with(Options { requests_per_target_max: 1, ..options() }).await;
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    let mut held = begin(&world).await;
    let reply = world.get(PATH).await;
    assert_eq!(reply.reason(), (503, "Overloaded".to_owned()));
    assert!(reply.headers.contains_key("retry-after"));
    upstream.open_gate();
    while chunk(&mut held).await.is_some() {}
    assert_eq!(world.get(PATH).await.status, 200);
}

#[tokio::test]
async fn all_requests_together_are_bounded_too() {
    let port = Port::reserve();
    let world = World::with(Options { requests_max: 1, ..options() }).await;
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    world.service("other", port.number, &[&upstream.ip]).await;
    let _held = begin(&world).await;
    assert_eq!(world.get("/services/team/other/").await.reason(), (503, "Overloaded".to_owned()));
}

#[tokio::test]
async fn a_silent_replica_is_given_up_after_the_time_set() {
    let port = Port::reserve();
    let world = World::with(Options { service_answer_timeout: Duration::from_millis(50), ..options() }).await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.2", port.number)).await.unwrap();
    world.service("chat", port.number, &["127.0.0.2"]).await;
    assert_eq!(world.get(PATH).await.reason(), (504, "ReplicaSilent".to_owned()));
    drop(listener);
}

/// Every replica is replaced while eight clients call: none of their requests fails.
///
/// A container is stopped a moment after its pod was marked as going, when the requests
/// chosen for it before have been answered; see "Rolling changes" in the guide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_change_fails_no_request() {
    const CLIENTS: usize = 8;
    const REQUESTS_MAX: usize = 20_000;
    let (world, port) = (World::new().await, Port::reserve());
    let mut old = Vec::new();
    for last in 2..5 {
        old.push(Upstream::start(last, &port).await);
    }
    let ips = old.iter().map(|upstream| upstream.ip.as_str()).collect::<Vec<_>>();
    world.service("chat", port.number, &ips).await;
    let (done, rolled) = watch::channel(false);
    let progress = watch::Sender::new([0; CLIENTS]);
    let client = async |index: usize| {
        let mut answers = BTreeMap::<(u16, String), usize>::new();
        for number in 0..REQUESTS_MAX {
            if *rolled.borrow() {
                break;
            }
            let body = format!("{number}");
            let reply = world.post(PATH, body.clone()).await;
            let fine = reply.status == 200 && reply.json()["body"] == json!(body);
            let what = if fine { reply.json()["server"].to_string() } else { reply.text() };
            *answers.entry((reply.status.as_u16(), what)).or_default() += 1;
            progress.send_modify(|progress| progress[index] += 1);
        }
        answers
    };
    // Every client has had so many more answers than now.
    let answered = async |more: usize| {
        let before = *progress.borrow();
        let all = |now: &[usize; CLIENTS]| now.iter().zip(&before).all(|(now, before)| *now >= before + more);
        progress.subscribe().wait_for(all).await.expect("clients go on");
    };
    let roll = async {
        let mut new = Vec::new();
        for (last, leaving) in (12..15).zip(old) {
            let fresh = Upstream::start(last, &port).await;
            world.replica("chat", &fresh.ip, true).await;
            fresh.asked(20).await;
            world.condemn("chat", &leaving.ip).await;
            answered(1).await;
            let (ip, requests) = (leaving.ip.clone(), leaving.requests());
            answered(5).await;
            assert_eq!(leaving.requests(), requests, "a pod that is going gets no new request");
            leaving.stop().await;
            world.api.delete("pods", "team", &format!("chat-{}", ip.rsplit('.').next().unwrap())).await;
            new.push(fresh);
        }
        answered(20).await;
        done.send(true).unwrap();
        // They serve until the last client is done.
        new
    };
    let roll = async { tokio::time::timeout(PATIENCE, roll).await.expect("rolled in time") };
    let (answers, _new) = futures::join!(futures::future::join_all((0..CLIENTS).map(client)), roll);
    let failed = answers.iter().flatten().filter(|((status, _), _)| *status != 200).collect::<Vec<_>>();
    assert!(failed.is_empty(), "{failed:?}");
    let servers = answers.iter().flatten().map(|((_, server), _)| server.clone()).collect::<BTreeSet<_>>();
    assert_eq!(servers.len(), 6, "old and new all had their share: {servers:?}");
}

#[tokio::test]
async fn what_happened_is_counted() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    for _ in 0..3 {
        world.get(PATH).await;
    }
    let labels = "namespace=\"team\",service=\"chat\"";
    assert_eq!(metric(&world, &format!("fermion_gateway_service_requests_total{{{labels},code=\"2xx\"}}")), 3);
    assert_eq!(metric(&world, &format!("fermion_gateway_service_first_byte_seconds_count{{{labels}}}")), 3);
    world.api.delete("inferenceservices", "team", "chat").await;
    assert!(!world.gateway.metrics_text().contains("chat"));
}
