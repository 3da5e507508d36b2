//! Requests of programs to apps.

use axum::body::{Body, Bytes};
use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::upstream::{Port, Upstream};
use crate::world::{PATIENCE, World, chunk, condition, environment, options, pod};

fn web(port: &Port) -> Value {
    json!([{"name": "web", "port": port.number}])
}

fn jupyter(port: &Port) -> Value {
    json!([{"name": "jupyter", "kind": "Jupyter", "port": port.number}])
}

async fn put_token(world: &World, environment: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{environment}-apps"), "namespace": "team"},
        "data": {"jupyter": "cGxhdGZvcm1zLW93bg=="},
    });
    world.api.put("secrets", secret).await;
}

#[tokio::test]
async fn an_app_sees_its_requests_without_the_prefix() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    let reply = world.post("/apps/team/dev/web/a/b%2Fc?x=1&y=%20", "hello").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = reply.json();
    assert_eq!((&seen["method"], &seen["target"], &seen["body"]), (&json!("POST"), &json!("/a/b%2Fc?x=1&y=%20"), &json!("hello")));
    let headers = &seen["headers"];
    assert_eq!(headers["host"], json!(world.address.to_string()));
    assert_eq!(headers["x-forwarded-for"], json!("127.0.0.1"));
    assert_eq!(headers["x-forwarded-proto"], json!("http"));
    assert_eq!(headers["x-forwarded-host"], json!(world.address.to_string()));
    assert_eq!(headers["x-forwarded-prefix"], json!("/apps/team/dev/web"));
}

#[tokio::test]
async fn an_app_that_keeps_its_prefix_sees_the_whole_path() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", json!([{"name": "web", "port": port.number, "keepPrefix": true}]), &upstream.ip).await;
    assert_eq!(world.get("/apps/team/dev/web/a?b").await.json()["target"], json!("/apps/team/dev/web/a?b"));
}

#[tokio::test]
async fn jupyter_gets_the_platforms_token_and_the_whole_path() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", jupyter(&port), &upstream.ip).await;
    let reply = world.get("/apps/team/dev/jupyter/lab").await;
    assert_eq!(reply.reason(), (503, "AppTokenMissing".to_owned()));
    put_token(&world, "dev").await;
    let seen = world.get("/apps/team/dev/jupyter/lab").await.json();
    assert_eq!(seen["target"], json!("/apps/team/dev/jupyter/lab"));
    assert_eq!(seen["headers"]["authorization"], json!("token platforms-own"));
    let mut socket = world.socket("/apps/team/dev/jupyter/other", &[("authorization", "Bearer ada-token")]).await;
    assert_eq!(socket.as_mut().err(), Some(&mut 200), "an answer that is no upgrade is passed on as it is");
}

#[tokio::test]
async fn the_callers_credentials_never_reach_a_container() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    let request = world
        .request(Method::POST, "/apps/team/dev/web/x?a=1&fermion_ticket=query-secret&b=2")
        .header("authorization", "Bearer ada-token")
        .header("cookie", "theirs=1; fermion_session=cookie-secret")
        .header("proxy-authorization", "Basic proxy-secret")
        .header("x-forwarded-for", "192.0.2.1")
        .header("forwarded", "for=192.0.2.1")
        .header("connection", "x-internal")
        .header("x-internal", "internal-secret")
        .body(Body::empty())
        .unwrap();
    let reply = world.reply(request).await;
    let seen = reply.text();
    for secret in ["ada-token", "secret", "192.0.2.1", "fermion_"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    assert_eq!(reply.json()["headers"]["cookie"], json!("theirs=1"));
    assert_eq!(reply.json()["target"], json!("/x?a=1&b=2"));

    let mut socket = world.socket("/apps/team/dev/web/ws", &[("authorization", "Bearer ada-token")]).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("authorization: "));
}

#[tokio::test]
async fn what_an_app_sets_stays_on_its_path() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    let reply = world.get("/apps/team/dev/web/redirect").await;
    assert_eq!((reply.status.as_u16(), reply.headers["location"].to_str().unwrap()), (302, "/apps/team/dev/web/target"));
    let cookies = reply.headers.get_all("set-cookie").iter().collect::<Vec<_>>();
    assert_eq!(cookies, ["own=1; Path=/apps/team/dev/web/"]);
    assert!(!reply.headers.contains_key("clear-site-data"));
}

#[tokio::test]
async fn an_answer_passes_chunk_by_chunk() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    let request = world.request(Method::GET, "/apps/team/dev/web/gate").header("authorization", "Bearer ada-token");
    let mut body = Body::new(world.send(request.body(Body::empty()).unwrap()).await.into_body()).into_data_stream();
    assert_eq!(chunk(&mut body).await.as_deref(), Some(&b"a"[..]));
    upstream.open_gate();
    assert_eq!(chunk(&mut body).await.as_deref(), Some(&b"b"[..]));
    assert_eq!(chunk(&mut body).await, None);
}

