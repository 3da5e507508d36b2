//! The API server inside the test's own process: real, over HTTP on loopback, with everything but
//! containers and controllers. What these would write, the test says.
//!
//! It starts in a fraction of the time that a [`Platform`](crate::Platform) takes, for examples in documentation
//! and tests of clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{self, RawQuery, State};
use axum::http::{Request, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{any, get};
use fermion_api::ai::InferenceService;
use fermion_apiserver::{Api, Identity, SystemClock, TokenSigner};
use fermion_gateway::Gateway;
use fermion_store::{Options, Store};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The one node, and the one container of its pods.
const NODE: &str = "local";
const CONTAINER: &str = "main";
/// When everything on it happened.
const AT: &str = "2026-01-01T00:00:00Z";
/// The protocol of commands over WebSocket.
const CHANNELS: &str = "v5.channel.k8s.io";
/// How long the administrator's token is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest wait for what happens by itself, and how often it is looked for.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The most that is read of a refusal, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A running API server. Dropping it stops it and removes its files.
pub struct Server {
    api: Arc<Api>,
    logs: Logs,
    gateway: Gateway,
    /// The administrator's.
    token: String,
    home: tempfile::TempDir,
    stop: tokio::sync::watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

/// What each pod has written.
type Logs = Arc<Mutex<HashMap<String, Vec<String>>>>;

/// Starts a server, runs a test against it, and stops it.
///
/// # Panics
/// When the server does not start, or the test fails.
pub fn with_server(test: impl AsyncFnOnce(&Server) -> Result<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::start().await.expect("a server");
        let ended = test(&server).await;
        server.stop.send_replace(true);
        server.serving.abort();
        if let Err(error) = ended {
            panic!("{error:?}");
        }
    });
}

