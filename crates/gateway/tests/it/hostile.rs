//! Requests made to do harm.

use serde_json::json;

use crate::upstream::{Port, Upstream};
use crate::world::World;

async fn world(port: &Port) -> (World, Upstream) {
    let world = World::new().await;
    let upstream = Upstream::start(2, port).await;
    world.environment("dev", json!([{"name": "web", "port": port.number}]), &upstream.ip).await;
    world.service("chat", port.number, &[&upstream.ip]).await;
    (world, upstream)
}

/// A request's bytes; each line ends with CR LF.
fn bytes(lines: &[&str], body: &str) -> Vec<u8> {
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

#[tokio::test]
async fn path_tricks_reach_nothing() {
    let port = Port::reserve();
    let (world, upstream) = world(&port).await;
    for path in [
        "/apps/team/dev/web/..",
        "/apps/team/dev/web/../other/",
        "/apps/team/dev/web/%2e%2e/",
        "/apps/team/dev/web/..%2f..%2fx",
        "/apps/team/dev/web/%2E%2E%5Cx",
        "/apps/team/../team/dev/web/",
        "/apps/%2e%2e/team/dev/web/",
        "/apps/team%2Fdev/web/x/",
        "/apps//team/dev/web/",
        "/apps/team/dev%00/web/",
        "/apps/team/dev/web%0d%0aX:1/",
        "/apps/TEAM/dev/web/",
        "/apps/team/dev/127.0.0.1:80/",
        "/apps/team/dev@evil.example/web/",
        "/services/team/..%2fchat/x",
        "/services/team/chat/../../x",
        "/services/127.0.0.2/chat/",
    ] {
        let status = world.raw(&bytes(&[&format!("GET {path} HTTP/1.1"), "Host: h", "Authorization: Bearer ada-token"], "")).await;
        assert!(matches!(status, 400 | 403 | 404), "{path}: {status}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn encoded_characters_arrive_as_they_were_sent() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port).await;
    for rest in
        ["/a%2Fb", "/a%0d%0aX-Injected:%201", "/%00", "//evil.example/x", "/http://evil.example/", "/@evil.example", "/a;b=c?d=%0d%0aX:1"]
    {
        let reply = world.get(&format!("/apps/team/dev/web{rest}")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["target"]), (200, &json!(rest)), "{rest}");
        assert!(reply.json()["headers"]["x-injected"].is_null());
    }
}

#[tokio::test]
async fn an_absolute_target_goes_to_the_pod_like_any_other() {
    let port = Port::reserve();
    let (world, upstream) = world(&port).await;
    let head = ["GET http://169.254.169.254/apps/team/dev/web/x HTTP/1.1", "Host: h", "Authorization: Bearer ada-token"];
    assert_eq!(world.raw(&bytes(&head, "")).await, 200);
    assert_eq!(upstream.requests(), 1);
    // A cookie would not have come along: its origin is checked against the target's host.
    for line in ["CONNECT 127.0.0.1:22 HTTP/1.1", "TRACE /apps/team/dev/web/ HTTP/1.1", "GET http://evil.example/x HTTP/1.1"] {
        let status = world.raw(&bytes(&[line, "Host: h", "Authorization: Bearer ada-token"], "")).await;
        assert!(matches!(status, 400 | 404 | 405), "{line}: {status}");
    }
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let port = Port::reserve();
    let (world, upstream) = world(&port).await;
    let get = "GET /apps/team/dev/web/ HTTP/1.1";
    let bearer = "Authorization: Bearer ada-token";
    assert_eq!(world.raw(&bytes(&[get, bearer], "")).await, 400, "no host");
    assert_eq!(world.raw(&bytes(&[get, bearer, "Host: a", "Host: b"], "")).await, 400, "two hosts");
    assert_eq!(world.raw(&bytes(&[get, bearer, "Host: a@b"], "")).await, 400, "user information");
    let long = format!("GET /apps/team/dev/web/{} HTTP/1.1", "a".repeat(20_000));
    assert_eq!(world.raw(&bytes(&[&long, "Host: h", bearer], "")).await, 414);
    let large = format!("X-Large: {}", "a".repeat(70_000));
    assert_eq!(world.raw(&bytes(&[get, "Host: h", bearer, &large], "")).await, 431);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn one_request_cannot_be_read_as_two() {
    let port = Port::reserve();
    let (world, upstream) = world(&port).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = [
        "POST /apps/team/dev/web/x HTTP/1.1",
        "Host: h",
        "Authorization: Bearer ada-token",
        "Content-Length: 47",
        "Transfer-Encoding: chunked",
    ];
    let status = world.raw(&bytes(&head, smuggled)).await;
    assert!(matches!(status, 200 | 400), "{status}");
    for head in [
        ["POST /apps/team/dev/web/x HTTP/1.1", "Host: h", "Authorization: Bearer ada-token", "Content-Length: 1", "Content-Length: 2"],
        ["POST /apps/team/dev/web/x HTTP/1.1", "Host: h", "Authorization: Bearer ada-token", "Transfer-Encoding: chunked, x", "X: 1"],
    ] {
        assert_eq!(world.raw(&bytes(&head, smuggled)).await, 400);
    }
    assert!(upstream.requests() <= 1, "the pod saw {} requests", upstream.requests());
}

#[tokio::test]
async fn only_a_websocket_is_an_upgrade() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port).await;
    let request = world.request(http::Method::GET, "/apps/team/dev/web/x").header("authorization", "Bearer ada-token");
    let request = request.header("connection", "upgrade, http2-settings").header("upgrade", "h2c").header("http2-settings", "AAMAAABk");
    let reply = world.reply(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(reply.status, 200);
    assert!(reply.json()["headers"]["upgrade"].is_null() && reply.json()["headers"]["http2-settings"].is_null());
}
