//! How a browser gets in, and what other pages cannot do with its cookie.

use std::time::Duration;

use axum::body::Body;
use fermion_gateway::Options;
use http::Method;
use serde_json::json;

use crate::upstream::{Port, Upstream};
use crate::world::{Reply, World, options};

async fn world(port: &Port, options: Options) -> (World, Upstream) {
    let world = World::with(options).await;
    let upstream = Upstream::start(2, port).await;
    let apps = json!([{"name": "web", "port": port.number}, {"name": "other", "port": port.number}]);
    world.environment("dev", apps, &upstream.ip).await;
    (world, upstream)
}

/// The path, with query, of a fresh link.
async fn link(world: &World) -> String {
    let reply = world.post("/apps/team/dev/web/ticket", "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let url = reply.json()["url"].as_str().unwrap().to_owned();
    url.strip_prefix(&format!("http://{}", world.address)).unwrap().to_owned()
}

async fn visit(world: &World, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Reply {
    let mut request = world.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.reply(request.body(Body::empty()).unwrap()).await
}

/// `name=value` of the cookie an answer sets.
fn cookie(reply: &Reply) -> String {
    reply.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_becomes_a_cookie_and_a_clean_address() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, options()).await;
    let link = link(&world).await;
    let (path, ticket) = link.split_once("?fermion_ticket=").unwrap();
    assert_eq!(path, "/apps/team/dev/web/");
    let deep = format!("{path}lab/x?a=1&fermion_ticket={ticket}&b=2");
    let reply = visit(&world, Method::GET, &deep, &[]).await;
    assert_eq!((reply.status.as_u16(), reply.headers["location"].to_str().unwrap()), (303, "/apps/team/dev/web/lab/x?a=1&b=2"));
    assert_eq!(
        (&reply.headers["referrer-policy"], &reply.headers["cache-control"]),
        (&"no-referrer".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let set = reply.headers["set-cookie"].to_str().unwrap();
    let attributes = set.split("; ").skip(1).collect::<Vec<_>>();
    assert_eq!(attributes, ["Path=/apps/team/dev/web/", "HttpOnly", "SameSite=Lax"]);

    let session = cookie(&reply);
    let reply = visit(&world, Method::GET, "/apps/team/dev/web/x", &[("cookie", &format!("mine=1; {session}"))]).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["headers"]["cookie"]), (200, &json!("mine=1")));

    // The ticket is used up; whoever is in already stays in.
    assert_eq!(visit(&world, Method::GET, &link, &[]).await.status, 401);
    let again = visit(&world, Method::GET, &link, &[("cookie", &session)]).await;
    assert_eq!((again.status.as_u16(), again.headers.contains_key("set-cookie")), (303, false));
    // The cookie is good for its app only.
    assert_eq!(visit(&world, Method::GET, "/apps/team/dev/other/x", &[("cookie", &session)]).await.status, 401);
}

#[tokio::test]
async fn a_ticket_shown_at_another_app_is_lost() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, options()).await;
    let link = link(&world).await;
    assert_eq!(visit(&world, Method::GET, &link.replace("/web/", "/other/"), &[]).await.status, 401);
    assert_eq!(visit(&world, Method::GET, &link, &[]).await.status, 401);
}

#[tokio::test]
async fn looking_at_a_link_does_not_use_it_up() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, options()).await;
    let link = link(&world).await;
    assert_eq!(visit(&world, Method::HEAD, &link, &[]).await.status, 401);
    assert_eq!(visit(&world, Method::GET, &link, &[]).await.status, 303);
}

#[tokio::test]
async fn an_address_without_its_slash_keeps_the_ticket() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, options()).await;
    let reply = visit(&world, Method::GET, "/apps/team/dev/web?fermion_ticket=t", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.headers["location"].to_str().unwrap()), (308, "/apps/team/dev/web/?fermion_ticket=t"));
}

#[tokio::test]
async fn over_tls_the_cookie_stays_on_tls() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, Options { https: true, ..options() }).await;
    let url = world.post("/apps/team/dev/web/ticket", "").await.json()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&format!("https://{}", world.address)).unwrap();
    let reply = visit(&world, Method::GET, path, &[]).await;
    assert!(reply.headers["set-cookie"].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn a_foreign_page_cannot_use_the_cookie() {
    let port = Port::reserve();
    let (world, upstream) = world(&port, options()).await;
    let session = cookie(&visit(&world, Method::GET, &link(&world).await, &[]).await);
    let own = format!("http://{}", world.address);
    let post = async |origin: Option<&str>| {
        let mut headers = vec![("cookie", session.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        visit(&world, Method::POST, "/apps/team/dev/web/x", &headers).await.status.as_u16()
    };
    let socket = async |origin: Option<&str>| {
        let mut headers = vec![("cookie", session.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        world.socket("/apps/team/dev/web/ws", &headers).await.err()
    };
    for origin in [None, Some("null"), Some("http://evil.example"), Some("http://127.0.0.1:1")] {
        assert_eq!((post(origin).await, socket(origin).await), (403, Some(403)), "{origin:?}");
    }
    let embedded = [("cookie", session.as_str()), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(visit(&world, Method::GET, "/apps/team/dev/web/x", &embedded).await.reason(), (403, "ForeignOrigin".to_owned()));
    assert_eq!(upstream.requests(), 0);
    assert_eq!((post(Some(&own)).await, socket(Some(&own)).await), (200, None));
    // A program with a token needs no origin; a page of the app cannot make links.
    assert_eq!(world.post("/apps/team/dev/web/x", "").await.status, 200);
    let reply = visit(&world, Method::POST, "/apps/team/dev/web/ticket", &[("cookie", &session), ("origin", &own)]).await;
    assert_eq!(reply.reason(), (403, "Forbidden".to_owned()));
}

#[tokio::test]
async fn a_session_ends_with_the_token_it_came_from() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, Options { access_lifetime: Duration::ZERO, ..options() }).await;
    let session = cookie(&visit(&world, Method::GET, &link(&world).await, &[]).await);
    assert_eq!(visit(&world, Method::GET, "/apps/team/dev/web/", &[("cookie", &session)]).await.status, 200);
    world.api.revoke_token("ada-token");
    assert_eq!(visit(&world, Method::GET, "/apps/team/dev/web/", &[("cookie", &session)]).await.status, 401);
}

#[tokio::test]
async fn a_ticket_needs_the_permission() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, options()).await;
    let eve = [("authorization", "Bearer eve-token")];
    assert_eq!(visit(&world, Method::POST, "/apps/team/dev/web/ticket", &eve).await.reason(), (403, "Forbidden".to_owned()));
    assert_eq!(visit(&world, Method::POST, "/apps/team/dev/web/ticket", &[]).await.status, 401);
}

#[tokio::test]
async fn a_browser_is_told_how_to_get_in() {
    let port = Port::reserve();
    let (world, _upstream) = world(&port, options()).await;
    let reply = visit(&world, Method::GET, "/apps/team/dev/web/", &[("accept", "text/html")]).await;
    assert_eq!(reply.status, 401);
    assert!(reply.text().contains("fermion open"));
}
