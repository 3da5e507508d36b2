//! A gateway in front of a fake API, and the objects tests put there.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use fermion_gateway::{Gateway, Options};
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::fake_api::FakeApi;
use crate::memory_transport;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Ada may use everything in namespace `team`; Eve nothing.
pub(crate) struct World {
    pub(crate) api: FakeApi,
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    http: Client<HttpConnector, Body>,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of a refusal.
    pub(crate) fn reason(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["reason"].as_str().unwrap_or_default().to_owned())
    }
}

pub(crate) fn options() -> Options {
    Options { loopback_pods: true, ..Options::default() }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let api = FakeApi::new();
        api.add_token("ada-token", "ada");
        api.add_token("eve-token", "eve");
        let gateway = Gateway::new(memory_transport::client(api.router()), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = gateway.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        gateway.synced().await;
        Self { api, gateway, address, http: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// A running environment whose pod is at `ip`.
    pub(crate) async fn environment(&self, name: &str, apps: Value, ip: &str) {
        self.api.allow("ada", "devenvironments", "team", name);
        self.api.put("pods", pod("team", &format!("{name}-0"), ("fermion.dev/dev-environment", name), ip, true)).await;
        let running = json!({"phase": "Running", "podName": format!("{name}-0")});
        self.api.put("devenvironments", environment(name, apps, false, running)).await;
    }

    /// A service with ready pods at those addresses, named after the last part.
    pub(crate) async fn service(&self, name: &str, port: u16, ips: &[&str]) {
        self.api.allow("ada", "inferenceservices", "team", name);
        for ip in ips {
            self.replica(name, ip, true).await;
        }
        self.api.put("inferenceservices", service(name, port, json!({"phase": "Ready"}))).await;
    }

    pub(crate) async fn replica(&self, service: &str, ip: &str, ready: bool) {
        self.api.put("pods", pod("team", &replica_name(service, ip), ("fermion.dev/inference-service", service), ip, ready)).await;
    }

    /// Marks a replica as being deleted, as the API does first.
    pub(crate) async fn condemn(&self, service: &str, ip: &str) {
        let mut pod = pod("team", &replica_name(service, ip), ("fermion.dev/inference-service", service), ip, true);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.api.put("pods", pod).await;
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address))
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        tokio::time::timeout(PATIENCE, self.http.request(request)).await.expect("an answer in time").expect("an answer")
    }

    pub(crate) async fn reply(&self, request: Request<Body>) -> Reply {
        let (head, body) = self.send(request).await.into_parts();
        let body =
            tokio::time::timeout(PATIENCE, axum::body::to_bytes(Body::new(body), 1 << 24)).await.expect("a body in time").expect("a body");
        Reply { status: head.status, headers: head.headers, body }
    }

    /// As Ada, with her token.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.reply(self.request(Method::GET, path).header("authorization", "Bearer ada-token").body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Reply {
        self.reply(self.request(Method::POST, path).header("authorization", "Bearer ada-token").body(body.into()).unwrap()).await
    }

    /// A WebSocket with those headers, or the status of the refusal.
    pub(crate) async fn socket(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<WebSocketStream<TcpStream>, u16> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        match tokio::time::timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await.expect("an answer in time") {
            Ok((socket, _)) => Ok(socket),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends bytes as they are and returns the status line's code.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
            answer.push(byte[0]);
        }
        let line = String::from_utf8(answer).unwrap();
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status in {line:?}"))
    }
}

fn replica_name(service: &str, ip: &str) -> String {
    format!("{service}-{}", ip.rsplit('.').next().unwrap())
}

pub(crate) fn pod(namespace: &str, name: &str, label: (&str, &str), ip: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"), "labels": {label.0: label.1}},
        "spec": {"containers": [{"name": "main", "image": "x"}]},
        "status": {
            "phase": "Running", "podIP": ip,
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    })
}

pub(crate) fn environment(name: &str, apps: Value, suspend: bool, status: Value) -> Value {
    json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "DevEnvironment",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"apps": apps, "suspend": suspend, "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
        "status": status,
    })
}

pub(crate) fn service(name: &str, port: u16, status: Value) -> Value {
    json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"port": port, "replicas": 2},
        "status": status,
    })
}

pub(crate) fn condition(message: &str) -> Value {
    json!([{"type": "Ready", "status": "False", "reason": "X", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

/// The next chunk of a body.
pub(crate) async fn chunk(body: &mut axum::body::BodyDataStream) -> Option<Bytes> {
    tokio::time::timeout(PATIENCE, body.next()).await.expect("a chunk in time").map(|chunk| chunk.expect("a chunk"))
}