#[tokio::test]
async fn an_upload_passes_chunk_by_chunk() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    let (mut sender, receiver) = futures::channel::mpsc::channel::<Result<Bytes, std::io::Error>>(0);
    let writer = async {
        sender.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        upstream.received(5).await;
        sender.send(Ok(Bytes::from_static(b"second"))).await.unwrap();
        drop(sender);
    };
    let (reply, ()) = futures::join!(world.post("/apps/team/dev/web/upload", Body::from_stream(receiver)), writer);
    assert_eq!(reply.text(), "11");
}

#[tokio::test]
async fn a_websocket_passes_bytes_both_ways() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", jupyter(&port), &upstream.ip).await;
    world.api.put("devenvironments", environment("dev", web(&port), false, json!({"phase": "Running"}))).await;
    let headers = [("authorization", "Bearer ada-token"), ("sec-websocket-protocol", "echo")];
    let mut socket = world.socket("/apps/team/dev/web/ws", &headers).await.unwrap();
    socket.next().await.unwrap().unwrap();
    for message in [Message::text("hello"), Message::binary(vec![7; 300_000]), Message::binary(vec![])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(message) = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
        assert!(message.is_ok_and(|message| message.is_close()));
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_or_a_permission() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    let status = async |path: &str, authorization: Option<&str>| {
        let mut request = world.request(Method::GET, path);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        world.reply(request.body(Body::empty()).unwrap()).await
    };
    for credential in [None, Some("Bearer nobodys"), Some("Basic YWRhOmFkYS10b2tlbg=="), Some("ada-token"), Some("token ada-token")] {
        let reply = status("/apps/team/dev/web/", credential).await;
        assert_eq!((reply.status.as_u16(), reply.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"fermion\""));
        assert_eq!(world.socket("/apps/team/dev/web/ws", &[("authorization", credential.unwrap_or("x"))]).await.err(), Some(401));
    }
    // What exists is not told to who may not use it.
    for path in ["/apps/team/dev/web/", "/apps/team/dev/none/", "/apps/team/none/web/", "/apps/none/dev/web/"] {
        assert_eq!(status(path, Some("Bearer eve-token")).await.reason(), (403, "Forbidden".to_owned()), "{path}");
    }
    assert_eq!(world.socket("/apps/team/dev/web/ws", &[("authorization", "Bearer eve-token")]).await.err(), Some(403));
    // A query parameter is no credential.
    assert_eq!(status("/apps/team/dev/web/?token=ada-token&access_token=ada-token", None).await.status, 401);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_api_that_does_not_answer_lets_nobody_in() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    world.api.set_down(true);
    let reply = world.get("/apps/team/dev/web/").await;
    assert_eq!(reply.reason(), (503, "ApiUnavailable".to_owned()));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(upstream.requests(), 0);
    world.api.set_down(false);
    assert_eq!(world.get("/apps/team/dev/web/").await.status, 200);
    // What was answered a moment ago is not asked again.
    world.api.set_down(true);
    assert_eq!(world.get("/apps/team/dev/web/").await.status, 200);
    assert_eq!(world.api.token_reviews(), 2);
}

#[tokio::test]
async fn an_environment_that_does_not_run_says_what_to_do() {
    let (world, port) = (World::new().await, Port::reserve());
    world.environment("dev", web(&port), "127.0.0.2").await;
    let put = async |suspend: bool, status: Value| world.api.put("devenvironments", environment("dev", web(&port), suspend, status)).await;

    put(true, json!({"phase": "Stopped"})).await;
    let reply = world.get("/apps/team/dev/web/").await;
    assert_eq!(reply.reason(), (503, "EnvironmentStopped".to_owned()));
    assert!(reply.text().contains("kubectl patch devenvironment dev -n team"), "{}", reply.text());

    put(false, json!({"phase": "Starting", "podName": "dev-7", "conditions": condition("waits for 2 more cpu")})).await;
    let reply = world.get("/apps/team/dev/web/").await;
    assert_eq!(reply.reason(), (503, "EnvironmentStarting".to_owned()));
    assert!(reply.text().contains("waits for 2 more cpu") && reply.headers.contains_key("retry-after"));

    put(false, json!({"phase": "Failed", "conditions": condition("the image does not exist")})).await;
    let reply = world.get("/apps/team/dev/web/").await;
    assert_eq!(reply.reason(), (503, "EnvironmentFailed".to_owned()));
    assert!(reply.text().contains("the image does not exist"));

    let page = world.request(Method::GET, "/apps/team/dev/web/").header("authorization", "Bearer ada-token").header("accept", "text/html");
    let reply = world.reply(page.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.headers["content-type"], "text/html; charset=utf-8");
    assert!(reply.text().contains("the image does not exist") && reply.headers.contains_key("content-security-policy"));

    put(false, json!({"phase": "Running"})).await;
    let reply = world.get("/apps/team/dev/none/").await;
    assert_eq!(reply.reason(), (404, "AppNotFound".to_owned()));
    assert!(reply.text().contains("web"));
    let reply = world.get("/apps/team/dev/web/").await;
    assert_eq!(reply.reason(), (502, "AppNotListening".to_owned()));
    assert!(reply.text().contains(&port.number.to_string()) && reply.text().contains("kubectl logs dev-0 -n team"), "{}", reply.text());

    world.api.delete("devenvironments", "team", "dev").await;
    assert_eq!(world.get("/apps/team/dev/web/").await.reason(), (404, "EnvironmentNotFound".to_owned()));
}

