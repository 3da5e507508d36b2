//! Servers that stand for what runs in pods.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// A port that no other test uses, on any loopback address. All tests take theirs from the
/// same address, and hold it.
pub(crate) struct Port {
    pub(crate) number: u16,
    _held: StdListener,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let held = StdListener::bind((Ipv4Addr::new(127, 0, 0, 254), 0)).unwrap();
        Self { number: held.local_addr().unwrap().port(), _held: held }
    }
}

/// A server at an address of its own.
pub(crate) struct Upstream {
    pub(crate) ip: String,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

pub(crate) struct Seen {
    name: String,
    requests: watch::Sender<usize>,
    /// Opens the gate that `/gate` waits at.
    pub(crate) gate: watch::Sender<usize>,
    /// Requests now waiting at the gate.
    waiting: watch::Sender<usize>,
    /// Bytes of bodies received by `/upload`.
    received: watch::Sender<usize>,
    connections: AtomicUsize,
}

impl Upstream {
    /// Listens at 127.0.0.`last` and answers:
    /// - `/gate`: "a", then "b" once the gate is opened, in two chunks;
    /// - `/upload`: the number of bytes received;
    /// - `/ws`: a WebSocket that echoes;
    /// - `/redirect`: to `/target`, with cookies;
    /// - anything else: what it was asked, as JSON.
    pub(crate) async fn start(last: u8, port: &Port) -> Self {
        let address = SocketAddr::from(([127, 0, 0, last], port.number));
        let listener = TcpListener::bind(address).await.unwrap();
        let seen = Arc::new(Seen {
            name: format!("127.0.0.{last}"),
            requests: watch::Sender::new(0),
            gate: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
            received: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/gate", any(gate))
            .route("/upload", any(upload))
            .route("/ws", get(echo_socket))
            .route("/redirect", get(redirect))
            .fallback(mirror)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&seen), count))
            .with_state(Arc::clone(&seen));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(async move {
                let _stopped = stopped.await;
            });
            serve.await.unwrap();
        });
        Self { ip: address.ip().to_string(), seen, stop: Some(stop), server }
    }

    pub(crate) fn requests(&self) -> usize {
        *self.seen.requests.borrow()
    }

    /// Waits until it was asked that often in all.
    pub(crate) async fn asked(&self, least: usize) {
        self.seen.requests.subscribe().wait_for(|requests| *requests >= least).await.unwrap();
    }

    /// Waits until that many requests stand at the gate.
    pub(crate) async fn waiting(&self, exactly: usize) {
        self.seen.waiting.subscribe().wait_for(|waiting| *waiting == exactly).await.unwrap();
    }

    pub(crate) async fn received(&self, least: usize) {
        self.seen.received.subscribe().wait_for(|received| *received >= least).await.unwrap();
    }

    pub(crate) fn open_gate(&self) {
        self.seen.gate.send_modify(|opened| *opened += 1);
    }

    /// Stops as containers should: no new connections, what was begun is finished.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.server).await.unwrap();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn count(State(seen): State<Arc<Seen>>, request: Request, next: axum::middleware::Next) -> Response {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    seen.requests.send_modify(|requests| *requests += 1);
    next.run(request).await
}

async fn mirror(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), json!(text(value)))).collect::<serde_json::Map<_, _>>();
    axum::Json(json!({
        "server": seen.name,
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    }))
    .into_response()
}

/// Leaves the gate also when the request is dropped at it.
struct Waiting(Arc<Seen>);

impl Waiting {
    fn begin(seen: &Arc<Seen>) -> Self {
        seen.waiting.send_modify(|waiting| *waiting += 1);
        Self(Arc::clone(seen))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

async fn gate(State(seen): State<Arc<Seen>>) -> Response {
    let mut opened = seen.gate.subscribe();
    opened.mark_unchanged();
    let waiting = Waiting::begin(&seen);
    let second = async move {
        let _waiting = waiting;
        opened.changed().await.unwrap();
        Ok::<_, std::io::Error>(Bytes::from_static(b"b"))
    };
    let chunks = futures::stream::once(async { Ok(Bytes::from_static(b"a")) }).chain(futures::stream::once(second));
    Body::from_stream(chunks).into_response()
}

async fn upload(State(seen): State<Arc<Seen>>, request: Request) -> String {
    let mut chunks = request.into_body().into_data_stream();
    let mut received = 0;
    while let Some(chunk) = chunks.next().await {
        received += chunk.unwrap().len();
        seen.received.send_replace(received);
    }
    received.to_string()
}

async fn echo_socket(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    upgrade.protocols(["echo"]).on_upgrade(async move |mut socket| {
        socket.send(Message::text(format!("authorization: {authorization}"))).await.unwrap();
        while let Some(Ok(message)) = socket.recv().await {
            match message {
                Message::Text(_) | Message::Binary(_) => socket.send(message).await.unwrap(),
                _ => {}
            }
        }
    })
}

async fn redirect() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert("location", HeaderValue::from_static("/target"));
    headers.append("set-cookie", HeaderValue::from_static("own=1; Path=/; Domain=localhost"));
    headers.append("set-cookie", HeaderValue::from_static("fermion_session=planted; Path=/apps/team/other/web/"));
    headers.insert("clear-site-data", HeaderValue::from_static("\"cookies\""));
    response
}