impl Server {
    async fn start() -> Result<Self> {
        let home = tempfile::tempdir().context("no directory")?;
        let store = Store::open(&home.path().join("data"), Options::default())?;
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let api = Api::new(store, Arc::new(SystemClock), stopping)?;
        api.sign_service_account_tokens(TokenSigner::open(&home.path().join("service-account.key"))?);
        api.ensure_namespaces().await?;
        api.prepare_access().await?;
        api.ensure_first_administrator().await?;
        let (user, token) = api.issue_kubeconfig_token(TOKEN_LIFETIME).await?;
        let logs = Logs::default();
        api.attach_node(NODE, node(logs.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no loopback port")?;
        let address = listener.local_addr().context("no address")?;
        // What stands in for pods listens on this machine.
        let options = fermion_gateway::Options { loopback_pods: true, ..fermion_gateway::Options::default() };
        let gateway = Gateway::new(api.client(Identity::component("gateway")), options);
        let router = gateway.router().merge(api.router()).into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("loopback serves");
        });
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fermion", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": user, "user": {"token": &token}}],
            "contexts": [{"name": "fermion", "context": {"cluster": "fermion", "user": user, "namespace": "default"}}],
            "current-context": "fermion",
        });
        std::fs::write(home.path().join("kubeconfig"), serde_yaml::to_string(&kubeconfig)?).context("no kubeconfig")?;
        api.set_ready();
        Ok(Self { api, logs, gateway, token, home, stop, serving })
    }

    /// Where a client finds the administrator's kubeconfig, as in the home of a whole platform.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The parts of a platform that write what they observe.
    fn platform<K>(&self) -> kube::Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        kube::Api::namespaced(self.api.client(Identity::component("controllers")), "default")
    }

    /// Writes the status of an object in namespace `default`, as its controller would.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn settle<K>(&self, name: &str, status: Value) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let patch = Patch::Merge(json!({"status": status}));
        self.platform::<K>().patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Makes a pod in namespace `default` that runs, and has written these lines. Its one container
    /// is `main`; the only command that it knows is `echo`.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn run_pod(&self, name: &str, lines: &[&str]) -> Result<()> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"nodeName": NODE, "restartPolicy": "Never", "containers": [{"name": CONTAINER, "image": "example.org/none"}]},
        }))?;
        self.logs().insert(name.to_owned(), lines.iter().map(|line| (*line).to_owned()).collect());
        self.platform::<Pod>().create(&PostParams::default(), &pod).await?;
        self.settle::<Pod>(name, pod_status("Running", &json!({"running": {"startedAt": AT}}))).await
    }

    /// Ends a pod's container with exit code 0.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn end_pod(&self, name: &str) -> Result<()> {
        let ended = json!({"terminated": {"exitCode": 0, "startedAt": AT, "finishedAt": AT}});
        self.settle::<Pod>(name, pod_status("Succeeded", &ended)).await
    }

    /// Makes an InferenceService in namespace `default` with one replica that is ready. Whatever it is
    /// asked, it answers with the address and the question.
    ///
    /// # Errors
    /// When the server refuses it, or the gateway does not pass requests on to it.
    pub async fn serve_model(&self, name: &str) -> Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no loopback port")?;
        let port = listener.local_addr().context("no address")?.port();
        tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(repeat)).await.expect("loopback serves");
        });
        let containers = json!([{"name": CONTAINER, "image": "example.org/none"}]);
        let service: InferenceService = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"replicas": 1, "port": port, "template": {"spec": {"containers": containers}}},
        }))?;
        self.platform::<InferenceService>().create(&PostParams::default(), &service).await?;
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("{name}-0"), "labels": {fermion_api::labels::INFERENCE_SERVICE: name}},
            "spec": {"nodeName": NODE, "containers": containers},
        }))?;
        self.platform::<Pod>().create(&PostParams::default(), &pod).await?;
        let mut status = pod_status("Running", &json!({"running": {"startedAt": AT}}));
        status["podIP"] = "127.0.0.1".into();
        status["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": AT}]);
        self.settle::<Pod>(&format!("{name}-0"), status).await?;
        // The gateway hears of it in its own time.
        let started = std::time::Instant::now();
        loop {
            let answer = self.asked(name).await?;
            if answer.status().is_success() {
                return Ok(());
            }
            let said = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await?;
            ensure!(started.elapsed() < PATIENCE, "the gateway does not pass on what {name} is asked: {}", String::from_utf8_lossy(&said));
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What the gateway answers who asks a service.
    async fn asked(&self, name: &str) -> Result<Response> {
        let request = Request::get(format!("/services/default/{name}/"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::HOST, "localhost")
            .body(Body::empty())?;
        Ok(self.gateway.router().oneshot(request).await?)
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model that has learnt nothing.
async fn repeat(address: Uri, question: Bytes) -> axum::Json<Value> {
    let question: Value = serde_json::from_slice(&question).unwrap_or_else(|_| String::from_utf8_lossy(&question).into());
    axum::Json(json!({"address": address.path_and_query().map(ToString::to_string), "question": question}))
}

fn pod_status(phase: &str, state: &Value) -> Value {
    let container = json!({"name": CONTAINER, "image": "", "imageID": "", "ready": phase == "Running", "restartCount": 0, "state": state});
    json!({"phase": phase, "containerStatuses": [container]})
}

/// The HTTP interface of a node, as far as logs and commands go.
fn node(logs: Logs) -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
        .route("/exec/{namespace}/{pod}/{container}", any(exec))
        .with_state(logs)
}

async fn log(
    State(logs): State<Logs>,
    extract::Path((_, pod, _)): extract::Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<String, StatusCode> {
    let timed = query.is_some_and(|query| query.contains("timestamps=true"));
    let logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = logs.get(&pod).ok_or(StatusCode::NOT_FOUND)?;
    let line = |line: &String| if timed { format!("{AT} {line}\n") } else { format!("{line}\n") };
    Ok(lines.iter().map(line).collect())
}

async fn exec(RawQuery(query): RawQuery, upgrade: WebSocketUpgrade) -> Response {
    let words: Vec<String> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == "command")
        .map(|(_, word)| word.into_owned())
        .collect();
    upgrade.protocols([CHANNELS]).on_upgrade(move |socket| async move {
        // A client that has gone needs no answer.
        let _ = answer(socket, &words).await;
    })
}

/// Writes what `echo` writes, or that there is no such program.
async fn answer(mut socket: WebSocket, words: &[String]) -> Result<(), axum::Error> {
    const STDOUT: u8 = 1;
    const STDERR: u8 = 2;
    const STATUS: u8 = 3;
    let frame = |channel: u8, text: &str| Message::Binary([&[channel], text.as_bytes()].concat().into());
    let status = if words.first().is_some_and(|program| program == "echo") {
        socket.send(frame(STDOUT, &format!("{}\n", words[1..].join(" ")))).await?;
        json!({"metadata": {}, "status": "Success"})
    } else {
        socket.send(frame(STDERR, "not found\n")).await?;
        let causes = json!([{"reason": "ExitCode", "message": "127"}]);
        json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}})
    };
    socket.send(frame(STATUS, &status.to_string())).await?;
    socket.send(Message::Close(None)).await
}