#[tokio::test]
async fn a_silent_app_is_given_up_after_the_time_set() {
    let port = Port::reserve();
    let world = World::with(fermion_gateway::Options { app_answer_timeout: std::time::Duration::from_millis(50), ..options() }).await;
    // Takes connections, and says nothing.
    let _listener = tokio::net::TcpListener::bind(("127.0.0.2", port.number)).await.unwrap();
    world.environment("dev", web(&port), "127.0.0.2").await;
    assert_eq!(world.get("/apps/team/dev/web/").await.reason(), (504, "AppSilent".to_owned()));
}

#[tokio::test]
async fn only_the_environments_own_pod_is_connected_to() {
    let (world, port) = (World::new().await, Port::reserve());
    let (own, other) = (Upstream::start(2, &port).await, Upstream::start(3, &port).await);
    world.environment("dev", web(&port), &own.ip).await;
    let label = ("fermion.dev/dev-environment", "dev");
    // The same label in another namespace; another pod with the label here; a pod going away.
    world.api.put("pods", pod("else", "dev-0", label, &other.ip, true)).await;
    world.api.put("pods", pod("team", "dev-impostor", label, &other.ip, true)).await;
    for _ in 0..8 {
        assert_eq!(world.get("/apps/team/dev/web/").await.json()["server"], json!(own.ip));
    }
    let mut going = pod("team", "dev-0", label, &own.ip, true);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.api.put("pods", going).await;
    assert_eq!(world.get("/apps/team/dev/web/").await.reason(), (503, "EnvironmentStarting".to_owned()));
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_pod_on_loopback_is_not_connected_to_on_a_server() {
    let port = Port::reserve();
    let world = World::with(fermion_gateway::Options::default()).await;
    let upstream = Upstream::start(2, &port).await;
    world.environment("dev", web(&port), &upstream.ip).await;
    assert_eq!(world.get("/apps/team/dev/web/").await.reason(), (503, "EnvironmentStarting".to_owned()));
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn use_is_written_down_and_polling_is_not() {
    let (world, port) = (World::new().await, Port::reserve());
    let upstream = Upstream::start(2, &port).await;
    for name in ["polled", "posted", "socket", "viewed", "pinged"] {
        world.environment(name, jupyter(&port), &upstream.ip).await;
        put_token(&world, name).await;
    }
    world.environment("web", web(&port), &upstream.ip).await;
    for _ in 0..3 {
        world.get("/apps/team/polled/jupyter/api/kernels").await;
        world.post("/apps/team/posted/jupyter/api/kernels", "").await;
    }
    let patches = world.api.patches("posted", 1).await;
    assert_eq!(patches.len(), 1, "one write in ten seconds: {patches:?}");
    let at: k8s_openapi::jiff::Timestamp = patches[0]["status"]["lastActivityAt"].as_str().unwrap().parse().unwrap();
    assert!(k8s_openapi::jiff::Timestamp::now().duration_since(at).as_secs() < 60);
    assert_eq!(patches[0].as_object().unwrap().len(), 1);

    let page = world
        .request(Method::GET, "/apps/team/viewed/jupyter/lab")
        .header("authorization", "Bearer ada-token")
        .header("accept", "text/html");
    world.reply(page.body(Body::empty()).unwrap()).await;
    world.api.patches("viewed", 1).await;

    world.environment("echo", web(&port), &upstream.ip).await;
    let mut socket = world.socket("/apps/team/echo/web/ws", &[("authorization", "Bearer ada-token")]).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_pong());
    assert!(world.api.patches("echo", 0).await.is_empty());
    socket.send(Message::text("typed")).await.unwrap();
    assert_eq!(world.api.patches("echo", 1).await.len(), 1);
    assert!(world.api.patches("polled", 0).await.is_empty());
}
